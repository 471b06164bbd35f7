//! Something that the product needs goes away in the middle of its work and comes back.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tests::lab::Lab;
use tests::phones::Call;
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;

use crate::audit::{applied, audited, trail};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files};
use crate::stand_in::{Reload, StandIn};

const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// Deadlines of the agent that a test can wait for.
fn short(lab: tests::lab::LabBuilder) -> tests::lab::LabBuilder {
    lab.agent_env("RELOAD_DEADLINE_MS", "3000")
        .agent_env("QUERY_DEADLINE_MS", "2000")
}

/// `GET /health/ready`: the status, and whether database, agent and Asterisk are well.
async fn ready(client: &Client) -> anyhow::Result<(u16, [bool; 3])> {
    let reply = client.get("/health/ready").await?;
    let body = reply.json()?;
    Ok((
        reply.status,
        ["database", "agent", "asterisk"].map(|name| body[name]["ok"] == true),
    ))
}

async fn wait_ready(client: &Client, wanted: (u16, [bool; 3])) -> anyhow::Result<()> {
    let what = format!("readiness is {wanted:?}");
    let reached = async || ready(client).await.is_ok_and(|found| found == wanted);
    wait_until(&what, RECOVERY_DEADLINE, reached).await
}

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

/// It says so within the deadline of a question, and is itself again when the agent is.
#[tokio::test]
async fn an_agent_that_hangs_makes_the_portal_not_ready() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    wait_ready(&lab.client, (200, [true; 3])).await?;
    lab.agent.signal(Signal::SIGSTOP)?;
    assert_eq!(ready(&lab.client).await?, (503, [true, false, false]));
    lab.agent.signal(Signal::SIGCONT)?;
    wait_ready(&lab.client, (200, [true; 3])).await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    Ok(())
}

/// The new files are in force when Asterisk starts, and phones work without another apply.
#[tokio::test]
async fn asterisk_comes_back_with_what_was_applied_while_it_was_down() -> anyhow::Result<()> {
    for policy in ["roll_back", "keep_new_files"] {
        let mut lab = Lab::builder()
            .portal_env("ON_RELOAD_FAILURE", policy)
            .start()
            .await?;
        let users = create_users(&lab.client, 2).await?;
        applied(&lab.client, lab.apply().await?).await?;
        let old = live_files(&lab.asterisk)?;
        // Crashed: its control socket is still there.
        lab.asterisk.kill();
        let late = lab.create_user("Late", "late@example.org").await?;
        let reply = lab.apply().await?;
        ensure!(
            reply.problem(502)? == "apply_reload_failed_files_kept",
            "{policy}: {reply}"
        );
        let attempt = audited(&lab.client, &reply).await?;
        let said = attempt["failure"]["message"].as_str().unwrap_or_default();
        ensure!(said.contains("not running"), "{policy}: {said}");
        let new = live_files(&lab.asterisk)?;
        ensure!(new != old && new[1].contains("1002"), "{policy}: {new:?}");
        // Said until it is proven.
        let warnings = lab.client.get("/health/ready").await?.json()?["warnings"].to_string();
        ensure!(warnings.contains("was not proven"), "{policy}: {warnings}");

        lab.asterisk.resume().await?;
        ensure!(
            live_files(&lab.asterisk)? == new,
            "{policy}: the files changed at the start"
        );
        assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
        let online = lab.phone(&late)?.online().await?;
        let caller = users.first().context("nobody")?;
        let call = lab
            .phone(caller)?
            .call(&late.sip_username, Duration::ZERO)
            .await?;
        ensure!(
            matches!(call, Call::Completed { .. }) && online.calls() == 1,
            "{policy}: {call:?}"
        );
        applied(&lab.client, lab.apply().await?).await?;
    }
    Ok(())
}

/// While Asterisk hangs, and an apply with it, everybody else is served.
#[tokio::test]
async fn the_agent_answers_while_asterisk_hangs_in_an_apply() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let lab = short(Lab::builder())
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    create_users(&lab.client, 2).await?;
    applied(&lab.client, lab.apply().await?).await?;
    create_users_named(&lab, "more").await?;
    // It hangs from the moment when it is told to reload.
    let hold = stand_in.hold(Reload::Pjsip)?;
    let hang = async {
        hold.reached().await?;
        lab.asterisk.freeze()?;
        drop(hold);
        // Answered by the agent, which knows that Asterisk does not answer, and that one runs.
        assert_eq!(ready(&lab.client).await?, (503, [true, true, false]));
        anyhow::Ok(())
    };
    let (reply, frozen) = tokio::join!(lab.apply(), hang);
    frozen?;
    let reply = reply?;
    assert_eq!(reply.problem(504)?, "apply_reload_unknown");
    let attempt = audited(&lab.client, &reply).await?;
    let said = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("pjsip reload") && said.contains("may still"),
        "{said}"
    );
    assert!(
        live_files(&lab.asterisk)?[1].contains("1002"),
        "nothing is taken back under a reload"
    );
    let warnings = lab.client.get("/health/ready").await?.json()?["warnings"].to_string();
    assert!(warnings.contains("may still take effect"), "{warnings}");

    // As long as it hangs, the next one ends the same way, and no later.
    assert_eq!(lab.apply().await?.problem(504)?, "apply_reload_unknown");

    lab.asterisk.thaw()?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
    wait_ready(&lab.client, (200, [true; 3])).await
}

async fn create_users_named(lab: &Lab, name: &str) -> anyhow::Result<()> {
    lab.create_user(name, &format!("{name}@example.org"))
        .await
        .map(|_| ())
}

/// The portal starts in any order, and needs no restart.
#[tokio::test]
async fn a_portal_that_starts_with_nothing_there_becomes_ready_by_itself() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let database = TestDatabase::create_in(&cluster).await?;
    let mut lab = Lab::builder().database(database).start().await?;
    let user = lab.create_user("Ann", "ann@example.org").await?;
    lab.portal.stop().await?;
    lab.agent.stop().await?;
    lab.asterisk.stop().await?;
    cluster.stop().await?;

    lab.portal.resume().await?;
    assert_eq!(ready(&lab.client).await?, (503, [false, false, false]));
    assert_eq!(lab.apply().await?.problem(503)?, "database_unavailable");
    lab.agent.resume().await?;
    wait_ready(&lab.client, (503, [false, true, false])).await?;
    lab.asterisk.resume().await?;
    wait_ready(&lab.client, (503, [false, true, true])).await?;
    cluster.start().await?;
    wait_ready(&lab.client, (200, [true; 3])).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.phone(&user)?.register().await?.accepted()?;
    Ok(())
}
