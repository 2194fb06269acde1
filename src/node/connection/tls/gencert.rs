//! Makes certificates for networks that do not have one yet.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

/// The validity of certificates made by Perl's `aemp gencert`.
const VALID_FOR: Duration = Duration::from_secs(3650 * 86400);
/// Allowance for slow clocks, so that a new certificate can be used at once on all nodes.
const CLOCKS_MAY_BE_SLOW_BY: Duration = Duration::from_secs(86400);
/// 7999-12-31: certificates cannot state years after 9999, whatever the clock says.
const LATEST: Duration = Duration::from_secs(190_288_396_800 - 86400);

/// A certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a certificate")]
pub struct GencertError(#[from] rcgen::Error);

/// Makes a new certificate with its private key, as one PEM text for the setting `cert`.
///
/// All nodes that share it form one network with TLS; whoever has it is a member. Like the one that
/// Perl's `aemp gencert` makes, it is self-signed, CA:TRUE, CN `AnyEvent::MP`, and valid for 3650
/// days (from a day before `now`), but its key is on the curve P-256 instead of RSA 2048. Perl
/// nodes accept both.
pub fn gencert(now: SystemTime) -> Result<String, GencertError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, "AnyEvent::MP");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.use_authority_key_identifier_extension = true;
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(LATEST);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(CLOCKS_MAY_BE_SLOW_BY);
    params.not_after = epoch + since_epoch + VALID_FOR;
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}
