//! What a hundred tenants of a hundred users cost, and whether a tenant of ten thousand users is as
//! quick to work in as one of a hundred, on a real PostgreSQL and a real portal:
//!
//! ```sh
//! cargo build --release --bins && cargo bench -p tests --bench crowd
//! ```
//!
//! * snapshot (reading and decrypting), rendering and checking, together what an apply does before
//!   it sends anything, for 10 and for 100 tenants of 100 users;
//! * a page of 50 users from the middle, `POST /users` and `PATCH /users/{id}` in a tenant of 100 and
//!   in one of 10,000 users, in turn.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use api_server::clock::{Clock as _, SystemClock};
use api_server::domain::pbx::PbxId;
use api_server::vault::Vault;
use api_server::{db, render};
use reqwest::Method;
use serde_json::json;
use shared::model;
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::populated;
use tests::portal::{Client, SECRET_KEY};
use tests::postgres::TestDatabase;

/// Runs of each; the medians are reported.
const RUNS: usize = 21;

/// Requests of each kind to each tenant.
const REQUESTS: usize = 101;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    for tenants in [10, 100] {
        preparation(tenants, 100).await?;
    }
    requests().await
}

/// What an apply does before it sends anything.
async fn preparation(tenants: u32, users: u32) -> anyhow::Result<()> {
    let lab = PortalLab::start_with(TestDatabase::create().await?, &[]).await?;
    let mut connection = PgConnection::connect(&lab.database.url).await?;
    populated::fill(&mut connection, "crowd", tenants, users).await?;
    let pbx = sqlx::query_scalar("select pbx_id from pbx")
        .fetch_one(&mut connection)
        .await?;
    let vault: Vault = SECRET_KEY.parse()?;
    let opener = vault.opener(&mut connection).await?;
    let now = SystemClock.now();
    let mut times = [const { Vec::new() }; 4];
    let mut kept = 0;
    for _ in 0..RUNS {
        let began = Instant::now();
        let snapshot = db::snapshot::read_within(&mut connection, PbxId(pbx), &opener, now).await?;
        let read = Instant::now();
        let bundle = render::render(&snapshot)?;
        let rendered = Instant::now();
        let model = model::read(&bundle).map_err(|found| anyhow::anyhow!("{found:?}"))?;
        let checked = Instant::now();
        kept = snapshot
            .tenants
            .iter()
            .map(|tenant| tenant.users.len())
            .sum();
        black_box((snapshot, bundle, model));
        for (times, took) in times.iter_mut().zip([
            read - began,
            rendered - read,
            checked - rendered,
            checked - began,
        ]) {
            times.push(took);
        }
    }
    let [read, rendered, checked, all] = times.map(median);
    println!(
        "{tenants} tenants of {users} users, {kept} of them in service: snapshot {}, rendered in {}, \
         checked in {}, together {}, {:.2} µs a user",
        ms(read),
        ms(rendered),
        ms(checked),
        ms(all),
        all.as_secs_f64() * 1e6 / f64::from(u32::try_from(kept)?),
    );
    Ok(())
}

async fn requests() -> anyhow::Result<()> {
    let lab = PortalLab::start_with(TestDatabase::create().await?, &[]).await?;
    let mut connection = PgConnection::connect(&lab.database.url).await?;
    populated::fill(&mut connection, "small", 1, 100).await?;
    populated::fill(&mut connection, "large", 1, 10_000).await?;
    let mut works = [
        Work::new(&lab.client, "small-1", 40).await?,
        Work::new(&lab.client, "large-1", 5_000).await?,
    ];
    for round in 0..REQUESTS {
        for work in &mut works {
            work.round(&lab.client, round).await?;
        }
    }
    for Work { tenant, times, .. } in works {
        let [page, post, patch] = times.map(median);
        println!(
            "{tenant}: a page of 50 users {}, POST /users {}, PATCH /users {}",
            ms(page),
            ms(post),
            ms(patch)
        );
    }
    Ok(())
}

/// What is measured in one tenant.
struct Work {
    tenant: &'static str,
    /// A page from the middle.
    page: String,
    /// A user from there.
    user: String,
    /// Of a page, a creation and a change.
    times: [Vec<Duration>; 3],
}

impl Work {
    async fn new(client: &Client, tenant: &'static str, middle: usize) -> anyhow::Result<Self> {
        let users = format!("/tenants/{tenant}/users");
        let mut path = format!("{users}?limit=40&sort=name");
        let mut user = String::new();
        for _ in 0..middle / 40 {
            let reply = client.get(&path).await?.expect(200)?;
            reply
                .next()
                .context("no page in the middle")?
                .clone_into(&mut path);
            let id = reply.json()?[0]["id"].clone();
            id.as_str().context("no user")?.clone_into(&mut user);
        }
        Ok(Self {
            tenant,
            page: path.replace("limit=40", "limit=50"),
            user: format!("{users}/{user}"),
            times: [const { Vec::new() }; 3],
        })
    }

    async fn round(&mut self, client: &Client, round: usize) -> anyhow::Result<()> {
        let page = client.get(&self.page).await?.expect(200)?;
        let new = json!({ "name": "New", "email": format!("new{round}@example.org") });
        let created = client
            .post(&format!("/tenants/{}/users", self.tenant), &new)
            .await?
            .expect(201)?;
        let patch = json!({ "name": format!("Changed {round}") });
        let changed = client
            .request(Method::PATCH, &self.user)
            .body("application/merge-patch+json", patch.to_string())
            .send()
            .await?
            .expect(200)?;
        for (times, reply) in self.times.iter_mut().zip([page, created, changed]) {
            times.push(reply.took);
        }
        Ok(())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
