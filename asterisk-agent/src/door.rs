//! Who may still come in: a peer that was let in once is measured again by every RPC that it makes,
//! because its certificate may have ended or been revoked since.
//!
//! What was admitted goes on to its end; only the next RPC is refused, and the connection with it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use shared::tls::material::Material;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::clock::Clock;
use crate::events::{Counter, Events, Refused};

/// How long a refused peer has to read why, before its connection ends.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The other end of one connection.
#[derive(Clone)]
pub(crate) struct Peer {
    address: SocketAddr,
    /// What it showed in its handshake, its own certificate first.
    chain: Arc<[CertificateDer<'static>]>,
    shut: Arc<Mutex<Shut>>,
}

#[derive(Default)]
struct Shut {
    is_shut: bool,
    waker: Option<Waker>,
}

impl Peer {
    /// At `address`, with the certificates of its handshake.
    pub(crate) fn new(address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Self {
        Self {
            address,
            chain: chain.into(),
            shut: Arc::default(),
        }
    }

    /// Whether its connection has to end; whoever asks is woken when that changes.
    pub(crate) fn is_shut(&self, context: &Context<'_>) -> bool {
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        if !shut.is_shut {
            shut.waker = Some(context.waker().clone());
        }
        shut.is_shut
    }

    fn shut(&self) {
        let mut shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
        shut.is_shut = true;
        if let Some(waker) = shut.waker.take() {
            waker.wake();
        }
    }
}

/// Decides about every RPC.
pub(crate) struct Door {
    material: Material<ServerConfig>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
}

impl Door {
    /// With the material of the agent's end.
    pub(crate) fn new(
        material: Material<ServerConfig>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
    ) -> Self {
        Self {
            material,
            clock,
            events,
        }
    }

    /// The material of the agent's end.
    pub(crate) const fn material(&self) -> &Material<ServerConfig> {
        &self.material
    }

    /// Where refusals are told.
    pub(crate) const fn events(&self) -> &Arc<Events> {
        &self.events
    }

    /// Why `peer` may not make an RPC any more; its connection then ends soon.
    pub(crate) fn refuses(&self, peer: Option<&Peer>) -> Option<String> {
        let Some(peer) = peer else {
            return Some("who calls is not known".to_owned());
        };
        let admitted = match self.material.current() {
            Ok(loaded) => loaded.admits(&peer.chain, self.clock.now()),
            Err(_) => return Some("the agent has no usable TLS material".to_owned()),
        };
        let why = admitted.err()?.to_string();
        tracing::warn!(peer = %peer.address, why, "RPC refused: the peer would not be let in now");
        self.events.count(Counter::PeersRefused);
        let how = Refused::OpenConnection;
        self.events.refused(
            how,
            format!("{}, on an open connection: {why}", peer.address.ip()),
        );
        let peer = peer.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LAST_WORDS).await;
            peer.shut();
        });
        Some(format!("your certificate is not accepted any more: {why}"))
    }
}
