//! Every row of the audit trail ends with the truth, soon after both sides are back.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::process::wait_until;

use crate::audit::trail;
use crate::held::assert_exactly;
use crate::respond_async::{accepted, ended};
use crate::stand_in::{self, Reload};

/// Less than the reconciler's own period: it must have been woken.
const WOKEN_DEADLINE: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_mins(1);

/// The portal gave the agent up. When the agent is back, the portal notices and settles the row,
/// without waiting for the next look at the clock.
#[tokio::test]
async fn the_row_of_an_agent_that_was_given_up_is_closed_when_it_is_back() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let client = lab.client.clone();
    let agent = &mut lab.agent;
    let kill = async {
        hold.reached().await?;
        agent.kill();
        anyhow::Ok(())
    };
    let (reply, killed) = tokio::join!(client.post_nothing("/apply"), kill);
    killed?;
    let reply = reply?;
    assert_eq!(reply.problem(503)?, "apply_outcome_unknown", "{reply}");
    let id = reply.json()?["apply"]["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    drop(hold);
    lab.agent.resume().await?;
    let attempt = ended(&lab.client, &id, WOKEN_DEADLINE).await?;
    assert_eq!(attempt["outcome"], "applied", "{attempt}");
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// A portal that hangs in the middle holds the PBX's lock. Another portal closes its row all the
/// same, with the agent's record.
#[tokio::test]
async fn the_row_of_a_portal_that_hangs_is_closed_by_another_one() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let other = lab.another_portal().await?;
    let client = other.client()?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    lab.portal.signal(Signal::SIGSTOP)?;
    drop(hold);
    let attempt = ended(&client, &id, MINUTE).await;
    lab.portal.signal(Signal::SIGCONT)?;
    let attempt = attempt?;
    assert_eq!(attempt["outcome"], "applied", "{attempt}");
    // The one that hung changes nothing of it when it wakes.
    wait_until("the portal lets the lock go", MINUTE, async || {
        client
            .post_nothing("/apply")
            .await
            .is_ok_and(|reply| reply.status == 200)
    })
    .await?;
    let rows = trail(&client).await?;
    let row = rows
        .iter()
        .find(|row| row["id"] == Value::String(id.clone()));
    assert_eq!(row.map(|row| &row["ended_at"]), Some(&attempt["ended_at"]));
    Ok(())
}
