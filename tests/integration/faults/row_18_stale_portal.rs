//! Row 18: a portal that lost its lock without knowing wakes. Its revision is stale by then: it is
//! refused, and never overwrites what is newer.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::AgentError;
use nix::sys::signal::Signal;
use shared::record::{OnReloadFailure, Outcome};
use tests::lab::Lab;
use tests::portal::Client;
use tests::process::wait_until;
use tests::proxy::{Direction, Proxy, Rule};

use crate::audit::{applied, audited, trail};
use crate::crowd::create_users;
use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle, request_id};

const APPLY_LIMIT: Duration = Duration::from_secs(20);
const DEADLINE: Duration = Duration::from_secs(20);

/// A portal that lost its lock without knowing, and wakes: it never overwrites what is newer.
#[tokio::test]
async fn a_stale_revision_is_refused() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    let stale = bundle(&[1000, 1001], "stale");
    let staged = pbx.order(&stale, OnReloadFailure::RollBack);
    pbx.link
        .stage(&staged, stale.clone(), &request_id())
        .await?;
    let unstaged = pbx.order(&stale, OnReloadFailure::RollBack);
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    let files = managed_files(&pbx.asterisk)?;
    // It remembers across a restart.
    for restart in [false, true] {
        if restart {
            pbx.agent.kill();
            pbx.agent.resume().await?;
            // The connection that broke is noticed by the next call on it.
            let back = async || pbx.link.status().await.is_ok();
            wait_until("the link is there again", DEADLINE, back).await?;
        }
        let applied = pbx.link.apply(&staged, APPLY_LIMIT, &request_id()).await;
        assert!(matches!(applied, Err(AgentError::Stale(_))), "{applied:?}");
        let upload = pbx
            .link
            .stage(&unstaged, stale.clone(), &request_id())
            .await;
        assert!(matches!(upload, Err(AgentError::Stale(_))), "{upload:?}");
    }
    assert_eq!(managed_files(&pbx.asterisk)?, files);
    assert_exactly(&pbx.asterisk, [1000]).await
}

/// Where the sleeping portal is held: nothing of it has come to the agent, or the upload has.
#[derive(Clone, Copy, Debug)]
enum Held {
    BeforeStage,
    BeforeApply,
}

/// Stopped between the commit of its row and `Apply`, and so long that the database gives its lock
/// to another portal, which applies something newer.
async fn sleeps(held: Held) -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let proxy = Proxy::start(lab.agent.address()).await?;
    let sleeper = lab.another_portal_to(proxy.address()).await?;
    create_users(&lab.client, 1).await?;
    let client = sleeper.client()?;
    // The connection is there before anything is held.
    applied(&lab.client, client.post_nothing("/apply").await?).await?;
    lab.create_user("Old", "old@example.org").await?;
    let direction = match held {
        Held::BeforeStage => Direction::Up,
        Held::BeforeApply => Direction::Down,
    };
    proxy.set(direction, Rule::Hold);
    let asleep = tokio::spawn({
        let client = client.clone();
        async move { client.post_nothing("/apply").await }
    });
    let committed = async || started(&lab.client).await.is_some();
    wait_until("the row is committed", DEADLINE, committed).await?;
    if matches!(held, Held::BeforeApply) {
        let uploaded = lab.agent.state_dir().join("gen/2");
        wait_until("the bundle is there", DEADLINE, async || uploaded.exists()).await?;
    }
    sleeper.signal(Signal::SIGSTOP)?;
    let pool = lab.database.pool().await?;
    // What the server does to a client that has gone silent: its lock goes with its session.
    // The locks of other tests, in databases of their own on the same server, are not meant.
    sqlx::query(
        "select pg_terminate_backend(pid) from pg_locks join pg_database on oid = database
         where locktype = 'advisory' and datname = current_database()",
    )
    .execute(&pool)
    .await?;
    lab.create_user("New", "new@example.org").await?;
    let newer = lab.apply().await?.expect(200)?;
    let newer = audited(&lab.client, &newer).await?;
    ensure!(newer["revision"] == 3, "{newer}");
    let files = managed_files(&lab.asterisk)?;

    proxy.set(direction, Rule::Pass);
    sleeper.signal(Signal::SIGCONT)?;
    let reply = asleep.await??;
    ensure!(reply.status != 200, "{held:?}: {reply}");
    ensure!(
        managed_files(&lab.asterisk)? == files,
        "{held:?}: overwritten"
    );
    assert_exactly(&lab.asterisk, [1000, 1001, 1002]).await?;
    // Its row tells what became of it: refused, or settled by the other one as never started.
    let rows = trail(&lab.client).await?;
    let row = rows
        .iter()
        .find(|row| row["revision"] == 2)
        .context("no row")?;
    let (outcome, code) = (&row["outcome"], &row["failure"]["code"]);
    let refused = outcome == "agent_refused" && code == "stale_revision";
    ensure!(refused || outcome == "never_started", "{held:?}: {row}");
    applied_or_unchanged(&client).await
}

async fn applied_or_unchanged(client: &Client) -> anyhow::Result<()> {
    let next = client.post_nothing("/apply").await?.expect(200)?.json()?;
    ensure!(next["outcome"] == "unchanged", "{next}");
    Ok(())
}

/// The id of the apply that is open.
async fn started(client: &Client) -> Option<String> {
    let rows = trail(client).await.ok()?;
    let open = rows.iter().find(|row| row["outcome"] == "started")?;
    open["id"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_portal_that_slept_before_the_upload_is_refused() -> anyhow::Result<()> {
    sleeps(Held::BeforeStage).await
}

#[tokio::test]
async fn a_portal_that_slept_before_the_order_is_refused() -> anyhow::Result<()> {
    sleeps(Held::BeforeApply).await
}
