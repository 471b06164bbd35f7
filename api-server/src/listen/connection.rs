//! One connection from its first request to its end.
//!
//! hyper ends one whose head is slow; a peer that never says which HTTP it speaks, answers pings and
//! asks nothing, or takes nothing of its answer, it would keep. So what goes on is watched
//! ([`Activity`]), and whoever keeps the portal waiting for a while has to go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use axum::http;
use axum::response::Response;
use http_body::{Frame, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Stop;
use super::activity::{Activity, Over, PATIENCE, Request, Turn, UnderWay};
use super::places::Place;

/// How long a connection that gives way may take to end.
const PARTING: Duration = Duration::from_secs(1);

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Requests at a time on one HTTP/2 connection: as many as a browser's page needs.
const STREAMS_MAX: u32 = 16;

/// What an HTTP/2 peer may send of one request before any of it is read.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// Likewise of all requests of a connection together: what the portal keeps of them unread.
const CONNECTION_WINDOW_BYTES: u32 = 128 * 1024;

/// As much of an answer is handed out at once, so that it shows whether the peer takes it.
const PIECE_BYTES_MAX: usize = 16 * 1024;

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
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_concurrent_streams(STREAMS_MAX);
        Self { http, router }
    }

    /// Serves `peer` until it goes, keeps the portal waiting, has to give way, or `stop` says so.
    pub(super) async fn serve<S>(
        &self,
        stream: S,
        peer: SocketAddr,
        place: &mut Place,
        stop: &mut Stop,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::clone(place.activity());
        let service = TowerToHyperService::new(Asked {
            router: self.router.clone(),
            peer,
            activity: Arc::clone(&activity),
        });
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // Clients that break off are their own affair.
        let rest = tokio::select! {
            _ = connection.as_mut() => return,
            over = activity.over() => match over {
                // The rest of the last answer may still be on its way.
                Over::Idle { asked: true } => PATIENCE,
                Over::Idle { asked: false } | Over::Stalled => return,
            },
            () = place.displaced() => PARTING,
            () = stop.said() => {
                connection.as_mut().graceful_shutdown();
                connection.await.ok();
                return;
            }
        };
        connection.as_mut().graceful_shutdown();
        timeout(rest, connection).await.ok();
    }
}

/// The router, with the peer's address put into each request.
#[derive(Clone)]
struct Asked {
    router: Router,
    peer: SocketAddr,
    activity: Arc<Activity>,
}

impl<B> tower::Service<http::Request<B>> for Asked
where
    B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        tower::Service::<http::Request<B>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        request.extensions_mut().insert(ConnectInfo(self.peer));
        let under_way = self.activity.begin();
        let request = request.map(|body| Sent {
            body,
            request: under_way.request().clone(),
        });
        let answer = self.router.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            under_way.request().turn(Turn::Taker);
            Ok(answer.map(|body| {
                Body::new(Answer {
                    body,
                    rest: Bytes::new(),
                    under_way,
                })
            }))
        })
    }
}

/// The body of a request. Whoever reads on has to wait for the peer now and then.
struct Sent<B> {
    body: B,
    request: Request,
}

impl<B: HttpBody + Unpin> HttpBody for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.request.turn(if frame.is_pending() {
            Turn::Sender
        } else {
            Turn::Portal
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer, whose request is under way until it is dropped.
struct Answer {
    body: Body,
    /// What has come of it and is not handed out yet.
    rest: Bytes,
    under_way: UnderWay,
}

impl Answer {
    fn poll_rest(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let piece = self.rest.len().min(PIECE_BYTES_MAX);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(piece)))))
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = self.poll_rest(context);
        // Whoever wants more has taken what there was.
        self.under_way.request().turn(if frame.is_pending() {
            Turn::Portal
        } else {
            Turn::Taker
        });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
