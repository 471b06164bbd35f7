//! A certificate for HTTPS, for a machine that tries the portal out or an installation without a CA
//! of its own.
//!
//! The CA that signs it signs nothing else, ever: its key is not kept. So whoever is told to trust it
//! trusts this one certificate, and no file can be stolen that vouches for other sites.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;

use super::{Overwrite, Pair, PkiError, create_dir, params, refuse_existing, save, save_file};

/// By what the portal can be reached from its own machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A certificate for HTTPS and what makes clients trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsPair {
    /// The CA's certificate, PEM: what clients are to trust.
    pub ca: PathBuf,
    /// The certificate and its key.
    pub pair: Pair,
}

impl HttpsPair {
    /// Where they lie in `dir`: `https-ca.crt`, `https.crt` and `https.key`.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            ca: dir.join("https-ca.crt"),
            pair: Pair::in_dir(dir, "https"),
        }
    }
}

/// Makes a certificate for `names` (hosts and addresses) and those of this machine itself, in `dir`,
/// which is created when it is missing.
pub fn create_https(
    dir: &Path,
    names: &[String],
    now: OffsetDateTime,
    days: u16,
    overwrite: Overwrite,
) -> Result<HttpsPair, PkiError> {
    create_dir(dir)?;
    let files = HttpsPair::in_dir(dir);
    refuse_existing(&files.pair, overwrite)?;
    let (ca, issuer) = passing_ca(now, days)?;
    let names = names.iter().map(String::as_str).chain(LOCAL_NAMES);
    let mut params = params("PBX portal HTTPS", now, days.into());
    params.subject_alt_names = names.map(name).collect::<Result<_, _>>()?;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    // The CA first: while the portal still serves the old certificate, only clients that read the
    // new CA meanwhile refuse it.
    save_file(&files.ca, &ca, 0o644, Overwrite::Yes)?;
    save(&files.pair, &certificate.pem(), &key, overwrite)?;
    Ok(files)
}

/// A CA as PEM, and what signs by it.
fn passing_ca(
    now: OffsetDateTime,
    days: u16,
) -> Result<(String, Issuer<'static, KeyPair>), PkiError> {
    let mut params: CertificateParams = params("PBX portal HTTPS CA", now, days.into());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn name(text: &str) -> Result<SanType, PkiError> {
    let not_a_name = || PkiError::NotAName(text.to_owned());
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(ip));
    }
    let label = |label: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(plain)
    };
    // A wildcard stands for one label, the first.
    let rest = text.strip_prefix("*.").unwrap_or(text);
    if text.len() > 253 || !rest.split('.').all(label) {
        return Err(not_a_name());
    }
    Ok(SanType::DnsName(text.try_into().map_err(|_| not_a_name())?))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::LEAF_DAYS;
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2030-01-01 0:00 UTC);

    #[test]
    fn the_key_is_private_that_of_the_ca_gone_and_nothing_overwritten_unless_told() {
        let dir = tempfile::tempdir().unwrap();
        let make = |overwrite| create_https(dir.path(), &[], NOW, LEAF_DAYS, overwrite);
        let files = make(Overwrite::No).unwrap();
        let mode = std::fs::metadata(&files.pair.key).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let mut there: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort();
        assert_eq!(there, ["https-ca.crt", "https.crt", "https.key"]);
        let read = || std::fs::read(&files.pair.key).unwrap();
        let before = read();
        assert!(matches!(make(Overwrite::No), Err(PkiError::Exists(_))));
        assert_eq!(read(), before);
        make(Overwrite::Yes).unwrap();
        assert_ne!(read(), before);
    }

    #[test]
    fn names_are_hosts_and_addresses() {
        for good in ["portal.example", "*.example", "192.0.2.1", "2001:db8::1"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a b",
            "https://portal",
            "portal:8443",
            ".example",
            "a..b",
            "é",
        ] {
            assert!(matches!(name(bad), Err(PkiError::NotAName(_))), "{bad}");
        }
    }
}
