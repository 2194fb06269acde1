//! The description of a subcommand: its name, arguments and action, and the options of the whole
//! line.

use crate::errors::CliError;
use aemp::config::coerce;
use serde_json::Value;

/// The section of the help that lists a subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Nodes,
    Network,
    Settings,
    Profiles,
    Help,
}

impl Section {
    pub(crate) const ALL: [Self; 5] =
        [Self::Nodes, Self::Network, Self::Settings, Self::Profiles, Self::Help];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Nodes => "Nodes",
            Self::Network => "Network",
            Self::Settings => "Settings",
            Self::Profiles => "Profiles",
            Self::Help => "Help",
        }
    }
}

/// The option of `run` and `doctor` that names a file with the secret.
pub(crate) const SECRET_FILE: &str = "--secret-file";

/// How many words an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arity {
    Required,
    Optional,
    /// All remaining words, among which options may still stand.
    Rest,
    /// All remaining words, whatever they look like.
    Verbatim,
}

/// What an argument is, for completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Anything,
    File,
    Profile,
    /// Keys of the configuration, each followed by a value.
    Pairs,
    Subcommand,
    Shell,
    DbOperation,
    LogLevel,
    Bool,
    Encrypt,
    Framings,
    AuthOffer,
    AuthAccept,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Argument {
    pub(crate) name: &'static str,
    pub(crate) arity: Arity,
    pub(crate) kind: Kind,
}

impl Argument {
    /// The argument as the help shows it.
    pub(crate) fn placeholder(&self) -> String {
        match self.arity {
            Arity::Required => self.name.into(),
            Arity::Optional => format!("[{}]", self.name),
            Arity::Rest | Arity::Verbatim => format!("[{}...]", self.name),
        }
    }
}

pub(crate) const fn required(name: &'static str, kind: Kind) -> Argument {
    Argument { name, arity: Arity::Required, kind }
}

pub(crate) const fn optional(name: &'static str, kind: Kind) -> Argument {
    Argument { name, arity: Arity::Optional, kind }
}

pub(crate) const fn rest(name: &'static str, kind: Kind) -> Argument {
    Argument { name, arity: Arity::Rest, kind }
}

/// How a key of the configuration reads its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    AsGiven,
    /// A text is split at commas.
    List,
    /// The argument names a file, whose content is the value.
    FileContent,
    /// The argument itself, unless it names standard input.
    Secret,
}

/// The action of a subcommand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Set {
        key: &'static str,
        form: Form,
    },
    Delete {
        key: &'static str,
    },
    /// Appends to a list; with `once` equal items are removed first.
    Add {
        key: &'static str,
        once: bool,
    },
    /// Removes every equal item from a list, or only the first one.
    Remove {
        key: &'static str,
        every: bool,
    },
    GenerateSecret,
    GenerateCert,
    SelectProfile,
    DeleteProfile,
    ListProfiles,
    ShowProfile,
    ShowConfig,
    Run,
    Doctor,
    Conform,
    Relay,
    Replay,
    Network(Network),
    Help,
    Completions,
    Manual,
    Version,
}

/// The actions for which the command joins the network as a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Network {
    Snd,
    Cal,
    Mon,
    Eval,
    Shell,
    Trace,
    Restart,
    Ping,
    Db,
    Logs,
    Top,
}

/// The format in which `trace` shows the network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Tree,
    Dot,
    Svg,
    Json,
}

impl Format {
    pub(crate) const NAMES: &[(&str, Self)] = &[
        ("text", Self::Text),
        ("tree", Self::Tree),
        ("dot", Self::Dot),
        ("svg", Self::Svg),
        ("json", Self::Json),
    ];

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, format)| *format)
    }
}

/// One row of the table from which the parser, the help, the manual page and the completions are
/// made.
#[derive(Debug)]
pub(crate) struct Subcommand {
    pub(crate) name: String,
    /// The name without `set`.
    pub(crate) alias: Option<String>,
    pub(crate) section: Section,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) action: Action,
    pub(crate) summary: String,
    pub(crate) details: String,
    pub(crate) example: String,
}

/// A row without any texts.
pub(crate) fn row(name: impl Into<String>, section: Section, action: Action) -> Subcommand {
    Subcommand {
        name: name.into(),
        alias: None,
        section,
        arguments: Vec::new(),
        action,
        summary: String::new(),
        details: String::new(),
        example: String::new(),
    }
}

impl Subcommand {
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.alias.as_deref())
    }

    /// Name and arguments, as the help shows them.
    pub(crate) fn usage(&self) -> String {
        let placeholders = self.arguments.iter().map(Argument::placeholder);
        let words: Vec<String> = std::iter::once(self.name.clone()).chain(placeholders).collect();
        words.join(" ")
    }

    /// Whether `--json` changes its output.
    pub(crate) const fn prints_json(&self) -> bool {
        matches!(
            self.action,
            Action::ListProfiles
                | Action::ShowProfile
                | Action::ShowConfig
                | Action::Doctor
                | Action::Relay
                | Action::Replay
                | Action::Network(_)
        )
    }

    /// Whether options may stand between its name and its arguments.
    pub(crate) const fn takes_options(&self) -> bool {
        matches!(
            self.action,
            Action::Run | Action::Doctor | Action::Relay | Action::Replay | Action::Network(_)
        )
    }
}

/// All subcommands.
#[derive(Debug)]
pub(crate) struct Grammar {
    pub(crate) subcommands: Vec<Subcommand>,
}

impl Grammar {
    pub(crate) fn new(subcommands: Vec<Subcommand>) -> Self {
        Self { subcommands }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Subcommand> {
        let by_name = self.subcommands.iter().find(|s| s.name == name);
        // A name has priority over an alias: `profile` does not mean `setprofile`.
        by_name.or_else(|| self.subcommands.iter().find(|s| s.alias.as_deref() == Some(name)))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.subcommands.iter().flat_map(Subcommand::names)
    }

    pub(crate) fn unknown(&self, name: &str, after: Option<&Subcommand>) -> CliError {
        CliError::UnknownSubcommand {
            name: name.into(),
            nearest: aemp::config::nearest(name, self.names()).map(str::to_owned),
            after: after.map(Subcommand::usage),
        }
    }
}

/// A subcommand with its arguments, including all required ones.
#[derive(Debug)]
pub(crate) struct Invocation<'g> {
    pub(crate) subcommand: &'g Subcommand,
    pub(crate) arguments: Vec<Value>,
}

impl Invocation<'_> {
    /// The error for the first argument that is missing.
    pub(crate) fn missing(&self) -> CliError {
        let argument = self.subcommand.arguments.get(self.arguments.len());
        CliError::MissingArgument {
            argument: argument.map_or("an argument", |argument| argument.name),
            usage: self.subcommand.usage(),
        }
    }

    /// The only argument.
    pub(crate) fn value(&self) -> Result<Value, CliError> {
        self.arguments.first().cloned().ok_or_else(|| self.missing())
    }

    /// The only argument, as a text.
    pub(crate) fn text(&self) -> Result<String, CliError> {
        coerce::to_text(&self.value()?).ok_or_else(|| CliError::NotText {
            argument: self.subcommand.arguments.first().map_or("", |argument| argument.name),
            usage: self.subcommand.usage(),
        })
    }
}

/// Options that apply to the whole line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// How often `-v` was given.
    pub(crate) verbosity: u8,
    /// Whether output is for programs.
    pub(crate) json: bool,
    /// The format of `trace`.
    pub(crate) format: Format,
    /// Whether `run` starts no process that restarts the node.
    pub(crate) no_watchdog: bool,
    /// Whether `doctor` also examines the connections between other nodes.
    pub(crate) links: bool,
}
