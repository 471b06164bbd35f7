//! Accepts TLS connections and hands those that passed the handshake to the gRPC server.
//!
//! tonic's own TLS knows no revocation list and no reload of certificates, so the handshake is made
//! here: each in a task of its own, with a deadline, and a limit on how many there are. When a
//! newcomer finds the limit reached, the one who has been at it for longest has to go: a portal
//! needs milliseconds, so that silent peers keep nobody out.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use shared::tls::material::Material;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::{self, ServerConfig};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::door::{Door, Peer};
use crate::events::{Counter, Events, Refused};

/// From the connection to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes at the same time: far more than portals exist.
const HANDSHAKES_MAX: usize = 64;
/// Connections that passed the handshake: a portal needs one.
const CONNECTIONS_MAX: usize = 64;
/// Pause after an accept failed for want of file descriptors, which nothing else would end.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A connection whose peer was the portal when it was made.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if this.peer.is_shut(context) {
            // The end of the stream: the server ends the connection.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, buffer)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// The handshakes under way, the oldest first.
#[derive(Default)]
struct Handshakes(VecDeque<(SocketAddr, JoinHandle<()>)>);

impl Handshakes {
    /// Makes room for one more. Says who had to go for it.
    fn make_room(&mut self) -> Option<SocketAddr> {
        self.0.retain(|(_, task)| !task.is_finished());
        if self.0.len() < HANDSHAKES_MAX {
            return None;
        }
        let (peer, task) = self.0.pop_front()?;
        task.abort();
        Some(peer)
    }
}

/// What every handshake needs.
#[derive(Clone)]
struct Entrance {
    places: Arc<Semaphore>,
    connections: mpsc::Sender<Result<Connection, std::io::Error>>,
    events: Arc<Events>,
}

impl Entrance {
    fn refuse(&self, peer: SocketAddr, how: Refused, why: &str) {
        tracing::warn!(%peer, why, "handshake refused");
        self.events.count(Counter::HandshakesRefused);
        self.events.refused(how, format!("{}: {why}", peer.ip()));
    }

    async fn shake_hands(self, stream: TcpStream, peer: SocketAddr, config: Arc<ServerConfig>) {
        let acceptor = TlsAcceptor::from(config);
        let stream = match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.refuse(peer, kind(&error), &error.to_string()),
            Err(_) => {
                let why = "the handshake was not completed in time";
                return self.refuse(peer, Refused::Handshake, why);
            }
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.refuse(peer, Refused::Handshake, "too many connections are open");
        };
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = chain.iter().map(CertificateDer::clone).collect();
        let connection = Connection {
            stream,
            peer: Peer::new(peer, chain),
            _place: place,
        };
        self.connections.send(Ok(connection)).await.ok();
    }
}

/// Whether a handshake failed for the certificate of the peer.
fn kind(error: &std::io::Error) -> Refused {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
            Refused::Certificate
        }
        _ => Refused::Handshake,
    }
}

/// Accepts connections until the receiver is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    door: Arc<Door>,
    connections: mpsc::Sender<Result<Connection, std::io::Error>>,
) {
    let entrance = Entrance {
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        events: Arc::clone(door.events()),
        connections,
    };
    let material: &Material<ServerConfig> = door.material();
    let mut handshakes = Handshakes::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = entrance.connections.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                continue;
            }
        };
        if let Some(oldest) = handshakes.make_room() {
            entrance.refuse(oldest, Refused::Handshake, "too many handshakes at once");
        }
        // It was loaded at the start, so that there always is one.
        let Ok(loaded) = material.current() else {
            continue;
        };
        stream.set_nodelay(true).ok();
        let handshake = entrance
            .clone()
            .shake_hands(stream, peer, Arc::clone(&loaded.config));
        handshakes.0.push_back((peer, tokio::spawn(handshake)));
    }
}
