//! How fast and how large the product is, on real parts, each figure beside a baseline taken in
//! the same run:
//!
//! ```sh
//! cargo build --release --bins && cargo bench -p tests --bench product
//! ```
//!
//! * an apply that changes one user, at 100 and at 1,000 users, against the bare pair of
//!   `asterisk -rx` reloads on the same files of the same Asterisk, in turn;
//! * `POST /users`, at the 1st and at the 1,000th, against the same rows written by one bare
//!   transaction into the same PostgreSQL, in turn;
//! * `GET /users` at 500 and at 1,000 users, `GET /apply/preview` at 1,000 with one user to come;
//! * resident memory of both services, idle and after all of that.

#![expect(
    clippy::print_stdout,
    reason = "a benchmark reports to whoever runs it"
)]

use std::time::{Duration, Instant};

use anyhow::Context as _;
use sqlx::PgPool;
use tests::lab::{Lab, NewUser};
use uuid::Uuid;

/// Pairs of measured and bare runs; the medians are reported.
const PAIRS: usize = 15;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // `cargo test --benches` only wants to know that it builds.
    if std::env::args().any(|arg| arg == "--test") {
        return Ok(());
    }
    let lab = Lab::start().await?;
    lab.client.get("/users").await?.expect(200)?;
    let pool = lab.database.pool().await?;
    println!("resident memory, idle: {}", memory(&lab)?);
    let mut users = Vec::new();
    creation(&lab, &pool, &mut users).await?;
    grow(&lab, &mut users, 100).await?;
    apply(&lab, 100).await?;
    grow(&lab, &mut users, 500).await?;
    listing(&lab, 500).await?;
    grow(&lab, &mut users, 999 - PAIRS).await?;
    creation(&lab, &pool, &mut users).await?;
    apply(&lab, users.len()).await?;
    listing(&lab, users.len()).await?;
    preview(&lab, users.len()).await?;
    println!(
        "resident memory, after {} users: {}",
        users.len(),
        memory(&lab)?
    );
    Ok(())
}

/// Creates users until there are `count`.
async fn grow(lab: &Lab, users: &mut Vec<NewUser>, count: usize) -> anyhow::Result<()> {
    while users.len() < count {
        let number = users.len();
        let (name, email) = (
            format!("User {number}"),
            format!("user{number}@example.org"),
        );
        users.push(lab.create_user(&name, &email).await?);
    }
    Ok(())
}

async fn creation(lab: &Lab, pool: &PgPool, users: &mut Vec<NewUser>) -> anyhow::Result<()> {
    let before = users.len();
    let tenant = second_tenant(pool).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for pair in 0..PAIRS {
        let started = Instant::now();
        grow(lab, users, before + pair + 1).await?;
        ours.push(started.elapsed());
        let number = i32::try_from(before + pair)?;
        let started = Instant::now();
        insert(pool, tenant, number).await?;
        bare.push(started.elapsed());
    }
    report(
        &format!("POST /users, from {before} users, against a bare transaction"),
        ours,
        bare,
    );
    Ok(())
}

/// A tenant that only the baseline writes to, on a PBX of its own.
async fn second_tenant(pool: &PgPool) -> anyhow::Result<Uuid> {
    let tenant = Uuid::now_v7();
    sqlx::query(
        "with other as (insert into pbx (pbx_id, name) values ($1, 'bare') returning pbx_id)
         insert into tenant (tenant_id, pbx_id, slug, name, ext_min, ext_max, ext_free_from)
         select $1, pbx_id, 'bare', 'Bare', 10, 99999, 10 from other",
    )
    .bind(tenant)
    .execute(pool)
    .await?;
    Ok(tenant)
}

async fn insert(pool: &PgPool, tenant: Uuid, number: i32) -> anyhow::Result<()> {
    let user = Uuid::now_v7();
    let mut transaction = pool.begin().await?;
    sqlx::query(
        r#"insert into "user"
               (user_id, tenant_id, name, email, created_at, created_by, updated_at)
           values ($1, $2, 'Bare', $3, now(), 'bench', now())"#,
    )
    .bind(user)
    .bind(tenant)
    .bind(format!("{user}@example.org"))
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into extension (tenant_id, number, user_id, allocated_at) values ($1, $2, $3, now())",
    )
    .bind(tenant)
    .bind(number + 10)
    .bind(user)
    .execute(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into device (device_id, tenant_id, user_id, slot, label, sip_password_encrypted,
            password_set_at, created_at, created_by, updated_at)
         values ($1, $2, $1, 1, 'Bare', '\\x00', now(), now(), 'bench', now())",
    )
    .bind(user)
    .bind(tenant)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn apply(lab: &Lab, users: usize) -> anyhow::Result<()> {
    lab.apply().await?.expect(200)?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let mut extra: Option<NewUser> = None;
    for pair in 0..2 * PAIRS {
        // One user more, one user less, so that each apply has something to change.
        extra = match extra {
            Some(user) => {
                lab.client
                    .delete(&format!("/users/{}", user.id))
                    .await?
                    .expect(204)?;
                None
            }
            None => Some(
                lab.create_user("Extra", &format!("extra{pair}@example.org"))
                    .await?,
            ),
        };
        let started = Instant::now();
        let reply = lab.apply().await?.expect(200)?;
        ours.push(started.elapsed());
        anyhow::ensure!(reply.json()?["outcome"] == "applied", "{}", reply.text());
        let started = Instant::now();
        lab.asterisk.rx("pjsip reload").await?;
        lab.asterisk.rx("dialplan reload").await?;
        bare.push(started.elapsed());
    }
    report(
        &format!("apply at {users} users, against the bare pair of reloads"),
        ours,
        bare,
    );
    Ok(())
}

async fn listing(lab: &Lab, users: usize) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..2 * PAIRS {
        let started = Instant::now();
        let reply = lab.client.get("/users").await?.expect(200)?;
        times.push(started.elapsed());
        let listed = reply.json()?;
        let listed = listed.as_array().context("GET /users is no array")?.len();
        anyhow::ensure!(listed == users, "{listed} users listed instead of {users}");
    }
    println!("GET /users at {users} users: median {}", ms(median(times)));
    Ok(())
}

async fn preview(lab: &Lab, users: usize) -> anyhow::Result<()> {
    lab.create_user("Last", "last@example.org").await?;
    let mut times = Vec::new();
    for _ in 0..2 * PAIRS {
        let started = Instant::now();
        let reply = lab.client.get("/apply/preview").await?.expect(200)?;
        times.push(started.elapsed());
        let added = &reply.json()?["changes"]["users"]["counts"]["added"];
        anyhow::ensure!(added == 1, "{added} users to come instead of 1");
    }
    let median = ms(median(times));
    println!("GET /apply/preview at {users} users and one more: median {median}");
    Ok(())
}

fn report(what: &str, ours: Vec<Duration>, bare: Vec<Duration>) {
    let mut ratios: Vec<f64> = ours
        .iter()
        .zip(&bare)
        .map(|(ours, bare)| ours.as_secs_f64() / bare.as_secs_f64())
        .collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "{what}: median {} against {}, ratio {:.2} (pairs from {:.2} to {:.2})",
        ms(median(ours)),
        ms(median(bare)),
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1],
    );
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Resident memory of portal and agent, from the kernel.
fn memory(lab: &Lab) -> anyhow::Result<String> {
    let resident = |pid: u32| -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.context("no VmRSS")?.parse::<u64>()? / 1024)
    };
    let (portal, agent) = (resident(lab.portal.pid()?)?, resident(lab.agent.pid()?)?);
    Ok(format!(
        "api-server {portal} MiB, asterisk-agent {agent} MiB"
    ))
}
