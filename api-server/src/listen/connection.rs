//! One connection from its first request to its end.
//!
//! hyper ends one whose head is slow; a peer that never says which HTTP it speaks, or answers pings
//! and asks nothing, it would keep. So whoever has no request under way for a while has to go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Stop;

/// How long a request's head may take, a connection may stay without a request, and then the rest
/// of an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;

/// What serves every connection.
#[derive(Clone)]
pub(super) struct Server {
    http: auto::Builder<TokioExecutor>,
    router: Router,
}

impl Server {
    /// HTTP/1.1 and HTTP/2 with limits.
    pub(super) fn new(router: Router) -> Self {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http1()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD_BYTES_MAX);
        http.http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(PATIENCE)
            .max_concurrent_streams(STREAMS_MAX);
        Self { http, router }
    }

    /// Serves `peer` until it goes, asks nothing for a while, or `stop` says so.
    pub(super) async fn serve<S>(&self, stream: S, peer: SocketAddr, mut stop: Stop)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (under_way, idle) = watch::channel(Requests::default());
        let service = TowerToHyperService::new(Asked {
            router: self.router.clone(),
            peer,
            under_way,
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // Clients that break off are their own affair.
        let asked = tokio::select! {
            _ = connection.as_mut() => return,
            asked = silence(idle) => asked,
            () = stop.said() => {
                connection.as_mut().graceful_shutdown();
                connection.await.ok();
                return;
            }
        };
        if asked {
            // The rest of the last answer may still be on its way.
            connection.as_mut().graceful_shutdown();
            timeout(PATIENCE, connection).await.ok();
        }
    }
}

/// What a connection asked for.
#[derive(Clone, Copy, Default)]
struct Requests {
    ever: bool,
    under_way: usize,
}

/// Returns when there has been no request for a while, and whether there ever was one.
async fn silence(mut requests: watch::Receiver<Requests>) -> bool {
    loop {
        // The sender lives as long as the connection.
        let none = requests.wait_for(|requests| requests.under_way == 0).await;
        let asked = none.is_ok_and(|requests| requests.ever);
        if timeout(PATIENCE, requests.changed()).await.is_err() {
            return asked;
        }
    }
}

/// A request under way: from its head to the last byte of its answer.
struct UnderWay(watch::Sender<Requests>);

impl UnderWay {
    fn new(requests: &watch::Sender<Requests>) -> Self {
        requests.send_modify(|requests| {
            requests.ever = true;
            requests.under_way += 1;
        });
        Self(requests.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|requests| requests.under_way -= 1);
    }
}

/// The router, with the peer's address put into each request.
#[derive(Clone)]
struct Asked {
    router: Router,
    peer: SocketAddr,
    under_way: watch::Sender<Requests>,
}

impl<B> tower::Service<Request<B>> for Asked
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<Request<B>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let under_way = UnderWay::new(&self.under_way);
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            Ok(answer.map(|body| {
                Body::new(Answer {
                    body,
                    _under_way: under_way,
                })
            }))
        })
    }
}

/// The body of an answer, whose request is under way until it is dropped.
struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
