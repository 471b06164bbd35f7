//! `GET /applies/{id}/events`: an apply is followed live, whoever runs it and whatever restarts.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::events::{EventStream, ServerEvent};
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;
use uuid::Uuid;

use crate::audit::applied;
use crate::crowd::create_users;
use crate::respond_async::{accepted, look_up};
use crate::stand_in::{self, Reload, StandIn};

const DEADLINE: Duration = Duration::from_secs(30);

/// A stream that says nothing must not hold a test for minutes.
async fn in_time<T>(wait: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let ended = tokio::time::timeout(DEADLINE, wait).await;
    ended.context("the stream said nothing more")?
}

fn is_state(state: &'static str) -> impl Fn(&ServerEvent) -> bool {
    move |event| event.name == "state" && event.data["state"] == state
}

fn states(events: &[ServerEvent]) -> Vec<&str> {
    let states = events.iter().filter(|event| event.name == "state");
    states
        .filter_map(|event| event.data["state"].as_str())
        .collect()
}

/// The steps, whose ids must be their positions from `first` on.
fn steps(events: &[ServerEvent], first: u64) -> anyhow::Result<Vec<Value>> {
    let steps = events.iter().filter(|event| event.name == "step");
    let mut found = Vec::new();
    for (position, event) in (first..).zip(steps) {
        anyhow::ensure!(event.id == Some(position), "{event:?} at {position}");
        found.push(event.data.clone());
    }
    Ok(found)
}

fn the_end(events: &[ServerEvent]) -> anyhow::Result<&Value> {
    let last = events.last().context("no event")?;
    anyhow::ensure!(last.name == "ended", "{last:?}");
    let ends = events.iter().filter(|event| event.name == "ended").count();
    anyhow::ensure!(ends == 1, "{ends} ends");
    Ok(&last.data)
}

async fn resumed(client: &Client, id: &str, last: &str) -> anyhow::Result<EventStream> {
    let path = format!("/applies/{id}/events");
    let request = client.request(Method::GET, &path);
    request.header("Last-Event-ID", last).stream().await
}

/// Who follows from the beginning, who comes later and who comes back hear the same, and hear what
/// the audit trail keeps.
#[tokio::test]
async fn followers_hear_the_states_every_step_and_the_end() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    let mut first = lab.client.follow(&id).await?;
    hold.reached().await?;
    let mut heard = in_time(first.until(is_state("running"))).await?;
    assert_eq!(
        states(&heard),
        ["waiting", "rendering", "sending", "running"]
    );
    let mut late = lab.client.follow(&id).await?;
    drop(hold);
    heard.extend(in_time(first.rest()).await?);
    let late = in_time(late.rest()).await?;

    let kept = look_up(&lab.client, &id).await?;
    assert_eq!(kept["outcome"], "applied");
    for events in [&heard, &late] {
        assert_eq!(the_end(events)?, &kept);
        assert_eq!(json!(steps(events, 0)?), kept["steps"]);
    }
    // Long after: the same again, from the record.
    let again = in_time(lab.client.follow(&id).await?.rest()).await?;
    assert_eq!(json!(steps(&again, 0)?), kept["steps"]);
    assert_eq!((states(&again), the_end(&again)?), (Vec::new(), &kept));
    let back = in_time(resumed(&lab.client, &id, "2").await?.rest()).await?;
    let rest = kept["steps"].as_array().context("no steps")?[3..].to_vec();
    assert_eq!((steps(&back, 3)?, the_end(&back)?), (rest, &kept));
    Ok(())
}

/// Steps come while the apply runs, not only with its end; who comes back hears none twice.
#[tokio::test]
async fn steps_come_as_they_end() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Dialplan)?;
    let id = accepted(&lab.client).await?;
    let mut stream = lab.client.follow(&id).await?;
    hold.reached().await?;
    let reloaded = |event: &ServerEvent| {
        let action = event.data["action"].as_str().unwrap_or_default();
        event.name == "step" && action.contains("pjsip reload")
    };
    let heard = in_time(stream.until(reloaded)).await?;
    let known = heard.last().and_then(|event| event.id).context("no id")?;
    drop(stream);
    let mut back = resumed(&lab.client, &id, &known.to_string()).await?;
    assert_eq!(
        states(&in_time(back.until(is_state("running"))).await?),
        ["running"]
    );
    drop(hold);
    let rest = in_time(back.rest()).await?;
    let kept = look_up(&lab.client, &id).await?;
    let mut all = steps(&heard, 0)?;
    all.extend(steps(&rest, known + 1)?);
    assert_eq!(json!(all), kept["steps"]);
    assert_eq!(the_end(&rest)?, &kept);
    Ok(())
}

/// The agent lets only a few of them follow; the others hear every step all the same, as it ends.
#[tokio::test]
async fn a_crowd_hears_every_step_while_the_apply_runs() -> anyhow::Result<()> {
    const CROWD: usize = 10;
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(lab.client.follow(&id).await?);
    }
    let last = |event: &ServerEvent| event.data["action"] == "note that the files are switched";
    let mut heard = Vec::new();
    for follower in &mut crowd {
        heard.push(in_time(follower.until(last)).await?);
    }
    drop(hold);
    for (mut follower, mut heard) in crowd.into_iter().zip(heard) {
        heard.extend(in_time(follower.rest()).await?);
        let kept = look_up(&lab.client, &id).await?;
        assert_eq!(json!(steps(&heard, 0)?), kept["steps"]);
    }
    Ok(())
}

#[tokio::test]
async fn an_apply_of_another_portal_is_followed() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let other = lab.another_portal().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    let waits = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut stream = other.client()?.follow(&id).await?;
    let mut waiting = other.client()?.follow(&waits).await?;
    let mut heard = in_time(stream.until(is_state("started"))).await?;
    let mut heard_of_waiting = in_time(waiting.until(is_state("waiting"))).await?;
    drop(hold);
    heard.extend(in_time(stream.rest()).await?);
    heard_of_waiting.extend(in_time(waiting.rest()).await?);
    for (id, heard) in [(id, heard), (waits, heard_of_waiting)] {
        let kept = look_up(&lab.client, &id).await?;
        assert_eq!(the_end(&heard)?, &kept);
        assert_eq!(json!(steps(&heard, 0)?), kept["steps"]);
    }
    Ok(())
}

/// Followed through a portal that stays, while the one that runs it dies.
#[tokio::test]
async fn an_apply_is_followed_to_its_end_although_its_portal_dies() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let other = lab.another_portal().await?;
    let client = other.client()?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut stream = client.follow(&id).await?;
    in_time(stream.until(is_state("started"))).await?;
    lab.portal.kill();
    drop(hold);
    let wait = async {
        let heard = tokio::time::timeout(Duration::from_mins(1), stream.rest()).await;
        heard.context("nobody closed the row within a minute")?
    };
    let heard = wait.await?;
    assert_eq!(the_end(&heard)?["outcome"], "applied");
    assert_eq!(the_end(&heard)?, &look_up(&client, &id).await?);
    Ok(())
}

#[tokio::test]
async fn an_apply_is_followed_across_a_restart_of_the_agent() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut stream = lab.client.follow(&id).await?;
    in_time(stream.until(is_state("running"))).await?;
    lab.agent.kill();
    let mut heard = in_time(stream.until(is_state("agent_lost"))).await?;
    drop(hold);
    lab.agent.resume().await?;
    heard.extend(in_time(stream.rest()).await?);
    let kept = look_up(&lab.client, &id).await?;
    assert_eq!(the_end(&heard)?, &kept);
    assert!(kept["ended_at"].is_string(), "{kept}");
    Ok(())
}

/// The portal that runs the apply needs no database to tell of it.
#[tokio::test]
async fn an_apply_is_followed_while_the_database_is_away() -> anyhow::Result<()> {
    let stand_in = StandIn::new()?;
    let mut cluster = Cluster::temporary().await?;
    let lab = Lab::builder()
        .database(TestDatabase::create_in(&cluster).await?)
        .agent_env("ASTERISK_BINARY", &stand_in.program())
        .start()
        .await?;
    create_users(&lab.client, 2).await?;
    let other = lab.another_portal().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut elsewhere = other.client()?.follow(&id).await?;
    in_time(elsewhere.until(is_state("started"))).await?;
    cluster.stop().await?;
    let mut stream = lab.client.follow(&id).await?;
    in_time(stream.until(is_state("running"))).await?;
    in_time(elsewhere.until(is_state("database_lost"))).await?;
    drop(hold);
    let heard = in_time(stream.rest()).await?;
    assert_eq!(the_end(&heard)?["outcome"], "applied");
    cluster.start().await?;
    let elsewhere = in_time(elsewhere.rest()).await?;
    let kept = look_up(&lab.client, &id).await?;
    assert_eq!(the_end(&elsewhere)?, &kept);
    assert_eq!(the_end(&heard)?["steps"], kept["steps"]);
    Ok(())
}

#[tokio::test]
async fn an_orderly_stop_ends_the_streams_and_they_go_on_afterwards() -> anyhow::Result<()> {
    let (mut lab, stand_in) = stand_in::lab().await?;
    let other = lab.another_portal().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&other.client()?).await?;
    hold.reached().await?;
    let mut stream = lab.client.follow(&id).await?;
    in_time(stream.until(is_state("started"))).await?;
    let (ended, stopped) = tokio::join!(in_time(stream.rest()), lab.portal.stop());
    stopped?;
    let ended = ended?;
    assert!(ended.iter().all(|event| event.name != "ended"), "{ended:?}");
    lab.portal.resume().await?;
    let mut again = lab.client.follow(&id).await?;
    drop(hold);
    let heard = in_time(again.rest()).await?;
    assert_eq!(the_end(&heard)?["outcome"], "applied");
    Ok(())
}

/// Streams are bounded; one whose client goes away makes room.
#[tokio::test]
async fn streams_are_bounded_and_end_with_their_clients() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    let mut streams = Vec::new();
    let path = format!("/applies/{id}/events");
    let refused = loop {
        match lab.client.follow(&id).await {
            Ok(stream) => streams.push(stream),
            Err(_) => break lab.client.get(&path).await?,
        }
        anyhow::ensure!(streams.len() <= 200, "there is no bound");
    };
    assert_eq!(refused.problem(503)?, "overloaded", "{refused}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    // A bound at work is no fault of anything.
    let log = lab.portal.log();
    let told = |level: &str| {
        let mut lines = log.lines();
        lines.any(|line| line.contains("are being followed") && line.contains(level))
    };
    assert!(told("WARN") && !told("ERROR"), "{log}");
    drop(streams);
    wait_until("there is room again", DEADLINE, async || {
        lab.client.follow(&id).await.is_ok()
    })
    .await?;
    drop(hold);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_followed_is_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let path = format!("/applies/{}/events", Uuid::from_u128(7));
    let unknown = lab.client.get(&path).await?;
    assert_eq!(unknown.problem(404)?, "apply_not_found");
    assert_eq!(
        lab.client.get("/applies/x/events").await?.problem(400)?,
        "malformed_id"
    );
    for bad in ["x", "-1", "4294967295"] {
        let request = lab.client.request(Method::GET, &path);
        let reply = request.header("Last-Event-ID", bad).send().await?;
        assert_eq!(reply.problem(400)?, "invalid_header", "{bad}");
    }
    Ok(())
}

/// An apply whose caller waits is followed as well, once the list shows it.
#[tokio::test]
async fn an_apply_that_is_waited_for_is_followed_too() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let follow = async {
        hold.reached().await?;
        let newest = lab.client.get("/applies?limit=1").await?.json()?;
        let id = newest[0]["id"].as_str().context("no id")?.to_owned();
        let mut stream = lab.client.follow(&id).await?;
        in_time(stream.until(is_state("running"))).await?;
        drop(hold);
        in_time(stream.rest()).await
    };
    let (reply, heard) = tokio::join!(lab.apply(), follow);
    let attempt = applied(&lab.client, reply?).await?;
    assert_eq!(the_end(&heard?)?, &attempt);
    Ok(())
}
