//! Being busy is not being down.

use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::process::wait_until;

use crate::crowd::at_once;

const CLIENTS: usize = 400;

/// All connections are in use because every query waits for a lock. Whoever is too much is told so;
/// the database is not said to be down, and nobody but the crowd suffers.
#[tokio::test]
async fn a_crowd_is_turned_away_without_calling_the_database_down() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut holder = PgConnection::connect(&lab.database.url).await?;
    let mut lock = holder.begin().await?;
    sqlx::raw_sql(r#"lock table "user" in access exclusive mode"#)
        .execute(&mut *lock)
        .await?;
    let client = lab.client.clone();
    let call = move |_| {
        let client = client.clone();
        async move { client.get("/users").await }
    };
    let crowd = tokio::spawn(at_once(CLIENTS, CLIENTS, call));
    let watch = lab.client.clone();
    let full = async || {
        let ready = watch
            .get("/health/ready")
            .await
            .and_then(|reply| reply.json());
        ready.is_ok_and(|body| body["database"].to_string().contains("in use"))
    };
    wait_until("every connection is in use", Duration::from_secs(20), full).await?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    ensure!(ready["database"]["ok"] == true, "{ready}");
    let refused = crowd.await??;
    lock.rollback().await?;

    let mut overloaded = 0;
    for reply in refused {
        match reply.problem(503)?.as_str() {
            "overloaded" => {
                overloaded += 1;
                ensure!(
                    reply.header("retry-after").parse::<u32>().is_ok(),
                    "{reply}"
                );
            }
            // Those that had a connection waited for the lock until PostgreSQL gave up.
            "database_unavailable" => {}
            other => anyhow::bail!("{other}: {reply}"),
        }
    }
    ensure!(overloaded >= CLIENTS / 2, "only {overloaded} of {CLIENTS}");
    let log = lab.portal.log();
    ensure!(!log.contains("database cannot be reached"), "{log}");
    lab.client.get("/users").await?.expect(200)?;
    Ok(())
}
