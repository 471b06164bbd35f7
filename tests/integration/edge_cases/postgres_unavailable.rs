//! "What happens if Postgres database is unavailable? All API calls must fail gracefully with
//! appropriate error messages."

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use tests::lab::PortalLab;
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;
use uuid::Uuid;

use super::ready;
use crate::crowd::at_once;

/// How long the portal may take to notice that what it needs is back.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// Everything that needs the database: method and path.
fn database_calls(user: &str) -> Vec<(Method, String)> {
    vec![
        (Method::POST, "/users".to_owned()),
        (Method::GET, "/users".to_owned()),
        (Method::GET, format!("/users/{user}")),
        (Method::DELETE, format!("/users/{user}")),
        (Method::POST, "/apply".to_owned()),
        (Method::GET, "/applies".to_owned()),
        (Method::GET, format!("/applies/{}", Uuid::nil())),
        (Method::GET, format!("/applies/{}/events", Uuid::nil())),
        (Method::GET, "/apply/status".to_owned()),
        (Method::POST, "/apply/verify".to_owned()),
        (Method::GET, "/events".to_owned()),
    ]
}

/// Fails unless each of them answers that the database is away, and tells nothing about it.
async fn assert_unavailable(client: &Client, user: &str) -> anyhow::Result<()> {
    let calls = database_calls(user);
    let (count, caller) = (calls.len(), client.clone());
    let call = move |number: usize| {
        let (method, path) = calls[number].clone();
        let mut request = caller.request(method, &path);
        if path == "/users" {
            request = request.json(&json!({ "name": "Bob", "email": "bob@example.org" }));
        }
        request.send()
    };
    // All at once, because each waits a moment for the database to come back.
    for reply in at_once(count, count, call).await? {
        assert_eq!(reply.problem(503)?, "database_unavailable", "{reply}");
        let told = reply.text().to_lowercase();
        for secret in ["postgres", "socket", "sqlx", "select", "localhost", "/tmp"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
    client.get("/health/live").await?.expect(200)?;
    client.get("/openapi.json").await?.expect(200)?;
    assert!(!ready(client).await?.1[0]);
    Ok(())
}

async fn wait_for_database(client: &Client) -> anyhow::Result<()> {
    wait_until(
        "the portal has its database again",
        RECOVERY_DEADLINE,
        async || {
            ready(client)
                .await
                .is_ok_and(|(_, [database, _, _])| database)
        },
    )
    .await
}

#[tokio::test]
async fn postgres_unavailable_answers_503_everywhere_and_recovers() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let lab = PortalLab::start_with(TestDatabase::create_in(&cluster).await?, &[]).await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    cluster.stop().await?;
    assert_unavailable(&lab.client, &ann.id).await?;
    cluster.start().await?;
    wait_for_database(&lab.client).await?;
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(users[0]["id"], ann.id.as_str());
    assert_eq!(
        users.as_array().map(Vec::len),
        Some(1),
        "what was refused was stored: {users}"
    );
    assert_eq!(
        lab.create_user("Bob", "bob@example.org").await?.extension,
        1001
    );
    Ok(())
}

#[tokio::test]
async fn postgres_hung_answers_503_and_recovers() -> anyhow::Result<()> {
    let cluster = Cluster::temporary().await?;
    let lab = PortalLab::start_with(TestDatabase::create_in(&cluster).await?, &[]).await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    cluster.signal(Signal::SIGSTOP)?;
    let reply = lab.client.get("/users").await?;
    assert_eq!(reply.problem(503)?, "database_unavailable", "{reply}");
    cluster.signal(Signal::SIGCONT)?;
    wait_for_database(&lab.client).await?;
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(users[0]["id"], ann.id.as_str());
    Ok(())
}

#[tokio::test]
async fn postgres_unavailable_at_start_the_portal_waits_for_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let database = TestDatabase::create_in(&cluster).await?;
    cluster.stop().await?;
    let lab = PortalLab::start_with(database, &[]).await?;
    assert_unavailable(&lab.client, &Uuid::nil().to_string()).await?;
    cluster.start().await?;
    wait_for_database(&lab.client).await?;
    // It has made its schema by itself.
    assert_eq!(
        lab.create_user("Ann", "ann@example.org").await?.extension,
        1000
    );
    Ok(())
}
