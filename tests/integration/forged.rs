//! Certificates that the product would never issue.

use std::path::Path;

use rcgen::{
    CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber,
};
use shared::tls::TlsFiles;
use tests::pki::{Pki, now};
use tests::process::Account;
use tests::scratch;
use time::OffsetDateTime;

/// Who the portal is.
pub(crate) const PORTAL: &str = "spiffe://pbx.internal/portal";
/// Who the agent is.
pub(crate) const AGENT: &str = "spiffe://pbx.internal/agent/default";
/// The host name in its certificate.
pub(crate) const AGENT_DNS: &str = "agent.pbx.internal";

/// What a forged certificate says.
pub(crate) struct Forged<'a> {
    pub(crate) uris: &'a [&'a str],
    pub(crate) dns: &'a [&'a str],
    pub(crate) common_name: &'a str,
    pub(crate) usage: ExtendedKeyUsagePurpose,
    pub(crate) from: OffsetDateTime,
    pub(crate) to: OffsetDateTime,
    /// A random one when `None`.
    pub(crate) serial: Option<u64>,
}

impl Default for Forged<'_> {
    fn default() -> Self {
        let day = time::Duration::days(1);
        Self {
            uris: &[PORTAL],
            dns: &[],
            common_name: "forged",
            usage: ExtendedKeyUsagePurpose::ClientAuth,
            from: now() - day,
            to: now() + day,
            serial: None,
        }
    }
}

impl Forged<'_> {
    fn params(&self) -> anyhow::Result<CertificateParams> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        (params.not_before, params.not_after) = (self.from, self.to);
        params.serial_number = self.serial.map(SerialNumber::from);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![self.usage.clone()];
        for uri in self.uris {
            params
                .subject_alt_names
                .push(SanType::URI((*uri).try_into()?));
        }
        for name in self.dns {
            params
                .subject_alt_names
                .push(SanType::DnsName((*name).try_into()?));
        }
        Ok(params)
    }

    /// Signed by the CA of `pki`, in `into`, beside the certificate of that CA.
    pub(crate) fn signed_by(
        &self,
        pki: &Pki,
        into: &Path,
        account: Option<Account>,
    ) -> anyhow::Result<TlsFiles> {
        let issuer = issuer(pki)?;
        let key = KeyPair::generate()?;
        let certificate = self.params()?.signed_by(&key, &issuer)?;
        save(pki, into, &certificate.pem(), &key, account)
    }

    /// By nobody.
    pub(crate) fn self_signed(&self, pki: &Pki, into: &Path) -> anyhow::Result<TlsFiles> {
        let key = KeyPair::generate()?;
        let certificate = self.params()?.self_signed(&key)?;
        save(pki, into, &certificate.pem(), &key, None)
    }
}

fn issuer(pki: &Pki) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let read = |name| std::fs::read_to_string(pki.dir().join(name));
    let key = KeyPair::from_pem(&read("ca.key")?)?;
    Ok(Issuer::from_ca_cert_pem(&read("ca.crt")?, key)?)
}

/// Writes the revocation list of the CA of `pki`, with these serial numbers on it.
pub(crate) fn revoke(pki: &Pki, serials: &[u64], into: &Path) -> anyhow::Result<()> {
    let day = time::Duration::days(1);
    let revoked = |serial: &u64| RevokedCertParams {
        serial_number: SerialNumber::from(*serial),
        revocation_time: now() - day,
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: now() - day,
        next_update: now() + day,
        crl_number: SerialNumber::from(serials.len() as u64 + 1),
        issuing_distribution_point: None,
        revoked_certs: serials.iter().map(revoked).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&issuer(pki)?)?.pem()?;
    scratch::write(into, 0o644, &list)
}

fn save(
    pki: &Pki,
    into: &Path,
    certificate: &str,
    key: &KeyPair,
    account: Option<Account>,
) -> anyhow::Result<TlsFiles> {
    scratch::directory(into, 0o700)?;
    let files = TlsFiles {
        ca: into.join("ca.crt"),
        cert: into.join("tls.crt"),
        key: into.join("tls.key"),
        crl: None,
    };
    scratch::write(&files.ca, 0o644, &std::fs::read_to_string(pki.ca())?)?;
    scratch::write(&files.cert, 0o644, certificate)?;
    scratch::write(&files.key, 0o600, &key.serialize_pem())?;
    account.map(|account| account.own_all(into)).transpose()?;
    Ok(files)
}
