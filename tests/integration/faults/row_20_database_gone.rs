//! Row 20: PostgreSQL goes away in the middle of an apply. The agent finishes, the reply is 503 with
//! the id of the apply, and the row is closed with the truth once the database is back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use tests::lab::Lab;
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;

use crate::audit::trail;
use crate::crowd::create_users;
use crate::held::assert_exactly;
use crate::outage::wait_ready;
use crate::stand_in::{Reload, StandIn};

/// Longer than a reconciler waits between two looks.
const RECONCILED_DEADLINE: Duration = Duration::from_secs(45);

async fn outcomes(client: &Client) -> anyhow::Result<Vec<Value>> {
    Ok(trail(client)
        .await?
        .into_iter()
        .map(|attempt| attempt["outcome"].clone())
        .collect())
}

/// The agent finishes, the reply says that the outcome could not be recorded, and the row is closed
/// with the truth once the database is back.
#[tokio::test]
async fn the_database_stops_while_an_apply_runs() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let mut cluster = Cluster::temporary().await?;
    let lab = Lab::builder()
        .database(TestDatabase::create_in(&cluster).await?)
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    create_users(&lab.client, 2).await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let stop_meanwhile = async {
        hold.reached().await?;
        cluster.stop().await?;
        drop(hold);
        anyhow::Ok(())
    };
    let (reply, stopped) = tokio::join!(lab.apply(), stop_meanwhile);
    stopped?;
    let reply = reply?;
    // Never 200: nobody could look it up.
    assert_eq!(reply.problem(503)?, "apply_not_recorded");
    let told = reply.json()?["apply"].clone();
    assert_eq!(told["outcome"], "applied", "{told}");
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;

    cluster.start().await?;
    wait_ready(&lab.client, (200, [true; 3])).await?;
    // Whoever applies next settles it first.
    let next = lab.apply().await?.expect(200)?.json()?;
    assert_eq!(next["outcome"], "unchanged");
    let id = told["id"].as_str().context("no id")?;
    let row = lab
        .client
        .get(&format!("/applies/{id}"))
        .await?
        .expect(200)?
        .json()?;
    for field in ["outcome", "revision", "digest", "steps", "files"] {
        assert_eq!(row[field], told[field], "{field}");
    }
    assert_eq!(outcomes(&lab.client).await?, ["unchanged", "applied"]);
    Ok(())
}

/// How the database goes away.
#[derive(Clone, Copy, Debug)]
enum Going {
    Stopped,
    Killed,
}

/// Between any two steps of the agent, and without anybody applying afterwards: the reconciler
/// alone closes the row.
#[tokio::test]
async fn a_database_gone_between_steps_is_reconciled_by_itself() -> anyhow::Result<()> {
    let points = [
        (Reload::Pjsip, Going::Killed),
        (Reload::Dialplan, Going::Stopped),
        (Reload::Dialplan, Going::Killed),
    ];
    for (reload, going) in points {
        let stand_in = StandIn::new()?;
        let mut cluster = Cluster::temporary().await?;
        let lab = Lab::builder()
            .database(TestDatabase::create_in(&cluster).await?)
            .agent_env("ASTERISK_BINARY", &stand_in.program())
            .start()
            .await?;
        create_users(&lab.client, 2).await?;
        let hold = stand_in.hold(reload)?;
        let go = async {
            hold.reached().await?;
            match going {
                Going::Stopped => cluster.stop().await?,
                Going::Killed => cluster.kill().await?,
            }
            drop(hold);
            anyhow::Ok(())
        };
        let (reply, gone) = tokio::join!(lab.apply(), go);
        gone?;
        let reply = reply?;
        ensure!(
            reply.problem(503)? == "apply_not_recorded",
            "{going:?}: {reply}"
        );
        let told = reply.json()?["apply"].clone();
        let id = told["id"].as_str().context("no id")?.to_owned();
        assert_exactly(&lab.asterisk, [1000, 1001]).await?;
        cluster.start().await?;
        let path = format!("/applies/{id}");
        let closed = async || {
            let row = lab.client.get(&path).await.and_then(|reply| reply.json());
            row.is_ok_and(|row| row["outcome"] == "applied")
        };
        wait_until("the row is closed", RECONCILED_DEADLINE, closed).await?;
        ensure!(outcomes(&lab.client).await? == ["applied"], "{going:?}");
    }
    Ok(())
}
