//! Keys with their values, as requests and reports of the database carry them.

use super::datum::{Datum, token_to_str};
use crate::value::Str;
use crate::value::packed::{self, Malformed, Reader, Token};
use std::collections::{BTreeMap, btree_map};
use std::fmt;
use std::sync::Arc;

/// Up to this many entries are stored in a vector.
const LINEAR_SEARCH_LIMIT: usize = 16;

/// Keys with their values, in order of keys: a family, or the entries that an update sets.
#[derive(Clone, Default)]
pub struct Entries(Storage);

#[derive(Clone, Default)]
enum Storage {
    #[default]
    None,
    /// The most frequent case: updates of a single key.
    One((Str, Datum)),
    /// In order of keys.
    Few(Vec<(Str, Datum)>),
    /// Shared by clones, since all monitors of a family get the same report.
    Many(Arc<BTreeMap<Str, Datum>>),
}

/// Families with their entries: the database of one node.
pub type Tables = BTreeMap<Str, Entries>;

impl Entries {
    /// No entries.
    pub const fn new() -> Self {
        Entries(Storage::None)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        match &self.0 {
            Storage::None => 0,
            Storage::One(_) => 1,
            Storage::Few(few) => few.len(),
            Storage::Many(many) => many.len(),
        }
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key.
    pub fn get(&self, key: &Str) -> Option<&Datum> {
        match &self.0 {
            Storage::None => None,
            Storage::One((held, value)) => (held == key).then_some(value),
            Storage::Few(few) => few.iter().find(|(held, _)| held == key).map(|(_, value)| value),
            Storage::Many(many) => many.get(key),
        }
    }

    /// Whether the key exists.
    pub fn contains(&self, key: &Str) -> bool {
        self.get(key).is_some()
    }

    /// Sets a key and returns its former value.
    pub fn insert(&mut self, key: Str, value: Datum) -> Option<Datum> {
        match &mut self.0 {
            Storage::None => self.0 = Storage::One((key, value)),
            Storage::One((held, old)) if *held == key => {
                return Some(std::mem::replace(old, value));
            }
            Storage::One(_) => {
                let one = std::mem::replace(&mut self.0, Storage::Few(Vec::with_capacity(2)));
                self.extend(Entries(one));
                self.insert(key, value);
            }
            Storage::Few(few) => {
                // Entries usually come in order.
                let at = match few.last() {
                    Some((last, _)) if *last >= key => {
                        few.binary_search_by(|(held, _)| held.cmp(&key))
                    }
                    _ => Err(few.len()),
                };
                match at {
                    Ok(at) => {
                        return few.get_mut(at).map(|(_, held)| std::mem::replace(held, value));
                    }
                    Err(at) if few.len() < LINEAR_SEARCH_LIMIT => few.insert(at, (key, value)),
                    Err(_) => {
                        let few = std::mem::take(few).into_iter();
                        self.0 = Storage::Many(Arc::new(few.chain([(key, value)]).collect()));
                    }
                }
            }
            Storage::Many(many) => return Arc::make_mut(many).insert(key, value),
        }
        None
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &Str) -> Option<Datum> {
        match &mut self.0 {
            Storage::None => None,
            Storage::One((held, value)) => {
                if held != key {
                    return None;
                }
                let value = std::mem::take(value);
                self.0 = Storage::None;
                Some(value)
            }
            Storage::Few(few) => {
                let at = few.iter().position(|(held, _)| held == key)?;
                Some(few.remove(at).1)
            }
            Storage::Many(many) => Arc::make_mut(many).remove(key),
        }
    }

    /// The entries in order of keys.
    pub fn iter(&self) -> Iter<'_> {
        Iter(match &self.0 {
            Storage::None => IterInner::Few([].iter()),
            Storage::One(one) => IterInner::Few(std::slice::from_ref(one).iter()),
            Storage::Few(few) => IterInner::Few(few.iter()),
            Storage::Many(many) => IterInner::Many(many.iter()),
        })
    }

    /// The keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &Str> {
        self.iter().map(|(key, _)| key)
    }

    /// The values in order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &Datum> {
        self.iter().map(|(_, value)| value)
    }

    /// Appends the entries as a packed hash.
    pub fn put(&self, out: &mut Vec<u8>) {
        packed::put_hash(out, self.len());
        for (key, value) in self {
            packed::put_str(out, key.as_ref());
            out.extend_from_slice(value.octets());
        }
    }

    /// Reads a packed hash; `None` if the value is not a hash.
    ///
    /// # Errors
    /// Fails where the octets are not in packed form.
    pub fn read(reader: &mut Reader<'_>) -> Result<Option<Entries>, Malformed> {
        let Token::Hash(len) = reader.token()? else {
            return Ok(None);
        };
        let mut entries = match len {
            0 | 1 => Entries::new(),
            _ => Entries(Storage::Few(Vec::with_capacity(len.min(LINEAR_SEARCH_LIMIT)))),
        };
        for _ in 0..len {
            let Some(key) = token_to_str(reader.token()?) else {
                return Ok(None);
            };
            entries.insert(key, Datum::trusted(reader.skip()?));
        }
        Ok(Some(entries))
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for Entries {}

impl fmt::Debug for Entries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl FromIterator<(Str, Datum)> for Entries {
    fn from_iter<I: IntoIterator<Item = (Str, Datum)>>(entries: I) -> Self {
        let mut all = Entries::new();
        all.extend(entries);
        all
    }
}

impl Extend<(Str, Datum)> for Entries {
    fn extend<I: IntoIterator<Item = (Str, Datum)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

/// The entries of [`Entries`], in order of keys.
#[derive(Debug, Clone)]
pub struct Iter<'a>(IterInner<'a>);

#[derive(Debug, Clone)]
enum IterInner<'a> {
    Few(std::slice::Iter<'a, (Str, Datum)>),
    Many(btree_map::Iter<'a, Str, Datum>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a Str, &'a Datum);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            IterInner::Few(few) => few.next().map(|(key, value)| (key, value)),
            IterInner::Many(many) => many.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            IterInner::Few(few) => few.size_hint(),
            IterInner::Many(many) => many.size_hint(),
        }
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Entries {
    type Item = (&'a Str, &'a Datum);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The entries of [`Entries`], taken out in order of keys.
#[derive(Debug)]
pub struct IntoIter(IntoIterInner);

#[derive(Debug)]
enum IntoIterInner {
    One(std::option::IntoIter<(Str, Datum)>),
    Few(std::vec::IntoIter<(Str, Datum)>),
    Many(btree_map::IntoIter<Str, Datum>),
}

impl Iterator for IntoIter {
    type Item = (Str, Datum);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            IntoIterInner::One(one) => one.next(),
            IntoIterInner::Few(few) => few.next(),
            IntoIterInner::Many(many) => many.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            IntoIterInner::One(one) => one.size_hint(),
            IntoIterInner::Few(few) => few.size_hint(),
            IntoIterInner::Many(many) => many.size_hint(),
        }
    }
}

impl ExactSizeIterator for IntoIter {}

impl IntoIterator for Entries {
    type Item = (Str, Datum);
    type IntoIter = IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        IntoIter(match self.0 {
            Storage::None => IntoIterInner::One(None.into_iter()),
            Storage::One(one) => IntoIterInner::One(Some(one).into_iter()),
            Storage::Few(few) => IntoIterInner::Few(few.into_iter()),
            Storage::Many(many) => IntoIterInner::Many(Arc::unwrap_or_clone(many).into_iter()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_put() {
        let entries: Entries = [
            (Str::text("k"), Datum::int(1)),
            (Str::octets(&b"\xff"[..]), Datum::UNDEF),
            (Str::text(""), Datum::strings(&["a".into(), "b".into()])),
        ]
        .into_iter()
        .collect();
        let mut out = Vec::new();
        entries.put(&mut out);
        let mut reader = Reader::new(&out);
        assert_eq!(Entries::read(&mut reader), Ok(Some(entries)));
        assert!(reader.is_done());
    }

    #[test]
    fn few_entries_and_many_behave_alike() {
        let mut entries = Entries::new();
        let mut model = BTreeMap::new();
        for step in 0..400_u32 {
            let number = step * 37 % 61;
            let key = Str::text(&format!("key{number}"));
            if step % 5 == 4 || step > 300 {
                assert_eq!(entries.remove(&key), model.remove(&key));
            } else {
                let value = Datum::int(i64::from(step));
                assert_eq!(entries.insert(key.clone(), value.clone()), model.insert(key, value));
            }
            assert_eq!((entries.len(), entries.is_empty()), (model.len(), model.is_empty()));
            assert!(entries.iter().eq(model.iter()));
            assert!(entries.keys().eq(model.keys()) && entries.values().eq(model.values()));
            let again: Entries = entries.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
            assert_eq!(again, entries);
        }
        assert!(entries.into_iter().eq(model));
    }
}
