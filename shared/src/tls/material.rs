//! The material of one end while it is in use: read again whenever one of its files changes, so that
//! a certificate is renewed and a revocation heard of without a restart.
//!
//! What was let in once is not let in for ever: [`Loaded::admits`] says whether a peer would be let
//! in now, and both ends ask it for every RPC.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::{ClientConfig, ServerConfig};
use time::OffsetDateTime;

use super::reloading::Reloading;
use super::{AGENT_DNS_NAME, Identity, PinnedClient, PinnedServer, TlsError, TlsFiles};

/// What new connections are made with, and what open ones are measured by.
#[derive(Debug)]
pub struct Loaded<C> {
    /// Counts up with every change of the files.
    pub version: u64,
    /// The configuration of rustls.
    pub config: Arc<C>,
    verifier: Verifier,
}

#[derive(Debug)]
enum Verifier {
    OfClients(Arc<PinnedClient>),
    OfServers(Arc<PinnedServer>),
}

impl<C> Loaded<C> {
    /// Whether a peer that showed `chain` in its handshake (its own certificate first) would be let
    /// in at `now`: CA, dates, use, revocation, identity.
    pub fn admits(
        &self,
        chain: &[CertificateDer<'_>],
        now: OffsetDateTime,
    ) -> Result<(), rustls::Error> {
        let Some((own, others)) = chain.split_first() else {
            return Err(rustls::Error::NoCertificatesPresented);
        };
        let seconds = u64::try_from(now.unix_timestamp()).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        match &self.verifier {
            Verifier::OfClients(verifier) => {
                verifier.verify_client_cert(own, others, now).map(drop)
            }
            Verifier::OfServers(verifier) => {
                let name = ServerName::try_from(AGENT_DNS_NAME)
                    .map_err(|error| rustls::Error::General(error.to_string()))?;
                verifier
                    .verify_server_cert(own, others, &name, &[], now)
                    .map(drop)
            }
        }
    }
}

type Load<C> = fn(&TlsFiles, &Identity) -> Result<(C, Verifier), TlsError>;

/// The files of one end, and what was made of them last.
#[derive(Debug)]
pub struct Material<C> {
    files: TlsFiles,
    peer: Identity,
    load: Load<C>,
    loaded: Reloading<Loaded<C>>,
}

impl Material<ServerConfig> {
    /// Of the agent, which lets in `portal` alone.
    pub const fn of_agent(files: TlsFiles, portal: Identity) -> Self {
        Self::new(files, portal, |files, portal| {
            let (config, verifier) = files.server(portal)?;
            Ok((config, Verifier::OfClients(verifier)))
        })
    }
}

impl Material<ClientConfig> {
    /// Of the portal, which speaks to `agent` alone.
    pub const fn of_portal(files: TlsFiles, agent: Identity) -> Self {
        Self::new(files, agent, |files, agent| {
            let (config, verifier) = files.client(agent)?;
            Ok((config, Verifier::OfServers(verifier)))
        })
    }
}

impl<C> Material<C> {
    const fn new(files: TlsFiles, peer: Identity, load: Load<C>) -> Self {
        Self {
            files,
            peer,
            load,
            loaded: Reloading::new("link"),
        }
    }

    /// What is in force now. Files that changed and cannot be used leave the old material in force,
    /// and are logged once.
    ///
    /// # Errors
    /// The files cannot be used, and never could.
    pub fn current(&self) -> Result<Arc<Loaded<C>>, TlsError> {
        let files = &self.files;
        let paths: Vec<&Path> = [&files.ca, &files.cert, &files.key]
            .into_iter()
            .chain(&files.crl)
            .map(PathBuf::as_path)
            .collect();
        self.loaded.current(&paths, |version| {
            let (config, verifier) = (self.load)(files, &self.peer)?;
            Ok(Loaded {
                version,
                config: Arc::new(config),
                verifier,
            })
        })
    }

    /// Why files that changed are not in force; `None` when they are.
    pub fn fault(&self) -> Option<String> {
        let never = self.current().err().map(|error| error.to_string());
        never.or_else(|| self.loaded.fault())
    }

    /// The files.
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }
}
