//! `Prefer: respond-async`: the answer comes at once, the apply runs on its own, and whatever
//! becomes of the portal, the attempt can be looked up and ends with the truth.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};
use tests::portal::{Client, Reply};
use tests::process::wait_until;

use crate::audit::{applied, trail};
use crate::crowd::create_users;
use crate::held::assert_exactly;
use crate::stand_in::{self, Reload};

/// A lease of 20 s, and the reconciler's 30 s.
const ABANDONED_DEADLINE: Duration = Duration::from_mins(1);
const END_DEADLINE: Duration = Duration::from_secs(30);

/// Asks for an apply without waiting for it.
pub(crate) async fn accept(client: &Client) -> anyhow::Result<Reply> {
    let request = client.request(Method::POST, "/apply");
    request
        .header("Prefer", "respond-async")
        .header("X-Admin-User", "anna")
        .send()
        .await
}

/// The id of an accepted apply.
pub(crate) async fn accepted(client: &Client) -> anyhow::Result<String> {
    let reply = accept(client).await?.expect(202)?;
    let body = reply.json()?;
    let id = body["id"].as_str().context("no id")?.to_owned();
    assert_eq!(reply.header("location"), format!("/applies/{id}"));
    assert_eq!(reply.header("preference-applied"), "respond-async");
    assert_eq!(
        (&body["outcome"], &body["ended_at"]),
        (&json!("queued"), &Value::Null)
    );
    Ok(id)
}

pub(crate) async fn look_up(client: &Client, id: &str) -> anyhow::Result<Value> {
    let path = format!("/applies/{id}");
    let mut attempt = client.get(&path).await?.expect(200)?.json()?;
    // Nobody else tells which changes it carried.
    let carried = attempt.as_object_mut().and_then(|it| it.remove("carried"));
    carried.context("no carried changes")?;
    Ok(attempt)
}

/// The attempt, once it has ended.
pub(crate) async fn ended(client: &Client, id: &str, within: Duration) -> anyhow::Result<Value> {
    let mut attempt = Value::Null;
    wait_until("the apply has ended", within, async || {
        attempt = look_up(client, id).await.unwrap_or_default();
        attempt["ended_at"].is_string()
    })
    .await?;
    Ok(attempt)
}

#[tokio::test]
async fn an_accepted_apply_runs_on_its_own_and_can_always_be_looked_up() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let first = accepted(&lab.client).await?;
    hold.reached().await?;
    assert_eq!(look_up(&lab.client, &first).await?["outcome"], "started");

    // The next one waits in line, and is there all the same: also for another portal.
    let second = accepted(&lab.client).await?;
    let other = lab.another_portal().await?;
    for client in [&lab.client, &other.client()?] {
        let waiting = look_up(client, &second).await?;
        assert_eq!(waiting["outcome"], "queued", "{waiting}");
        assert_eq!(waiting["requested_by"], "anna");
        let newest = trail(client).await?;
        assert_eq!(newest[0]["outcome"], "queued");
        let ids = [&newest[0]["id"], &newest[1]["id"]];
        assert_eq!(ids, [&json!(second), &json!(first)]);
    }
    drop(hold);
    let first = ended(&lab.client, &first, END_DEADLINE).await?;
    assert_eq!(first["outcome"], "applied", "{first}");
    let second = ended(&lab.client, &second, END_DEADLINE).await?;
    assert_eq!(second["outcome"], "unchanged", "{second}");
    assert_eq!(trail(&lab.client).await?.len(), 3);
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn an_accepted_apply_that_fails_before_it_is_sent_has_its_row() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let id = accepted(&lab.client).await?;
    let attempt = ended(&lab.client, &id, END_DEADLINE).await?;
    assert_eq!(attempt["outcome"], "agent_unreachable", "{attempt}");
    assert_eq!(attempt["failure"]["code"], "agent_unreachable");
    let [only] = &trail(&lab.client).await?[..] else {
        anyhow::bail!("one attempt, one row");
    };
    assert_eq!(only["id"], json!(id));
    Ok(())
}

/// One runs and one waits. The first is the agent's, and ends; the second was never sent, and says so.
#[tokio::test]
async fn a_portal_killed_with_accepted_applies_leaves_none_open() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let running = accepted(&lab.client).await?;
    hold.reached().await?;
    let waiting = accepted(&lab.client).await?;
    lab.portal.kill();
    drop(hold);
    lab.portal.resume().await?;
    // Between the two nobody may say that there is no such apply.
    assert_eq!(look_up(&lab.client, &waiting).await?["outcome"], "queued");
    let running = ended(&lab.client, &running, END_DEADLINE).await?;
    assert_eq!(running["outcome"], "applied", "{running}");
    let waiting = ended(&lab.client, &waiting, ABANDONED_DEADLINE).await?;
    assert_eq!(waiting["outcome"], "never_started", "{waiting}");
    assert_eq!(waiting["revision"], Value::Null);
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    // What was never started is history: the next one is proven as any.
    assert_eq!(
        lab.apply().await?.expect(200)?.json()?["outcome"],
        "unchanged"
    );
    Ok(())
}

#[tokio::test]
async fn an_orderly_stop_finishes_what_was_accepted() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let release = async {
        // Only what follows the signal shows anything.
        wait_until("the portal stops listening", END_DEADLINE, async || {
            tokio::net::TcpStream::connect(lab.portal.address())
                .await
                .is_err()
        })
        .await?;
        drop(hold);
        anyhow::Ok(())
    };
    lab.portal.signal(nix::sys::signal::Signal::SIGTERM)?;
    release.await?;
    lab.portal.stop().await?;
    let pool = lab.database.pool().await?;
    let outcome: String = sqlx::query_scalar("select outcome from apply where apply_id = $1")
        .bind(uuid::Uuid::parse_str(&id)?)
        .fetch_one(&pool)
        .await?;
    assert_eq!(outcome, "applied");
    Ok(())
}

/// Without the preference nothing changes, and other preferences are ignored.
#[tokio::test]
async fn without_the_preference_the_end_is_waited_for() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    let request = lab.client.request(Method::POST, "/apply");
    let reply = request.header("Prefer", "wait=100, return=minimal");
    let reply = reply.send().await?;
    assert_eq!(reply.header("preference-applied"), "");
    applied(&lab.client, reply).await?;
    Ok(())
}

/// A crowd that does not wait is bounded, and told when to come back.
#[tokio::test]
async fn too_many_accepted_applies_are_turned_away() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let mut taken = 0;
    let refused = loop {
        let reply = accept(&lab.client).await?;
        if reply.status != 202 {
            break reply;
        }
        taken += 1;
        anyhow::ensure!(taken <= 200, "there is no bound");
    };
    assert_eq!(refused.problem(503)?, "overloaded", "{refused}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(trail(&lab.client).await?.len(), taken + 1);
    lab.client.get("/users").await?.expect(200)?;
    drop(hold);
    Ok(())
}
