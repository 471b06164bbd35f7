//! Bodies that never end: many at once take no more memory than there is for them.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;
use tests::process::wait_until;

use super::h2::{H2, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS};
use super::*;

/// Nearly as large as a body may be.
const BODY: &[u8] = &[b' '; 63_000];

/// On each connection.
const STREAMS: u32 = 16;

/// So many take all of 64 MiB.
const CONNECTIONS: usize = 68;

#[tokio::test]
async fn an_http2_peer_has_few_streams_and_small_windows() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let ca = lab.portal.https().map(|https| https.ca.clone());
    let config = trusting(&[&ca.unwrap_or_default()], &[&TLS13], &["h2"])?;
    let mut peer = H2::begin(connect(&lab.portal, config).await?, 65_535).await?;
    let said = |name: u16| {
        let found = peer.settings.iter().find(|(given, _)| *given == name);
        found.map_or(65_535, |(_, value)| *value)
    };
    ensure!(
        said(MAX_CONCURRENT_STREAMS) <= STREAMS,
        "{:?}",
        peer.settings
    );
    ensure!(said(INITIAL_WINDOW_SIZE) <= 65_536, "{:?}", peer.settings);
    // What the whole connection may bring is said by the time of the first answer.
    peer.ask(1, "GET", "/health/live", true).await?;
    while peer.taken == 0 {
        timeout(DEADLINE, peer.receive()).await??;
    }
    ensure!(peer.window <= 128 * 1024, "{}", peer.window);
    Ok(())
}

/// Over plain HTTP, where one address may have every place.
#[tokio::test]
async fn bodies_that_never_end_leave_room_once_they_are_gone() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    // As large as theirs: what is left beside them is too little for it.
    let long = json!({ "name": "x".repeat(BODY.len() - 1_000) });
    let post = async || {
        let request = lab.client.request(Method::POST, "/users").json(&long);
        request.send().await
    };
    let mut peers = Vec::new();
    let mut refused = None;
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(lab.portal.address()).await?;
        let mut peer = H2::begin(stream, 65_535).await?;
        for stream in 0..STREAMS {
            peer.ask(2 * stream + 1, "POST", "/users", false).await?;
            timeout(DEADLINE, peer.say(2 * stream + 1, BODY)).await??;
        }
        peers.push(peer);
        // From here on they may be all that there is room for.
        if peers.len() * 16 * BODY.len() > 60 * 1024 * 1024 {
            let reply = post().await?;
            if reply.status == 503 {
                refused = Some(reply);
                break;
            }
        }
    }
    let refused = refused.context("all bodies were read")?;
    ensure!(refused.problem(503)? == "overloaded", "{refused}");
    ensure!(!refused.header("retry-after").is_empty(), "{refused}");
    // What has no body needs no room.
    lab.client.get("/users").await?.expect(200)?;
    drop(peers);
    wait_until("bodies are read again", DEADLINE, async || {
        post().await.is_ok_and(|reply| reply.status == 400)
    })
    .await
}
