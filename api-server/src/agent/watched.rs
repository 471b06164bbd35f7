//! A TLS stream that remembers why its peer ended it.
//!
//! Under TLS 1.3 the client learns only after its handshake that the server refuses its
//! certificate: as an alert, on the first read. HTTP/2 keeps the words of that error but not its
//! type, and the call that comes too late merely hears "connection closed". So the alert is caught
//! here, where it is still an alert.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::fault::{LinkFault, refusal_in};

/// Why the newest connection was ended by its peer, if it was over a certificate.
#[derive(Clone, Default)]
pub(super) struct LastRefusal(Arc<Mutex<Option<LinkFault>>>);

impl LastRefusal {
    /// What was seen since the newest connection began.
    pub(super) fn get(&self) -> Option<LinkFault> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A new connection begins.
    pub(super) fn forget(&self) {
        self.set(None);
    }

    fn set(&self, fault: Option<LinkFault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn note<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &result
            && let Some(fault) = refusal_in(error)
        {
            self.set(Some(fault));
        }
        result
    }
}

/// A stream whose errors are noted.
pub(super) struct Watched<T> {
    stream: T,
    refusal: LastRefusal,
}

impl<T> Watched<T> {
    /// Watches `stream`.
    pub(super) const fn new(stream: T, refusal: LastRefusal) -> Self {
        Self { stream, refusal }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.refusal.note(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.refusal.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.refusal.note(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.refusal.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio_rustls::rustls::{AlertDescription, Error};

    use super::*;

    struct Refused(AlertDescription);

    impl AsyncRead for Refused {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let alert = Error::AlertReceived(self.0);
            Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, alert)))
        }
    }

    #[tokio::test]
    async fn an_alert_about_a_certificate_is_remembered_until_the_next_connection() {
        let refusal = LastRefusal::default();
        for (alert, noted) in [
            (AlertDescription::InternalError, false),
            (AlertDescription::AccessDenied, true),
        ] {
            let mut stream = Watched::new(Refused(alert), refusal.clone());
            stream.read_u8().await.unwrap_err();
            assert_eq!(refusal.get().is_some(), noted, "{alert:?}");
        }
        refusal.forget();
        assert_eq!(refusal.get(), None);
    }
}
