//! The audit trail: what is written there, that nobody can change it unnoticed, and what became of each
//! change. That every route writes there what it changes: `http::habits`.

mod anchors;
mod append_only;
mod applies;
mod atomic;
mod entries;
mod refusals;
mod tampering;
mod two_roles;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use sqlx::PgPool;
use tests::portal::{Client, SECRET_KEY};
use tests::process::{Output, Program};
use tests::scratch::{self, Scratch};

const DEADLINE: Duration = Duration::from_mins(1);

/// Entries that `GET /audit` answers to a query, the newest first.
pub(crate) async fn entries(client: &Client, query: &str) -> anyhow::Result<Vec<Value>> {
    let mut found = Vec::new();
    let mut next = Some(format!("/audit?limit=200&{query}"));
    while let Some(path) = next {
        let reply = client.get(&path).await?.expect(200)?;
        next = reply.next().map(str::to_owned);
        let page = reply.json()?;
        found.extend(page.as_array().cloned().context("no list")?);
    }
    Ok(found)
}

/// The one entry that a query finds.
pub(crate) async fn entry(client: &Client, query: &str) -> anyhow::Result<Value> {
    let found = entries(client, query).await?;
    ensure!(found.len() == 1, "{query}: {found:?}");
    found.into_iter().next().context("none")
}

/// `api-server audit verify` on a database.
fn verify_program(url: &str) -> anyhow::Result<Program> {
    Ok(Program::new(tests::agent::binary("api-server")?)
        .args(["audit", "verify"])
        .env("DATABASE_URL", url)
        .env("SECRET_KEY", SECRET_KEY))
}

/// Likewise, compared with heads that stand in a kept text.
fn since_head(url: &str, scratch: &Scratch, kept: &str) -> anyhow::Result<Program> {
    let file = scratch.path().join("kept");
    scratch::write(&file, 0o600, kept)?;
    Ok(verify_program(url)?.arg("--since-head").arg(file))
}

/// What it says, and whether it found everything as it was written.
async fn verify(url: &str) -> anyhow::Result<Output> {
    verify_program(url)?.run(DEADLINE).await
}

/// The faults that it found.
fn faults(output: &Output) -> anyhow::Result<Vec<String>> {
    let said = &output.stdout;
    let faults = said.lines().filter_map(|line| line.strip_prefix("fault: "));
    let faults: Vec<String> = faults.map(str::to_owned).collect();
    let expected = if faults.is_empty() { Some(0) } else { Some(1) };
    ensure!(output.status.code() == expected, "{output:?}");
    Ok(faults)
}

/// The heads that it printed, as a file to be kept.
fn heads(output: &Output) -> String {
    let lines = output
        .stdout
        .lines()
        .filter(|line| line.starts_with("head "));
    lines.collect::<Vec<_>>().join("\n")
}

/// How many rows a query counts.
async fn count(pool: &PgPool, sql: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}
