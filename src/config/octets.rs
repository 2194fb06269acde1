//! Conversion between octets and Perl's strings of octets.
//!
//! Perl's configuration is JSON in UTF-8, but what it holds are strings of octets: the octet 0xE9
//! is the character U+00E9 there, written as two octets in the file.

use thiserror::Error;

/// The error for a string with a character above U+00FF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("character number {position} is above U+00FF, but only octets are possible here")]
pub struct NotOctets {
    /// The position of the character, counted from 1. The character itself is not shown: it may be
    /// part of a secret.
    pub position: usize,
}

/// The octets of a Perl string.
///
/// # Errors
/// [`NotOctets`] if a character is above U+00FF.
pub fn to_octets(text: &str) -> Result<Vec<u8>, NotOctets> {
    text.chars()
        .enumerate()
        .map(|(index, c)| u8::try_from(c).map_err(|_| NotOctets { position: index + 1 }))
        .collect()
}

/// The Perl string of these octets.
#[must_use]
pub fn from_octets(octets: &[u8]) -> String {
    octets.iter().map(|&octet| char::from(octet)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_survives_a_round_trip_through_a_string() {
        let octets: Vec<u8> = (0..=255).collect();
        assert_eq!(to_octets(&from_octets(&octets)).unwrap(), octets);
    }

    #[test]
    fn a_character_beyond_an_octet_is_refused_by_its_position() {
        assert_eq!(to_octets("ab\u{20ac}"), Err(NotOctets { position: 3 }));
    }
}
