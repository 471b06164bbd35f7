//! What browsers are told, with every answer.

use anyhow::ensure;
use reqwest::Method;
use tests::portal::{Client, Reply};
use tokio::io::AsyncWriteExt as _;

use super::*;

const ALWAYS: [(&str, &str); 8] = [
    ("strict-transport-security", "max-age=31536000"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    (
        "permissions-policy",
        "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cache-control", "no-store"),
];

const OF_DATA: &str =
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn assert_told(reply: &Reply, policy: &str) -> anyhow::Result<()> {
    let told = ALWAYS
        .into_iter()
        .chain([("content-security-policy", policy)]);
    for (name, value) in told {
        let values: Vec<_> = reply.headers.get_all(name).iter().collect();
        ensure!(values == [value], "{name}: {values:?} in {reply}");
    }
    Ok(())
}

async fn undocumented(client: &Client, method: Method, path: &str) -> anyhow::Result<Reply> {
    client.request(method, path).undocumented().send().await
}

#[tokio::test]
async fn data_is_never_a_page() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    for (method, path, status) in [
        (Method::GET, "/health/live", 200),
        (Method::GET, "/users", 200),
        (Method::GET, "/openapi.json", 200),
        (Method::GET, "/users/nobody", 400),
        (
            Method::GET,
            "/users/01900000-0000-7000-8000-000000000009",
            404,
        ),
        (Method::GET, "/nowhere", 404),
        (Method::GET, "/docsx", 404),
        (Method::PUT, "/users", 405),
        (Method::POST, "/users", 415),
        (Method::GET, "/users?limit=0", 400),
    ] {
        let reply = undocumented(&lab.client, method, path).await?;
        assert_told(&reply.expect(status)?, OF_DATA)?;
    }
    Ok(())
}

/// A refusal of the guard's, before any handler.
#[tokio::test]
async fn whoever_is_not_signed_in_is_told_as_well() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let reply = lab.client.anonymous().get("/users").await?;
    assert_told(&reply.expect(401)?, OF_DATA)?;
    assert_told(&lab.client.get("/users").await?.expect(200)?, OF_DATA)
}

#[tokio::test]
async fn the_documentation_loads_its_own_files_and_nothing_else() -> anyhow::Result<()> {
    let lab = lab(&[]).await?;
    let policy = "default-src 'none'; script-src 'self'; \
        style-src 'self' 'sha256-RL3ie0nH+Lzz2YNqQN83mnU0J1ot4QL7b99vMdIX99w='; \
        img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let page = undocumented(&lab.client, Method::GET, "/docs/").await?;
    let page = page.expect(200)?;
    assert_told(&page, policy)?;
    let page = page.text();
    // What the policy would not let run.
    for inline in [
        "<script>", "<style>", " style=", "onload=", "http://", "https://",
    ] {
        ensure!(!page.contains(inline), "{inline}: {page}");
    }
    let files = [
        "swagger-ui.css",
        "index.css",
        "swagger-ui-bundle.js",
        "swagger-initializer.js",
    ];
    for file in files {
        ensure!(page.contains(file), "{file}: {page}");
        let path = format!("/docs/{file}");
        let reply = undocumented(&lab.client, Method::GET, &path).await?;
        assert_told(&reply.expect(200)?, policy)?;
    }
    let missing = undocumented(&lab.client, Method::GET, "/docs/nothing").await?;
    assert_told(&missing.expect(404)?, policy)
}

/// Over the other HTTP, too.
#[tokio::test]
async fn a_proxy_gets_the_same() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    assert_told(&lab.client.get("/users").await?.expect(200)?, OF_DATA)?;
    let mut stream = TcpStream::connect(lab.portal.address()).await?;
    stream.write_all(b"GET /users HTTP/1.0\r\n\r\n").await?;
    let answer = String::from_utf8(until_closed(stream).await?)?;
    ensure!(
        answer.contains("strict-transport-security: max-age=31536000\r\n"),
        "{answer}"
    );
    Ok(())
}
