//! Who loses its account, its session or its role while its request is under way has lost it: what the
//! request asks for is not done.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::{Access, Client};
use tests::postgres::TestDatabase;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::api_tokens::token;
use super::{Person, patch, person};

/// A request whose body the portal waits for: so it knows already who asks.
struct Waiting {
    stream: TcpStream,
    body: String,
}

/// Plain HTTP, so that a request can be sent in parts.
async fn lab() -> anyhow::Result<PortalLab> {
    let access = Access {
        login: true,
        https: false,
    };
    PortalLab::reached_by(access, TestDatabase::create().await?, &[]).await
}

impl Waiting {
    /// Sends the head of a request, and waits until its body is asked for.
    async fn begin(
        lab: &PortalLab,
        client: &Client,
        what: &str,
        headers: &str,
        body: &Value,
    ) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(lab.portal.address()).await?;
        let (token, body) = (client.bearer().context("no token")?, body.to_string());
        let head = format!(
            "{what} HTTP/1.1\r\nHost: portal\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n{headers}\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        let mut said = Vec::new();
        while !said.ends_with(b"\r\n\r\n") {
            said.push(stream.read_u8().await?);
        }
        let said = String::from_utf8_lossy(&said).into_owned();
        ensure!(said.starts_with("HTTP/1.1 100 "), "{said}");
        Ok(Self { stream, body })
    }

    /// Sends the body: the status and the reply.
    async fn end(mut self) -> anyhow::Result<(u16, String)> {
        self.stream.write_all(self.body.as_bytes()).await?;
        let mut reply = Vec::new();
        self.stream.read_to_end(&mut reply).await?;
        let reply = String::from_utf8_lossy(&reply).into_owned();
        let status = reply.split(' ').nth(1).context("no status")?.parse()?;
        Ok((status, reply))
    }
}

const JSON: &str = "Content-Type: application/json\r\n";
const MERGE: &str = "Content-Type: application/merge-patch+json\r\n";

/// Begins to create a user.
async fn creating(lab: &PortalLab, client: &Client) -> anyhow::Result<Waiting> {
    let body = json!({ "name": "Late", "email": "late@example.org" });
    Waiting::begin(lab, client, "POST /users", JSON, &body).await
}

/// Takes from somebody what its request was let in by.
async fn take(lab: &PortalLab, what: &str, from: &Person, token: &str) -> anyhow::Result<()> {
    let client = &lab.client;
    match what {
        "the account" => client.delete(&from.path()).await?.expect(204)?,
        "its status" => {
            let body = json!({ "status": "suspended" });
            patch(client, &from.path(), &body).await?.expect(200)?
        }
        "its role" => {
            let body = json!({ "role": "operator" });
            patch(client, &from.path(), &body).await?.expect(200)?
        }
        "the tenant" => {
            let body = json!({ "tenant": "elsewhere" });
            patch(client, &from.path(), &body).await?.expect(200)?
        }
        "the session" => from.client.delete("/sessions/current").await?.expect(204)?,
        _ => from.client.delete(token).await?.expect(204)?,
    };
    Ok(())
}

#[tokio::test]
async fn what_was_taken_from_whoever_asks_is_not_used_any_more() -> anyhow::Result<()> {
    let lab = lab().await?;
    super::tenant(&lab.client, "elsewhere").await?;
    let users = async || anyhow::Ok(lab.client.get("/users").await?.json()?);
    for (number, what) in [
        "the account",
        "its status",
        "its role",
        "the tenant",
        "the session",
        "the token",
    ]
    .into_iter()
    .enumerate()
    {
        let login = format!("chief{number}");
        let chief = person(&lab, &login, "tenant_admin", Some("default")).await?;
        let (by_token, token) = token(&chief.client, "Late", &["users.write"]).await?;
        let client = match what {
            "the token" => &by_token,
            _ => &chief.client,
        };
        let waiting = creating(&lab, client).await?;
        take(&lab, what, &chief, &token).await?;
        let (status, reply) = waiting.end().await?;
        assert_eq!(status, 401, "{what}: {reply}");
        ensure!(reply.contains("\"unauthenticated\""), "{what}: {reply}");
        assert_eq!(users().await?, json!([]), "{what}");
    }
    // Who has lost nothing has its way, also when it signs out by it.
    let chief = person(&lab, "chief", "tenant_admin", Some("default")).await?;
    let waiting = creating(&lab, &chief.client).await?;
    patch(&lab.client, &chief.path(), &json!({ "name": "The Chief" }))
        .await?
        .expect(200)?;
    let (status, reply) = waiting.end().await?;
    assert_eq!(status, 201, "{reply}");
    chief
        .client
        .delete("/sessions/current")
        .await?
        .expect(204)?;
    Ok(())
}

/// What was answered under a key is told to nobody who has lost its account meanwhile.
#[tokio::test]
async fn an_answer_that_was_kept_is_not_told_either() -> anyhow::Result<()> {
    let lab = lab().await?;
    let chief = person(&lab, "chief", "tenant_admin", Some("default")).await?;
    let body = json!({ "name": "Late", "email": "late@example.org" });
    let key = format!("{JSON}Idempotency-Key: k\r\n");
    let begin = async || Waiting::begin(&lab, &chief.client, "POST /users", &key, &body).await;
    let (status, reply) = begin().await?.end().await?;
    assert_eq!(status, 201, "{reply}");
    let again = begin().await?;
    take(&lab, "the account", &chief, "").await?;
    let (status, reply) = again.end().await?;
    assert_eq!(status, 401, "{reply}");
    ensure!(!reply.contains("\"password\""), "{reply}");
    Ok(())
}

/// An apply as well.
#[tokio::test]
async fn nor_does_an_apply_begin() -> anyhow::Result<()> {
    let lab = lab().await?;
    for (number, headers) in [
        JSON,
        "Content-Type: application/json\r\nPrefer: respond-async\r\n",
    ]
    .into_iter()
    .enumerate()
    {
        let login = format!("chief{number}");
        let chief = person(&lab, &login, "platform_admin", None).await?;
        let body = json!({ "pbx": "default" });
        let waiting = Waiting::begin(&lab, &chief.client, "POST /apply", headers, &body).await?;
        take(&lab, "the account", &chief, "").await?;
        let (status, reply) = waiting.end().await?;
        assert_eq!(status, 401, "{reply}");
    }
    assert_eq!(lab.client.get("/applies").await?.json()?, json!([]));
    Ok(())
}

/// Whose requests to remove each other are under way at the same time do not both have their way.
#[tokio::test]
async fn of_two_who_take_each_other_away_one_remains() -> anyhow::Result<()> {
    let lab = lab().await?;
    let changes = [
        json!({ "status": "suspended" }),
        json!({ "role": "operator" }),
    ];
    for round in 0..4 {
        let mut both = Vec::new();
        for name in ["a", "b"] {
            let login = format!("chief{name}{round}");
            both.push(person(&lab, &login, "tenant_admin", Some("default")).await?);
        }
        let change = &changes[round % changes.len()];
        let what = |of: &Person| format!("PATCH {}", of.path());
        let first = Waiting::begin(&lab, &both[0].client, &what(&both[1]), MERGE, change).await?;
        let second = Waiting::begin(&lab, &both[1].client, &what(&both[0]), MERGE, change).await?;
        let (first, second) = tokio::join!(first.end(), second.end());
        let mut statuses = [first?.0, second?.0];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 401], "round {round}");
        let mut left = 0;
        for chief in &both {
            let shown = lab.client.get(&chief.path()).await?.expect(200)?.json()?;
            left += usize::from(shown["status"] == "active" && shown["role"] == "tenant_admin");
        }
        assert_eq!(left, 1, "round {round}");
    }
    Ok(())
}
