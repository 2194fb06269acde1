//! Arguments and options of `relay` and `replay`, and the secret to use.

use crate::errors::CliError;
use crate::grammar::Invocation;
use crate::node_args::NodeArgs;
use crate::secrets::{self, path};
use aemp::config::coerce;
use aemp::config::octets::to_octets;
use aemp::wire::auth::Secret;
use std::path::PathBuf;

/// The words of the command line, from which these subcommands take their options.
pub(super) struct Words {
    usage: String,
    positional: std::vec::IntoIter<String>,
    pub(super) record: Option<PathBuf>,
    pub(super) secret: Option<String>,
    pub(super) once: bool,
    pub(super) json: bool,
}

impl Words {
    pub(super) fn read(invocation: &Invocation<'_>) -> Result<Self, CliError> {
        let usage = invocation.subcommand.usage();
        let mut words = Vec::new();
        for value in &invocation.arguments {
            let not_text = || CliError::NotText { argument: "an argument", usage: usage.clone() };
            words.push(coerce::to_text(value).ok_or_else(not_text)?);
        }
        let mut words = words.into_iter();
        let mut positional = Vec::new();
        let (mut record, mut secret) = (None, None);
        let (mut once, mut json) = (false, false);
        let missing = |argument| CliError::MissingArgument { argument, usage: usage.clone() };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--record" => record = Some(path(&words.next().ok_or_else(|| missing("FILE"))?)),
                "--secret" => secret = Some(words.next().ok_or_else(|| missing("SECRET"))?),
                "--secret-file" => {
                    let file = words.next().ok_or_else(|| missing("FILE"))?;
                    secret = Some(secrets::read(&file)?);
                }
                "--once" => once = true,
                "--json" => json = true,
                _ if word.starts_with("--") => return Err(CliError::UnknownOption { name: word }),
                _ => positional.push(word),
            }
        }
        Ok(Words { usage, positional: positional.into_iter(), record, secret, once, json })
    }

    pub(super) fn next(&mut self, argument: &'static str) -> Result<String, CliError> {
        let missing = || CliError::MissingArgument { argument, usage: self.usage.clone() };
        self.positional.next().ok_or_else(missing)
    }

    pub(super) fn finish(&mut self) -> Result<(), CliError> {
        match self.positional.next() {
            None => Ok(()),
            Some(argument) => {
                let name = self.usage.split(' ').next().unwrap_or_default();
                Err(CliError::TooManyArguments { argument, usage: name.into() })
            }
        }
    }
}

/// The secret that was typed or recorded.
pub(super) fn secret_of(text: &str) -> Option<Secret> {
    Secret::new(to_octets(text).unwrap_or_else(|_| text.into()))
}

/// The secret of the network that the other subcommands join, if it is configured.
pub(super) fn configured_secret() -> Option<Secret> {
    Secret::new(NodeArgs::of_the_tool().secret()?)
}
