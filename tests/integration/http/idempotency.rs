//! `Idempotency-Key`: what is sent twice is done once, whatever happens in between.

mod applies;

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection, PgPool};
use tests::lab::{Lab, PortalLab};
use tests::portal::{Client, Reply};
use tests::process::wait_until;
use tokio::task::JoinSet;

use super::problems::assert_problem;

const LIMIT: Duration = Duration::from_secs(20);

/// What a test holds so that a portal gets stuck in its commit.
const GATE: i64 = 4711;

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> anyhow::Result<Reply> {
    let request = client.request(Method::POST, path).json(body);
    request.header("Idempotency-Key", key).send().await
}

fn ann(number: usize) -> Value {
    json!({ "name": "Ann", "email": format!("ann{number}@example.org") })
}

fn is_replay(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == "true"
}

async fn count(pool: &PgPool, sql: &'static str) -> anyhow::Result<i64> {
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

async fn rows(lab: &PortalLab) -> anyhow::Result<usize> {
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    Ok(users.as_array().map_or(0, Vec::len))
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_one_none() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let first = post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    let again = post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    assert!(!is_replay(&first) && is_replay(&again));
    assert_eq!(first.body, again.body);
    for name in ["location", "etag", "content-type", "cache-control"] {
        assert!(!first.header(name).is_empty(), "no {name}");
        assert_eq!(first.header(name), again.header(name));
    }
    let other = post(&lab.client, "/users", "k", &ann(2)).await?;
    assert_problem(&other, 422, "idempotency_key_reused")?;
    let elsewhere = post(&lab.client, "/apply", "k", &json!({})).await?;
    assert_problem(&elsewhere, 422, "idempotency_key_reused")?;
    assert_eq!(rows(&lab).await?, 1);
    // Keys belong to whoever sends them.
    let request = lab.client.request(Method::POST, "/users").json(&ann(2));
    let request = request.header("X-Admin-User", "anna");
    let reply = request.header("Idempotency-Key", "k").send().await?;
    assert!(!is_replay(&reply.expect(201)?));
    assert_eq!(rows(&lab).await?, 2);
    Ok(())
}

#[tokio::test]
async fn what_failed_may_be_tried_again_under_its_key() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let taken = lab.create_user("Ann", "ann1@example.org").await?;
    let refused = post(&lab.client, "/users", "k", &ann(1)).await?;
    assert_problem(&refused, 409, "email_taken")?;
    let refused = post(&lab.client, "/users", "k", &json!({})).await?;
    assert_problem(&refused, 400, "validation_failed")?;
    let path = format!("/users/{}", taken.id);
    lab.client.delete(&path).await?.expect(204)?;
    let reply = post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    assert!(!is_replay(&reply));
    // No agent: nothing was changed, so it may be sent again.
    let pool = lab.database.pool().await?;
    for attempts in 1..3 {
        let reply = post(&lab.client, "/apply", "a", &json!({})).await?;
        assert_problem(&reply, 503, "agent_unreachable")?;
        assert_eq!(count(&pool, "select count(*) from apply").await?, attempts);
    }
    Ok(())
}

#[tokio::test]
async fn of_twenty_at_once_one_is_carried_out_and_all_are_answered() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let client = lab.client.clone();
        tasks.spawn(async move { post(&client, "/users", "k", &ann(1)).await });
    }
    let replies: Vec<Reply> = tasks
        .join_all()
        .await
        .into_iter()
        .collect::<anyhow::Result<_>>()?;
    for reply in &replies {
        assert_eq!(reply.status, 201, "{reply}");
        assert_eq!(reply.body, replies[0].body);
    }
    let replayed = replies.iter().filter(|reply| is_replay(reply)).count();
    assert_eq!(replayed, 19);
    assert_eq!(rows(&lab).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_stored_answer_shows_no_password() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let reply = post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    let created = reply.json()?;
    let password = created["sip"]["password"].as_str().context("a password")?;
    let pool = lab.database.pool().await?;
    let dump: String = sqlx::query_scalar(
        "select k::text || encode(answer_encrypted, 'escape') from idempotency_key k",
    )
    .fetch_one(&pool)
    .await?;
    let digits = password.bytes().flat_map(|byte| [byte >> 4, byte & 15]);
    let hex: String = digits
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect();
    assert!(
        dump.contains(reply.header("location")),
        "nothing was read: {dump}"
    );
    assert!(
        !dump.contains(password) && !dump.contains(&hex),
        "a clear password is stored"
    );
    // It belongs to its row.
    sqlx::query("update idempotency_key set key = 'other'")
        .execute(&pool)
        .await?;
    let moved = post(&lab.client, "/users", "other", &ann(1)).await?;
    assert_problem(&moved, 500, "internal_error")?;
    Ok(())
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    let pool = lab.database.pool().await?;
    let age = async |hours: i32| {
        sqlx::query("update idempotency_key set created_at = now() - make_interval(hours => $1)")
            .bind(hours)
            .execute(&pool)
            .await
    };
    age(23).await?;
    assert!(is_replay(
        &post(&lab.client, "/users", "k", &ann(1))
            .await?
            .expect(201)?
    ));
    age(25).await?;
    let reply = post(&lab.client, "/users", "k", &ann(2))
        .await?
        .expect(201)?;
    assert!(!is_replay(&reply));
    assert!(is_replay(
        &post(&lab.client, "/users", "k", &ann(2))
            .await?
            .expect(201)?
    ));
    // What nobody asks for again is removed in passing.
    sqlx::query(
        "insert into idempotency_key (actor, key, fingerprint, created_at)
         select 'x', n::text, decode(repeat('00', 32), 'hex'), now() - interval '2 days'
         from generate_series(1, 30) n",
    )
    .execute(&pool)
    .await?;
    for number in 3..5 {
        post(&lab.client, "/users", &format!("k{number}"), &ann(number))
            .await?
            .expect(201)?;
    }
    let old = "select count(*) from idempotency_key where actor = 'x'";
    assert_eq!(count(&pool, old).await?, 0);
    Ok(())
}

/// A session that keeps every commit of an idempotency key waiting until it lets go.
struct Gate(PgConnection);

impl Gate {
    async fn close(url: &str, event: &'static str) -> anyhow::Result<Self> {
        let mut session = PgConnection::connect(url).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "create function gate() returns trigger language plpgsql as
             $$ begin perform pg_advisory_xact_lock({GATE}); return null; end $$;
             create constraint trigger gate after {event} on idempotency_key
             deferrable initially deferred for each row execute function gate()"
        )))
        .execute(&mut session)
        .await?;
        let mut gate = Self(session);
        gate.hold().await?;
        Ok(gate)
    }

    async fn hold(&mut self) -> anyhow::Result<()> {
        sqlx::query("select pg_advisory_lock($1)")
            .bind(GATE)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    /// Waits until somebody stands before it.
    async fn somebody_waits(&self, pool: &PgPool) -> anyhow::Result<()> {
        let waiting = "select count(*) from pg_locks
            where locktype = 'advisory' and objid = 4711 and not granted
                and database = (select oid from pg_database where datname = current_database())";
        let waits = async || count(pool, waiting).await.is_ok_and(|waiting| waiting > 0);
        wait_until("a commit waits at the gate", LIMIT, waits).await
    }

    async fn open(&mut self) -> anyhow::Result<()> {
        sqlx::query("select pg_advisory_unlock($1)")
            .bind(GATE)
            .execute(&mut self.0)
            .await?;
        Ok(())
    }

    /// Ends whoever waits before it, as a server that dies would.
    async fn turn_away(&self, pool: &PgPool) -> anyhow::Result<()> {
        sqlx::query(
            "select pg_terminate_backend(pid) from pg_locks
             where locktype = 'advisory' and objid = 4711 and not granted
                and database = (select oid from pg_database where datname = current_database())",
        )
        .execute(pool)
        .await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_portal_killed_between_commit_and_answer_leaves_the_answer() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    for committed in [true, false] {
        let mut gate = Gate::close(&lab.database.url, "insert").await?;
        let key = format!("committed-{committed}");
        let body = ann(usize::from(committed));
        let request = {
            let (client, key, body) = (lab.client.clone(), key.clone(), body.clone());
            tokio::spawn(async move { post(&client, "/users", &key, &body).await })
        };
        gate.somebody_waits(&pool).await?;
        lab.portal.kill();
        assert!(request.await?.is_err(), "an answer came through");
        if committed {
            gate.open().await?;
        } else {
            gate.turn_away(&pool).await?;
            gate.open().await?;
        }
        sqlx::raw_sql("drop trigger gate on idempotency_key; drop function gate")
            .execute(&pool)
            .await?;
        lab.portal.resume().await?;
        let reply = post(&lab.client, "/users", &key, &body)
            .await?
            .expect(201)?;
        assert_eq!(is_replay(&reply), committed, "{reply}");
        let created = reply.json()?;
        assert_eq!(created["sip"]["password"].as_str().map(str::len), Some(24));
        let again = post(&lab.client, "/users", &key, &body)
            .await?
            .expect(201)?;
        assert_eq!(again.body, reply.body);
    }
    assert_eq!(rows(&lab).await?, 2);
    Ok(())
}

#[tokio::test]
async fn whoever_waits_too_long_for_the_first_hears_so() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    let mut holder = pool.begin().await?;
    sqlx::query(
        "insert into idempotency_key (actor, key, fingerprint, created_at)
         values ('trusted-network', 'k', decode(repeat('00', 32), 'hex'), now())",
    )
    .execute(&mut *holder)
    .await?;
    let reply = post(&lab.client, "/users", "k", &ann(1)).await?;
    assert_problem(&reply, 409, "idempotency_key_in_use")?;
    assert!(!reply.header("retry-after").is_empty());
    holder.rollback().await?;
    post(&lab.client, "/users", "k", &ann(1))
        .await?
        .expect(201)?;
    Ok(())
}
