//! The validity of the certificates in the setting `cert`, and the warnings before they expire.

use super::certificate::{Fingerprint, Moment, Validity};
use std::fmt;
use std::sync::Arc;

/// How long before the end of a certificate the warnings begin.
pub const WARNING_DAYS: i64 = 14;

const DAY: i64 = 86_400;

/// The dates of all certificates in the setting `cert`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CertificateDates(Arc<[Dated]>);

/// The dates of one certificate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dated {
    pub(super) place: CertificatePlace,
    pub(super) validity: Validity,
}

/// The role of a certificate in the setting `cert`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificatePlace {
    /// It is the node's own.
    Own,
    /// It issued the node's own certificate, directly or through others.
    Issuer(Fingerprint),
    /// It is trusted: other nodes present it, or one that it issued.
    Trusted(Fingerprint),
}

/// A problem with the dates of a certificate that is worth a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DateWarning {
    /// Which certificate.
    pub place: CertificatePlace,
    /// What is wrong.
    pub problem: DateProblem,
    /// The certificate's first or last moment.
    pub at: Moment,
}

/// What can be wrong with the dates of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DateProblem {
    /// It is not valid yet.
    NotYetValid,
    /// It expires in this many whole days; at most [`WARNING_DAYS`].
    ExpiresIn {
        /// Days.
        days: i64,
    },
    /// It has ended.
    Expired,
}

impl CertificateDates {
    pub(super) fn new(dates: Vec<Dated>) -> Self {
        CertificateDates(dates.into())
    }

    /// The last moment at which other nodes can accept this one: the earliest end of its own
    /// certificate and of those that issued it.
    pub fn expires(&self) -> Option<Moment> {
        let own = self.0.iter().filter(|dated| dated.place.is_ours());
        own.map(|dated| dated.validity.not_after).min()
    }

    /// The problems that are worth a warning at this moment.
    pub fn warnings(&self, now: Moment) -> Vec<DateWarning> {
        let problem = |validity: &Validity| {
            let left = validity.not_after.since_epoch().saturating_sub(now.since_epoch());
            if now < validity.not_before {
                Some((DateProblem::NotYetValid, validity.not_before))
            } else if left < 0 {
                Some((DateProblem::Expired, validity.not_after))
            } else if left < WARNING_DAYS * DAY {
                Some((DateProblem::ExpiresIn { days: left / DAY }, validity.not_after))
            } else {
                None
            }
        };
        let warning = |dated: &Dated| {
            let (problem, at) = problem(&dated.validity)?;
            Some(DateWarning { place: dated.place, problem, at })
        };
        self.0.iter().filter_map(warning).collect()
    }
}

impl CertificatePlace {
    const fn is_ours(self) -> bool {
        matches!(self, CertificatePlace::Own | CertificatePlace::Issuer(_))
    }
}

impl DateWarning {
    /// Whether other nodes refuse this node now because of it.
    pub fn is_fatal(&self) -> bool {
        self.place.is_ours() && !matches!(self.problem, DateProblem::ExpiresIn { .. })
    }
}

impl fmt::Display for CertificatePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CertificatePlace::Own => f.write_str("this node's certificate"),
            CertificatePlace::Issuer(fingerprint) => {
                write!(f, "an issuer of this node's certificate (SHA-256 {fingerprint})")
            }
            CertificatePlace::Trusted(fingerprint) => {
                write!(f, "a trusted certificate in cert (SHA-256 {fingerprint})")
            }
        }
    }
}

impl fmt::Display for DateWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DateWarning { place, problem, at } = self;
        let refused = match place.is_ours() {
            true => "other nodes refuse this one",
            false => "nodes with it, or with one that it issued, are refused",
        };
        match problem {
            DateProblem::NotYetValid => {
                write!(f, "{place} is valid only from {at} on: {refused}; is the clock right?")
            }
            DateProblem::Expired => {
                write!(f, "{place} expired on {at}: {refused}; replace it in cert")
            }
            DateProblem::ExpiresIn { days } => {
                let when = match days {
                    0 => "within a day".to_owned(),
                    1 => "in 1 day".to_owned(),
                    days => format!("in {days} days"),
                };
                write!(f, "{place} expires {when}, on {at}; from then on {refused}")
            }
        }
    }
}

/// Decides when warnings are logged: when they change, and then once a day.
#[derive(Debug, Default)]
pub(crate) struct Reminder {
    last: Vec<DateWarning>,
    told: Option<Moment>,
}

impl Reminder {
    /// The warnings that should be logged now.
    pub(crate) fn due(&mut self, dates: &CertificateDates, now: Moment) -> Vec<DateWarning> {
        let warnings = dates.warnings(now);
        let is_same = |(one, other): (&DateWarning, &DateWarning)| {
            let kind = |warning: &DateWarning| std::mem::discriminant(&warning.problem);
            one.place == other.place && kind(one) == kind(other)
        };
        let same =
            warnings.len() == self.last.len() && warnings.iter().zip(&self.last).all(is_same);
        let elapsed = self.told.map(|told| now.since_epoch().saturating_sub(told.since_epoch()));
        if same && elapsed.is_some_and(|elapsed| (0..DAY).contains(&elapsed)) {
            return Vec::new();
        }
        (self.last, self.told) = (warnings.clone(), Some(now));
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: i64 = 1_800_000_000;

    fn at(day: i64) -> Moment {
        Moment::at(START + day * DAY)
    }

    /// Valid from day 0 to the end of day 100.
    fn dates(place: CertificatePlace) -> CertificateDates {
        let validity = Validity { not_before: at(0), not_after: at(100) };
        CertificateDates::new(vec![Dated { place, validity }])
    }

    #[test]
    fn warnings_begin_two_weeks_before_the_end() {
        let dates = dates(CertificatePlace::Own);
        let problems = |day| {
            let warnings = dates.warnings(at(day)).into_iter();
            warnings.map(|warning| warning.problem).collect::<Vec<_>>()
        };
        assert_eq!(problems(-1), [DateProblem::NotYetValid]);
        for day in [0, 50, 86] {
            assert_eq!(problems(day), []);
        }
        assert_eq!(problems(87), [DateProblem::ExpiresIn { days: 13 }]);
        assert_eq!(problems(100), [DateProblem::ExpiresIn { days: 0 }]);
        assert_eq!(problems(101), [DateProblem::Expired]);
        assert_eq!(dates.expires(), Some(at(100)));
    }

    #[test]
    fn only_what_makes_others_refuse_this_node_is_fatal() {
        let fingerprint = Fingerprint::of(b"eg");
        let is_fatal =
            |place, day| dates(place).warnings(at(day)).iter().any(DateWarning::is_fatal);
        for (place, is_ours) in [
            (CertificatePlace::Own, true),
            (CertificatePlace::Issuer(fingerprint), true),
            (CertificatePlace::Trusted(fingerprint), false),
        ] {
            assert_eq!(is_fatal(place, -1), is_ours);
            assert!(!is_fatal(place, 95));
            assert_eq!(is_fatal(place, 101), is_ours);
            assert_eq!(dates(place).expires().is_some(), is_ours);
        }
    }

    #[test]
    fn a_warning_is_logged_when_it_is_new_and_then_once_a_day() {
        let dates = dates(CertificatePlace::Own);
        let mut reminder = Reminder::default();
        let hours = 80 * 24..102 * 24;
        let told: Vec<i64> = hours
            .filter(|hour| !reminder.due(&dates, Moment::at(START + hour * 3600)).is_empty())
            .collect();
        let mut wanted: Vec<i64> = (0..14).map(|day| 86 * 24 + 1 + day * 24).collect();
        wanted.extend([100 * 24 + 1, 101 * 24 + 1]);
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_clock_that_is_set_back_silences_nothing() {
        let dates = dates(CertificatePlace::Own);
        let mut reminder = Reminder::default();
        assert_eq!(reminder.due(&dates, at(99)).len(), 1);
        assert_eq!(reminder.due(&dates, at(90)).len(), 1);
    }
}
