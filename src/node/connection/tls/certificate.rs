//! Reads fields of a certificate that the TLS library does not expose: dates, key, issuer, version.
//!
//! It reads the certificates of our own file, and those of peers that webpki cannot read.
//! Everything is borrowed from the certificate; nothing here decides whom to trust.

use std::fmt;

use rustls::pki_types::UnixTime;
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a certificate, for people to compare certificates.
///
/// Its text is 64 lowercase hex digits: `openssl x509 -noout -fingerprint -sha256` prints the same
/// in upper case and with colons.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Fingerprint {
        Fingerprint(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// A moment as certificates state it, in UTC and whole seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    since_epoch: i64,
}

impl Moment {
    /// The present moment.
    pub fn now() -> Moment {
        Moment::from(UnixTime::now())
    }

    #[cfg(test)]
    pub(super) const fn at(since_epoch: i64) -> Moment {
        Moment { since_epoch }
    }

    /// Seconds since the epoch; negative before it.
    pub fn since_epoch(&self) -> i64 {
        self.since_epoch
    }

    /// A UTCTime (`YYMMDDHHMMSSZ`) or GeneralizedTime (`YYYYMMDDHHMMSSZ`).
    fn read(tag: u8, text: &[u8]) -> Option<Moment> {
        let digits = text.strip_suffix(b"Z")?;
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = number(digits, 2)?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => number(digits, 4)?,
            _ => return None,
        };
        let (month, rest) = number(rest, 2)?;
        let (day, rest) = number(rest, 2)?;
        let (hour, rest) = number(rest, 2)?;
        let (minute, rest) = number(rest, 2)?;
        let (second, rest) = number(rest, 2)?;
        let plausible = (1..=12).contains(&month) && (1..=31).contains(&day) && rest.is_empty();
        plausible.then(|| Moment {
            since_epoch: days_since_epoch(year, month, day) * 86400
                + hour * 3600
                + minute * 60
                + second,
        })
    }
}

impl From<UnixTime> for Moment {
    fn from(time: UnixTime) -> Moment {
        let since_epoch = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        Moment { since_epoch }
    }
}

/// Such as `2036-11-19 09:49:23 UTC`.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.since_epoch.div_euclid(86400));
        let second = self.since_epoch.rem_euclid(86400);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn number(digits: &[u8], count: usize) -> Option<(i64, &[u8])> {
    let (number, rest) = digits.split_at_checked(count)?;
    let number = number.iter().try_fold(0, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| i64::from(digit - b'0'))?;
        Some(number * 10 + digit)
    })?;
    Some((number, rest))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, counting years from March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn civil(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch.saturating_add(719_468);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = (from_march + 2) % 12 + 1;
    let year = days.div_euclid(146_097) * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

/// The period in which a certificate may be used, including both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub not_before: Moment,
    /// The last moment.
    pub not_after: Moment,
}

/// A certificate, borrowed from its octets.
#[derive(Clone, Copy)]
pub(super) struct Certificate<'a> {
    /// What the issuer signed.
    pub(super) signed: &'a [u8],
    /// The signature algorithm: the content of an AlgorithmIdentifier.
    pub(super) signature_algorithm: &'a [u8],
    pub(super) signature: &'a [u8],
    /// 1 or 3; 2 has never been used.
    pub(super) version: u8,
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) validity: Validity,
    /// The public key with its algorithm: a whole SubjectPublicKeyInfo.
    pub(super) public_key: &'a [u8],
    extensions: Option<&'a [u8]>,
}

/// Object identifiers of extensions (2.5.29.n).
pub(super) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 14];
pub(super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 19];
pub(super) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 35];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const ISSUER_UNIQUE_ID: u8 = 0x81;
const SUBJECT_UNIQUE_ID: u8 = 0x82;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

impl<'a> Certificate<'a> {
    /// Reads a certificate; `None` if this is no X.509 certificate.
    pub(super) fn read(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut outer = Der(der);
        let mut parts = Der(outer.expect(SEQUENCE)?.content);
        let signed = parts.expect(SEQUENCE)?;
        let signature_algorithm = parts.expect(SEQUENCE)?.content;
        let [0, signature @ ..] = parts.expect(BIT_STRING)?.content else {
            return None;
        };
        if !outer.0.is_empty() || !parts.0.is_empty() {
            return None;
        }
        let mut fields = Der(signed.content);
        let version = match fields.optional(VERSION) {
            None => 1,
            Some(version) => match Der(version.content).expect(INTEGER)?.content {
                [number @ 0..=2] => number + 1,
                _ => return None,
            },
        };
        fields.expect(INTEGER)?;
        if fields.expect(SEQUENCE)?.content != signature_algorithm {
            return None;
        }
        let issuer = fields.expect(SEQUENCE)?.content;
        let mut dates = Der(fields.expect(SEQUENCE)?.content);
        let mut date = || {
            let element = dates.next()?;
            Moment::read(element.tag, element.content)
        };
        let validity = Validity { not_before: date()?, not_after: date()? };
        let subject = fields.expect(SEQUENCE)?.content;
        let public_key = fields.expect(SEQUENCE)?.whole;
        fields.optional(ISSUER_UNIQUE_ID);
        fields.optional(SUBJECT_UNIQUE_ID);
        let extensions = match fields.optional(EXTENSIONS) {
            None => None,
            Some(extensions) => Some(Der(extensions.content).expect(SEQUENCE)?.content),
        };
        fields.0.is_empty().then_some(Certificate {
            signed: signed.whole,
            signature_algorithm,
            signature,
            version,
            issuer,
            subject,
            validity,
            public_key,
            extensions,
        })
    }

    /// Object identifiers and values of all extensions; `None` if they cannot be read.
    pub(super) fn extensions(&self) -> Option<Vec<(&'a [u8], &'a [u8])>> {
        let mut list = Der(self.extensions.unwrap_or_default());
        let mut extensions = Vec::new();
        while !list.0.is_empty() {
            let mut extension = Der(list.expect(SEQUENCE)?.content);
            let identifier = extension.expect(OBJECT_IDENTIFIER)?.content;
            let _critical = extension.optional(BOOLEAN);
            extensions.push((identifier, extension.expect(OCTET_STRING)?.content));
        }
        Some(extensions)
    }

    /// Whether the certificate may issue others, according to its extensions. A certificate of
    /// version 1 has none and may issue others if it is self-signed, as old CAs were made that way.
    pub(super) fn may_issue(&self) -> bool {
        if self.version == 1 {
            return self.issuer == self.subject;
        }
        let is_ca = || {
            let extensions = self.extensions()?;
            let (_, value) =
                extensions.iter().find(|(identifier, _)| *identifier == BASIC_CONSTRAINTS)?;
            let constraints = Der(value).expect(SEQUENCE)?.content;
            let is_ca = Der(constraints).optional(BOOLEAN)?;
            Some(is_ca.content != [0])
        };
        is_ca().unwrap_or(false)
    }
}

/// DER elements that have not been read yet.
struct Der<'a>(&'a [u8]);

struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    /// The element with its tag and length.
    whole: &'a [u8],
}

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, mut rest) = rest.split_first()?;
        let mut length = usize::from(length);
        if length >= 0x80 {
            let (octets, after) = rest.split_at_checked(length - 0x80)?;
            if !(1..=3).contains(&octets.len()) {
                return None;
            }
            length = octets.iter().fold(0, |length, &octet| length << 8 | usize::from(octet));
            rest = after;
        }
        let (content, after) = rest.split_at_checked(length)?;
        let (whole, _) = self.0.split_at_checked(self.0.len() - after.len())?;
        self.0 = after;
        Some(Element { tag, content, whole })
    }

    fn optional(&mut self, tag: u8) -> Option<Element<'a>> {
        (self.0.first() == Some(&tag)).then(|| self.next())?
    }

    fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.optional(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_date_are_read() {
        let moment = |tag, text: &str| Moment::read(tag, text.as_bytes());
        let text = |tag, text| moment(tag, text).map(|moment| moment.to_string());
        let same = "2036-11-19 09:49:23 UTC";
        assert_eq!(text(UTC_TIME, "361119094923Z").unwrap(), same);
        assert_eq!(text(GENERALIZED_TIME, "20361119094923Z").unwrap(), same);
        assert_eq!(moment(UTC_TIME, "700101000001Z").unwrap().since_epoch(), 1);
        assert_eq!(text(UTC_TIME, "500229000000Z").unwrap(), "1950-03-01 00:00:00 UTC");
        assert_eq!(moment(GENERALIZED_TIME, "20000229000000Z").unwrap().since_epoch(), 951_782_400);
        assert_eq!(text(GENERALIZED_TIME, "99991231235959Z").unwrap(), "9999-12-31 23:59:59 UTC");
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "Z", "361119094923", "36111909492Z", "36-119094923Z", "361319094923Z"] {
            assert_eq!(Moment::read(UTC_TIME, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn lengths_beyond_the_end_are_refused() {
        for octets in
            [&[0x30][..], &[0x30, 1], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            assert!(Der(octets).next().is_none());
            assert!(Certificate::read(octets).is_none());
        }
    }
}
