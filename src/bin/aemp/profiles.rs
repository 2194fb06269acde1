//! Subcommands about profiles as a whole: selecting, deleting and showing them.

use crate::errors::CliError;
use crate::grammar::{Action, Invocation};
use aemp::config::coerce;
use aemp::config::node_id::node_name;
use aemp::config::octets::to_octets;
use aemp::config::profile::{Effective, ProfileError};
use aemp::config::rc::RcFile;
use aemp::config::{Args, to_pretty};
use serde_json::Value;

/// What to show.
#[derive(Debug, Clone)]
pub(crate) enum Show {
    Names,
    Profile(String),
    Effective(Args),
}

impl Show {
    /// `None` if the invocation does not show configuration.
    pub(crate) fn prepare(invocation: &Invocation<'_>) -> Result<Option<Self>, CliError> {
        Ok(Some(match invocation.subcommand.action {
            Action::ListProfiles => Self::Names,
            Action::ShowProfile => Self::Profile(invocation.text()?),
            Action::ShowConfig => Self::Effective(show_config_args(invocation)?),
            _ => return Ok(None),
        }))
    }

    pub(crate) fn output(&self, rc: &RcFile, json: bool) -> Result<Vec<u8>, CliError> {
        let value = match self {
            Self::Names if !json => {
                let lines = rc.profiles().map(|name| format!("{name}\n"));
                return Ok(perl_octets(&lines.collect::<String>()));
            }
            Self::Names => rc.profiles().map(Value::from).collect(),
            Self::Profile(name) => Value::Object(rc.profile(name).cloned().unwrap_or_default()),
            Self::Effective(args) => {
                Value::Object(Effective::resolve(args, Some(rc), &node_name())?.to_json())
            }
        };
        Ok(match json {
            true => ascii_line(&value),
            false => perl_octets(&to_pretty(&value)),
        })
    }
}

/// A profile's name that is left out or null stands for the node name.
fn show_config_args(invocation: &Invocation<'_>) -> Result<Args, CliError> {
    let Some((name, pairs)) = invocation.arguments.split_first() else {
        return Ok(Args::new());
    };
    let mut args = Args::from_pairs(pairs)?;
    args.profile = match name {
        Value::Null => None,
        name => Some(coerce::to_text(name).ok_or_else(|| CliError::NotText {
            argument: "PROFILE",
            usage: invocation.subcommand.usage(),
        })?),
    };
    Ok(args)
}

/// Checks that no profile becomes its own ancestor: Perl's tool and nodes would loop for ever
/// reading such a file.
pub(crate) fn check_parents(rc: &RcFile, profile: &str) -> Result<(), CliError> {
    let mut args = Args::new();
    args.profile = Some(profile.into());
    match Effective::resolve(&args, Some(rc), profile) {
        Err(ProfileError::ParentCycle { .. }) => {
            Err(CliError::CircularParents { profile: profile.into() })
        }
        _ => Ok(()),
    }
}

/// A Perl string as Perl prints it: as octets if all characters fit, otherwise as UTF-8.
fn perl_octets(text: &str) -> Vec<u8> {
    to_octets(text).unwrap_or_else(|_| text.into())
}

/// JSON on one line, with everything beyond ASCII escaped, so that readers need not know whether
/// characters stand for octets.
fn ascii_line(value: &Value) -> Vec<u8> {
    let mut line = String::new();
    for c in value.to_string().chars() {
        match c.is_ascii() {
            true => line.push(c),
            false => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    line.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    line.push('\n');
    line.into_bytes()
}
