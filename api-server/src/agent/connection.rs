//! The connection to one agent: made when it is needed, measured before every call, and made anew
//! when the agent's certificate would not be accepted any more or the portal's own files changed.
//!
//! A call that runs keeps the connection on which it began, so that neither ends an apply.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use shared::clock::{Clock as _, SystemClock};
use shared::tls::material::Material;
use shared::tls::{AGENT_DNS_NAME, Identity, TlsFiles};
use shared::wire::pb::agent_client::AgentClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tonic::transport::{Channel, Endpoint, Uri};

use super::RECORD_BYTES_MAX;
use super::watched::{LastRefusal, Watched};

/// How long TCP and TLS may take to connect, in seconds.
const CONNECT_SECONDS: u64 = 5;

/// How often an idle connection is probed, in seconds.
const KEEPALIVE_SECONDS: u64 = 20;

/// How long the answer to a probe may take, in seconds.
const KEEPALIVE_ANSWER_SECONDS: u64 = 10;

/// What the agent showed in the handshake of the newest connection of a channel.
type Shown = Arc<Mutex<Vec<CertificateDer<'static>>>>;

/// A channel, which reconnects by itself, and what it was made with.
struct Open {
    client: AgentClient<Channel>,
    /// Of the portal's TLS material; `None` when there was none that could be used.
    version: Option<u64>,
    shown: Shown,
}

/// Where an agent is and who it must be, and the channel to it.
pub(super) struct Connection {
    target: Arc<Target>,
    open: Mutex<Open>,
}

impl Connection {
    /// Connects when it is needed.
    pub(super) fn new(address: String, agent: Identity, tls: TlsFiles) -> Self {
        let target = Arc::new(Target {
            address,
            material: Material::of_portal(tls, agent),
            refusal: LastRefusal::default(),
        });
        let open = Mutex::new(Open::new(&target));
        Self { target, open }
    }

    /// A client on a connection whose agent is still the right one.
    pub(super) fn client(&self) -> AgentClient<Channel> {
        let mut open = self.open();
        if self.is_outdated(&open) {
            *open = Open::new(&self.target);
        }
        open.client.clone()
    }

    fn is_outdated(&self, open: &Open) -> bool {
        // Without usable files the connector says why.
        let Ok(loaded) = self.target.material.current() else {
            return false;
        };
        if open.version != Some(loaded.version) {
            return true;
        }
        let shown = open.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.is_empty() {
            return false;
        }
        let admitted = loaded.admits(&shown, SystemClock.now());
        if let Err(error) = &admitted {
            tracing::warn!(%error, "the agent's certificate is not accepted any more: connecting anew");
        }
        admitted.is_err()
    }

    /// The next call connects anew.
    pub(super) fn renew(&self) {
        *self.open() = Open::new(&self.target);
    }

    /// Why the agent refused the newest connection.
    pub(super) fn refusal(&self) -> &LastRefusal {
        &self.target.refusal
    }

    /// The portal's TLS material.
    pub(super) fn material(&self) -> &Material<ClientConfig> {
        &self.target.material
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn new(target: &Arc<Target>) -> Self {
        let loaded = target.material.current().ok();
        let shown = Shown::default();
        let (to, seen) = (Arc::clone(target), Arc::clone(&shown));
        let connector = tower::service_fn(move |_: Uri| {
            let (to, seen) = (Arc::clone(&to), Arc::clone(&seen));
            async move { to.connect(&seen).await.map(TokioIo::new) }
        });
        // The scheme is http because the connector, not tonic, speaks TLS.
        let channel = Endpoint::from_static("http://agent.pbx.internal")
            .connect_timeout(Duration::from_secs(CONNECT_SECONDS))
            .http2_keep_alive_interval(Duration::from_secs(KEEPALIVE_SECONDS))
            .keep_alive_timeout(Duration::from_secs(KEEPALIVE_ANSWER_SECONDS))
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connector);
        Self {
            client: AgentClient::new(channel).max_decoding_message_size(RECORD_BYTES_MAX),
            version: loaded.map(|loaded| loaded.version),
            shown,
        }
    }
}

struct Target {
    address: String,
    material: Material<ClientConfig>,
    refusal: LastRefusal,
}

impl Target {
    async fn connect(&self, shown: &Shown) -> Result<Watched<TlsStream<TcpStream>>, ConnectError> {
        self.refusal.forget();
        let config = Arc::clone(&self.material.current()?.config);
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(AGENT_DNS_NAME).map_err(std::io::Error::other)?;
        let connector = TlsConnector::from(config);
        let stream = connector.connect(name, stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        *shown.lock().unwrap_or_else(PoisonError::into_inner) =
            chain.iter().map(CertificateDer::clone).collect();
        Ok(Watched::new(stream, self.refusal.clone()))
    }
}

#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("TLS files")]
    Files(#[from] shared::tls::TlsError),
    #[error("connection")]
    Io(#[from] std::io::Error),
}
