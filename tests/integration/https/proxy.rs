//! `X-Forwarded-For` is believed where a proxy is said to stand before the portal, and nowhere else.

use anyhow::{Context as _, ensure};
use reqwest::Method;
use tests::portal::Client;

use super::*;
use crate::audit::trail;

/// The source address of an apply whose request says where it comes from.
async fn source(client: &Client, forwarded: &[&str]) -> anyhow::Result<String> {
    let mut request = client.request(Method::POST, "/apply");
    for value in forwarded {
        request = request.header("x-forwarded-for", value);
    }
    request.send().await?.expect(503)?;
    let newest = trail(client).await?.swap_remove(0);
    let source = newest["source_address"].as_str();
    Ok(source.context("no address")?.to_owned())
}

#[tokio::test]
async fn a_proxy_is_believed_in_its_own_entry() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (forwarded, address) in [
        (&["192.0.2.7"][..], "192.0.2.7"),
        (&["10.9.9.9, 192.0.2.7"], "192.0.2.7"),
        (&["10.9.9.9", "2001:db8::7"], "2001:db8::7"),
    ] {
        ensure!(
            source(&lab.client, forwarded).await? == address,
            "{forwarded:?}"
        );
    }
    // What it does not say, nobody does: an entry before its own was written by the client.
    for forwarded in [&[][..], &["192.0.2.7, unknown"]] {
        let address = source(&lab.client, forwarded).await?;
        ensure!(address.starts_with("127."), "{forwarded:?}: {address}");
    }
    Ok(())
}

#[tokio::test]
async fn a_client_is_not_believed() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    for forwarded in [&["192.0.2.7"][..], &["10.9.9.9", "192.0.2.7"]] {
        let address = source(&lab.client, forwarded).await?;
        ensure!(address.starts_with("127."), "{forwarded:?}: {address}");
    }
    Ok(())
}
