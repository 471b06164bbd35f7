//! The life of the process: start, repair, serve, stop.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use nix::fcntl::{Flock, FlockArg};
use sd_notify::NotifyState;
use shared::bundle::CHUNK_BYTES_MAX;
use shared::tls::TlsError;
use shared::tls::material::Material;
use shared::wire::pb::agent_server::AgentServer;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

use crate::agent::{Agent, StartError};
use crate::asterisk::LocalAsterisk;
use crate::clock::SystemClock;
use crate::config::Config;
use crate::door::Door;
use crate::durable::Dir;
use crate::grpc::{self, Service};
use crate::listener::accept;
use crate::steps::chain;

/// Largest HTTP/2 frame.
const FRAME_BYTES_MAX: u32 = 512 * 1024;
/// Largest message: a chunk and what is around it.
const MESSAGE_BYTES_MAX: usize = CHUNK_BYTES_MAX + 16 * 1024;
/// RPCs at the same time on one connection.
const STREAMS_MAX: u32 = 8;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// After this a peer has to connect again, so that it sees a renewed certificate of ours.
const CONNECTION_AGE_MAX: Duration = Duration::from_mins(10);
/// How long connections may take to end after the last apply has.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// The agent could not start, or not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory, or the engine.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The certificates.
    #[error("the TLS material cannot be used")]
    Tls(#[from] TlsError),
    /// The address, or the socket that systemd handed in.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// Signals cannot be received.
    #[error("cannot wait for signals")]
    Signals(#[source] std::io::Error),
    /// The gRPC server.
    #[error("the server failed")]
    Server(#[from] tonic::transport::Error),
    /// A panic on its thread: the next start repairs.
    #[error("the engine ended; see the log")]
    EngineEnded,
}

/// Runs the agent until `SIGTERM` or `SIGINT`. A running apply is brought to its end first.
///
/// # Errors
/// When it cannot start, or cannot go on.
pub async fn serve(config: Config) -> Result<(), ServeError> {
    let material = Material::of_agent(config.tls.clone(), config.portal.clone());
    material.current()?;
    // Before anybody can see that the agent is there: a signal must not get lost.
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signals)?;
    let listener = listen(&config)?;
    let asterisk = Arc::new(LocalAsterisk::new(config.asterisk.clone()));
    let _alone = alone(&config)?;
    let (agent, mut engine_ended) = Agent::start(config, asterisk, Arc::new(SystemClock)).await?;
    let (sender, receiver) = mpsc::channel(16);
    let events = Arc::clone(&agent.events);
    let door = Arc::new(Door::new(material, Arc::new(SystemClock), events));
    tokio::spawn(accept(listener, Arc::clone(&door), sender));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let service = AgentServer::new(Service::new(Arc::clone(&agent), Arc::clone(&door)))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let service = InterceptedService::new(service, move |request: tonic::Request<()>| {
        grpc::admit(&door, request)
    });
    let server = Server::builder()
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_connection_age(CONNECTION_AGE_MAX)
        .trace_fn(grpc::span)
        .add_service(service)
        .serve_with_incoming_shutdown(ReceiverStream::new(receiver), async {
            stopped.await.ok();
        });
    let mut server = tokio::spawn(server);
    tokio::spawn(watchdog());
    notify(&[NotifyState::Ready]);
    tracing::info!("ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        _ = &mut engine_ended => return Err(ServeError::EngineEnded),
        ended = &mut server => return ended.map_err(|_| ServeError::EngineEnded)?.map_err(Into::into),
    }
    tracing::info!("stopping: a running apply is brought to its end");
    notify(&[NotifyState::Stopping]);
    agent.stop();
    engine_ended.await.ok();
    drop(stop);
    if timeout(DRAIN_DEADLINE, server).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
    Ok(())
}

/// Sees that no other agent works on the state directory: for as long as the value lives, which is
/// as long as the process does.
fn alone(config: &Config) -> Result<Flock<File>, StartError> {
    let unusable = |why: String| StartError::State(why);
    let file = Dir::open(&config.state_dir).and_then(|state| state.append("lock"));
    let file = file.map_err(|error| unusable(chain(&error)))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| unusable(format!("another agent works on it ({})", errno.desc())))
}

/// The socket that systemd handed in, or else one of our own.
fn listen(config: &Config) -> Result<TcpListener, ServeError> {
    let handed_in = ListenFd::from_env().take_tcp_listener(0);
    let (address, socket) = match handed_in {
        Ok(Some(socket)) => ("the socket from systemd".to_owned(), Ok(socket)),
        Ok(None) => {
            let bound = std::net::TcpListener::bind(config.listen_addr);
            (config.listen_addr.to_string(), bound)
        }
        Err(error) => ("the socket from systemd".to_owned(), Err(error)),
    };
    let listening = socket.and_then(|socket| {
        socket.set_nonblocking(true)?;
        tracing::info!(address = %socket.local_addr()?, "listening");
        TcpListener::from_std(socket)
    });
    listening.map_err(|source| ServeError::Listen { address, source })
}

/// Tells systemd at half its interval that the reactor still turns.
async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut ticks = tokio::time::interval(interval / 2);
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
