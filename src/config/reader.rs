//! Values as types that several keys share: numbers, durations, lists, names.

use super::coerce;
use super::methods::{Named, names};
use super::profile::{Effective, Entry, Origin};
use super::rc::split_list;
use super::setting_error::{Problem, SettingError};
use super::warning::Warning;
use serde_json::Value;
use std::str::FromStr;
use std::time::Duration;

const MAX_TIME: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads values, and collects warnings about them.
pub(super) struct Reader<'a> {
    pub(super) effective: &'a Effective,
    pub(super) warnings: Vec<Warning>,
}

impl<'a> Reader<'a> {
    /// The entry of a key; null counts as no entry.
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.effective.entry(key).filter(|entry| !entry.value.is_null())
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.effective.origin(key).cloned().unwrap_or(Origin::BuiltIn)
    }

    pub(super) fn error(&self, key: &'static str, problem: Problem) -> SettingError {
        SettingError { key, origin: self.origin(key), problem: Box::new(problem) }
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, SettingError> {
        let Some(entry) = self.entry(key) else {
            return Ok(None);
        };
        match coerce::to_text(&entry.value) {
            Some(text) => Ok(Some(text)),
            None => Err(self.error(key, Problem::NotText)),
        }
    }

    pub(super) fn truth(&mut self, key: &'static str, default: bool) -> bool {
        let Some(entry) = self.entry(key) else {
            return default;
        };
        if let Value::String(text) = &entry.value
            && matches!(text.to_ascii_lowercase().as_str(), "false" | "no" | "off" | "0.0")
        {
            let (text, origin) = (text.clone(), entry.origin.clone());
            self.warnings.push(Warning::TrueText { key, origin, text });
        }
        coerce::is_true(&entry.value)
    }

    pub(super) fn seconds(
        &self,
        key: &'static str,
        default: u64,
    ) -> Result<Duration, SettingError> {
        let Some(entry) = self.entry(key) else {
            return Ok(Duration::from_secs(default));
        };
        coerce::to_number(&entry.value)
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .filter(|duration| !duration.is_zero() && *duration <= MAX_TIME)
            .ok_or_else(|| self.error(key, Problem::NotSeconds))
    }

    pub(super) fn count(&self, key: &'static str, default: usize) -> Result<usize, SettingError> {
        let Some(entry) = self.entry(key) else {
            return Ok(default);
        };
        coerce::to_number(&entry.value)
            .filter(|count| *count >= 1.0 && *count <= f64::from(u32::MAX) && count.fract() == 0.0)
            .map(|count| count as usize)
            .ok_or_else(|| self.error(key, Problem::NotCount))
    }

    pub(super) fn seconds_or_never(
        &self,
        key: &'static str,
        default: u64,
    ) -> Result<Option<Duration>, SettingError> {
        match self.entry(key).map(|entry| coerce::to_number(&entry.value)) {
            Some(Some(0.0)) => Ok(None),
            Some(None) => Err(self.error(key, Problem::NotSecondsOrNever)),
            _ => match self.seconds(key, default) {
                Ok(seconds) => Ok(Some(seconds)),
                Err(_) => Err(self.error(key, Problem::NotSecondsOrNever)),
            },
        }
    }

    /// The items of a list, which may be a comma-separated text.
    pub(super) fn list(&self, key: &'static str) -> Result<Option<Vec<Value>>, SettingError> {
        match self.entry(key).map(|entry| &entry.value) {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(Value::Object(_) | Value::Bool(_)) => Err(self.error(key, Problem::NotList)),
            Some(plain) => {
                let text = coerce::to_text(plain).unwrap_or_default();
                Ok(Some(split_list(&text).map(Value::from).collect()))
            }
        }
    }

    /// The texts of a list, each of which may itself be comma-separated.
    pub(super) fn texts(&self, key: &'static str) -> Result<Option<Vec<String>>, SettingError> {
        let Some(items) = self.list(key)? else {
            return Ok(None);
        };
        let mut texts = Vec::new();
        for item in items {
            let text = coerce::to_text(&item).ok_or_else(|| self.error(key, Problem::NotList))?;
            texts.extend(split_list(&text).map(str::to_owned));
        }
        Ok(Some(texts))
    }

    pub(super) fn parsed_list<T: FromStr + PartialEq>(
        &self,
        key: &'static str,
        problem: fn(T::Err) -> Problem,
    ) -> Result<Option<Vec<T>>, SettingError> {
        let Some(texts) = self.texts(key)? else {
            return Ok(None);
        };
        let mut parsed = Vec::new();
        for text in texts {
            let item = text.parse().map_err(|error| self.error(key, problem(error)))?;
            if !parsed.contains(&item) {
                parsed.push(item);
            }
        }
        Ok(Some(parsed))
    }

    /// Names; unknown ones are ignored as long as a known one is left.
    pub(super) fn names<T: Named>(
        &mut self,
        key: &'static str,
        default: &[T],
    ) -> Result<Vec<T>, SettingError> {
        let Some(texts) = self.texts(key)? else {
            return Ok(default.to_vec());
        };
        let mut known = Vec::new();
        for text in texts {
            match T::named(&text) {
                Ok(item) if known.contains(&item) => {}
                Ok(item) => known.push(item),
                Err(unknown) => {
                    let origin = self.origin(key);
                    self.warnings.push(Warning::UnknownName { key, origin, unknown });
                }
            }
        }
        match known.is_empty() {
            true => Err(self.nothing_known(key, default)),
            false => Ok(known),
        }
    }

    pub(super) fn nothing_known<T: Named>(&self, key: &'static str, usable: &[T]) -> SettingError {
        self.error(key, Problem::NothingKnown(names(usable)))
    }
}
