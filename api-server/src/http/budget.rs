//! How much memory the bodies of requests may take, over all connections.
//!
//! What counts is what has come, from when it is read until its request is answered. Whoever is not
//! signed in has a budget of its own, and so small a body that one address, with all of its
//! connections, cannot take that budget whole.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::BODY_BYTES_MAX;

/// Of those who are known.
static OF_KNOWN: Semaphore = Semaphore::const_new(64 * 1024 * 1024);

/// Likewise of what a body has beyond the size of most: imports and declarations, which may be under way for
/// minutes and leave the others their room.
static OF_LARGE: Semaphore = Semaphore::const_new(64 * 1024 * 1024);

/// Of everybody else: sign-ins, for one.
static OF_UNKNOWN: Semaphore = Semaphore::const_new(48 * 1024 * 1024);

/// Largest body of somebody who is not known: the longest login and password, written as JSON by
/// somebody who escapes every character.
const UNKNOWN_BODY_BYTES_MAX: usize = 8 * 1024;

/// How long a body waits for room.
const WAIT: Duration = Duration::from_secs(1);

/// Why a body is not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Others take all the memory there is for bodies.
    #[error("too many bodies are being read")]
    NoRoom,
    /// It is more than somebody says who is not known.
    #[error("the body is larger than that of somebody unknown may be")]
    TooLarge,
}

impl Refused {
    /// What a body's error comes from, if that is it.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut causes = std::iter::successors(Some(error), |error| error.source());
        causes.find_map(|cause| cause.downcast_ref().copied())
    }
}

/// Who sends a body. Nobody is known before the guard says so.
#[derive(Clone, Default)]
pub(super) struct Sender(Arc<AtomicBool>);

impl Sender {
    /// The guard knows who asks.
    pub(super) fn is_known(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

type Wait = Pin<Box<dyn Future<Output = Option<SemaphorePermit<'static>>> + Send>>;

/// A body that takes of the budget as it is read.
pub(super) struct Counted {
    body: Body,
    sender: Sender,
    /// What it has taken.
    taken: Vec<SemaphorePermit<'static>>,
    bytes: usize,
    /// What has come, and waits for its room.
    waiting: Option<(Bytes, Wait)>,
}

impl Counted {
    /// A body that nothing was read of.
    pub(super) fn new(body: Body, sender: Sender) -> Self {
        Self {
            body,
            sender,
            taken: Vec::new(),
            bytes: 0,
            waiting: None,
        }
    }

    /// The body itself, for what is not kept.
    pub(super) const fn uncounted(&mut self) -> &mut Body {
        &mut self.body
    }

    /// The room for some bytes, once there is.
    fn room(&mut self, bytes: usize) -> Result<Wait, Refused> {
        let known = self.sender.0.load(Ordering::Relaxed);
        self.bytes = self.bytes.saturating_add(bytes);
        if !known && self.bytes > UNKNOWN_BODY_BYTES_MAX {
            return Err(Refused::TooLarge);
        }
        let budget = match known {
            true if self.bytes > BODY_BYTES_MAX => &OF_LARGE,
            true => &OF_KNOWN,
            false => &OF_UNKNOWN,
        };
        let bytes = u32::try_from(bytes).map_err(|_| Refused::NoRoom)?;
        Ok(Box::pin(async move {
            let room = timeout(WAIT, budget.acquire_many(bytes)).await;
            room.ok().and_then(Result::ok)
        }))
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.waiting.is_none() {
            let data = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                ended => return Poll::Ready(ended),
            };
            match self.room(data.len()) {
                Ok(wait) => self.waiting = Some((data, wait)),
                Err(refused) => return Poll::Ready(Some(Err(axum::Error::new(refused)))),
            }
        }
        let Some((data, mut wait)) = self.waiting.take() else {
            return Poll::Ready(None);
        };
        match wait.as_mut().poll(context) {
            Poll::Pending => {
                self.waiting = Some((data, wait));
                Poll::Pending
            }
            Poll::Ready(Some(room)) => {
                self.taken.push(room);
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(None) => Poll::Ready(Some(Err(axum::Error::new(Refused::NoRoom)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.waiting {
            None => self.body.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    fn counted(bytes: usize, known: bool) -> Body {
        let sender = Sender::default();
        if known {
            sender.is_known();
        }
        Body::new(Counted::new(Body::from(vec![b'x'; bytes]), sender))
    }

    async fn read(body: Body) -> Result<usize, Option<Refused>> {
        let read = to_bytes(body, usize::MAX).await;
        read.map(|bytes| bytes.len())
            .map_err(|error| Refused::of(&error))
    }

    /// One test, because all share the budgets.
    #[tokio::test]
    async fn a_body_is_read_as_far_as_its_sender_and_the_room_allow() {
        let max = UNKNOWN_BODY_BYTES_MAX;
        assert_eq!(read(counted(max, false)).await, Ok(max));
        let refused = Err(Some(Refused::TooLarge));
        assert_eq!(read(counted(max + 1, false)).await, refused);
        assert_eq!(read(counted(max + 1, true)).await, Ok(max + 1));

        let all = u32::try_from(OF_UNKNOWN.available_permits()).unwrap();
        let all = OF_UNKNOWN.acquire_many(all).await.unwrap();
        let refused = Err(Some(Refused::NoRoom));
        assert_eq!(read(counted(1, false)).await, refused);
        assert_eq!(read(counted(1, true)).await, Ok(1));
        drop(all);
        assert_eq!(read(counted(1, false)).await, Ok(1));

        let all = u32::try_from(OF_LARGE.available_permits()).unwrap();
        let _all = OF_LARGE.acquire_many(all).await.unwrap();
        let max = BODY_BYTES_MAX;
        assert_eq!(read(counted(max + 1, true)).await, refused);
        assert_eq!(read(counted(max, true)).await, Ok(max));
    }
}
