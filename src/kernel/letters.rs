//! Numbers written in letters, for short unique names.

use crate::value::Str;

/// The maximum number of letters of a number.
pub(crate) const MAX_LETTERS: usize = 14;

/// A number in the digits `a` to `z`, of which `a` is 0.
pub(super) fn letters(number: u64) -> Vec<u8> {
    let mut letters = [0; MAX_LETTERS];
    let len = put(&mut letters, number, b'a');
    letters.get(..len).unwrap_or_default().to_vec()
}

/// Writes a number in base 26, with `zero` as the digit 0, to the beginning of `out`, which has room for
/// [`MAX_LETTERS`]. Returns the number of letters.
#[inline]
pub(crate) fn put(out: &mut [u8], mut number: u64, zero: u8) -> usize {
    let mut len = 0;
    for letter in out.iter_mut() {
        *letter = zero + (number % 26) as u8;
        len += 1;
        number /= 26;
        if number == 0 {
            break;
        }
    }
    if let Some(letters) = out.get_mut(..len) {
        letters.reverse();
    }
    len
}

/// Reads what [`put`] writes and nothing else: each number has one form.
#[inline]
pub(crate) fn read(letters: &[u8], zero: u8) -> Option<u64> {
    if letters.len() > 1 && letters.first() == Some(&zero) {
        return None;
    }
    letters.iter().try_fold(0_u64, |number, letter| {
        let digit = letter.wrapping_sub(zero);
        let digit = (digit < 26).then_some(u64::from(digit))?;
        number.checked_mul(26)?.checked_add(digit)
    })
}

/// The `n`th query ID: b, c, ..., z, aa, ab, ..., as Perl nodes count.
pub(in crate::kernel) fn query_id(n: u64) -> Str {
    let mut letters = Vec::new();
    let mut left = n + 1;
    while left > 0 {
        left -= 1;
        letters.push(b'a' + (left % 26) as u8);
        left /= 26;
    }
    letters.reverse();
    Str::octets(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_digits_a_to_z() {
        let written = |number| String::from_utf8(letters(number)).unwrap();
        assert_eq!([0, 1, 25, 26, 27, 676].map(written), ["a", "b", "z", "ba", "bb", "baa"]);
    }

    #[test]
    fn a_number_is_read_in_the_form_in_which_it_is_written_and_in_no_other() {
        for number in [0, 1, 25, 26, 12_345, u64::MAX] {
            assert_eq!(read(&letters(number), b'a'), Some(number));
        }
        for wrong in [&b"ab"[..], b"A", b"a1", b"zzzzzzzzzzzzzz"] {
            assert_eq!(read(wrong, b'a'), None, "{wrong:?}");
        }
    }
}
