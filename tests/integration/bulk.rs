//! Many users and devices at once: tables in and out, and what a tenant should be as a whole.

mod at_once;
mod bulkhead;
mod declaration;
mod devices;
mod exchange;
mod export;
mod pins;
mod users;

use std::ops::Range;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};

/// How long to wait for what must come.
const DEADLINE: Duration = Duration::from_secs(30);

/// Sends a table.
async fn import(client: &Client, path: &str, table: &str) -> anyhow::Result<Reply> {
    let request = client.request(reqwest::Method::POST, path);
    request.body("text/csv", table.to_owned()).send().await
}

/// Lines of a table of names and addresses.
fn people(numbers: Range<u32>) -> String {
    let lines = numbers.map(|n| format!("User {n},u{n}@example.org\n"));
    lines.collect::<Vec<_>>().concat()
}

/// What became of each line: number, outcome, and the codes of what was wrong, by field.
fn lines(told: &Value) -> Vec<(u64, String, Vec<String>)> {
    let lines = told["lines"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let line = |line: &Value| {
        let errors = line["errors"].as_array().cloned().unwrap_or_default();
        let errors = errors
            .iter()
            .map(|error| format!("{} {}", text(&error["field"]), text(&error["code"])));
        let number = line["line"].as_u64().unwrap_or_default();
        (number, text(&line["outcome"]), errors.collect())
    };
    lines.iter().map(line).collect()
}

fn outcomes(told: &Value) -> Vec<String> {
    lines(told)
        .into_iter()
        .map(|(_, outcome, _)| outcome)
        .collect()
}

/// The body of an export.
async fn exported(client: &Client, path: &str) -> anyhow::Result<String> {
    Ok(client.get(path).await?.expect(200)?.text())
}

/// How many rows there are of something that must not change by a refusal: users, devices, entries of the
/// audit trail, and the versions of users together.
async fn rows(lab: &PortalLab) -> anyhow::Result<Vec<i64>> {
    let pool = lab.database.pool().await?;
    let counts = sqlx::query_scalar(
        r#"select array[
            (select count(*) from "user"), (select count(*) from device),
            (select count(*) from audit_entry where action not like 'sign_in%'),
            (select coalesce(sum(version), 0) from "user")::bigint,
            (select coalesce(sum(ext_free_from), 0) from tenant)::bigint
        ]"#,
    )
    .fetch_one(&pool)
    .await;
    counts.context("counting rows")
}
