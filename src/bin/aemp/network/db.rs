//! `db`: reads and changes the network's database as a node of the network.

use super::client::{Client, string};
use crate::errors::{CliError, NetworkError};
use crate::grammar::Invocation;
use crate::output::{print_line, say};
use crate::show::{self, Style};
use crate::signals::interrupted;
use aemp::config::coerce;
use aemp::value::Str;
use aemp::{DbError, Value};
use std::time::Duration;
use tokio::time::timeout;

/// How long the database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(4);

pub(crate) enum Operation {
    Get(Str, Option<Str>),
    Keys(Str),
    Values(Str),
    Watch(Str),
    Set(Str, Str, serde_json::Value),
    Delete(Str, Str),
}

impl Operation {
    pub(super) fn prepare(invocation: &Invocation<'_>) -> Result<Self, CliError> {
        let text = |index: usize, argument: &'static str, usage: &str| {
            let usage = format!("db {usage}");
            let missing = CliError::MissingArgument { argument, usage: usage.clone() };
            let value = invocation.arguments.get(index).ok_or(missing)?;
            coerce::to_text(value)
                .map(|text| string(&text))
                .ok_or(CliError::NotText { argument, usage })
        };
        let name = invocation.text()?;
        let (operation, most) = match name.as_str() {
            "get" => {
                let family = text(1, "FAMILY", "get FAMILY [KEY]")?;
                let key = match invocation.arguments.len() {
                    ..=2 => None,
                    _ => Some(text(2, "KEY", "get FAMILY KEY")?),
                };
                (Self::Get(family, key), 3)
            }
            "keys" => (Self::Keys(text(1, "FAMILY", "keys FAMILY")?), 2),
            "values" => (Self::Values(text(1, "FAMILY", "values FAMILY")?), 2),
            "watch" => (Self::Watch(text(1, "FAMILY", "watch FAMILY")?), 2),
            "set" => {
                let usage = "set FAMILY KEY [VALUE]";
                let value = invocation.arguments.get(3).cloned().unwrap_or_default();
                (Self::Set(text(1, "FAMILY", usage)?, text(2, "KEY", usage)?, value), 4)
            }
            "del" => {
                let usage = "del FAMILY KEY";
                (Self::Delete(text(1, "FAMILY", usage)?, text(2, "KEY", usage)?), 3)
            }
            _ => return Err(CliError::UnknownDbOperation { name }),
        };
        match invocation.arguments.get(most) {
            Some(extra) => Err(CliError::TooManyArguments {
                argument: coerce::to_text(extra).unwrap_or_else(|| extra.to_string()),
                usage: format!("db {name}"),
            }),
            None => Ok(operation),
        }
    }
}

pub(super) async fn operate(client: &Client, operation: Operation) -> Result<(), CliError> {
    let db = client.node.db();
    let json = |value: &Value| show::json(value, Style::Compact);
    match operation {
        Operation::Get(family, Some(key)) => {
            let value = ask(client, &family, db.get::<Value>(family.clone(), key.clone())).await?;
            match value {
                Some(value) => say(&json(&value)),
                None => Err(no_key(&family, &key)),
            }
        }
        Operation::Get(family, None) => {
            let entries = ask(client, &family, db.family::<Value>(family.clone())).await?;
            let mut hash = aemp::value::Hash::new();
            for (key, value) in entries {
                hash.insert(key, value);
            }
            match client.options.json {
                true => say(&json(&Value::Hash(hash))),
                false => {
                    let mut lines = hash.iter();
                    lines.try_for_each(|(key, value)| {
                        say(&format!("{} {}", show::text(key.as_ref()), json(value)))
                    })
                }
            }
        }
        Operation::Keys(family) => {
            let mut keys = ask(client, &family, db.keys(family.clone())).await?;
            keys.sort();
            match client.options.json {
                true => say(&json(&Value::Array(keys.into_iter().map(Value::Str).collect()))),
                false => keys.iter().try_for_each(|key| say(&show::text(key.as_ref()))),
            }
        }
        Operation::Values(family) => {
            let values = ask(client, &family, db.values::<Value>(family.clone())).await?;
            match client.options.json {
                true => say(&json(&Value::Array(values))),
                false => values.iter().try_for_each(|value| say(&json(value))),
            }
        }
        Operation::Watch(family) => watch(client, family).await,
        Operation::Set(family, key, value) => {
            db.set(family.clone(), key.clone(), value).map_err(problem)?;
            let (family, key) = (show::text(family.as_ref()), show::text(key.as_ref()));
            let what = format!("{key} in {family} is set until this command is interrupted");
            print_line("", &what);
            interrupted().await
        }
        Operation::Delete(family, key) => {
            db.delete(family.clone(), [key.clone()]).map_err(problem)?;
            match ask(client, &family, db.get::<Value>(family.clone(), key.clone())).await? {
                Some(_) => Err(NetworkError::NotOurs { key: show::text(key.as_ref()) }.into()),
                None => Ok(()),
            }
        }
    }
}

fn no_key(family: &Str, key: &Str) -> CliError {
    let (family, key) = (show::text(family.as_ref()), show::text(key.as_ref()));
    NetworkError::NoKey { family, key }.into()
}

fn problem(error: DbError) -> CliError {
    NetworkError::Other(show::escaped(&error.to_string())).into()
}

async fn ask<T>(
    client: &Client,
    family: &Str,
    query: impl Future<Output = Result<T, DbError>>,
) -> Result<T, CliError> {
    let shown = show::text(family.as_ref());
    let answer = client.while_telling(|| format!("for a global node to tell of {shown}"), query);
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => answer.map_err(problem),
        Err(_) => {
            let seconds = ANSWER_TIMEOUT.as_secs();
            Err(NetworkError::Other(format!("no global node answered within {seconds} s")).into())
        }
    }
}

async fn watch(client: &Client, family: Str) -> Result<(), CliError> {
    let mut monitor = client.node.db().monitor(family);
    let mut over = std::pin::pin!(interrupted());
    loop {
        let change = tokio::select! {
            change = monitor.next() => match change {
                Some(change) => change,
                None => return Ok(()),
            },
            ended = &mut over => return ended,
        };
        for (sign, entries) in
            [("+", change.added().collect::<Vec<_>>()), ("*", change.changed().collect::<Vec<_>>())]
        {
            for (key, value) in entries {
                tell(client, sign, key, Some(&value))?;
            }
        }
        for key in change.deleted() {
            tell(client, "-", key, None)?;
        }
    }
}

fn tell(client: &Client, sign: &str, key: &Str, value: Option<&Value>) -> Result<(), CliError> {
    let name = match sign {
        "+" => "added",
        "*" => "changed",
        _ => "deleted",
    };
    if client.options.json {
        let mut hash = aemp::value::Hash::new();
        hash.insert("change", Value::Str(name.into()));
        hash.insert("key", Value::Str(key.clone()));
        if let Some(value) = value {
            hash.insert("value", value.clone());
        }
        return say(&show::json(&Value::Hash(hash), Style::Compact));
    }
    let value = value.map(|value| format!(" {}", show::json(value, Style::Compact)));
    say(&format!("{sign} {}{}", show::text(key.as_ref()), value.unwrap_or_default()))
}
