//! Row 21: the portal is killed in the middle of an apply. The apply belongs to the agent and
//! completes; the portal's next life closes the row with the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::lab::Lab;
use tests::portal::{Client, Reply};
use tests::process::wait_until;

use crate::audit::{applied, audited, trail};
use crate::crowd::create_users;
use crate::held::{assert_exactly, managed_files};
use crate::stand_in::{self, Reload};
use crate::strace::{self, Strace, said};

const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

/// The apply belongs to the agent: it completes, and the portal learns of it when it is back.
#[tokio::test]
async fn a_portal_killed_in_the_middle_closes_the_row_when_it_is_back() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let client = lab.client.clone();
    let records = lab.agent.state_dir().join("applies");
    let (portal, asterisk) = (&mut lab.portal, &lab.asterisk);
    let kill = async {
        hold.reached().await?;
        portal.kill();
        drop(hold);
        // Nobody asks, and nevertheless it comes to its end.
        let ended = async || records.read_dir().is_ok_and(|records| records.count() == 2);
        wait_until("the apply has ended", RECOVERY_DEADLINE, ended).await?;
        assert_exactly(asterisk, [1000, 1001]).await?;
        portal.resume().await
    };
    let (lost, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    assert!(lost.is_err(), "the portal answered although it was killed");
    let row = newest_closed(&lab.client).await?;
    assert_eq!(
        (&row["outcome"], &row["revision"]),
        (&"applied".into(), &2.into()),
        "{row}"
    );
    assert!(
        row["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty()),
        "{row}"
    );
    Ok(())
}

/// The newest row of the audit trail, once it is closed.
async fn newest_closed(client: &Client) -> anyhow::Result<Value> {
    let mut row = Value::Null;
    wait_until("the row is closed", RECOVERY_DEADLINE, async || {
        let newest = trail(client)
            .await
            .ok()
            .and_then(|trail| trail.into_iter().next());
        row = newest.unwrap_or_default();
        row["outcome"].is_string() && row["outcome"] != "started"
    })
    .await?;
    Ok(row)
}

/// Committed, but never sent: the agent says that it never heard of it.
#[tokio::test]
async fn a_portal_killed_before_it_sent_anything_closes_the_row_as_never_started()
-> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    let files = managed_files(&lab.asterisk)?;
    lab.create_user("Late", "late@example.org").await?;
    lab.agent.signal(Signal::SIGSTOP)?;
    let (client, watcher) = (lab.client.clone(), lab.client.clone());
    let portal = &mut lab.portal;
    let kill = async {
        let committed = async || {
            let newest = trail(&watcher)
                .await
                .ok()
                .and_then(|trail| trail.into_iter().next());
            newest.is_some_and(|row| row["outcome"] == "started")
        };
        wait_until("the row is committed", RECOVERY_DEADLINE, committed).await?;
        portal.kill();
        anyhow::Ok(())
    };
    let (lost, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    assert!(lost.is_err());
    // Nobody is left who would send it. What was on its way to the agent is gone with the socket.
    lab.agent.kill();
    lab.agent.resume().await?;
    lab.portal.resume().await?;
    let row = newest_closed(&lab.client).await?;
    assert_eq!(row["outcome"], "never_started", "{row}");
    assert_eq!(row["failure"]["code"], "never_started");
    assert_eq!(managed_files(&lab.asterisk)?, files);
    assert_exactly(&lab.asterisk, [1000]).await?;

    // Its revision is spent; the next apply has a higher one.
    let next = applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(next["revision"], 3);
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// Both die at once, as with the machine; each repairs its own part.
#[tokio::test]
async fn portal_and_agent_killed_together_agree_afterwards() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Dialplan)?;
    let client = lab.client.clone();
    let (portal, agent) = (&mut lab.portal, &mut lab.agent);
    let kill = async {
        hold.reached().await?;
        portal.kill();
        agent.kill();
        drop(hold);
        // The portal first: its reconciler finds no agent, and asks again later.
        portal.resume().await?;
        agent.resume().await
    };
    let (_, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    // Whoever applies next settles the open row first.
    let next = audited(&lab.client, &settled(&lab).await?).await?;
    assert_eq!(next["outcome"], "unchanged");
    let rows = trail(&lab.client).await?;
    let outcomes: Vec<_> = rows.iter().map(|row| row["outcome"].clone()).collect();
    assert_eq!(outcomes, ["unchanged", "applied", "applied"]);
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// Applies as soon as the agent's recovery is over.
async fn settled(lab: &Lab) -> anyhow::Result<Reply> {
    let in_force = async || {
        let ready = lab.client.get("/health/ready").await;
        let detail = ready
            .and_then(|reply| reply.json())
            .map(|body| body["agent"]["detail"].clone());
        detail.is_ok_and(|detail| detail.to_string().contains("revision 2"))
    };
    wait_until("revision 2 is in force", RECOVERY_DEADLINE, in_force).await?;
    lab.apply().await?.expect(200)
}

/// SIGKILL at the first, second, … message that the portal sends anywhere: to the database, to the
/// agent, to the client. Threads count for themselves, so that one of them is always the first.
#[tokio::test]
#[ignore = "kills many times: ./test --faults"]
async fn a_portal_killed_at_any_message_closes_every_row() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    let mut numbers: Vec<u64> = vec![1000];
    let (mut points, mut ends) = (0, BTreeMap::<String, usize>::new());
    for call in ["sendto", "write", "writev"] {
        for count in 1.. {
            let email = format!("{call}{count}@example.org");
            numbers.push(lab.create_user("More", &email).await?.extension);
            let fault = format!("{call}:signal=SIGKILL:when={count}");
            let strace = Strace::attach(lab.portal.pid()?, &fault, &[]).await?;
            let lost = lab.apply().await;
            // The kill may come after the answer, and the answer's loss before the end is known.
            let struck = lost.is_err() || strace.has_struck();
            drop(strace);
            if struck {
                lab.portal.kill();
                lab.portal.resume().await?;
            }
            let client = lab.client.clone();
            let closed = async || {
                let rows = trail(&client).await.unwrap_or_default();
                !rows.is_empty() && rows.iter().all(|row| row["outcome"] != "started")
            };
            wait_until("every row is closed", RECOVERY_DEADLINE, closed).await?;
            let newest = newest_closed(&lab.client).await?;
            let next = lab.apply().await?.expect(200)?.json()?;
            let in_force =
                ["applied", "unchanged"].contains(&next["outcome"].as_str().unwrap_or(""));
            anyhow::ensure!(in_force, "{fault}: {next}");
            assert_exactly(&lab.asterisk, numbers.iter().copied()).await?;
            if !struck {
                break;
            }
            points += 1;
            let outcome = newest["outcome"].as_str().unwrap_or_default().to_owned();
            *ends.entry(outcome).or_default() += 1;
        }
    }
    said(&format!(
        "row 21: the portal was killed at {points} points, every row closed: {ends:?}"
    ));
    assert!(points > 5, "{points} points only");
    Ok(())
}
