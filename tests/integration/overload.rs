//! Being busy is not being down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::ensure;
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::process::wait_until;

use crate::crowd::at_once;

const CLIENTS: usize = 400;
const DEADLINE: Duration = Duration::from_mins(1);

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
    let stop = Arc::new(AtomicBool::new(false));
    let (client, stopped) = (lab.client.clone(), Arc::clone(&stop));
    // Each asks again at once, as crowds do.
    let ask = move |_| {
        let (client, stopped) = (client.clone(), Arc::clone(&stopped));
        async move {
            let mut replies = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                replies.push(client.get("/users").await?);
            }
            anyhow::Ok(replies)
        }
    };
    let crowd = tokio::spawn(at_once(CLIENTS, CLIENTS, ask));
    let full = async || {
        let ready = lab.client.get("/health/ready").await;
        let database = ready.and_then(|reply| Ok(reply.json()?["database"].clone()));
        database.is_ok_and(|said| said["ok"] == true && said.to_string().contains("in use"))
    };
    wait_until("every connection is in use", DEADLINE, full).await?;
    stop.store(true, Ordering::Relaxed);
    let replies = crowd.await??.concat();
    lock.rollback().await?;

    let mut overloaded = 0;
    for reply in &replies {
        match reply.problem(503)?.as_str() {
            "overloaded" => {
                overloaded += 1;
                let seconds = reply.header("retry-after").parse::<u32>();
                ensure!(seconds.is_ok(), "{reply}");
            }
            // Those that had a connection waited for the lock until PostgreSQL gave up.
            "database_unavailable" => {}
            other => anyhow::bail!("{other}: {reply}"),
        }
    }
    ensure!(overloaded > 0, "nobody of {} was told", replies.len());
    let log = lab.portal.log();
    ensure!(!log.contains("database cannot be reached"), "{log}");
    lab.client.get("/users").await?.expect(200)?;
    Ok(())
}
