//! Secrets that are not typed: generated, or read from places that other users cannot read.

use crate::errors::CliError;
use aemp::config::octets::{from_octets, to_octets};
use aemp::node::tls::gencert;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::SystemTime;

/// Stands for standard input in place of a file name.
pub(crate) const STANDARD_INPUT: &str = "-";
/// Octets that a secret may have at most.
const MAX_SECRET_LEN: u64 = 1 << 16;

/// The length of Perl's secrets: about 1071 bits.
const LENGTH: usize = 180;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Reads the secret from a file or standard input. A line end at the end is not part of it.
pub(crate) fn read(file: &str) -> Result<String, CliError> {
    let mut secret = Vec::new();
    let read = match file {
        STANDARD_INPUT => std::io::stdin().lock().take(MAX_SECRET_LEN + 1).read_to_end(&mut secret),
        _ => File::open(path(file))
            .and_then(|file| file.take(MAX_SECRET_LEN + 1).read_to_end(&mut secret)),
    };
    let named = match file {
        STANDARD_INPUT => PathBuf::from("standard input"),
        _ => path(file),
    };
    let secret = secret.strip_suffix(b"\n").unwrap_or(&secret);
    let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
    match read {
        Err(source) => Err(CliError::SecretUnreadable { path: named, source }),
        Ok(_) if secret.is_empty() || secret.len() as u64 > MAX_SECRET_LEN => {
            Err(CliError::NoSecret { path: named })
        }
        Ok(_) => Ok(from_octets(secret)),
    }
}

/// A word of the command line as the name of a file.
pub(crate) fn path(text: &str) -> PathBuf {
    match to_octets(text) {
        Ok(octets) => PathBuf::from(OsString::from_vec(octets)),
        Err(_) => PathBuf::from(text),
    }
}

/// A random secret of letters and digits.
pub(crate) fn generate() -> Result<String, CliError> {
    let mut secret = String::with_capacity(LENGTH);
    let mut random = [0; 256];
    while secret.len() < LENGTH {
        getrandom::fill(&mut random).map_err(CliError::Random)?;
        // Octets beyond a multiple of the alphabet's size are discarded, so that all characters are
        // equally likely.
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
