//! For which hosts the portal is there, and from which pages.

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use super::*;

/// The status of a `POST /users` over plain HTTP with this head, and the answer.
async fn post(lab: &PortalLab, version: &str, head: &str) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(lab.portal.address()).await?;
    let body = r#"{"name":"Ann"}"#;
    let request = format!(
        "POST /users {version}\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let answer = String::from_utf8(until_closed(stream).await?)?;
    let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok((status, answer))
}

/// A page of another site whose name leads here (DNS rebinding) is the browser's idea of the portal's
/// own.
#[tokio::test]
async fn without_sign_in_a_name_is_served_only_if_it_is_set() -> anyhow::Result<()> {
    let env = ("TRUSTED_NETWORK_HOSTS", "portal.example, pbx");
    let (env, access) = (
        [(env.0.to_owned(), env.1.to_owned())],
        Access::TRUSTED_NETWORK,
    );
    let lab = PortalLab::reached_by(access, TestDatabase::create().await?, &env).await?;
    let address = lab.portal.address().to_string();
    for host in [
        &address,
        "localhost",
        "localhost:8080",
        "[::1]:8080",
        "Portal.example",
        "pbx:80",
    ] {
        let (status, answer) = post(&lab, "HTTP/1.1", &format!("Host: {host}\r\n")).await?;
        ensure!(
            status == "400" && answer.contains("validation_failed"),
            "{host}: {answer}"
        );
    }
    for host in [
        "evil.example",
        "evil.example:8080",
        "portal.example.evil.example",
    ] {
        let head = format!("Host: {host}\r\nOrigin: https://{host}\r\n");
        let (status, answer) = post(&lab, "HTTP/1.1", &head).await?;
        ensure!(
            status == "421" && answer.contains("host_not_permitted"),
            "{host}: {answer}"
        );
    }
    // Whoever signs in comes by any name.
    let access = Access {
        login: true,
        https: false,
    };
    let lab = PortalLab::reached_by(access, TestDatabase::create().await?, &[]).await?;
    let (status, answer) = post(&lab, "HTTP/1.1", "Host: any.example\r\n").await?;
    ensure!(status == "401", "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_request_says_for_which_host_it_is_and_says_so_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for head in [
        "",
        "Host: \r\n",
        "Host: localhost\r\nHost: localhost\r\n",
        "Host: localhost\r\nHost: evil.example\r\n",
        "Host: a b\r\n",
        "Host: ann@localhost\r\n",
    ] {
        let (status, answer) = post(&lab, "HTTP/1.1", head).await?;
        ensure!(
            status == "400" && answer.contains("invalid_header"),
            "{head}: {answer}"
        );
    }
    // Before HTTP/1.1 there was no such header.
    let (_, answer) = post(&lab, "HTTP/1.0", "").await?;
    ensure!(answer.contains("validation_failed"), "{answer}");
    Ok(())
}

#[tokio::test]
async fn a_page_that_did_not_come_by_https_is_not_the_portals_own() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let post = async |origin: String| {
        let request = lab.client.request(Method::POST, "/users").json(&json!({}));
        request.header("origin", &origin).send().await
    };
    let host = lab.portal.address();
    ensure!(post(format!("https://{host}")).await?.problem(400)? == "validation_failed");
    ensure!(post(format!("http://{host}")).await?.problem(403)? == "cross_site");
    Ok(())
}
