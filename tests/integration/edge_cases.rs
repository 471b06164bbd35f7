//! The edge cases of the specification: a file for each, in its order.

mod pool_exhausted;

mod asterisk_unreachable;

mod simultaneous_applies;

mod malformed_data;

mod postgres_unavailable;

mod partial_reload_failure;

use tests::portal::Client;

/// `GET /health/ready`: whether each thing is well, and the status.
async fn ready(client: &Client) -> anyhow::Result<(u16, [bool; 3])> {
    let reply = client.get("/health/ready").await?;
    let body = reply.json()?;
    let well = ["database", "agent", "asterisk"].map(|name| body[name]["ok"] == true);
    Ok((reply.status, well))
}
