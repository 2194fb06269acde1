//! Shell completions: small scripts that run this command to get completions.

use crate::complete::{Candidate, Completer, Completions};
use crate::errors::CliError;
use crate::grammar::Grammar;
use std::ffi::OsString;

/// The first argument with which the scripts run this command. It is not a subcommand for people.
const QUESTION: &str = "__complete";

/// The completion script for a shell.
pub(crate) fn script(shell: &str) -> Result<String, CliError> {
    Ok(match shell {
        "bash" => BASH.into(),
        "zsh" => ZSH.into(),
        "fish" => FISH.into(),
        _ => return Err(CliError::UnknownShell { name: shell.into() }),
    })
}

/// The answer, if one of the scripts started this process: `file`, or `words` followed by one
/// possible word per line.
pub(crate) fn asked_for(grammar: &Grammar) -> Option<String> {
    let lossy = |word: OsString| word.to_string_lossy().into_owned();
    let mut arguments = std::env::args_os().skip(1).map(lossy);
    if arguments.next()? != QUESTION {
        return None;
    }
    let shell = arguments.next()?;
    let arguments: Vec<String> = arguments.collect();
    Some(answer(&shell, arguments, &Completer::new(grammar)))
}

fn answer(shell: &str, mut arguments: Vec<String>, completer: &Completer<'_>) -> String {
    if shell == "bash" {
        let line = Line::split(arguments.first().map(String::as_str).unwrap_or_default());
        return lines(completer.after(&line.words, &line.typed), |candidate| {
            line.insert(candidate)
        });
    }
    let typed = arguments.pop().unwrap_or_default();
    lines(completer.after(&arguments, &typed), |Candidate { word, meaning }| {
        let zsh_word = || word.replace('\\', "\\\\").replace(':', "\\:");
        Some(match (shell, meaning.as_str()) {
            ("fish", meaning) => format!("{word}\t{meaning}"),
            (_, "") => zsh_word(),
            (_, meaning) => format!("{}:{meaning}", zsh_word()),
        })
    })
}

fn lines(fitting: Completions, line: impl Fn(&Candidate) -> Option<String>) -> String {
    match fitting {
        Completions::Files => "file\n".into(),
        Completions::Words(candidates) => {
            let lines = candidates.iter().filter_map(line).map(|line| line + "\n");
            std::iter::once("words\n".to_owned()).chain(lines).collect()
        }
    }
}

/// A bash command line up to the cursor, split into words. Bash's own words are split at colons
/// too, which occur in nearly every address.
struct Line {
    /// The complete words after the command's name.
    words: Vec<String>,
    /// The part of the word at the cursor that has been typed.
    typed: String,
    /// The quote in which the word at the cursor stands.
    quote: Option<char>,
}

impl Line {
    fn split(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (quote, c) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
                (None, ' ' | '\t' | '\n') => words.extend(word.take()),
                (None, ';' | '|' | '&') => {
                    // The words before belong to another command.
                    word = None;
                    words.clear();
                }
                _ => word.get_or_insert_default().push(c),
            }
        }
        let is_assignment = |word: &String| word.contains('=');
        let name = words.iter().position(|word| !is_assignment(word));
        let words = words.split_off(name.map_or(words.len(), |name| name + 1));
        Line { words, typed: word.unwrap_or_default(), quote }
    }

    /// The text with which bash has to replace its last word.
    fn insert(&self, candidate: &Candidate) -> Option<String> {
        let word = candidate.word.strip_prefix(self.typed.as_str())?;
        // Bash replaces only the part after the last of these.
        let kept = self.typed.rsplit([':', '=', '@']).next().unwrap_or_default();
        let whole = format!("{kept}{word}");
        if self.quote.is_some() {
            return Some(whole);
        }
        let is_harmless =
            |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | ',' | '%' | '+');
        let mut out = String::new();
        for c in whole.chars() {
            if !is_harmless(c) {
                out.push('\\');
            }
            out.push(c);
        }
        Some(out)
    }
}

const BASH: &str = r#"# bash completion for aemp
_aemp() {
    local -a answer
    mapfile -t answer < <(command aemp __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
    COMPREPLY=()
    if [[ ${answer[0]} == file ]]; then
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    else
        COMPREPLY=("${answer[@]:1}")
    fi
}
complete -F _aemp aemp
"#;

const ZSH: &str = r#"#compdef aemp
# zsh completion for aemp
_aemp() {
    local -a answer
    answer=("${(@f)$(command aemp __complete zsh "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    if [[ ${answer[1]} == file ]]; then
        _files
    elif (( ${#answer} > 1 )); then
        shift answer
        _describe -t aemp aemp answer
    fi
}
if [[ $funcstack[1] == _aemp ]]; then
    _aemp "$@"
else
    compdef _aemp aemp
fi
"#;

const FISH: &str = r#"# fish completion for aemp
function __aemp_complete
    set -l words (commandline -opc)
    set -l answer (command aemp __complete fish $words[2..-1] (commandline -ct) 2>/dev/null)
    if test "$answer[1]" = file
        __fish_complete_path (commandline -ct)
    else
        printf '%s\n' $answer[2..-1]
    end
end
complete -c aemp -f -a '(__aemp_complete)'
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn inserted(line: &str, word: &str) -> Option<String> {
        let candidate = Candidate { word: word.into(), meaning: String::new() };
        Line::split(line).insert(&candidate)
    }

    #[test]
    fn bash_lines_are_split_as_bash_does() {
        let line = Line::split("x=1; A=b aemp secret 'a b' \"c\\\"d\" e\\ f 127.0.0.1:40");
        assert_eq!(line.words, ["secret", "a b", "c\"d", "e f"]);
        assert_eq!((line.typed.as_str(), line.quote), ("127.0.0.1:40", None));
        let line = Line::split("aemp profile 'wi");
        assert_eq!((line.words.len(), line.typed.as_str(), line.quote), (1, "wi", Some('\'')));
        assert_eq!(Line::split("aem").words, Vec::<String>::new());
    }

    #[test]
    fn what_bash_inserts_is_one_word_and_runs_nothing() {
        assert_eq!(inserted("aemp profile ", "a$(b)"), Some("a\\$\\(b\\)".into()));
        assert_eq!(inserted("aemp profile 'wi", "with space"), Some("with space".into()));
        assert_eq!(inserted("aemp profile a:b", "a:bc"), Some("bc".into()));
        assert_eq!(inserted("aemp profile x", "with"), None);
    }
}
