//! Patterns for packets: JSON with wildcards.

use crate::value::packed;
use crate::value::{Hash, Str, Value};
use serde_json::Value as Json;

/// Matches any one value.
pub(crate) const ANY: &str = "\u{1}any";
/// Matches all remaining elements of an array, or all further keys of a hash.
pub(crate) const REST: &str = "\u{1}rest";

/// Whether a value matches the pattern.
///
/// Scalars are compared as Perl strings, so that `42` matches `"42"`; null only matches undef. Tags are
/// ignored: a node may drop or keep those that it does not know.
pub(crate) fn matches(pattern: &Json, value: &Value) -> bool {
    match (pattern, &*value.without_tags()) {
        (Json::String(any), _) if any == ANY => true,
        (Json::Null, value) => value.is_undef(),
        (Json::Bool(expected), Value::Bool(found)) => expected == found,
        (_, Value::Bool(_)) => false,
        (Json::Array(items), Value::Array(found)) => matches_all(items, found),
        (Json::Object(pairs), Value::Hash(found)) => {
            let open = pairs.contains_key(REST);
            let named = pairs.iter().filter(|(key, _)| *key != REST);
            let all = named
                .clone()
                .all(|(key, item)| found.get(&**key).is_some_and(|value| matches(item, value)));
            all && (open || found.len() == named.count())
        }
        (Json::String(text), value) => {
            value.to_str().is_some_and(|found| *found == Str::text(text))
        }
        (Json::Number(number), value) => {
            let expected = Str::text(&number.to_string());
            value.to_str().is_some_and(|found| *found == expected)
        }
        _ => false,
    }
}

/// Whether the elements of a packet match the array of patterns.
pub(crate) fn matches_all(patterns: &[Json], values: &[Value]) -> bool {
    match patterns.split_last() {
        Some((Json::String(last), before)) if last == REST => {
            values.len() >= before.len()
                && before.iter().zip(values).all(|(pattern, value)| matches(pattern, value))
        }
        _ => {
            patterns.len() == values.len()
                && patterns.iter().zip(values).all(|(pattern, value)| matches(pattern, value))
        }
    }
}

/// Whether a packet matches an array of patterns.
pub(crate) fn matches_packet(pattern: &Json, packet: &[Value]) -> bool {
    pattern.as_array().is_some_and(|patterns| matches_all(patterns, packet))
}

/// The pattern as text.
pub(crate) fn show(pattern: &Json) -> String {
    pattern
        .to_string()
        .replace("\"\\u0001any\"", "*")
        .replace("\"\\u0001rest\":*", "...")
        .replace("\"\\u0001rest\":null", "...")
        .replace("\"\\u0001rest\"", "...")
}

/// Appends a value in packed form, with ASCII strings as octets, as Perl sends them.
pub(crate) fn put(json: &Json, out: &mut Vec<u8>) {
    match json {
        Json::Null => packed::put_undef(out),
        Json::Bool(value) => packed::put_bool(out, *value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => packed::put_uint(out, number),
            (_, Some(number), _) => packed::put_int(out, number),
            (_, _, number) => packed::put_float(out, number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => put_text(text, out),
        Json::Array(items) => {
            packed::put_array(out, items.len());
            for item in items {
                put(item, out);
            }
        }
        Json::Object(pairs) => {
            packed::put_hash(out, pairs.len());
            for (key, value) in pairs {
                put_text(key, out);
                put(value, out);
            }
        }
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    match text.is_ascii() {
        true => packed::put_octets(out, text.as_bytes()),
        false => packed::put_text(out, text),
    }
}

/// The value as JSON, to look up parts of it; what JSON cannot represent becomes a text.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Undef => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Int(number) => match (i64::try_from(number.get()), u64::try_from(number.get())) {
            (Ok(number), _) => number.into(),
            (_, Ok(number)) => number.into(),
            _ => number.get().to_string().into(),
        },
        Value::Float(number) => (*number).into(),
        Value::Str(text) => text.to_text_lossy().into(),
        Value::Array(items) => items.iter().map(to_json).collect(),
        Value::Hash(hash) => Json::Object(to_object(hash)),
        Value::Tagged(_) => to_json(&value.without_tags()),
    }
}

fn to_object(hash: &Hash) -> serde_json::Map<String, Json> {
    hash.iter().map(|(key, value)| (key.to_text_lossy().into_owned(), to_json(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(json: &Json) -> Value {
        let mut octets = Vec::new();
        put(json, &mut octets);
        Value::from_packed(&mut packed::Reader::new(&octets)).unwrap()
    }

    fn fits(pattern: Json, found: Json) -> bool {
        matches(&pattern, &value(&found))
    }

    #[test]
    fn patterns_have_wildcards() {
        assert!(fits(json!(["", ANY, REST]), json!(["", 1, 2, 3])));
        assert!(fits(json!([REST]), json!([])));
        assert!(!fits(json!(["", ANY]), json!([""])));
        assert!(!fits(json!(["", ANY]), json!(["", 1, 2])));
        assert!(fits(json!({"a": ANY}), json!({"a": null})));
        assert!(!fits(json!({"a": ANY}), json!({"a": 1, "b": 1})));
        assert!(fits(json!({"a": 1, REST: ANY}), json!({"a": 1, "b": 1})));
    }

    #[test]
    fn scalars_are_compared_as_perl_does_and_undef_is_no_string() {
        assert!(fits(json!(42), json!("42")) && fits(json!("42"), json!(42)));
        assert!(!fits(json!(""), json!(null)) && !fits(json!(null), json!("")));
        assert!(!fits(json!(1), json!(true)) && fits(json!(true), json!(true)));
    }

    #[test]
    fn patterns_are_shown_with_stars_and_dots() {
        assert_eq!(show(&json!(["", ANY, REST])), r#"["",*,...]"#);
        assert_eq!(show(&json!({"a": 1, REST: ANY})), r#"{"a":1,...}"#);
    }
}
