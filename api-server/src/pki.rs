//! The private CA of the link between portal and agents, so that nobody needs openssl lore, and
//! certificates for HTTPS where there is no other CA ([`create_https`]).
//!
//! One CA for the link only. Its certificates name one URI each ([`Role::identity`]) and one use:
//! the portal's is for clients, an agent's for servers. Keys are ECDSA P-256, files of keys are
//! readable by their owner alone, and nothing is overwritten unless told to.

mod https;
mod revoke;

use std::fmt;
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use shared::tls::AGENT_DNS_NAME;
use time::{Duration, OffsetDateTime};
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use https::{HttpsPair, create_https};
pub use revoke::revoke;

/// The domain part of every identity.
pub const TRUST_DOMAIN: &str = "pbx.internal";

/// How long the CA is valid: ten years, because replacing it touches every host.
const CA_DAYS: i64 = 3650;

/// How long a certificate is valid unless told otherwise: a little over a year.
pub const LEAF_DAYS: u16 = 397;

/// Certificates are valid from a little before they are made, for hosts whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The portal: a TLS client.
    Portal,
    /// The agent of one PBX: a TLS server.
    Agent {
        /// The name of the PBX, in `a-z 0-9 -`.
        pbx: String,
    },
}

impl Role {
    /// The URI that the certificate names.
    pub fn identity(&self) -> String {
        match self {
            Self::Portal => format!("spiffe://{TRUST_DOMAIN}/portal"),
            Self::Agent { pbx } => format!("spiffe://{TRUST_DOMAIN}/agent/{pbx}"),
        }
    }

    fn file_stem(&self) -> String {
        match self {
            Self::Portal => "portal".to_owned(),
            Self::Agent { pbx } => format!("agent-{pbx}"),
        }
    }
}

/// The text names no role.
#[derive(Debug, thiserror::Error)]
#[error("a role reads `portal` or `agent/<pbx>`, the PBX in a-z 0-9 - (at most 63)")]
pub struct NotARole;

impl FromStr for Role {
    type Err = NotARole;

    fn from_str(text: &str) -> Result<Self, NotARole> {
        if text == "portal" {
            return Ok(Self::Portal);
        }
        let pbx = text.strip_prefix("agent/").ok_or(NotARole)?;
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if pbx.is_empty() || pbx.len() > 63 || !pbx.bytes().all(plain) {
            return Err(NotARole);
        }
        Ok(Self::Agent {
            pbx: pbx.to_owned(),
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Portal => f.write_str("portal"),
            Self::Agent { pbx } => write!(f, "agent/{pbx}"),
        }
    }
}

/// A certificate and its key on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// PEM, readable by all.
    pub cert: PathBuf,
    /// PEM, mode 0600.
    pub key: PathBuf,
}

impl Pair {
    fn in_dir(dir: &Path, stem: &str) -> Self {
        Self {
            cert: dir.join(format!("{stem}.crt")),
            key: dir.join(format!("{stem}.key")),
        }
    }
}

/// Whether files that are there already may be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overwrite {
    /// Refuse.
    No,
    /// Replace both files; whoever uses the old certificate must be given the new one.
    Yes,
}

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file is there and may not be replaced.
    #[error("{} is there already; pass --overwrite to replace it", .0.display())]
    Exists(PathBuf),
    /// There is no CA yet.
    #[error("no CA in {}: make one with `api-server certs init`", .0.display())]
    NoCa(PathBuf),
    /// A file could not be read or written.
    #[error("{}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{} cannot be understood", .0.display())]
    Unreadable(PathBuf),
    /// A certificate for HTTPS cannot be made for it.
    #[error("{0} is neither a host name nor an address")]
    NotAName(String),
    /// The CA cannot revoke what it has not issued.
    #[error("{} is not a certificate that this CA issued to portal or agent", .0.display())]
    NotOurs(PathBuf),
    /// The cryptographic library refused.
    #[error("the certificate could not be made")]
    Crypto(#[from] rcgen::Error),
}

/// Makes a CA: `ca.crt` and `ca.key` in `dir`, which is created (mode 0700) when it is missing.
pub fn create_ca(dir: &Path, now: OffsetDateTime, overwrite: Overwrite) -> Result<Pair, PkiError> {
    create_dir(dir)?;
    let pair = Pair::in_dir(dir, "ca");
    refuse_existing(&pair, overwrite)?;
    let mut params = params("PBX portal private CA", now, CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    save(&pair, &certificate.pem(), &key, overwrite)?;
    Ok(pair)
}

/// Issues a certificate for `role` by the CA in `dir`: `portal.crt` and `portal.key`, or
/// `agent-<pbx>.crt` and `agent-<pbx>.key`. A copy of the certificate stays in `issued/`.
pub fn issue(
    dir: &Path,
    role: &Role,
    now: OffsetDateTime,
    days: u16,
    overwrite: Overwrite,
) -> Result<Pair, PkiError> {
    let pair = Pair::in_dir(dir, &role.file_stem());
    refuse_existing(&pair, overwrite)?;
    let issuer = load_ca(dir)?;
    let mut params = params(&format!("PBX portal link: {role}"), now, days.into());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![SanType::URI(role.identity().try_into()?)];
    params.extended_key_usages = match role {
        Role::Portal => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Agent { .. } => {
            params
                .subject_alt_names
                .push(SanType::DnsName(AGENT_DNS_NAME.try_into()?));
            vec![ExtendedKeyUsagePurpose::ServerAuth]
        }
    };
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    keep_copy(dir, certificate.der(), &certificate.pem())?;
    save(&pair, &certificate.pem(), &key, overwrite)?;
    Ok(pair)
}

/// Keeps `issued/<serial>.crt`, so that a certificate can be revoked also when its file is gone.
fn keep_copy(dir: &Path, der: &[u8], pem: &str) -> Result<(), PkiError> {
    let issued = dir.join("issued");
    create_dir(&issued)?;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| PkiError::Unreadable(issued.clone()))?;
    let serial = certificate.raw_serial_as_string().replace(':', "");
    save_file(
        &issued.join(format!("{serial}.crt")),
        pem,
        0o644,
        Overwrite::No,
    )
}

fn params(common_name: &str, now: OffsetDateTime, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(days);
    params
}

fn load_ca(dir: &Path) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let pair = Pair::in_dir(dir, "ca");
    let read = |path: &Path| match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(PkiError::NoCa(dir.to_owned()))
        }
        other => other.map_err(|source| PkiError::File {
            path: path.to_owned(),
            source,
        }),
    };
    let key = KeyPair::from_pem(&read(&pair.key)?)?;
    Ok(Issuer::from_ca_cert_pem(&read(&pair.cert)?, key)?)
}

fn create_dir(dir: &Path) -> Result<(), PkiError> {
    let fault = |source| PkiError::File {
        path: dir.to_owned(),
        source,
    };
    if !dir.is_dir() {
        std::fs::create_dir_all(dir).map_err(fault)?;
        std::fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(fault)?;
    }
    Ok(())
}

/// Looks before any key is made, so that the usual mistake costs nothing; [`save`] decides.
fn refuse_existing(pair: &Pair, overwrite: Overwrite) -> Result<(), PkiError> {
    let existing = [&pair.key, &pair.cert]
        .into_iter()
        .find(|path| path.exists());
    match (overwrite, existing) {
        (Overwrite::No, Some(path)) => Err(PkiError::Exists(path.clone())),
        _ => Ok(()),
    }
}

/// The key first: a certificate without its key would look complete and not be.
fn save(pair: &Pair, cert: &str, key: &KeyPair, overwrite: Overwrite) -> Result<(), PkiError> {
    save_file(&pair.key, &key.serialize_pem(), 0o600, overwrite)?;
    save_file(&pair.cert, cert, 0o644, overwrite)
}

fn save_file(path: &Path, text: &str, mode: u32, overwrite: Overwrite) -> Result<(), PkiError> {
    let fault = |source| PkiError::File {
        path: path.to_owned(),
        source,
    };
    let dir = path.parent().unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(dir)
        .map_err(fault)?;
    file.write_all(text.as_bytes()).map_err(fault)?;
    file.as_file().sync_all().map_err(fault)?;
    let saved = match overwrite {
        Overwrite::Yes => file.persist(path),
        Overwrite::No => file.persist_noclobber(path),
    };
    match saved {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(PkiError::Exists(path.to_owned()))
        }
        Err(error) => Err(fault(error.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2030-01-01 0:00 UTC);

    #[test]
    fn keys_are_private_and_nothing_is_overwritten_unless_told() {
        let dir = tempfile::tempdir().unwrap();
        let dir = &dir.path().join("pki");
        create_ca(dir, NOW, Overwrite::No).unwrap();
        let pair = issue(dir, &Role::Portal, NOW, LEAF_DAYS, Overwrite::No).unwrap();
        for (path, mode) in [
            (dir, 0o700),
            (&pair.key, 0o600),
            (&dir.join("ca.key"), 0o600),
        ] {
            assert_eq!(
                std::fs::metadata(path).unwrap().permissions().mode() & 0o777,
                mode
            );
        }
        let before = std::fs::read(&pair.key).unwrap();
        assert!(matches!(
            create_ca(dir, NOW, Overwrite::No),
            Err(PkiError::Exists(_))
        ));
        let again = issue(dir, &Role::Portal, NOW, LEAF_DAYS, Overwrite::No);
        assert!(matches!(again, Err(PkiError::Exists(_))));
        assert_eq!(std::fs::read(&pair.key).unwrap(), before);
        issue(dir, &Role::Portal, NOW, LEAF_DAYS, Overwrite::Yes).unwrap();
        assert_ne!(std::fs::read(&pair.key).unwrap(), before);
    }

    #[test]
    fn issuing_without_a_ca_says_how_to_make_one() {
        let dir = tempfile::tempdir().unwrap();
        let error = issue(dir.path(), &Role::Portal, NOW, 1, Overwrite::No).unwrap_err();
        assert!(error.to_string().contains("certs init"), "{error}");
    }

    #[test]
    fn roles_read_back_and_refuse_names_that_would_leave_the_directory() {
        for text in ["portal", "agent/default", "agent/pbx-2"] {
            assert_eq!(text.parse::<Role>().unwrap().to_string(), text);
        }
        for text in ["", "agent/", "agent/../x", "agent/A", "root"] {
            assert!(text.parse::<Role>().is_err(), "{text}");
        }
    }
}
