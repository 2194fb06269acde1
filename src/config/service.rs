//! Services: modules and functions that a node starts when it is up.

use serde_json::Value;
use std::fmt;
use thiserror::Error;

/// The error for a text or list that does not name a service.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text} is not a service; write \"Module::\", \"Function::name\" or [\"Function::name\", args...]"
)]
pub struct ServiceError {
    /// The invalid entry, as JSON.
    pub text: String,
}

/// One entry of `services`.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// `"Module::"`: a module to load. The name excludes the colons.
    Module(String),
    /// `"Function::name"` or `["Function::name", args...]`: a function to call.
    Call {
        /// Its full name.
        function: String,
        /// Its arguments.
        arguments: Vec<Value>,
    },
}

impl Service {
    /// Reads an entry of the list `services`.
    ///
    /// # Errors
    /// [`ServiceError`] if it is neither a text nor a list whose first item is a function's name.
    pub fn from_json(value: &Value) -> Result<Self, ServiceError> {
        let error = || ServiceError { text: value.to_string() };
        match value {
            Value::String(text) => match text.strip_suffix("::") {
                Some("") => Err(error()),
                Some(module) => Ok(Self::Module(module.into())),
                None => Self::call(text, &[]).ok_or_else(error),
            },
            Value::Array(items) => match items.split_first() {
                Some((Value::String(function), arguments)) => {
                    Self::call(function, arguments).ok_or_else(error)
                }
                _ => Err(error()),
            },
            _ => Err(error()),
        }
    }

    fn call(function: &str, arguments: &[Value]) -> Option<Self> {
        (!function.trim().is_empty())
            .then(|| Self::Call { function: function.into(), arguments: arguments.to_vec() })
    }

    /// The entry as written in the configuration.
    #[must_use]
    pub fn to_json(&self) -> Value {
        match self {
            Self::Module(name) => format!("{name}::").into(),
            Self::Call { function, arguments }
                if arguments.is_empty() && !function.ends_with("::") =>
            {
                function.as_str().into()
            }
            Self::Call { function, arguments } => {
                let name = std::iter::once(Value::from(function.as_str()));
                Value::Array(name.chain(arguments.iter().cloned()).collect())
            }
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_json() {
            Value::String(text) => f.write_str(&text),
            other => other.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn call(function: &str, arguments: Vec<Value>) -> Service {
        Service::Call { function: function.into(), arguments }
    }

    #[test]
    fn modules_functions_and_calls_are_told_apart() {
        for (json, service) in [
            (json!("AnyEvent::MP::Global::"), Service::Module("AnyEvent::MP::Global".into())),
            (json!("My::run"), call("My::run", vec![])),
            (
                json!(["My::run", 1, [2], null]),
                call("My::run", vec![json!(1), json!([2]), json!(null)]),
            ),
        ] {
            assert_eq!(Service::from_json(&json).unwrap(), service);
            assert_eq!(service.to_json(), json);
        }
        assert_eq!(Service::from_json(&json!(["My::run"])).unwrap(), call("My::run", vec![]));
    }

    #[test]
    fn anything_else_is_not_a_service() {
        for json in
            [json!(""), json!("::"), json!([]), json!([1]), json!(null), json!({}), json!([""])]
        {
            assert!(Service::from_json(&json).is_err(), "{json}");
        }
        let error = Service::from_json(&json!([1])).unwrap_err().to_string();
        assert!(error.starts_with("[1] is not a service; write \"Module::\""), "{error}");
    }
}
