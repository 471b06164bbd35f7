//! A thousand people who are signed in and work at the same time (SC-016, SC-017), on a real PostgreSQL
//! and a real portal over HTTPS:
//!
//! ```sh
//! cargo build --release --bins && cargo bench -p tests --bench sessions
//! ```
//!
//! * each of 1,000 sessions, with a connection and an address of its own, sends a request about every
//!   second: reads for the most part, changes, now and then a new user; and before that the same load
//!   on `GET /health/live`, a handler that does nothing, of the same portal;
//! * what knowing who asks costs: one request after another, in turn at a portal where people sign in
//!   and at one on the same database that trusts its network.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::{Certificate, Method};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::populated;
use tests::portal::{Access, Portal, PortalSetup};
use tests::postgres::TestDatabase;
use tokio::task::JoinSet;
use uuid::Uuid;

/// Sessions at a time.
const SESSIONS: u16 = 1_000;

/// Between two requests of a session.
const PAUSE: Duration = Duration::from_secs(1);

/// Requests of each session and load.
const REQUESTS: usize = 20;

/// Requests by which the cost of knowing who asks is measured.
const PAIRS: usize = 2_000;

/// Sign-ins at a time: more only wait for each other.
const SIGN_INS: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let quiet = [("LOG".to_owned(), "warn".to_owned())];
    let database = TestDatabase::create().await?;
    let lab = PortalLab::reached_by(Access::LOGIN, database, &quiet).await?;
    let mut connection = PgConnection::connect(&lab.database.url).await?;
    populated::fill(&mut connection, "busy", 1, 1_000).await?;
    let password = accounts(&lab, &mut connection).await?;
    let users: Vec<Uuid> =
        sqlx::query_scalar(r#"select user_id from "user" where deleted_at is null"#)
            .fetch_all(&mut connection)
            .await?;
    let users = Arc::new(users);
    let began = Instant::now();
    let people = sign_in(&lab.portal, &password).await?;
    println!(
        "{SESSIONS} sign-ins: {:.1} s",
        began.elapsed().as_secs_f64()
    );
    let idle = load(&people, |_, _| Asked::get("/health/live".to_owned())).await?;
    report("a handler that does nothing", &idle)?;
    let busy = load(&people, move |person, turn| mixed(&users, person, turn)).await?;
    report("mixed use", &busy)?;
    authentication(&lab, &people[0]).await
}

/// As many administrators of the tenant as there are sessions, all with one password, which is hashed
/// once.
async fn accounts(lab: &PortalLab, connection: &mut PgConnection) -> anyhow::Result<String> {
    let password = format!("of the benchmark {}", Uuid::now_v7());
    let first = json!({
        "login": "busy-0", "name": "Busy", "role": "tenant_admin", "tenant": "busy-1",
    });
    let account = lab.client.post("/accounts", &first).await?.expect(201)?;
    let id = account.json()?["id"].as_str().context("no id")?.to_owned();
    let reset = lab
        .client
        .post(&format!("/accounts/{id}/reset"), &Value::Null)
        .await?;
    let token = reset.expect(200)?.json()?["token"].clone();
    let chosen = json!({ "token": token, "password": password });
    lab.client
        .post("/password-resets", &chosen)
        .await?
        .expect(204)?;
    let copied = sqlx::query(
        "insert into account (account_id, login, name, tenant_id, role, password_hash,
            password_set_at, created_at, created_by, updated_at)
         select gen_random_uuid(), 'busy-' || n, name, tenant_id, role, password_hash,
            password_set_at, created_at, created_by, updated_at
         from account, generate_series(1, $1) n where login = 'busy-0'",
    )
    .bind(i32::from(SESSIONS) - 1)
    .execute(connection)
    .await?;
    ensure!(copied.rows_affected() == u64::from(SESSIONS) - 1);
    Ok(password)
}

/// Somebody who is signed in, from an address of its own.
struct Person {
    http: reqwest::Client,
    base: String,
    token: String,
}

async fn sign_in(portal: &Portal, password: &str) -> anyhow::Result<Vec<Arc<Person>>> {
    let ca = portal.https().context("no HTTPS")?.ca.clone();
    let mut waiting: Vec<u16> = (0..SESSIONS).rev().collect();
    let (mut running, mut people) = (JoinSet::new(), Vec::new());
    while !waiting.is_empty() || !running.is_empty() {
        while running.len() < SIGN_INS
            && let Some(number) = waiting.pop()
        {
            let (base, password, ca) = (portal.url(), password.to_owned(), ca.clone());
            running.spawn(async move { signed_in(number, base, &password, &ca).await });
        }
        if let Some(person) = running.join_next().await {
            people.push(Arc::new(person??));
        }
    }
    Ok(people)
}

async fn signed_in(number: u16, base: String, password: &str, ca: &Path) -> anyhow::Result<Person> {
    let [high, low] = number.to_be_bytes();
    let address = IpAddr::V4(Ipv4Addr::new(127, 77, high, low.max(1)));
    let ca = Certificate::from_pem(&tokio::fs::read(ca).await?)?;
    let http = reqwest::Client::builder()
        .no_proxy()
        .local_address(address)
        .tls_certs_only([ca])
        .http1_only()
        .build()?;
    let body = json!({ "login": format!("busy-{number}"), "password": password });
    let reply = http
        .post(format!("{base}/sessions"))
        .json(&body)
        .send()
        .await?;
    ensure!(reply.status() == 201, "{}", reply.text().await?);
    let session: Value = reply.json().await?;
    let token = session["access_token"]
        .as_str()
        .context("no access token")?;
    Ok(Person {
        token: token.to_owned(),
        http,
        base,
    })
}

/// A request of the load.
struct Asked {
    kind: &'static str,
    method: Method,
    path: String,
    body: Option<Value>,
}

impl Asked {
    fn get(path: String) -> Self {
        Self {
            kind: "GET",
            method: Method::GET,
            path,
            body: None,
        }
    }
}

/// What somebody who administers a tenant does, by the dozen.
fn mixed(users: &[Uuid], person: u32, turn: usize) -> Asked {
    let one = person as usize * 7919 + turn * 104_729;
    let user = users[one % users.len()];
    let base = "/tenants/busy-1/users";
    match one % 20 {
        0..8 => Asked::get(format!("{base}?limit=20&sort=name")),
        8..14 => Asked::get(format!("{base}/{user}")),
        14..17 => Asked::get(format!("/tenants/busy-1/devices?user_id={user}")),
        17..19 => Asked {
            kind: "PATCH",
            method: Method::PATCH,
            path: format!("{base}/{user}"),
            body: Some(json!({ "metadata": { "seen": turn } })),
        },
        _ => Asked {
            kind: "POST",
            method: Method::POST,
            path: base.to_owned(),
            body: Some(json!({
                "name": "Busy Newcomer",
                "email": format!("new{person}-{turn}@example.org"),
            })),
        },
    }
}

/// How long each request took, by kind; fails with the first that fails.
type Times = BTreeMap<&'static str, Vec<Duration>>;

async fn load(
    people: &[Arc<Person>],
    ask: impl Fn(u32, usize) -> Asked + Clone + Send + 'static,
) -> anyhow::Result<Times> {
    let mut running = JoinSet::new();
    for (number, person) in (0..).zip(people) {
        let (person, ask) = (Arc::clone(person), ask.clone());
        running.spawn(async move {
            // Not all at the same moment.
            let offset = PAUSE / u32::from(SESSIONS) * number;
            let mut clock = tokio::time::interval_at(tokio::time::Instant::now() + offset, PAUSE);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            let mut times = Vec::new();
            for turn in 0..REQUESTS {
                clock.tick().await;
                let asked = ask(number, turn);
                times.push((asked.kind, person.send(asked).await?));
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Times::new();
    while let Some(times) = running.join_next().await {
        for (kind, took) in times?? {
            all.entry(kind).or_default().push(took);
        }
    }
    Ok(all)
}

impl Person {
    async fn send(&self, asked: Asked) -> anyhow::Result<Duration> {
        let request = self
            .http
            .request(asked.method, format!("{}{}", self.base, asked.path));
        let request = request.bearer_auth(&self.token);
        let request = match &asked.body {
            Some(body) if asked.kind == "PATCH" => request
                .header("content-type", "application/merge-patch+json")
                .body(body.to_string()),
            Some(body) => request.json(body),
            None => request,
        };
        let began = Instant::now();
        let reply = request.send().await?;
        let status = reply.status();
        let body = reply.bytes().await?;
        ensure!(
            status.is_success(),
            "{} {}: {status}: {}",
            asked.kind,
            asked.path,
            String::from_utf8_lossy(&body)
        );
        Ok(began.elapsed())
    }
}

fn report(what: &str, times: &Times) -> anyhow::Result<()> {
    let count: usize = times.values().map(Vec::len).sum();
    ensure!(
        count == usize::from(SESSIONS) * REQUESTS,
        "only {count} requests"
    );
    println!("{what}: {count} requests of {SESSIONS} sessions, no errors");
    let all = ("all", times.values().flatten().copied().collect::<Vec<_>>());
    let kinds = times.iter().map(|(kind, times)| (*kind, times.clone()));
    for (kind, mut times) in kinds.chain([all]) {
        times.sort_unstable();
        let at = |percent: usize| ms(times[(times.len() * percent / 100).min(times.len() - 1)]);
        println!(
            "    {kind:<6} {:>6} requests: p50 {}, p99 {}, slowest {}",
            times.len(),
            at(50),
            at(99),
            at(100)
        );
    }
    Ok(())
}

/// The same requests in turn with and without a session.
async fn authentication(lab: &PortalLab, person: &Person) -> anyhow::Result<()> {
    let access = Access {
        login: false,
        https: true,
    };
    let quiet = [("LOG".to_owned(), "warn".to_owned())];
    let trusting = Portal::start(PortalSetup {
        database_url: &lab.database.url,
        agent: lab.agent.port(1),
        pki: &lab.pki,
        secret_key: None,
        access,
        listen: None,
        env: &quiet,
    })
    .await?;
    let ca = trusting.https().context("no HTTPS")?.ca.clone();
    let ca = Certificate::from_pem(&tokio::fs::read(ca).await?)?;
    let stranger = Person {
        http: reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .http1_only()
            .build()?,
        base: trusting.url(),
        token: String::new(),
    };
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        let ask = || Asked::get("/tenants/busy-1".to_owned());
        known.push(person.send(ask()).await?);
        unknown.push(stranger.send(ask()).await?);
    }
    known.sort_unstable();
    unknown.sort_unstable();
    let (with, without) = (known[PAIRS / 2], unknown[PAIRS / 2]);
    println!(
        "knowing who asks: GET /tenants/busy-1 {} signed in, {} without, so {} a request",
        ms(with),
        ms(without),
        ms(with.saturating_sub(without)),
    );
    Ok(())
}

fn ms(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}
