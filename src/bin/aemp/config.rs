//! Subcommands that change values: `set`, `del` and `add` of each key.

use crate::errors::CliError;
use crate::grammar::{Action, Form, Invocation};
use crate::secrets;
use aemp::config::octets::from_octets;
use aemp::config::profile::Effective;
use aemp::config::rc::{RcFile, Scope};
use aemp::config::settings::SettingError;
use aemp::config::{Args, coerce};
use serde_json::Value;
use std::fs::File;
use std::io::Read;

const MAX_CERT_SIZE: u64 = 1 << 20;

/// One change of the selected part of the rc file.
#[derive(Debug, Clone)]
pub(crate) enum Edit {
    Set { key: &'static str, value: Value },
    Delete { key: &'static str },
    Add { key: &'static str, item: Value, once: bool },
    Remove { key: &'static str, item: Value, every: bool },
    Generate { key: &'static str, generate: fn() -> Result<String, CliError> },
}

impl Edit {
    /// Reads what the change needs, so that applying it cannot fail because of its arguments.
    /// `None` if the invocation does not change a value.
    pub(crate) fn prepare(invocation: &Invocation<'_>) -> Result<Option<Self>, CliError> {
        Ok(Some(match invocation.subcommand.action {
            Action::Set { key, form } => {
                let value = match form {
                    Form::AsGiven => invocation.value()?,
                    Form::List => list(invocation.value()?),
                    Form::FileContent => certificate(&invocation.text()?)?,
                    Form::Secret => match invocation.value()? {
                        Value::String(text) if text == secrets::STANDARD_INPUT => {
                            secrets::read(&text)?.into()
                        }
                        value => value,
                    },
                };
                Self::Set { key, value }
            }
            Action::Delete { key } => Self::Delete { key },
            Action::Add { key, once } => Self::Add { key, item: invocation.value()?, once },
            Action::Remove { key, every } => Self::Remove { key, item: invocation.value()?, every },
            Action::GenerateSecret => Self::Generate { key: "secret", generate: secrets::generate },
            Action::GenerateCert => {
                Self::Generate { key: "cert", generate: secrets::generate_cert }
            }
            _ => return Ok(None),
        }))
    }

    pub(crate) fn apply(&self, rc: &mut RcFile, scope: Scope<'_>) -> Result<(), CliError> {
        match self {
            Self::Set { key, value } => rc.set(scope, key, value.clone()),
            Self::Delete { key } => {
                rc.delete(scope, key);
            }
            Self::Add { key, item, once } => rc.edit_list(scope, key, |list| {
                if *once {
                    list.retain(|old| !is_equal(old, item));
                }
                list.push(item.clone());
            }),
            Self::Remove { key, item, every } => rc.edit_list(scope, key, |list| {
                if *every {
                    list.retain(|old| !is_equal(old, item));
                } else if let Some(first) = list.iter().position(|old| is_equal(old, item)) {
                    list.remove(first);
                }
            }),
            Self::Generate { key, generate } => rc.set(scope, key, generate()?.into()),
        }
        Ok(())
    }

    /// The problems that a node would have with the value. It is stored all the same, as Perl's
    /// tool does, since other programs that read the file may accept it.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let (key, value) = match self {
            // Perl code is for Perl nodes, which read the same file.
            Self::Set { key: "parent" | "eval", .. } => return Vec::new(),
            Self::Set { key, value } => (*key, value.clone()),
            Self::Add { key, item, .. } => (*key, Value::Array(vec![item.clone()])),
            _ => return Vec::new(),
        };
        let needs_list = matches!(key, "framing_format" | "auth_offer" | "auth_accept");
        if let (true, Value::String(text)) = (needs_list, &value) {
            let items = text.split(',').map(|item| format!("{:?}", item.trim()));
            let items = items.collect::<Vec<_>>().join(",");
            return vec![format!(
                "`{key}`: Perl nodes need a JSON list; write `aemp set{key} '[{items}]'`"
            )];
        }
        let mut args = Args::new();
        args.set(key, value);
        let settings = Effective::resolve(&args, None, "any").map(|found| found.settings());
        match settings {
            Ok(Ok((_, warnings))) => warnings.iter().map(ToString::to_string).collect(),
            // The key is checked alone, without the certificate that it needs.
            Ok(Err(_)) if key == "tls_required" => Vec::new(),
            Ok(Err(SettingError { problem, .. })) => {
                vec![format!("`aemp run` will refuse this: `{key}`: {problem}")]
            }
            Err(_) => Vec::new(),
        }
    }
}

/// Splits like Perl's `split /,/`: no empty items at the end, no trimming.
fn list(value: Value) -> Value {
    match coerce::to_text(&value) {
        Some(text) => {
            let text = text.trim_end_matches(',');
            let items = (!text.is_empty()).then(|| text.split(',').map(Value::from));
            Value::Array(items.into_iter().flatten().collect())
        }
        None => value,
    }
}

/// Plain values are equal if their texts are, as in Perl.
fn is_equal(a: &Value, b: &Value) -> bool {
    match (coerce::to_text(a), coerce::to_text(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn certificate(file: &str) -> Result<Value, CliError> {
    let path = secrets::path(file);
    let mut content = Vec::new();
    let read =
        File::open(&path).and_then(|file| file.take(MAX_CERT_SIZE + 1).read_to_end(&mut content));
    match read {
        Err(source) => Err(CliError::CertUnreadable { path, source }),
        Ok(_) if content.len() as u64 > MAX_CERT_SIZE => Err(CliError::CertTooLarge { path }),
        Ok(_) => Ok(from_octets(&content).into()),
    }
}
