//! The accept loop: limits that axum's own leaves open, and an orderly end.

use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Connections at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;

/// How long a request's head may take, and an idle connection may stay, in seconds.
const HEAD_SECONDS: u64 = 30;

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// Pause after the process ran out of file descriptors, in milliseconds.
const ACCEPT_PAUSE_MS: u64 = 100;

/// What still runs after the loop has ended.
pub(crate) struct Running(GracefulShutdown);

impl Running {
    /// Lets running requests end and closes idle connections.
    pub(crate) async fn shutdown(self) {
        self.0.shutdown().await;
    }
}

/// Accepts until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = &'static str>,
) -> Running {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let server = builder();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            reason = &mut stop => {
                tracing::info!(reason, "stopping");
                return Running(graceful);
            }
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let router = router.clone();
                let service = TowerToHyperService::new(WithPeer { router, peer });
                let connection = server.serve_connection(TokioIo::new(stream), service);
                let watched = graceful.watch(connection.into_owned());
                tokio::spawn(async move {
                    // Clients that break off are their own affair.
                    watched.await.ok();
                    drop(place);
                });
            }
            Err(error) if is_of_the_client(error.kind()) => {}
            Err(error) => {
                tracing::error!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECONDS))
        .max_buf_size(HEAD_BYTES_MAX);
    server
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(HEAD_SECONDS))
        .max_concurrent_streams(STREAMS_MAX);
    server
}

/// The router, with the peer's address put into each request.
#[derive(Clone)]
struct WithPeer {
    router: Router,
    peer: SocketAddr,
}

impl<B> tower::Service<Request<B>> for WithPeer
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = <Router as tower::Service<Request<B>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<Request<B>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        self.router.call(request)
    }
}

fn is_of_the_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset | ErrorKind::ConnectionRefused
    )
}
