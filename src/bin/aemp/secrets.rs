//! Secrets that nobody types: made here, and shown only by those who are asked to show them.

use crate::errors::CliError;
use aemp::node::tls::gencert;
use std::time::SystemTime;

/// As long as Perl's: about 1071 bits.
const LENGTH: usize = 180;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A random secret of letters and digits.
pub(crate) fn generate() -> Result<String, CliError> {
    let mut secret = String::with_capacity(LENGTH);
    let mut random = [0; 256];
    while secret.len() < LENGTH {
        getrandom::fill(&mut random).map_err(CliError::Random)?;
        // Octets beyond four alphabets are thrown away, so that all letters are equally likely.
        let letters = random
            .iter()
            .filter(|octet| **octet < 248)
            .filter_map(|octet| ALPHABET.get(usize::from(octet % 62)));
        secret.extend(letters.take(LENGTH - secret.len()).copied().map(char::from));
    }
    Ok(secret)
}

/// A new certificate with its key, as one PEM text.
pub(crate) fn generate_cert() -> Result<String, CliError> {
    Ok(gencert(SystemTime::now())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_has_180_letters_and_digits_and_is_new_each_time() {
        let (a, b) = (generate().unwrap(), generate().unwrap());
        assert_eq!(a.len(), 180);
        assert!(a.bytes().all(|c| c.is_ascii_alphanumeric()));
        assert_ne!(a, b);
    }
}
