//! The certificate that clients see, read again when its files change.

use std::path::PathBuf;
use std::sync::Arc;

use shared::tls::reloading::Reloading;
use shared::tls::validity::of_certificates;
use shared::tls::{TlsError, provider, read_key, read_pem};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::version::{TLS12, TLS13};

/// How warnings call it.
const CERTIFICATE: &str = "HTTPS certificate";

/// Where the certificate and its key lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpsFiles {
    /// The certificate and what leads to its CA, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// The files, and what was made of them last.
#[derive(Debug)]
pub struct Https {
    files: HttpsFiles,
    config: Reloading<ServerConfig>,
}

impl Https {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// They cannot be used.
    pub fn open(files: HttpsFiles) -> Result<Self, TlsError> {
        let config = Reloading::new("HTTPS");
        let https = Self { files, config };
        https.current()?;
        Ok(https)
    }

    /// What new connections are made with. Files that changed and cannot be used leave the old
    /// certificate in force.
    ///
    /// # Errors
    /// None once the files were opened.
    pub fn current(&self) -> Result<Arc<ServerConfig>, TlsError> {
        let files = [self.files.cert.as_path(), self.files.key.as_path()];
        self.config.current(&files, |_| self.files.load())
    }

    /// What an administrator has to be told: that a certificate ends within `early`, or has ended,
    /// or that what lies in the files is not in force.
    pub fn warnings(&self, now: OffsetDateTime, early: Duration) -> Vec<String> {
        let unusable = self.current().err().map(|error| error.to_string());
        let mut warnings = of_certificates(CERTIFICATE, &self.files.cert, now, early);
        warnings.extend(unusable.or_else(|| self.config.fault()));
        warnings
    }
}

impl HttpsFiles {
    fn load(&self) -> Result<ServerConfig, TlsError> {
        let unusable = |error: &dyn std::error::Error| TlsError::Unusable {
            path: self.cert.clone(),
            reason: error.to_string(),
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| unusable(&error))?
            .with_no_client_auth()
            .with_single_cert(read_pem(&self.cert)?, read_key(&self.key)?)
            .map_err(|error| unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
