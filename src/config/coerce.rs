//! JSON values as Perl treats them: any scalar is a text, a number and a truth value.

use serde_json::{Number, Value};

/// Whether the value is true in Perl: everything but false, null, 0, `""` and `"0"`.
#[must_use]
pub fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !matches!(text.as_str(), "" | "0"),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The value as a text; `None` for null, lists and objects.
#[must_use]
pub fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(if *truth { "1" } else { "0" }.into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The value as a number; `None` if it is not one. (Perl would use 0.)
#[must_use]
pub fn to_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// Perl shows the float 3.0 as 3.
fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn truth_is_perls() {
        for no in [json!(false), json!(null), json!(0), json!(0.0), json!(""), json!("0")] {
            assert!(!is_true(&no), "{no}");
        }
        for yes in [json!(true), json!(1), json!("0.0"), json!("false"), json!([]), json!({})] {
            assert!(is_true(&yes), "{yes}");
        }
    }

    #[test]
    fn plain_values_are_texts() {
        assert_eq!(to_text(&json!(42)).unwrap(), "42");
        assert_eq!(to_text(&json!(3.0)).unwrap(), "3");
        assert_eq!(to_text(&json!(1.5)).unwrap(), "1.5");
        assert_eq!(to_text(&json!(true)).unwrap(), "1");
        assert_eq!(to_text(&json!(null)), None);
        assert_eq!(to_text(&json!([])), None);
    }

    #[test]
    fn texts_of_numbers_are_numbers() {
        assert_eq!(to_number(&json!(" 2.5 ")), Some(2.5));
        assert_eq!(to_number(&json!("2s")), None);
        assert_eq!(to_number(&json!(true)), None);
    }
}
