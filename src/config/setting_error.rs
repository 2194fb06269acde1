//! What can be wrong with a value, or with the credentials, in words that name a remedy.

use super::address::AddressError;
use super::node_id::NodeIdError;
use super::octets::NotOctets;
use super::profile::Origin;
use super::service::ServiceError;
use thiserror::Error;

/// A value that cannot be used.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("{origin}: `{key}`: {problem}")]
pub struct SettingError {
    /// The key.
    pub key: &'static str,
    /// Where its value comes from.
    pub origin: Origin,
    /// What is wrong.
    pub problem: Box<Problem>,
}

/// What can be wrong with a value.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum Problem {
    /// A text was expected.
    #[error("has to be a text, not a list or an object")]
    NotText,
    /// A list was expected.
    #[error("has to be a list: [\"a\", \"b\"] or a,b")]
    NotList,
    /// A duration was expected.
    #[error("has to be a number of seconds, more than 0 and at most a year, such as 30")]
    NotSeconds,
    /// A positive whole number was expected.
    #[error("has to be a whole number, at least 1, such as 1024")]
    NotCount,
    /// A duration or 0 was expected.
    #[error("has to be a number of seconds, at most a year, or 0 for never")]
    NotSecondsOrNever,
    /// A time for the end was expected.
    #[error("has to be a number of seconds, at most 3600; with 0 the node does not wait")]
    NotShutdown,
    /// A log level was expected.
    #[error(
        "has to be a log level: error, warn, note, info, debug, trace, or AnyEvent's number from \
             0 to 9"
    )]
    NotLogLevel,
    /// The value is not an address.
    #[error(transparent)]
    Address(AddressError),
    /// The value is not a node ID.
    #[error(transparent)]
    NodeId(NodeIdError),
    /// The value is not a service.
    #[error(transparent)]
    Service(ServiceError),
    /// The secret is not a string of octets.
    #[error("{0}; choose another secret, `aemp gensecret` makes one")]
    Secret(NotOctets),
    /// The value is not a certificate.
    #[error(
        "has to be a PEM text with a private key and a certificate; \
             `aemp setcert FILE` reads one from a file, `aemp gencert` makes one"
    )]
    Cert,
    /// No name in the list is known.
    #[error("has no known name; use at least one of {0}")]
    NothingKnown(String),
    /// Nothing can be encrypted.
    #[error(
        "needs a secret (`aemp gensecret`) that `auth_offer` and `auth_accept` let nodes use and \
             `encrypt` lets them encrypt with, or a certificate (`aemp gencert`, `aemp setcert FILE`)"
    )]
    NothingEncrypted,
    /// The value does not tell when to encrypt.
    #[error("has to be auto, 1 or 0")]
    NotEncrypt,
}

/// This node has no way to prove to others that it belongs to their network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// Neither secret nor certificate.
    #[error(
        "profile {profile:?} has neither a secret nor a certificate, so no node can talk to \
             it; give it the secret of your network with `aemp setsecret SECRET`, or make a new \
             one with `aemp gensecret`"
    )]
    Missing {
        /// The profile.
        profile: String,
    },
    /// The offered methods need a secret or certificate that is not configured.
    #[error("`auth_offer` of profile {profile:?} cannot be used: {offered} needs {needed}")]
    Unusable {
        /// The profile.
        profile: String,
        /// The offered methods.
        offered: String,
        /// What they need.
        needed: &'static str,
    },
}
