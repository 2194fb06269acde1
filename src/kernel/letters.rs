//! Numbers in letters, for names that are to be short and unlike each other.

/// A number in the digits `a` to `z`, of which `a` is 0.
pub(super) fn letters(mut number: u64) -> Vec<u8> {
    let mut letters = Vec::with_capacity(14);
    loop {
        letters.push(b'a' + (number % 26) as u8);
        number /= 26;
        if number == 0 {
            letters.reverse();
            return letters;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_the_digits_a_to_z() {
        let written = |number| String::from_utf8(letters(number)).unwrap();
        assert_eq!([0, 1, 25, 26, 27, 676].map(written), ["a", "b", "z", "ba", "bb", "baa"]);
    }
}
