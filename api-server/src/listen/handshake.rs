//! TLS handshakes: each with a deadline, and a limit on how many there are. When a newcomer finds
//! the limit reached, the one who has been at it for longest has to go: an honest client needs
//! milliseconds, so that silent ones keep nobody out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;

/// From the connection to the end of the handshake.
const DEADLINE: Duration = Duration::from_secs(5);

/// Handshakes at the same time: a quarter of all connections.
const HANDSHAKES_MAX: usize = 256;

/// The first byte of every TLS connection: a handshake record.
const HANDSHAKE_RECORD: u8 = 22;

/// What somebody hears who speaks plain HTTP where HTTPS is served. No redirection: what was sent
/// in clear, a password perhaps, must not seem to have worked.
const PLAIN_HTTP_REFUSED: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 27\r\n\
    connection: close\r\n\
    \r\n\
    Only HTTPS is spoken here.\n";

/// How much of a refused request is read, so that its sender reads the answer.
const REFUSED_BYTES_MAX: u64 = 64 * 1024;

/// The handshakes under way, the oldest first.
#[derive(Default)]
pub(super) struct Handshakes(VecDeque<oneshot::Sender<()>>);

impl Handshakes {
    /// Makes room for one more, which has to go when the receiver hears something.
    pub(super) fn make_room(&mut self) -> oneshot::Receiver<()> {
        if self.0.len() >= HANDSHAKES_MAX {
            self.0.retain(|under_way| !under_way.is_closed());
        }
        if self.0.len() >= HANDSHAKES_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            // It may have ended just now.
            oldest.send(()).ok();
        }
        let (displace, displaced) = oneshot::channel();
        self.0.push_back(displace);
        displaced
    }
}

/// Why a connection never came to a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// A newcomer took its place.
    #[error("too many connections or handshakes at once")]
    Displaced,
    /// It took too long.
    #[error("the handshake was not completed in time")]
    TooLate,
    /// The client spoke plain HTTP, or something else.
    #[error("the client does not speak TLS")]
    NotTls,
    /// TLS, but nothing that both can speak, or the client went away.
    #[error("{0}")]
    Tls(std::io::Error),
}

/// Makes a connection secure.
pub(super) async fn shake_hands(
    stream: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<TlsStream<TcpStream>, Failed> {
    let shaken = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) if first != [HANDSHAKE_RECORD] => {
                refuse(stream).await.map_err(Failed::Tls)?;
                Err(Failed::NotTls)
            }
            _ => {
                let acceptor = TlsAcceptor::from(config);
                acceptor.accept(stream).await.map_err(Failed::Tls)
            }
        }
    };
    timeout(DEADLINE, shaken)
        .await
        .unwrap_or(Err(Failed::TooLate))
}

/// Answers in plain HTTP, and reads on until the client has closed: what is unread at the end would
/// take the answer from it.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(PLAIN_HTTP_REFUSED).await?;
    stream.shutdown().await?;
    let mut rest = stream.take(REFUSED_BYTES_MAX);
    tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_makes_room_for_a_newcomer() {
        let mut handshakes = Handshakes::default();
        let mut first = handshakes.make_room();
        let mut others: Vec<_> = (1..HANDSHAKES_MAX)
            .map(|_| handshakes.make_room())
            .collect();
        assert!(first.try_recv().is_err());
        // One that has ended is nobody's place.
        drop(others.pop());
        let last = handshakes.make_room();
        assert!(first.try_recv().is_err());
        let newcomer = handshakes.make_room();
        assert!(first.try_recv().is_ok(), "the oldest stayed");
        assert!(others.iter_mut().all(|other| other.try_recv().is_err()));
        assert_eq!(handshakes.0.len(), HANDSHAKES_MAX);
        drop((last, newcomer));
    }

    #[test]
    fn the_plain_refusal_says_its_own_length() {
        let text = std::str::from_utf8(PLAIN_HTTP_REFUSED).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
