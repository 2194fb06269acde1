//! Finds the words that can complete a command line, using the same table as everything else.

use crate::grammar::{Action, Argument, Arity, Format, Grammar, Kind, Subcommand};
use crate::help::OPTIONS;
use aemp::config::rc::{self, RcFile};
use aemp::config::settings::KNOWN_KEYS;
use aemp::wire::auth::AuthMethod;
use aemp::wire::framing::Framing;

const SHELLS: &[&str] = &["bash", "zsh", "fish"];
const LOG_LEVELS: &[&str] = &["error", "warn", "note", "info", "debug", "trace"];
const DB_OPERATIONS: &[&str] = &["get", "keys", "values", "watch", "set", "del"];
/// Keys that exist only as arguments, not in the file.
const KEYS_OF_ARGUMENTS: &[&str] = &["profile", "norc", "force"];

/// A possible word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) word: String,
    pub(crate) meaning: String,
}

/// The possible completions.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Completions {
    Words(Vec<Candidate>),
    /// Names of files.
    Files,
}

/// Finds completions for the end of a line.
pub(crate) struct Completer<'g> {
    grammar: &'g Grammar,
    profiles: Vec<String>,
}

/// The state of the grammar after some words.
struct Position<'g> {
    subcommand: Option<&'g Subcommand>,
    /// The arguments that the subcommand was given.
    given: Vec<String>,
    format_follows: bool,
}

impl<'g> Position<'g> {
    /// The next argument; `None` if a subcommand comes next.
    fn argument(&self) -> Option<&'g Argument> {
        let arguments = &self.subcommand?.arguments;
        match arguments.get(self.given.len()) {
            Some(argument) => Some(argument),
            None => {
                arguments.last().filter(|last| matches!(last.arity, Arity::Rest | Arity::Verbatim))
            }
        }
    }

    /// Whether an option may follow.
    fn takes_options(&self) -> bool {
        match self.argument().map(|argument| argument.arity) {
            None | Some(Arity::Rest | Arity::Optional) => true,
            Some(Arity::Required | Arity::Verbatim) => {
                self.given.is_empty() && self.subcommand.is_some_and(Subcommand::takes_options)
            }
        }
    }
}

impl<'g> Completer<'g> {
    /// A completer that knows the profiles of the file.
    pub(crate) fn new(grammar: &'g Grammar) -> Self {
        let rc = rc::default_path().and_then(|path| RcFile::load(path).ok());
        let profiles = rc.iter().flat_map(RcFile::profiles);
        Self { grammar, profiles: profiles.map(str::to_owned).collect() }
    }

    /// The possible words after these, before they are filtered by what is already typed.
    pub(crate) fn after(&self, words: &[String], typed: &str) -> Completions {
        let position = self.position(words);
        if position.format_follows {
            return plain(Format::NAMES.iter().map(|(name, _)| *name));
        }
        if typed.starts_with('-') && position.takes_options() {
            return options();
        }
        let Some(argument) = position.argument() else {
            let names = self.grammar.subcommands.iter().flat_map(|subcommand| {
                subcommand.names().map(|name| candidate(name, &subcommand.summary))
            });
            return Completions::Words(names.collect());
        };
        let action = position.subcommand.map(|subcommand| subcommand.action);
        // The arguments may begin with the profile or with the first key.
        let begins_with_key = matches!(action, Some(Action::Run | Action::Doctor));
        match argument.kind {
            Kind::Profile if begins_with_key => {
                let keys = KNOWN_KEYS.iter().chain(KEYS_OF_ARGUMENTS).copied();
                plain(self.profiles.iter().map(String::as_str).chain(keys))
            }
            Kind::Pairs => {
                let has_profile =
                    !(begins_with_key && position.given.first().is_some_and(|word| is_key(word)));
                let pairs = position.given.get(usize::from(has_profile)..).unwrap_or_default();
                match pairs.len() % 2 {
                    0 => plain(KNOWN_KEYS.iter().chain(KEYS_OF_ARGUMENTS).copied()),
                    _ => self.values(pairs.last().map(String::as_str).unwrap_or_default()),
                }
            }
            kind => self.of_kind(kind),
        }
    }

    fn position(&self, words: &[String]) -> Position<'g> {
        let mut position = Position { subcommand: None, given: Vec::new(), format_follows: false };
        for word in words {
            if position.format_follows {
                position.format_follows = false;
            } else if word.starts_with('-') && position.takes_options() {
                position.format_follows = word == "--format";
            } else if position.argument().is_some() {
                position.given.push(word.clone());
            } else {
                position.subcommand = self.grammar.find(word);
                position.given.clear();
            }
        }
        position
    }

    /// The possible values of a key of the configuration.
    fn values(&self, key: &str) -> Completions {
        let set = self.grammar.find(&format!("set{key}"));
        match (key, set.and_then(|set| set.arguments.first())) {
            ("profile", _) => self.of_kind(Kind::Profile),
            ("norc" | "force", _) => self.of_kind(Kind::Bool),
            // As an argument this key is the certificate itself, not a file.
            ("cert", _) | (_, None) => plain([]),
            (_, Some(argument)) => self.of_kind(argument.kind),
        }
    }

    fn of_kind(&self, kind: Kind) -> Completions {
        let quoted = |name: &str| format!("[\"{name}\"]");
        let lists = |names: Vec<String>| plain(names.iter().map(String::as_str));
        match kind {
            Kind::Anything | Kind::Pairs => plain([]),
            Kind::File => Completions::Files,
            Kind::Profile => plain(self.profiles.iter().map(String::as_str)),
            Kind::Subcommand => plain(self.grammar.names()),
            Kind::Shell => plain(SHELLS.iter().copied()),
            Kind::DbOperation => plain(DB_OPERATIONS.iter().copied()),
            Kind::LogLevel => plain(LOG_LEVELS.iter().copied()),
            Kind::Bool => plain(["0", "1"]),
            Kind::Encrypt => plain(["auto", "1", "0"]),
            Kind::Framings => lists(Framing::ALL.iter().map(|f| quoted(f.name())).collect()),
            Kind::AuthOffer => {
                let offered = [AuthMethod::TlsSha3_512, AuthMethod::HmacSha3_512];
                lists(offered.iter().map(|method| quoted(method.name())).collect())
            }
            Kind::AuthAccept => {
                lists(AuthMethod::LISTED.iter().map(|m| quoted(m.name())).collect())
            }
        }
    }
}

fn is_key(word: &str) -> bool {
    KNOWN_KEYS.iter().chain(KEYS_OF_ARGUMENTS).any(|key| *key == word)
}

fn options() -> Completions {
    let mut candidates = Vec::new();
    for (names, meaning) in OPTIONS {
        let long = names.split([' ', ',']).filter(|name| name.starts_with("--"));
        candidates.extend(long.map(|name| candidate(name, meaning)));
    }
    Completions::Words(candidates)
}

fn candidate(word: &str, meaning: &str) -> Candidate {
    Candidate { word: word.into(), meaning: meaning.trim_end_matches('.').into() }
}

fn plain<'a>(words: impl IntoIterator<Item = &'a str>) -> Completions {
    // Shells read the words line by line, so words with control characters are left out.
    let words = words.into_iter().filter(|word| !word.contains(char::is_control));
    Completions::Words(words.map(|word| candidate(word, "")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitting(line: &str, typed: &str) -> Vec<String> {
        let grammar = Grammar::new(crate::table::subcommands());
        let completer = Completer { grammar: &grammar, profiles: vec!["p".into(), "a b".into()] };
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match completer.after(&words, typed) {
            Completions::Words(candidates) => candidates.into_iter().map(|c| c.word).collect(),
            Completions::Files => vec!["FILE".into()],
        }
    }

    #[test]
    fn each_argument_of_each_subcommand_of_a_chain_is_known() {
        for line in ["", "secret x", "profile p secret x", "--json", "-v delprofile p", "help snd"]
        {
            assert!(fitting(line, "").contains(&"setsecret".to_owned()), "{line}");
        }
        assert_eq!(fitting("secret x profile", ""), ["p", "a b"]);
        assert_eq!(fitting("secret", ""), Vec::<String>::new());
        assert_eq!(fitting("setcert", ""), ["FILE"]);
        assert_eq!(fitting("nodelay", ""), ["0", "1"]);
        assert_eq!(fitting("db", ""), DB_OPERATIONS);
        assert_eq!(fitting("snd port", ""), Vec::<String>::new());
        assert_eq!(fitting("snd port profile", ""), Vec::<String>::new());
    }

    #[test]
    fn keys_and_their_values_alternate() {
        assert!(fitting("run", "").contains(&"p".to_owned()));
        assert!(fitting("run", "").contains(&"binds".to_owned()));
        for line in ["run p", "run nodeid x", "run p nodeid x", "doctor p", "showconfig p"] {
            assert!(fitting(line, "").contains(&"binds".to_owned()), "{line}");
        }
        assert_eq!(fitting("run norc", ""), ["0", "1"]);
        assert_eq!(fitting("run p nodeid x profile", ""), ["p", "a b"]);
        assert!(fitting("run p auth_offer", "").contains(&"[\"hmac_sha3_512\"]".to_owned()));
        assert_eq!(fitting("run p nodeid", ""), Vec::<String>::new());
    }

    #[test]
    fn options_stand_where_the_parser_takes_them() {
        for line in ["", "trace", "run p", "showconfig", "snd"] {
            assert!(fitting(line, "-").contains(&"--json".to_owned()), "{line}");
        }
        assert_eq!(fitting("snd port", "-"), Vec::<String>::new());
        assert!(fitting("trace seed --format", "").contains(&"svg".to_owned()));
        assert!(fitting("trace --format svg seed", "").contains(&"top".to_owned()));
    }
}
