//! Functions that write packed form.

use super::{
    ARRAY, BYTES, DOUBLE, Elements, FALSE, MAP, NINT, NULL, SINGLE, TAG, TEXT, TRUE, UINT,
    UNDEFINED,
};
use crate::value::string::{StrKind, StrRef};

/// Appends one octet and `data`, if the vector has room for both.
///
/// Everything here is inlined where values are made, so that constants cost nothing. Safe code would
/// check the capacity twice, and then be too large to be inlined.
#[inline]
fn put_in_room(out: &mut Vec<u8>, first: u8, data: &[u8]) -> bool {
    let (start, len) = (out.len(), data.len());
    if out.capacity() - start <= len {
        return false;
    }
    // SAFETY: after the `start` octets in the vector there is room for more than `len` octets, all of
    // which are written before the length of the vector includes them; `data` is borrowed, so it does
    // not overlap.
    unsafe {
        let end = out.as_mut_ptr().add(start);
        end.write(first);
        end.add(1).copy_from_nonoverlapping(data.as_ptr(), len);
        out.set_len(start + 1 + len);
    }
    true
}

/// Appends a head (major type and argument) in its shortest form.
#[inline]
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    if argument > 23 || !put_in_room(out, major | argument as u8, &[]) {
        any_head(out, major, argument);
    }
}

#[inline(never)]
fn any_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    if out.capacity() - out.len() < 9 {
        return head_with_room(out, major, argument);
    }
    let done = match argument {
        0..=23 => put_in_room(out, major | argument as u8, &[]),
        24..=0xff => put_in_room(out, major | 24, &[argument as u8]),
        0x100..=0xffff => put_in_room(out, major | 25, &(argument as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => put_in_room(out, major | 26, &(argument as u32).to_be_bytes()),
        _ => put_in_room(out, major | 27, &argument.to_be_bytes()),
    };
    debug_assert!(done, "there was room");
}

#[cold]
fn head_with_room(out: &mut Vec<u8>, major: u8, argument: u64) {
    out.reserve(9);
    any_head(out, major, argument);
}

/// Appends a string of this major type.
#[inline]
fn put_data(out: &mut Vec<u8>, major: u8, data: &[u8]) {
    if data.len() > 23 || !put_in_room(out, major | data.len() as u8, data) {
        put_any_data(out, major, data);
    }
}

#[inline(never)]
fn put_any_data(out: &mut Vec<u8>, major: u8, data: &[u8]) {
    any_head(out, major, data.len() as u64);
    out.extend_from_slice(data);
}

/// The octets of a string in packed form.
pub(crate) const fn string_len(string: StrRef<'_>) -> usize {
    head_len(string.data().len()) + string.data().len()
}

/// The octets of the head of a string or list of this length in packed form.
pub(crate) const fn head_len(len: usize) -> usize {
    match len {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => 9,
    }
}

/// Whether a packed value is neither an array nor a hash, and has no tag.
#[inline]
pub(crate) const fn is_scalar(value: &[u8]) -> bool {
    !matches!(value.first(), None | Some(ARRAY..0xe0))
}

/// Appends undef.
#[inline]
pub fn put_undef(out: &mut Vec<u8>) {
    out.push(NULL);
}

/// Appends CBOR's `undefined`.
pub(crate) fn put_undefined(out: &mut Vec<u8>) {
    out.push(UNDEFINED);
}

/// Appends a tag; its value has to be appended next.
#[inline]
pub fn put_tag(out: &mut Vec<u8>, tag: u64) {
    head(out, TAG, tag);
}

/// Appends a boolean.
#[inline]
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Appends a non-negative integer.
#[inline]
pub fn put_uint(out: &mut Vec<u8>, value: u64) {
    head(out, UINT, value);
}

/// Appends an integer.
#[inline]
pub fn put_int(out: &mut Vec<u8>, value: i64) {
    if value < 0 { head(out, NINT, !value as u64) } else { head(out, UINT, value as u64) }
}

/// Appends a float, as single precision if that is exact, as Perl's CBOR::XS does.
#[inline]
pub fn put_float(out: &mut Vec<u8>, value: f64) {
    let single = value as f32;
    if f64::from(single).to_bits() == value.to_bits() {
        out.push(SINGLE);
        out.extend_from_slice(&single.to_be_bytes());
    } else {
        out.push(DOUBLE);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// Appends a string whose code points are these octets.
#[inline]
pub fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    put_data(out, BYTES, octets);
}

/// Appends a string of characters.
#[inline]
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_data(out, TEXT, text.as_bytes());
}

/// Appends a string in the form in which it is stored.
#[inline]
pub fn put_str(out: &mut Vec<u8>, string: StrRef<'_>) {
    let major = match string.kind() {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    put_data(out, major, string.data());
}

/// Appends the head of a string of `len` octets, which have to be appended next.
pub(crate) fn begin_str(out: &mut Vec<u8>, kind: StrKind, len: usize) {
    let major = match kind {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    head(out, major, len as u64);
}

/// Appends a string that consists of parts, of which only the first may be other than ASCII.
#[inline]
pub(crate) fn put_joined(out: &mut Vec<u8>, first: StrRef<'_>, rest: &[&[u8]]) {
    let len = first.data().len() + rest.iter().map(|part| part.len()).sum::<usize>();
    let major = match first.kind() {
        StrKind::Octets => BYTES,
        StrKind::Text => TEXT,
    };
    head(out, major, len as u64);
    out.extend_from_slice(first.data());
    for part in rest {
        out.extend_from_slice(part);
    }
}

/// Appends the head of an array of `len` values, which have to be appended next.
#[inline]
pub fn put_array(out: &mut Vec<u8>, len: usize) {
    head(out, ARRAY, len as u64);
}

/// Appends an array of these values.
#[inline]
pub(crate) fn put_list(out: &mut Vec<u8>, elements: Elements<'_>) {
    let (len, octets) = (elements.len(), elements.octets());
    if len > 23 || !put_in_room(out, ARRAY | len as u8, octets) {
        any_head(out, ARRAY, len as u64);
        out.extend_from_slice(octets);
    }
}

/// Appends the head of a hash of `len` pairs, which have to be appended next: key, value, key, value.
#[inline]
pub fn put_hash(out: &mut Vec<u8>, len: usize) {
    head(out, MAP, len as u64);
}

/// The position of a length that is not known yet.
#[derive(Debug, Clone, Copy)]
#[must_use = "an open length has to be closed"]
pub struct OpenLen {
    at: usize,
}

/// Begins an array whose length [`close_len`] will set.
pub fn open_array(out: &mut Vec<u8>) -> OpenLen {
    open(out, ARRAY)
}

/// Begins a hash whose length [`close_len`] will set.
pub fn open_hash(out: &mut Vec<u8>) -> OpenLen {
    open(out, MAP)
}

fn open(out: &mut Vec<u8>, major: u8) -> OpenLen {
    let at = out.len();
    out.extend_from_slice(&[major | 26, 0, 0, 0, 0]);
    OpenLen { at }
}

/// Sets the length of an array or hash begun by [`open_array`] or [`open_hash`].
///
/// Lengths are at most 2^32-1; larger ones exceed every packet limit.
pub fn close_len(out: &mut [u8], place: OpenLen, len: usize) {
    let len = u32::try_from(len).unwrap_or(u32::MAX);
    if let Some(slot) = out.get_mut(place.at + 1..place.at + 5) {
        slot.copy_from_slice(&len.to_be_bytes());
    }
}
