//! A portal starts with the key that its database is sealed with, or not at all.

use std::net::SocketAddr;
use std::time::Duration;

use api_server::pki::Role;
use tests::lab::PortalLab;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::{Output, Program, wait_until};

use super::*;
use tests::loopback::Loopback;

/// `serve` with this key, which must end by itself.
pub(super) async fn serve(
    url: &str,
    agent: SocketAddr,
    pki: &Pki,
    key: Option<&str>,
) -> anyhow::Result<Output> {
    let dir = Scratch::new("serve")?;
    let tls = pki.issue(&Role::Portal, &dir.path().join("tls"), None)?;
    let mut program = Program::new(binary("api-server")?)
        .arg("serve")
        .env("DATABASE_URL", url)
        .env("LISTEN_ADDR", Loopback::take()?.port(8080).to_string())
        .env("PLAIN_HTTP", "behind_proxy")
        .env("PBX_AGENT_ADDR", agent.to_string());
    for (name, value) in tests::pki::environment(&tls) {
        program = program.env(name, value);
    }
    if let Some(key) = key {
        program = program.env("SECRET_KEY", key);
    }
    program.run(DEADLINE).await
}

/// The same, on the database of `lab`.
async fn serve_at(lab: &PortalLab, key: Option<&str>) -> anyhow::Result<Output> {
    serve(&lab.database.url, lab.agent.port(1), &lab.pki, key).await
}

/// It names both keys and what to do, and ends with a status of its own.
async fn assert_refused(lab: &PortalLab) -> anyhow::Result<()> {
    let output = serve_at(lab, Some(NEW)).await?;
    assert_eq!(output.status.code(), Some(1), "{}", output.stderr);
    let said = failure(output)?;
    for word in [&*id(OLD)?, &*id(NEW)?, "set SECRET_KEY or SECRET_KEY_FILE"] {
        assert!(said.contains(word), "{said}");
    }
    // For people on standard error, and a line of the log.
    assert!(
        said.contains("\nError: the database is sealed with"),
        "{said}"
    );
    assert!(said.contains(r#""level":"ERROR""#), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_missing_or_wrong_key_ends_the_start_and_says_what_to_do() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    // Also when there are no rows yet.
    assert_refused(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    assert_refused(&lab).await?;
    let said = failure(serve_at(&lab, None).await?)?;
    for word in ["SECRET_KEY_FILE", "`api-server secret-key`"] {
        assert!(said.contains(word), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_of_before_there_were_data_keys_open_and_are_sealed_anew() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    for name in ["Ann", "Bob"] {
        let email = format!("{name}@example.org");
        lab.create_user(name, &email).await?;
    }
    let (pool, digest) = (
        lab.database.pool().await?,
        wanted_digest(&lab.client).await?,
    );
    lab.portal.stop().await?;
    as_before(&pool).await?;
    assert_refused(&lab).await?;

    lab.portal.resume().await?;
    lab.client.get("/users").await?.expect(200)?;
    assert_eq!(wanted_digest(&lab.client).await?, digest);
    assert_eq!(
        rows_by_key(&pool).await?.len(),
        2,
        "sealed without being asked"
    );
    // Half of a rotation: the new key opens what it wrapped, and says what is missing.
    let mut held = pool.begin().await?;
    sqlx::query("select from device order by device_id limit 1 for update")
        .execute(&mut *held)
        .await?;
    let dir = Scratch::new("rotation")?;
    let mut rotation = rotate(&lab.database.url)?.start(&dir.path().join("log"))?;
    let one_by_one = async || {
        rows_by_key(&pool)
            .await
            .is_ok_and(|rows| rows.iter().any(|(by, _)| by.first() == Some(&2)))
    };
    rotation
        .wait_until("a row is sealed anew", DEADLINE, one_by_one)
        .await?;
    rotation.end();
    held.commit().await?;
    let said = failure(serve_at(&lab, Some(NEW)).await?)?;
    assert!(said.contains("rotate` again with the same keys"), "{said}");
    assert_eq!(wanted_digest(&lab.client).await?, digest);

    // While no portal runs, as well.
    lab.portal.stop().await?;
    rotate(&lab.database.url)?.run(DEADLINE).await?.success()?;
    assert_one_data_key(&pool, 2).await?;
    let fresh = portal_with(NEW, &lab.database.url, lab.agent.port(1), &lab.pki).await?;
    assert_eq!(wanted_digest(&fresh.client()?).await?, digest);
    Ok(())
}

#[tokio::test]
async fn portals_that_begin_at_once_on_an_empty_database_agree_on_one_key() -> anyhow::Result<()> {
    let (database, pki, agent) = (
        TestDatabase::create().await?,
        Pki::temporary()?,
        Loopback::take()?,
    );
    let start = || portal_with(OLD, &database.url, agent.port(1), &pki);
    let (a, b, c) = tokio::try_join!(start(), start(), start())?;
    let clients = [a.client()?, b.client()?, c.client()?];
    for (number, client) in clients.iter().enumerate() {
        create_user(client, "Somebody", &format!("user{number}@example.org")).await?;
    }
    let digest = wanted_digest(&clients[0]).await?;
    for client in &clients {
        assert_eq!(wanted_digest(client).await?, digest);
    }
    assert_one_data_key(&database.pool().await?, 1).await?;
    Ok(())
}

/// It starts without its database, as ever, but serves nothing when the key turns out to be wrong.
#[tokio::test]
async fn a_wrong_key_that_is_found_later_makes_the_portal_not_ready() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let lab = PortalLab::start_with(TestDatabase::create_in(&cluster).await?, &[]).await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    cluster.stop().await?;
    let mut wrong = portal_with(NEW, &lab.database.url, lab.agent.port(1), &lab.pki).await?;
    let client = wrong.client()?;
    // Its first attempt has failed for another reason.
    let reason = async |word: &str| {
        let told = async || {
            let ready = client.get("/health/ready").await;
            ready.is_ok_and(|reply| reply.status == 503 && reply.text().contains(word))
        };
        wait_until(word, DEADLINE, told).await
    };
    reason("cannot be reached").await?;
    cluster.start().await?;
    reason("is sealed with another SECRET_KEY").await?;
    for path in ["/users".to_owned(), format!("/users/{}", ann.id)] {
        let refused = client.get(&path).await?;
        assert_eq!(refused.problem(503)?, "database_unavailable");
    }
    let log = wrong.log();
    assert!(log.contains(&id(OLD)?) && log.contains(&id(NEW)?), "{log}");
    assert!(wrong.is_running());
    // The right one is not disturbed, and the wrong one is right as soon as the key is.
    let served = async || {
        lab.client
            .get("/users")
            .await
            .is_ok_and(|reply| reply.status == 200)
    };
    wait_until("the other portal serves", DEADLINE, served).await?;
    rotate(&lab.database.url)?.run(DEADLINE).await?.success()?;
    let served = async || {
        client
            .get("/users")
            .await
            .is_ok_and(|reply| reply.status == 200)
    };
    wait_until("the portal serves", Duration::from_secs(20), served).await
}
