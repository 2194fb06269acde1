//! The elements of a message in packed form, owned.

use super::error::{DecodeError, EncodeError};
use super::packed::{Count, Elements};
use super::{Value, show};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The elements of a message in packed form. Clones share the octets.
#[derive(Clone, Default)]
pub struct Packed {
    count: Count,
    octets: Bytes,
}

impl Packed {
    /// Elements from `octets`, which have to be exactly `len` values in packed form.
    pub const fn new(len: usize, octets: Bytes) -> Self {
        Packed { count: Count::of(len), octets }
    }

    /// As [`Packed::new`], with what is known of the values.
    pub(crate) const fn counted(count: Count, octets: Bytes) -> Self {
        Packed { count, octets }
    }

    /// Encodes `value` as the elements of a message; see [`to_elements`](super::to_elements).
    ///
    /// # Errors
    /// As [`to_elements`](super::to_elements).
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, EncodeError> {
        let mut octets = Vec::new();
        let count = super::put_elements(&mut octets, value)?;
        Ok(Packed { count, octets: octets.into() })
    }

    /// The number of elements.
    pub const fn len(&self) -> usize {
        self.count.get()
    }

    /// Whether there are no elements.
    pub const fn is_empty(&self) -> bool {
        self.count.get() == 0
    }

    /// The octets of the elements.
    pub(crate) const fn octets_len(&self) -> usize {
        self.octets.len()
    }

    /// The same elements, borrowed.
    pub fn as_elements(&self) -> Elements<'_> {
        self.count.elements(0, &self.octets)
    }

    /// An owned copy of a part of these elements; it shares the octets if the part lies within them.
    pub(crate) fn share(&self, part: Elements<'_>) -> Packed {
        let (all, octets) = (self.octets.as_ptr_range(), part.octets());
        match !octets.is_empty() && all.contains(&octets.as_ptr()) {
            true => Packed::new(part.len(), self.octets.slice_ref(octets)),
            false => part.to_packed(),
        }
    }

    /// Decodes the elements into a Rust type; see [`from_elements`](super::from_elements).
    ///
    /// # Errors
    /// As [`from_elements`](super::from_elements).
    pub fn decode<'de, T: Deserialize<'de>>(&'de self) -> Result<T, DecodeError> {
        self.as_elements().decode()
    }
}

impl Elements<'_> {
    /// The elements as values.
    ///
    /// # Errors
    /// As [`Value::from_packed`].
    pub fn to_values(self) -> Result<Vec<Value>, DecodeError> {
        let mut reader = self.reader();
        (0..self.len())
            .map(|index| Value::from_packed(&mut reader).map_err(|e| e.in_element(index)))
            .collect()
    }

    /// An owned copy.
    pub fn to_packed(self) -> Packed {
        let octets = Bytes::copy_from_slice(self.octets());
        Packed { count: self.count(), octets }
    }
}

/// Shows the elements on one line.
impl fmt::Display for Elements<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_values() {
            Ok(values) => show::write_list(f, &values),
            Err(error) => write!(f, "[{error}]"),
        }
    }
}

impl fmt::Display for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_elements().fmt(f)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_shown_by_its_values() {
        let message = Packed::of(&("tag", 1, [None::<u8>])).unwrap();
        assert_eq!(message.len(), 3);
        assert!(!message.is_empty());
        assert_eq!(format!("{message:?}"), r#"["tag", 1, [undef]]"#);
        let broken = Packed::new(2, Bytes::from_static(&[1]));
        assert_eq!(broken.to_string(), "[element 1: not in packed form at octet 1]");
        assert!(Packed::default().is_empty());
    }

    #[test]
    fn a_message_is_sent_on_as_it_came() {
        let values = Value::from([
            Value::from("tag"),
            super::super::Str::octets(&b"\xe9"[..]).into(),
            [Value::from(1.0), (-1).into(), true.into()].into(),
            super::super::Hash::from([("k", Value::Undef)]).into(),
        ]);
        let message = Packed::of(&values).unwrap();
        let again = Packed::of(&message).unwrap();
        assert_eq!(again.as_elements().octets(), message.as_elements().octets());
        assert_eq!(again.len(), 4);
        let copy = message.as_elements().to_packed();
        assert_eq!(Value::Array(copy.as_elements().to_values().unwrap()), values);
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"["tag","é",[1.0,-1,true],{"k":null}]"#
        );
        assert!(Packed::of(&Packed::new(1, Bytes::new())).is_err());
    }
}
