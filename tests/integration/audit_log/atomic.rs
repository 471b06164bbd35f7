//! A change and its entry are there together, or neither is; and many write at a time.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use tests::lab::PortalLab;
use tests::process::wait_until;
use tokio::task::JoinSet;

use super::{count, faults, verify};

#[tokio::test]
async fn fifty_writers_at_a_time_take_several_lanes_and_make_whole_chains() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut writers = JoinSet::new();
    for number in 0..50 {
        let client = lab.client.clone();
        writers.spawn(async move {
            // Tenants do not wait for each other's numbers.
            let slug = format!("t{number}");
            let body = json!({
                "slug": slug, "name": "Ö \u{1f980} \"quoted\" \\", "ext_min": 100, "ext_max": 199,
                "metadata": {
                    "z": 1.0, "a": [1e5, 12_345_678_901_234_567_890_u64, -7, 0.1, true, null],
                    "ключ": { "b": "\u{7f}\u{2028}", "a": {} }, "": "",
                },
            });
            client.post("/tenants", &body).await?.expect(201)?;
            let body = json!({ "name": "Ann", "email": format!("{slug}@example.org") });
            let path = format!("/tenants/{slug}/users");
            client.post(&path, &body).await?.expect(201)
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let pool = lab.database.pool().await?;
    // The PBX, as the environment says it; then tenant, user, device.
    assert_eq!(
        count(&pool, "select count(*) from audit_entry").await?,
        1 + 3 * 50
    );
    let lanes = count(&pool, "select count(*) from audit_lane").await?;
    assert!((2..=16).contains(&lanes), "{lanes} lanes");
    let verified = verify(&lab.database.url).await?;
    assert!(faults(&verified)?.is_empty(), "{verified:?}");
    let said = format!("151 entries in {lanes} lanes: as they were written");
    assert!(verified.stdout.contains(&said), "{verified:?}");
    // Nobody who comes later makes another lane.
    for number in 0..5 {
        lab.create_user("Bob", &format!("bob{number}@example.org"))
            .await?;
    }
    assert_eq!(
        count(&pool, "select count(*) from audit_lane").await?,
        lanes
    );
    Ok(())
}

/// A writer that hangs before its commit holds up no other.
#[tokio::test]
async fn nobody_waits_for_whoever_holds_a_lane() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    let mut holder = pool.begin().await?;
    sqlx::query("select * from audit_lane for update")
        .execute(&mut *holder)
        .await?;
    let before = count(&pool, "select count(*) from audit_lane").await?;
    lab.create_user("Ann", "ann@example.org").await?;
    assert_eq!(
        count(&pool, "select count(*) from audit_lane").await?,
        before + 1
    );
    holder.rollback().await?;
    assert!(faults(&verify(&lab.database.url).await?)?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_portal_that_is_killed_leaves_each_change_with_its_entry() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    for round in 0..4 {
        let mut writers = JoinSet::new();
        for writer in 0..8 {
            let client = lab.client.clone();
            writers.spawn(async move {
                for number in 0.. {
                    let email = format!("r{round}w{writer}n{number}@example.org");
                    let body = json!({ "name": "Ann", "email": email });
                    if client.post("/users", &body).await.is_err() {
                        return;
                    }
                }
            });
        }
        let enough = 40 * (round + 1);
        wait_until("some are written", super::DEADLINE, async || {
            let written = count(&pool, r#"select count(*) from "user""#).await;
            written.is_ok_and(|written| written >= enough)
        })
        .await?;
        lab.portal.kill();
        while writers.join_next().await.is_some() {}
        lab.portal.resume().await?;
    }
    // Whatever the killed one had begun has ended by now.
    let idle = "select count(*) from pg_stat_activity
        where datname = current_database() and state = 'idle in transaction'";
    wait_until(
        "nobody is in the middle",
        Duration::from_secs(20),
        async || count(&pool, idle).await.is_ok_and(|busy| busy == 0),
    )
    .await?;
    let users: Vec<String> = sqlx::query_scalar(r#"select user_id::text from "user""#)
        .fetch_all(&pool)
        .await?;
    let told: Vec<String> =
        sqlx::query_scalar("select entity_id from audit_entry where action = 'user.created'")
            .fetch_all(&pool)
            .await?;
    assert!(users.len() > 100, "{}", users.len());
    assert_eq!(told.len(), users.len());
    let set = |ids: Vec<String>| ids.into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set(told), set(users));
    let verified = verify(&lab.database.url).await?;
    assert!(faults(&verified)?.is_empty(), "{verified:?}");
    Ok(())
}
