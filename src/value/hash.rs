//! Perl's hash: values by string key.

use super::Value;
use super::string::{Str, StrRef};
use indexmap::{Equivalent, IndexMap};
use std::fmt;

impl Equivalent<Str> for StrRef<'_> {
    #[inline]
    fn equivalent(&self, key: &Str) -> bool {
        *self == key.as_ref()
    }
}

/// A Perl hash: values by string key, in order of insertion.
///
/// Octets and text with the same code points are the same key. Of two pairs with the same key the later
/// one counts. Equality ignores the order.
///
/// ```
/// use aemp::value::{Hash, Str, Value};
///
/// let mut hash = Hash::new();
/// hash.insert("café", 1);
/// assert_eq!(hash.get(&Str::octets(&b"caf\xe9"[..])), Some(&Value::from(1)));
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct Hash(Box<IndexMap<Str, Value>>);

impl Hash {
    /// An empty hash.
    pub fn new() -> Self {
        Hash::default()
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of `key`.
    pub fn get<'k>(&self, key: impl Into<StrRef<'k>>) -> Option<&Value> {
        self.0.get(&key.into())
    }

    /// The value of `key`, mutable.
    pub fn get_mut<'k>(&mut self, key: impl Into<StrRef<'k>>) -> Option<&mut Value> {
        self.0.get_mut(&key.into())
    }

    /// Whether the key exists (Perl's `exists`); its value may be undef.
    pub fn contains_key<'k>(&self, key: impl Into<StrRef<'k>>) -> bool {
        self.0.contains_key(&key.into())
    }

    /// Sets the value of `key` and returns its former value.
    pub fn insert(&mut self, key: impl Into<Str>, value: impl Into<Value>) -> Option<Value> {
        self.0.insert(key.into(), value.into())
    }

    /// Removes `key` and returns its value (Perl's `delete`); the last pair takes its position.
    pub fn remove<'k>(&mut self, key: impl Into<StrRef<'k>>) -> Option<Value> {
        self.0.swap_remove(&key.into())
    }

    /// The pairs.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Str, &Value)> {
        self.0.iter()
    }

    /// The keys.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Str> {
        self.0.keys()
    }

    /// The values.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Value> {
        self.0.values()
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Into<Str>, V: Into<Value>> Extend<(K, V)> for Hash {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        self.0.extend(pairs.into_iter().map(|(k, v)| (k.into(), v.into())));
    }
}

impl<K: Into<Str>, V: Into<Value>> FromIterator<(K, V)> for Hash {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut hash = Hash::new();
        hash.extend(pairs);
        hash
    }
}

impl<K: Into<Str>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Hash {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl IntoIterator for Hash {
    type Item = (Str, Value);
    type IntoIter = indexmap::map::IntoIter<Str, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Hash {
    type Item = (&'a Str, &'a Value);
    type IntoIter = indexmap::map::Iter<'a, Str, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_later_of_two_pairs_wins() {
        let hash = Hash::from([("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(hash.len(), 2);
        assert_eq!(hash.get("a"), Some(&Value::from(3)));
        assert_eq!(hash.keys().next(), Some(&Str::text("a")));
    }

    #[test]
    fn order_does_not_matter_for_equality() {
        assert_eq!(Hash::from([("a", 1), ("b", 2)]), Hash::from([("b", 2), ("a", 1)]));
        assert_ne!(Hash::from([("a", 1)]), Hash::from([("a", 2)]));
    }

    #[test]
    fn pairs_are_changed_and_removed() {
        let mut hash = Hash::from([("a", 1), ("b", 2), ("c", 3)]);
        if let Some(value) = hash.get_mut("b") {
            *value = Value::Undef;
        }
        assert!(hash.contains_key("b"));
        assert_eq!(hash.remove("b"), Some(Value::Undef));
        assert_eq!(hash.remove("b"), None);
        assert_eq!(hash.values().count(), 2);
        assert_eq!((&hash).into_iter().count(), 2);
        assert!(!hash.is_empty());
        assert_eq!(format!("{hash:?}"), r#"{"a": Int(1), "c": Int(3)}"#);
        assert_eq!(hash.into_iter().count(), 2);
    }
}
