//! Completions for shells, made from the table.
//!
//! Each script walks over the words before the cursor, as the parser does, so that it knows which
//! argument of which subcommand of the chain is being typed.

use crate::errors::CliError;
use crate::grammar::{Arity, Grammar, Kind, Subcommand};
use aemp::config::settings::KNOWN_KEYS;

const SHELLS: &str = "bash zsh fish";
const OPTIONS: &str = "--format --help --json --no-watchdog --verbose --version";
const LOG_LEVELS: &str = "error warn note info debug trace";
const DB_OPERATIONS: &str = "get keys values watch set del";

/// The script for a shell.
pub(crate) fn script(shell: &str, grammar: &Grammar) -> Result<String, CliError> {
    let template = match shell {
        "bash" => BASH,
        "zsh" => ZSH,
        "fish" => FISH,
        _ => return Err(CliError::UnknownShell { name: shell.into() }),
    };
    let names: Vec<&str> = grammar.names().collect();
    let keys = KNOWN_KEYS.join(" ");
    Ok(template
        .replace("@CASES@", &cases(shell, grammar))
        .replace("@DESCRIBED@", &described(shell, grammar))
        .replace("@NAMES@", &names.join(" "))
        .replace("@KEYS@", &format!("{keys} norc force"))
        .replace("@SHELLS@", SHELLS)
        .replace("@DB@", DB_OPERATIONS)
        .replace("@LEVELS@", LOG_LEVELS)
        .replace("@OPTIONS@", OPTIONS))
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Anything => "anything",
        Kind::File => "file",
        Kind::Profile => "profile",
        Kind::Pairs => "pairs",
        Kind::Subcommand => "subcommand-name",
        Kind::Shell => "shell",
        Kind::DbOperation => "db-operation",
        Kind::LogLevel => "log-level",
    }
}

/// What a subcommand expects after it; `...` marks what takes the rest of the line.
fn expected(subcommand: &Subcommand) -> String {
    let kinds = subcommand.arguments.iter().map(|argument| {
        let kind = kind_name(argument.kind);
        match argument.arity {
            Arity::Rest | Arity::Verbatim => format!("{kind}..."),
            Arity::Required | Arity::Optional => kind.into(),
        }
    });
    kinds.collect::<Vec<_>>().join(" ")
}

fn cases(shell: &str, grammar: &Grammar) -> String {
    let mut lines = String::new();
    for subcommand in grammar.subcommands.iter().filter(|s| !s.arguments.is_empty()) {
        let names: Vec<&str> = subcommand.names().collect();
        let expected = expected(subcommand);
        lines.push_str(&match shell {
            "fish" => format!(
                "            case {}\n                set pending {expected}\n",
                names.join(" ")
            ),
            _ => format!("            {}) pending=({expected}) ;;\n", names.join("|")),
        });
    }
    lines.truncate(lines.trim_end().len());
    lines.trim_start().into()
}

/// Names with their summaries, as the shell takes them.
fn described(shell: &str, grammar: &Grammar) -> String {
    let mut lines = String::new();
    for subcommand in &grammar.subcommands {
        let summary = subcommand.summary.trim_end_matches('.').replace('\'', "");
        for name in subcommand.names() {
            lines.push_str(&match shell {
                "fish" => format!(
                    "complete -c aemp -n 'test (__aemp_expects) = subcommand' -a {name} \
                     -d '{summary}'\n"
                ),
                _ => format!("        '{name}:{summary}'\n"),
            });
        }
    }
    lines.truncate(lines.trim_end().len());
    lines.trim_start().into()
}

const BASH: &str = r#"# bash completion for aemp
_aemp() {
    local line=${COMP_LINE:0:COMP_POINT} current= word
    local -a words pending
    # COMP_WORDS is split at colons too, which are in nearly every address.
    read -ra words <<< "$line"
    if [[ $line != *[[:space:]] ]]; then
        current=${words[-1]}
        unset 'words[-1]'
    fi
    for word in "${words[@]:1}"; do
        if [[ ${#pending[@]} -gt 0 ]]; then
            [[ ${pending[0]} == *... ]] || pending=("${pending[@]:1}")
            continue
        fi
        case $word in
            @CASES@
        esac
    done
    local names='@NAMES@' keys='@KEYS@' options='@OPTIONS@'
    case ${pending[0]-subcommand} in
        subcommand) COMPREPLY=($(compgen -W "$names $options" -- "$current")) ;;
        subcommand-name) COMPREPLY=($(compgen -W "$names" -- "$current")) ;;
        profile) COMPREPLY=($(compgen -W "$(aemp profiles 2>/dev/null)" -- "$current")) ;;
        pairs...) COMPREPLY=($(compgen -W "$keys $options" -- "$current")) ;;
        shell) COMPREPLY=($(compgen -W '@SHELLS@' -- "$current")) ;;
        db-operation) COMPREPLY=($(compgen -W '@DB@' -- "$current")) ;;
        log-level) COMPREPLY=($(compgen -W '@LEVELS@' -- "$current")) ;;
        file) compopt -o filenames; COMPREPLY=($(compgen -f -- "$current")) ;;
        *) COMPREPLY=() ;;
    esac
}
complete -F _aemp aemp
"#;

const ZSH: &str = r#"#compdef aemp
# zsh completion for aemp
_aemp() {
    local word
    local -a pending subcommands
    for word in "${(@)words[2,CURRENT-1]}"; do
        if (( ${#pending} )); then
            [[ ${pending[1]} == *... ]] || shift pending
            continue
        fi
        case $word in
            @CASES@
        esac
    done
    subcommands=(
        @DESCRIBED@
    )
    case ${pending[1]-subcommand} in
        subcommand) _describe -t subcommands subcommand subcommands
            compadd -- ${=:-@OPTIONS@} ;;
        subcommand-name) _describe -t subcommands subcommand subcommands ;;
        profile) compadd -- ${(f)"$(aemp profiles 2>/dev/null)"} ;;
        pairs...) compadd -- ${=:-@KEYS@} ${=:-@OPTIONS@} ;;
        shell) compadd -- ${=:-@SHELLS@} ;;
        db-operation) compadd -- ${=:-@DB@} ;;
        log-level) compadd -- ${=:-@LEVELS@} ;;
        file) _files ;;
    esac
}
if [[ $funcstack[1] == _aemp ]]; then
    _aemp "$@"
else
    compdef _aemp aemp
fi
"#;

const FISH: &str = r#"# fish completion for aemp
function __aemp_expects
    set -l pending
    for word in (commandline -opc)[2..-1]
        if set -q pending[1]
            string match -q '*...' -- $pending[1]; or set -e pending[1]
            continue
        end
        switch $word
            @CASES@
        end
    end
    if set -q pending[1]
        echo $pending[1]
    else
        echo subcommand
    end
end
complete -c aemp -f
@DESCRIBED@
complete -c aemp -n 'test (__aemp_expects) = subcommand' -a '@OPTIONS@'
complete -c aemp -n 'test (__aemp_expects) = subcommand-name' -a '@NAMES@'
complete -c aemp -n 'test (__aemp_expects) = profile' -a '(aemp profiles 2>/dev/null)'
complete -c aemp -n 'test (__aemp_expects) = pairs...' -a '@KEYS@ @OPTIONS@'
complete -c aemp -n 'test (__aemp_expects) = shell' -a '@SHELLS@'
complete -c aemp -n 'test (__aemp_expects) = db-operation' -a '@DB@'
complete -c aemp -n 'test (__aemp_expects) = log-level' -a '@LEVELS@'
complete -c aemp -n 'test (__aemp_expects) = file' -F
"#;
