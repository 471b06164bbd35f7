//! The REST contract: what a client may rely on whatever it sends.

mod bodies;
pub(crate) mod habits;
mod headers;
mod hostile;
mod idempotency;
mod openapi;
mod paging;
mod problems;
mod unread;
mod values;

use anyhow::Context as _;
use tests::portal::Portal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends bytes that no decent HTTP client would send, and returns what came back until the portal
/// closed the connection.
async fn raw(portal: &Portal, request: &[u8]) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(portal.address()).await?;
    stream.write_all(request).await?;
    let mut reply = Vec::new();
    stream
        .read_to_end(&mut reply)
        .await
        .context("the portal's reply")?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

/// The status of a raw reply.
fn status(reply: &str) -> Option<u16> {
    reply.split(' ').nth(1)?.parse().ok()
}
