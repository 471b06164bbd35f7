//! Accepts TLS connections and hands those that passed the handshake to the gRPC server.
//!
//! tonic's own TLS knows no revocation list and no reload of certificates, so the handshake is made
//! here: each in a task of its own, with a deadline, and a limit on how many there are, so that
//! silent peers keep nobody out.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use shared::tls::{Identity, TlsError, TlsFiles};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::steps::chain;

/// From the connection to the end of the handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// Handshakes at the same time: far more than portals exist.
const HANDSHAKES_MAX: usize = 64;
/// Connections that passed the handshake: a portal needs one.
const CONNECTIONS_MAX: usize = 64;
/// Pause after an accept failed for want of file descriptors, which nothing else would end.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The TLS material of the server, read again whenever one of its files changes: a certificate is
/// renewed without a restart.
pub(crate) struct Material {
    files: TlsFiles,
    portal: Identity,
    current: Mutex<(Stamps, Arc<ServerConfig>)>,
}

/// When each file was last changed, and its size.
type Stamps = Vec<Option<(SystemTime, u64)>>;

impl Material {
    /// Reads it.
    pub(crate) fn read(files: TlsFiles, portal: Identity) -> Result<Self, TlsError> {
        let stamps = stamps(&files);
        let config = Arc::new(files.server_config(&portal)?);
        Ok(Self {
            files,
            portal,
            current: Mutex::new((stamps, config)),
        })
    }

    /// What new connections are served with. Material that cannot be used leaves the old in force.
    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if stamps != current.0 {
            match self.files.server_config(&self.portal) {
                Ok(config) => {
                    tracing::info!("TLS material changed on disk: it is in force now");
                    *current = (stamps, Arc::new(config));
                }
                Err(error) => {
                    let error = chain(&error);
                    tracing::error!(error, "TLS material changed on disk and cannot be used");
                }
            }
        }
        Arc::clone(&current.1)
    }
}

fn stamps(files: &TlsFiles) -> Stamps {
    let stamp = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let paths = [&files.ca, &files.cert, &files.key]
        .into_iter()
        .chain(&files.crl);
    paths.map(stamp).collect()
}

/// A connection whose peer is the portal.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    /// Who the peer is was settled in the handshake: there is only one who gets in.
    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
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

/// Accepts connections until the receiver is dropped.
pub(crate) async fn accept(
    listener: TcpListener,
    material: Arc<Material>,
    connections: mpsc::Sender<Result<Connection, std::io::Error>>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = connections.closed() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&handshakes).try_acquire_owned() else {
            tracing::warn!(%peer, "connection refused: too many handshakes at once");
            continue;
        };
        stream.set_nodelay(true).ok();
        let acceptor = TlsAcceptor::from(material.current());
        let (connections, places) = (connections.clone(), Arc::clone(&places));
        tokio::spawn(async move {
            match timeout(HANDSHAKE_DEADLINE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    if let Ok(place) = places.try_acquire_owned() {
                        let connection = Connection {
                            stream,
                            _place: place,
                        };
                        connections.send(Ok(connection)).await.ok();
                    } else {
                        tracing::warn!(%peer, "connection refused: too many are open");
                    }
                }
                Ok(Err(error)) => tracing::warn!(%peer, %error, "handshake refused"),
                Err(_) => tracing::warn!(%peer, "handshake not completed in time"),
            }
            drop(permit);
        });
    }
}
