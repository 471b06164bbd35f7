//! The agent dies in the middle of an apply. Whenever that is, afterwards all files are old or all
//! are new, Asterisk holds what they say, and the record tells which.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api_server::agent::{AgentError, Order};
use serde_json::Value;
use shared::bundle::{ApplyId, Bundle, Revision, Slot};
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use tests::portal::Client;
use tests::process::wait_until;

use crate::held::{assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, request_id, text};
use crate::stand_in::{self, Reload};
use crate::strace::{self, Strace};

const RECOVERY_DEADLINE: Duration = Duration::from_mins(1);

/// The closed record of an order; `None` when the agent has never heard of it.
async fn closed(pbx: &Pbx, id: ApplyId) -> anyhow::Result<Option<ApplyRecord>> {
    let mut found = Ok(None);
    wait_until(
        "the interrupted apply is closed",
        RECOVERY_DEADLINE,
        async || {
            found = pbx.link.find_apply(id).await;
            match &found {
                Ok(Some(record)) => record.outcome.is_some(),
                Ok(None) => true,
                Err(_) => false,
            }
        },
    )
    .await?;
    Ok(found?)
}

/// SIGKILL at every rename and every sync of an apply, one after the other.
#[tokio::test]
async fn an_agent_killed_at_any_point_leaves_all_old_or_all_new() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut pbx = Pbx::start().await?;
    let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "one")];
    ensure!(pbx.apply(&bundles[0]).await?.outcome == Some(Outcome::Applied));
    let mut in_force = 0;
    let mut ends = Vec::new();
    for call in ["renameat", "fsync", "fdatasync", "unlinkat"] {
        for count in 1.. {
            let fault = format!("{call}:signal=SIGKILL:when={count}");
            let order = pbx.order(&bundles[1 - in_force], OnReloadFailure::RollBack);
            let strace = Strace::attach(pbx.agent.pid()?, &fault, &[]).await?;
            let ended = pbx.execute(&order, &bundles[1 - in_force]).await;
            // What is left to do after the reply may be what kills it.
            let idle = async || ended.is_err() || strace.has_struck() || is_tidy(&pbx, &order);
            wait_until("the agent is done", RECOVERY_DEADLINE, idle).await?;
            let struck = strace.has_struck();
            drop(strace);
            if struck {
                pbx.agent.kill();
                pbx.agent.resume().await?;
            }
            in_force = judge(&pbx, &bundles, in_force, &order, &ended)
                .await
                .with_context(|| format!("{fault}: {ended:?}"))?;
            if !struck {
                break;
            }
            ends.push((ended.is_ok(), in_force));
        }
    }
    // Not all at the same place.
    assert!(ends.len() > 20, "killed at {} points only", ends.len());
    let record = pbx.apply(&bundles[1 - in_force]).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    Ok(())
}

/// Whether the agent has written down the record of an order and emptied its intent.
fn is_tidy(pbx: &Pbx, order: &Order) -> bool {
    let state = pbx.agent.state_dir();
    let record = state.join(format!("applies/{}.json", order.id));
    let intent = state.join("intent").metadata();
    record.exists() && intent.is_ok_and(|intent| intent.len() == 0)
}

/// Fails unless files, Asterisk and record agree. Returns which bundle is in force.
async fn judge(
    pbx: &Pbx,
    bundles: &[Bundle; 2],
    in_force: usize,
    order: &Order,
    ended: &anyhow::Result<ApplyRecord>,
) -> anyhow::Result<usize> {
    let record = closed(pbx, order.id).await?;
    let outcome = record.as_ref().and_then(|record| record.outcome);
    let now = match outcome {
        Some(Outcome::Applied) => 1 - in_force,
        Some(Outcome::Interrupted) | None => in_force,
        other => bail!("{other:?}: {record:#?}"),
    };
    if let Ok(told) = ended {
        // What was told before the kill stays true.
        ensure!(
            told.outcome == outcome,
            "told {:?}, then {outcome:?}",
            told.outcome
        );
    }
    let files = live_files(&pbx.asterisk)?;
    ensure!(
        files == Slot::ALL.map(|slot| text(&bundles[now], slot)),
        "{outcome:?}: {record:#?}"
    );
    let left = managed_files(&pbx.asterisk)?.len();
    ensure!(left == 2, "{left} files: {outcome:?}");
    let numbers = [&[1000_u64][..], &[1000, 1001]][now];
    assert_exactly(&pbx.asterisk, numbers.iter().copied()).await?;
    let status = pbx.link.status().await?;
    ensure!(status.warnings.is_empty(), "{:?}", status.warnings);
    Ok(now)
}

/// Kills the agent while Asterisk is told to reload, and starts it again at once.
async fn killed_during(reload: Reload) -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(reload)?;
    let client = lab.client.clone();
    let agent = &mut lab.agent;
    let kill = async {
        hold.reached().await?;
        agent.kill();
        agent.resume().await
    };
    let (reply, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    // The portal asked the new agent for the same apply, which its recovery has completed.
    let attempt = applied_by_recovery(&lab.client, reply?.expect(200)?.json()?).await?;
    assert_eq!(attempt["live_revision"], 2);
    drop(hold);
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    assert_eq!(
        lab.apply().await?.expect(200)?.json()?["outcome"],
        "unchanged"
    );
    Ok(())
}

async fn applied_by_recovery(client: &Client, attempt: Value) -> anyhow::Result<Value> {
    let id = attempt["id"].as_str().context("no id")?;
    let row = client
        .get(&format!("/applies/{id}"))
        .await?
        .expect(200)?
        .json()?;
    ensure!(row["outcome"] == "applied", "{row}");
    let steps = row["steps"].as_array().context("no steps")?;
    ensure!(
        steps.iter().any(|step| step["phase"] == "recovered"),
        "no recovery: {row}"
    );
    Ok(row)
}

#[tokio::test]
async fn an_agent_killed_during_the_pjsip_reload_completes_the_apply() -> anyhow::Result<()> {
    killed_during(Reload::Pjsip).await
}

#[tokio::test]
async fn an_agent_killed_during_the_dialplan_reload_completes_the_apply() -> anyhow::Result<()> {
    killed_during(Reload::Dialplan).await
}

/// After a power cut the agent is up before Asterisk, and waits for it.
#[tokio::test]
async fn recovery_waits_for_an_asterisk_that_starts_later() -> anyhow::Result<()> {
    let (mut pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    let hold = stand_in.hold(Reload::Pjsip)?;
    pbx.link.stage(&order, next, &request_id()).await?;
    let link = pbx.link.clone();
    let (agent, asterisk) = (&mut pbx.agent, &mut pbx.asterisk);
    let power_cut = async {
        hold.reached().await?;
        agent.kill();
        asterisk.kill();
        drop(hold);
        agent.resume().await
    };
    let id = request_id();
    let (lost, cut) = tokio::join!(link.apply(&order, RECOVERY_DEADLINE, &id), power_cut);
    cut?;
    assert!(matches!(lost, Err(AgentError::Link(_))), "{lost:?}");
    // It is ready, tells what it waits for, and takes nothing else meanwhile.
    let record = pbx.link.find_apply(order.id).await?.context("forgotten")?;
    assert_eq!(record.outcome, None, "{record:#?}");
    let other = pbx.apply(&bundle(&[1000], "two")).await;
    let busy = other.err().context("a second apply was let in")?;
    assert!(matches!(busy.downcast_ref(), Some(AgentError::Busy(Some(id))) if *id == order.id));

    pbx.asterisk.resume().await?;
    let record = closed(&pbx, order.id).await?.context("forgotten")?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

/// Killed while it takes a failed apply back: the proven files are completed, not the failed ones.
#[tokio::test]
async fn an_agent_killed_while_rolling_back_goes_on_rolling_back() -> anyhow::Result<()> {
    let (mut pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let old = live_files(&pbx.asterisk)?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    pbx.link.stage(&order, next, &request_id()).await?;
    // The first reload is refused; the one of the roll-back is held.
    let refuse_then_hold = ": >\"$dir/hold\"
cat >\"$dir/pjsip.once\" <<'END'
: >\"$dir/reached\"
while [ -e \"$dir/hold\" ]; do sleep 0.01; done
END
echo 42
exit 0
";
    stand_in.once(Reload::Pjsip, refuse_then_hold)?;
    let (link, agent, dir) = (pbx.link.clone(), &mut pbx.agent, stand_in.dir());
    let kill = async {
        let reached = async || dir.join("reached").exists();
        wait_until("the roll-back reloads", RECOVERY_DEADLINE, reached).await?;
        agent.kill();
        std::fs::remove_file(dir.join("hold"))?;
        agent.resume().await
    };
    let id = request_id();
    let (_, killed) = tokio::join!(link.apply(&order, RECOVERY_DEADLINE, &id), kill);
    killed?;
    let record = closed(&pbx, order.id).await?.context("forgotten")?;
    assert_eq!(record.outcome, Some(Outcome::RolledBack), "{record:#?}");
    assert!(record.failure.contains("42"), "{}", record.failure);
    assert_eq!(record.live_revision, Some(Revision(1)));
    assert_eq!(live_files(&pbx.asterisk)?, old);
    assert_exactly(&pbx.asterisk, [1000]).await
}
