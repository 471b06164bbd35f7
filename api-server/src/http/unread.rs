//! Bodies that nobody read. A refusal may come before its request's body was read, and hyper then ends
//! the connection, without a word, when that is not all there: the client's next request would fail.
//! So the little that is left of a body is read before the answer; for more, the answer says that the
//! connection ends.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use axum::response::Response;
use http_body::{Frame, SizeHint};

use super::BODY_BYTES_MAX;
use super::budget::{Counted, Sender};

/// How long a client may take for what is left, in milliseconds.
const READ_MS: u64 = 1_000;

/// A body that a handler may read, and what it leaves is still at hand.
#[derive(Clone)]
struct Shared(Arc<Mutex<Counted>>);

impl Shared {
    fn body(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

/// What may be left of a request's body.
pub(super) struct Unread {
    body: Shared,
    version: Version,
}

/// The request for its handler, and its body for afterwards.
pub(super) fn share(request: Request) -> (Request, Unread) {
    let version = request.version();
    let (mut parts, body) = request.into_parts();
    let sender = Sender::default();
    parts.extensions.insert(sender.clone());
    let body = Shared(Arc::new(Mutex::new(Counted::new(body, sender))));
    let request = Request::from_parts(parts, Body::new(body.clone()));
    (request, Unread { body, version })
}

impl Unread {
    /// Reads what is left, or tells the client that the connection ends.
    pub(super) async fn settle(self, mut response: Response) -> Response {
        let limit = Duration::from_millis(READ_MS);
        let read = tokio::time::timeout(limit, self.read()).await;
        // HTTP/2 ends the request alone.
        if read != Ok(true) && self.version <= Version::HTTP_11 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }

    /// Whether the body has ended within the limit of its size.
    async fn read(&self) -> bool {
        let mut left = BODY_BYTES_MAX;
        while !self.body.body().uncounted().is_end_stream() {
            // Nothing of it is kept.
            let next = |context: &mut Context<'_>| {
                Pin::new(self.body.body().uncounted()).poll_frame(context)
            };
            match poll_fn(next).await {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(frame)) => {
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    match left.checked_sub(length) {
                        Some(rest) => left = rest,
                        None => return false,
                    }
                }
            }
        }
        true
    }
}
