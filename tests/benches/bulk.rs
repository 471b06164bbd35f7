//! What a user costs that comes with many others, on a real PostgreSQL and a real portal:
//!
//! ```sh
//! cargo build --release --bins && cargo bench -p tests --bench bulk
//! ```
//!
//! * imports of 100 to 10,000 users at once, each into a tenant of its own: time, time for each user, and
//!   the portal's largest memory so far;
//! * a curve: 10,000 users by twenty imports of 500 into one tenant;
//! * the same table once more, which changes nothing; its preview; the exports.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::json;
use tests::lab::PortalLab;
use tests::postgres::TestDatabase;

/// How many users come at once.
const SIZES: [u32; 5] = [100, 1_000, 2_000, 5_000, 10_000];

/// Users of each import of the curve, and how many of them there are.
const CURVE: (u32, u32) = (500, 20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let quiet = [("LOG".to_owned(), "warn".to_owned())];
    let lab = PortalLab::start_with(TestDatabase::create().await?, &quiet).await?;
    lab.client.get("/users").await?.expect(200)?;
    println!("users at once      total   a user   portal's peak memory");
    for size in SIZES {
        let slug = format!("at-once-{size}");
        tenant(&lab, &slug).await?;
        let took = import(&lab, &slug, &table(0, size), "").await?;
        println!(
            "{size:>13} {:>8.2} s {:>5.2} ms {:>7} MiB",
            took.as_secs_f64(),
            took.as_secs_f64() * 1e3 / f64::from(size),
            peak_memory(&lab)?
        );
    }
    let (users, imports) = CURVE;
    tenant(&lab, "curve").await?;
    println!("users there   a user, of {users} more");
    for number in 0..imports {
        let took = import(&lab, "curve", &table(number * users, users), "").await?;
        let each = took.as_secs_f64() * 1e3 / f64::from(users);
        println!("{:>11} {each:>8.2} ms", number * users);
    }
    let whole = table(0, users * imports);
    let again = import(&lab, "curve", &whole, "").await?;
    let preview = import(&lab, "curve", &whole, "?preview=true").await?;
    println!(
        "the whole once more: {:.2} s, its preview {:.2} s",
        again.as_secs_f64(),
        preview.as_secs_f64()
    );
    for path in ["exports/users", "exports/devices", "declaration"] {
        let began = Instant::now();
        let reply = lab
            .client
            .get(&format!("/tenants/curve/{path}"))
            .await?
            .expect(200)?;
        println!(
            "{path}: {:.2} s, {} KiB",
            began.elapsed().as_secs_f64(),
            reply.body.len() / 1024
        );
    }
    Ok(())
}

async fn tenant(lab: &PortalLab, slug: &str) -> anyhow::Result<()> {
    let body = json!({ "slug": slug, "name": slug, "ext_min": 10_000, "ext_max": 29_999 });
    lab.client.post("/tenants", &body).await?.expect(201)?;
    Ok(())
}

fn table(first: u32, users: u32) -> String {
    let mut table = "name,email,metadata\n".to_owned();
    for number in first..first + users {
        // Into memory, which does not fail.
        writeln!(
            table,
            "User {number},user{number}@example.org,\"{{\"\"room\"\":{number}}}\""
        )
        .ok();
    }
    table
}

async fn import(lab: &PortalLab, slug: &str, table: &str, query: &str) -> anyhow::Result<Duration> {
    let path = format!("/tenants/{slug}/imports/users{query}");
    let request = lab.client.request(Method::POST, &path);
    let began = Instant::now();
    let reply = request.body("text/csv", table.to_owned()).send().await?;
    let took = began.elapsed();
    let told = reply.expect(200)?.json()?;
    ensure!(told["counts"]["refused"] == 0, "{}", told["counts"]);
    Ok(took)
}

/// In MiB.
fn peak_memory(lab: &PortalLab) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.portal.pid()?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    let kib: u64 = kib.context("no VmHWM")?.parse()?;
    Ok(kib / 1024)
}
