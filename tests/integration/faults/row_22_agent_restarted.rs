//! Row 22: the agent is restarted in the middle of an apply. It finishes when it is told to stop,
//! and when it is killed the journal repairs; either way the caller gets the true record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::AgentError;
use nix::sys::signal::Signal;
use serde_json::Value;
use shared::bundle::{ApplyId, Revision};
use shared::record::{ApplyRecord, OnReloadFailure, Outcome};
use tests::lab::{Lab, create_user};
use tests::portal::Client;
use tests::process::wait_until;

use crate::audit::{applied, trail};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files};
use crate::pbx::{Pbx, bundle, request_id};
use crate::stand_in::{self, Reload};
use crate::strace::said;

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

/// Told to stop, it brings the running apply to its end first, and its caller hears of it.
#[tokio::test]
async fn an_agent_told_to_stop_finishes_the_apply() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let (client, agent) = (lab.client.clone(), &mut lab.agent);
    let stop = async {
        hold.reached().await?;
        agent.signal(Signal::SIGTERM)?;
        // Nothing new is accepted by now; what runs is not given up.
        drop(hold);
        agent.stop().await
    };
    let (reply, stopped) = tokio::join!(client.post_nothing("/apply"), stop);
    stopped?;
    let reply = reply?;
    let attempt = match reply.status {
        200 => applied(&lab.client, reply).await?,
        // Its last answer was lost with the connection: the next life of the agent tells.
        _ => reply.json()?["apply"].clone(),
    };
    lab.agent.resume().await?;
    let id = attempt["id"].as_str().context("no id")?.to_owned();
    let (path, client) = (format!("/applies/{id}"), lab.client.clone());
    wait_until("the row is closed", RECOVERY_DEADLINE, async || {
        let row = client.get(&path).await.and_then(|reply| reply.json());
        row.is_ok_and(|row| row["outcome"] == "applied")
    })
    .await?;
    assert!(!lab.agent.log().contains("an apply was interrupted"));
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// How often the agent is restarted under load.
const RESTARTS: usize = 12;

/// Applies come one after another while the agent is restarted again and again, told to stop or
/// killed. Each is closed with the truth, and at the end Asterisk holds the last.
#[tokio::test]
async fn restarts_under_load_leave_no_lie() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    let (client, agent) = (lab.client.clone(), &mut lab.agent);
    let over = AtomicBool::new(false);
    let load = async {
        let mut number = 0_u64;
        while !over.load(Ordering::Relaxed) {
            number += 1;
            create_user(&client, "Load", &format!("load{number}@example.org")).await?;
            client.post_nothing("/apply").await?;
        }
        anyhow::Ok(number)
    };
    let restarts = async {
        for round in 0..RESTARTS {
            let applies = agent.state_dir().join("applies");
            let count = || applies.read_dir().map_or(0, Iterator::count);
            // Something has been done since the last one.
            let before = count();
            wait_until("an apply has ended", RECOVERY_DEADLINE, async || {
                count() > before
            })
            .await?;
            if round % 2 == 0 {
                agent.stop().await?;
            } else {
                agent.kill();
            }
            agent.resume().await?;
        }
        over.store(true, Ordering::Relaxed);
        anyhow::Ok(())
    };
    let (load, restarts) = tokio::join!(load, restarts);
    restarts?;
    let users = load?;
    let client = lab.client.clone();
    let none_open = async || {
        let rows = trail(&client).await.unwrap_or_default();
        !rows.is_empty() && rows.iter().all(|row| row["outcome"] != "started")
    };
    wait_until("no row is open", RECOVERY_DEADLINE, none_open).await?;
    let last = lab.apply().await?.expect(200)?.json()?;
    assert!(["applied", "unchanged"].contains(&last["outcome"].as_str().unwrap_or_default()));
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for row in trail(&lab.client).await? {
        let outcome = row["outcome"].as_str().unwrap_or_default().to_owned();
        *outcomes.entry(outcome).or_default() += 1;
    }
    said(&format!(
        "row 22: {RESTARTS} restarts under load: {outcomes:?}"
    ));
    let numbers = (0..=users).map(|number| 1000 + number);
    assert_exactly(&lab.asterisk, numbers).await
}
