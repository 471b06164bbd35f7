//! Something that the product needs goes away in the middle of its work and comes back.

use std::time::Duration;

use nix::sys::signal::Signal;
use tests::lab::Lab;
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;

use crate::audit::applied;
use crate::crowd::create_users;

const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// `GET /health/ready`: the status, and whether database, agent and Asterisk are well.
pub(crate) async fn ready(client: &Client) -> anyhow::Result<(u16, [bool; 3])> {
    let reply = client.get("/health/ready").await?;
    let body = reply.json()?;
    Ok((
        reply.status,
        ["database", "agent", "asterisk"].map(|name| body[name]["ok"] == true),
    ))
}

/// Waits for that.
pub(crate) async fn wait_ready(client: &Client, wanted: (u16, [bool; 3])) -> anyhow::Result<()> {
    let what = format!("readiness is {wanted:?}");
    let reached = async || ready(client).await.is_ok_and(|found| found == wanted);
    wait_until(&what, RECOVERY_DEADLINE, reached).await
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
