//! A private CA and the certificates of portal and agent, made by the product's own code.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use api_server::pki::{self, HttpsPair, LEAF_DAYS, Overwrite, Pair, Role};
use shared::tls::TlsFiles;
use shared::tls::validity::{WARNING_DAYS, of_certificates};
use time::OffsetDateTime;

use crate::process::Account;
use crate::scratch::{self, Place};

/// The PBX that the schema creates, which the agent's certificate names.
pub const DEFAULT_PBX: &str = "default";

/// A certificate authority.
pub struct Pki {
    place: Place,
}

impl Pki {
    /// A CA that lives as long as this value.
    pub fn temporary() -> anyhow::Result<Self> {
        Self::in_place(Place::temporary("pki")?)
    }

    /// The CA in `dir`, created if there is none.
    pub fn kept_in(dir: &Path) -> anyhow::Result<Self> {
        Self::in_place(Place::Kept(dir.to_owned()))
    }

    fn in_place(place: Place) -> anyhow::Result<Self> {
        let ca = Self { place };
        if !ca.ca().exists() {
            pki::create_ca(&ca.dir(), now(), Overwrite::Yes)?;
        }
        Ok(ca)
    }

    /// Where it lies.
    pub fn dir(&self) -> PathBuf {
        self.place.path().join("ca")
    }

    /// The CA's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir().join("ca.crt")
    }

    /// A fresh certificate for `role`, with the CA's beside it, in the folder `into`, readable by
    /// `account` alone.
    pub fn issue(
        &self,
        role: &Role,
        into: &Path,
        account: Option<Account>,
    ) -> anyhow::Result<TlsFiles> {
        self.issue_at(role, now(), LEAF_DAYS, into, account)
    }

    /// As [`Pki::issue`], made at `at` for `days`: for certificates that have expired or are not
    /// valid yet.
    pub fn issue_at(
        &self,
        role: &Role,
        at: OffsetDateTime,
        days: u16,
        into: &Path,
        account: Option<Account>,
    ) -> anyhow::Result<TlsFiles> {
        let Pair { cert, key } = pki::issue(&self.dir(), role, at, days, Overwrite::Yes)?;
        scratch::directory(into, 0o700)?;
        let files = TlsFiles {
            ca: into.join("ca.crt"),
            cert: into.join("tls.crt"),
            key: into.join("tls.key"),
            crl: None,
        };
        for (from, to, mode) in [
            (&self.ca(), &files.ca, 0o644),
            (&cert, &files.cert, 0o644),
            (&key, &files.key, 0o600),
        ] {
            let text = std::fs::read_to_string(from)
                .with_context(|| format!("read {}", from.display()))?;
            scratch::write(to, mode, &text)?;
        }
        if let Some(account) = account {
            account.own_all(into)?;
        }
        Ok(files)
    }

    /// Adds `certificates` to the CA's revocation list, made at `at` for `days`, and puts it at
    /// `to`, readable by all.
    pub fn revoke(
        &self,
        certificates: &[PathBuf],
        at: OffsetDateTime,
        days: u16,
        to: &Path,
    ) -> anyhow::Result<()> {
        let list = pki::revoke(&self.dir(), certificates, at, days)?;
        scratch::write(to, 0o644, &std::fs::read_to_string(list)?)
    }
}

/// A certificate for HTTPS in `dir`, for `name` and this machine: the one that is there, as long as
/// it is good for a while, or a new one.
pub fn https(dir: &Path, name: &str) -> anyhow::Result<HttpsPair> {
    let files = HttpsPair::in_dir(dir);
    let early = time::Duration::days(WARNING_DAYS.into());
    let ending = of_certificates("certificate", &files.pair.cert, now(), early);
    if ending.is_empty() && files.ca.exists() && files.pair.key.exists() {
        return Ok(files);
    }
    let made = pki::create_https(dir, &[name.to_owned()], now(), LEAF_DAYS, Overwrite::Yes)?;
    // Other accounts trust it as well.
    scratch::directory(dir, 0o711)?;
    Ok(made)
}

/// The time of the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "certificates are checked against the machine's clock"
)]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// The variables that tell either service about `files`.
pub fn environment(files: &TlsFiles) -> Vec<(&'static str, PathBuf)> {
    let mut variables = vec![
        ("TLS_CA_FILE", files.ca.clone()),
        ("TLS_CERT_FILE", files.cert.clone()),
        ("TLS_KEY_FILE", files.key.clone()),
    ];
    variables.extend(files.crl.clone().map(|crl| ("TLS_CRL_FILE", crl)));
    variables
}
