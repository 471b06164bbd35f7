//! Mutual TLS 1.3 between portal and agent, with a private CA and pinned identities.
//!
//! A peer is who the one URI name in its certificate says (`spiffe://<domain>/portal`,
//! `spiffe://<domain>/agent/<pbx>`), and each end accepts exactly one such name. rustls checks
//! chain, dates, key usage and revocation; the verifiers here add the identity.
//!
//! A revocation list past its next update lets nobody in: what it does not say any more may be the
//! one thing that it would have to say.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore,
    ServerConfig, SignatureScheme,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub mod material;
pub mod reloading;
pub mod validity;

/// The DNS name in every agent certificate. TLS needs one; who the agent is, the identity says.
pub const AGENT_DNS_NAME: &str = "agent.pbx.internal";

/// The URI name of a peer: `spiffe://<domain>/portal` or `spiffe://<domain>/agent/<pbx>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);

/// The text is no identity.
#[derive(Debug, thiserror::Error)]
#[error(
    "an identity reads spiffe://<domain>/portal or spiffe://<domain>/agent/<pbx>, in a-z 0-9 . -"
)]
pub struct NotAnIdentity;

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let plain = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.')
        };
        let path = text.strip_prefix("spiffe://").ok_or(NotAnIdentity)?;
        let known = match path.split('/').collect::<Vec<_>>()[..] {
            [domain, "portal"] => plain(domain),
            [domain, "agent", pbx] => plain(domain) && plain(pbx),
            _ => false,
        };
        if known && text.len() <= 200 {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnIdentity)
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the material of one end lies.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The CA that both ends trust, PEM.
    pub ca: PathBuf,
    /// The certificate of this end, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Revoked certificates, PEM; none when absent.
    pub crl: Option<PathBuf>,
}

/// The material could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or is no PEM of its kind.
    #[error("{path}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why, without its content.
        reason: String,
    },
    /// The files do not make a usable whole.
    #[error("TLS material of {path}: {reason}")]
    Unusable {
        /// The certificate that it is about.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

impl TlsFiles {
    /// What the agent serves with, and what its clients are measured by: only `portal` gets in.
    fn server(&self, portal: &Identity) -> Result<(ServerConfig, Arc<PinnedClient>), TlsError> {
        let provider = provider();
        let mut builder =
            WebPkiClientVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider));
        if let Some(crl) = &self.crl {
            builder = builder
                .with_crls(read_pem::<CertificateRevocationListDer<'static>>(crl)?)
                .enforce_revocation_expiration();
        }
        let inner = builder.build().map_err(|error| self.unusable(&error))?;
        let verifier = Arc::new(PinnedClient {
            inner,
            identity: portal.clone(),
        });
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(&error))?
            .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
            .with_single_cert(read_pem(&self.cert)?, read_key(&self.key)?)
            .map_err(|error| self.unusable(&error))?;
        // A resumed session would let a peer in without looking at its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok((config, verifier))
    }

    /// What the portal connects with, and what the agent is measured by: only `agent` is accepted.
    fn client(&self, agent: &Identity) -> Result<(ClientConfig, Arc<PinnedServer>), TlsError> {
        let provider = provider();
        let mut builder =
            WebPkiServerVerifier::builder_with_provider(self.roots()?, Arc::clone(&provider));
        if let Some(crl) = &self.crl {
            builder = builder
                .with_crls(read_pem::<CertificateRevocationListDer<'static>>(crl)?)
                .enforce_revocation_expiration();
        }
        let inner = builder.build().map_err(|error| self.unusable(&error))?;
        let verifier = Arc::new(PinnedServer {
            inner,
            identity: agent.clone(),
        });
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| self.unusable(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>)
            .with_client_auth_cert(read_pem(&self.cert)?, read_key(&self.key)?)
            .map_err(|error| self.unusable(&error))?;
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok((config, verifier))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in read_pem::<CertificateDer<'static>>(&self.ca)? {
            roots.add(certificate).map_err(|error| TlsError::File {
                path: self.ca.clone(),
                reason: error.to_string(),
            })?;
        }
        Ok(Arc::new(roots))
    }

    fn unusable(&self, error: &impl fmt::Display) -> TlsError {
        TlsError::Unusable {
            path: self.cert.clone(),
            reason: error.to_string(),
        }
    }
}

/// The one provider of cryptography.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A private key, PEM.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

/// Every PEM item of one kind in a file; none at all is an error.
pub fn read_pem<T: rustls::pki_types::pem::PemObject>(path: &Path) -> Result<Vec<T>, TlsError> {
    let fault = |reason: String| TlsError::File {
        path: path.to_owned(),
        reason,
    };
    let items = T::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<T>, _>>)
        .map_err(|error| fault(error.to_string()))?;
    if items.is_empty() {
        Err(fault("holds no PEM item of the right kind".to_owned()))
    } else {
        Ok(items)
    }
}

/// The one URI name of a certificate; several or none identify nobody.
fn identity_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some((*uri).to_owned()),
            _ => None,
        });
    let uri = uris.next()?;
    uris.next().is_none().then_some(uri)
}

fn check_identity(
    certificate: &CertificateDer<'_>,
    pinned: &Identity,
) -> Result<(), rustls::Error> {
    if identity_of(certificate).as_deref() == Some(pinned.0.as_str()) {
        return Ok(());
    }
    tracing::warn!(expected = %pinned, "peer refused: its certificate names somebody else");
    Err(CertificateError::ApplicationVerificationFailure.into())
}

#[derive(Debug)]
struct PinnedClient {
    inner: Arc<dyn ClientCertVerifier>,
    identity: Identity,
}

impl ClientCertVerifier for PinnedClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .inner
            .verify_client_cert(end_entity, intermediates, now)?;
        check_identity(end_entity, &self.identity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct PinnedServer {
    inner: Arc<WebPkiServerVerifier>,
    identity: Identity,
}

impl ServerCertVerifier for PinnedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        check_identity(end_entity, &self.identity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
