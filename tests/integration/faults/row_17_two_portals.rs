//! Row 17: two portals, fifty applies at once. They run one after another, whichever portal they come
//! from (FR-018, SC-009).

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tests::lab::{Lab, create_user};
use tests::portal::{Client, Portal};
use tests::process::wait_until;

use crate::audit::{assert_one_after_another, audited, included, steps, trail};
use crate::crowd::{at_once, create_users};
use crate::held::assert_exactly;

/// How many applies come at once, half of them to each portal.
const APPLIES: usize = 50;

#[tokio::test]
async fn fifty_applies_on_two_portals_run_strictly_one_after_another() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .portal_env("APPLY_LOCK_WAIT_MS", "240000")
        .start()
        .await?;
    let other = lab.another_portal().await?;
    let clients = [lab.client.clone(), other.client()?];
    // Each brings a user of its own, so that hardly two bundles are equal.
    let apply = move |number: usize| {
        let client = clients[number % 2].clone();
        async move {
            let email = format!("user{number}@example.org");
            let own = create_user(&client, "User", &email).await?;
            let request = client.request(reqwest::Method::POST, "/apply");
            let reply = request
                .header("X-Admin-User", &format!("admin {number}"))
                .send()
                .await?;
            let attempt = audited(&client, &reply.expect(200)?).await?;
            assert_eq!(attempt["requested_by"], format!("admin {number}"));
            assert!(
                included(&attempt).contains(&own.extension),
                "its own user is missing"
            );
            Ok(attempt)
        }
    };
    let attempts = at_once(APPLIES, APPLIES, apply).await;
    let mut attempts = attempts.with_context(|| complaints(&[&lab.portal, &other]))?;
    attempts.sort_by_key(|attempt| attempt["revision"].as_u64());

    let revisions: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["revision"].as_u64())
        .collect();
    assert_eq!(
        revisions,
        (1..=50).map(Some).collect::<Vec<_>>(),
        "each once, none lost"
    );
    assert_one_after_another(&attempts)?;
    for attempt in &attempts {
        assert!(["applied", "unchanged"].contains(&attempt["outcome"].as_str().unwrap_or("")));
        assert_eq!(attempt["live_revision"], attempt["revision"]);
        assert!(!steps(attempt).is_empty());
    }
    // Snapshots were taken in the order of the revisions too: nobody ever vanished again.
    for pair in attempts.windows(2) {
        let [earlier, later] = [&pair[0], &pair[1]].map(included);
        assert!(
            earlier.iter().all(|number| later.contains(number)),
            "{earlier:?} {later:?}"
        );
    }

    // The audit trail holds each of them, and Asterisk the last.
    let mut kept: Vec<String> = trail(&lab.client).await?.iter().map(id).collect();
    let mut told: Vec<String> = attempts.iter().map(id).collect();
    kept.sort();
    told.sort();
    assert_eq!(kept, told);
    assert_exactly(&lab.asterisk, 1000..1050).await
}

/// What portals warned of: a reply says little of a database in trouble.
fn complaints(portals: &[&Portal]) -> String {
    let logs = portals.iter().map(|portal| portal.log());
    let all = logs.collect::<Vec<_>>().join("\n");
    let complaint = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    all.lines().filter(complaint).collect::<Vec<_>>().join("\n")
}

fn id(attempt: &Value) -> String {
    attempt["id"].as_str().unwrap_or_default().to_owned()
}

const START_DEADLINE: Duration = Duration::from_secs(20);

/// Waits until an apply has been sent to the agent, and returns its id.
async fn running(client: &Client) -> anyhow::Result<String> {
    let mut found = String::new();
    wait_until("an apply is running", START_DEADLINE, async || {
        let trail = trail(client).await.unwrap_or_default();
        let started = trail.iter().find(|attempt| attempt["outcome"] == "started");
        found = started.map(id).unwrap_or_default();
        !found.is_empty()
    })
    .await?;
    Ok(found)
}

#[tokio::test]
async fn an_apply_that_waits_too_long_is_told_which_one_runs() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .portal_env("APPLY_LOCK_WAIT_MS", "200")
        .start()
        .await?;
    let other = lab.another_portal().await?;
    create_users(&lab.client, 1).await?;
    // Asterisk says nothing until it is told to go on: the first apply lasts as long as we like.
    lab.asterisk.freeze()?;
    let first = tokio::spawn({
        let client = lab.client.clone();
        async move { client.post_nothing("/apply").await }
    });
    let running = running(&lab.client).await?;
    // Behind a portal of its own, and behind the same one.
    for client in [other.client()?, lab.client.clone()] {
        let reply = client.post_nothing("/apply").await?;
        assert_eq!(reply.problem(409)?, "apply_busy");
        let detail = reply.json()?["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(detail.contains(&running), "which one runs? {detail}");
        let attempt = audited(&client, &reply).await?;
        assert_eq!(attempt["outcome"], "busy");
        assert_eq!(
            (&attempt["revision"], steps(&attempt).len()),
            (&Value::Null, 0)
        );
        assert_ne!(attempt["id"], running.as_str());
    }
    lab.asterisk.thaw()?;
    let first = audited(&lab.client, &first.await??.expect(200)?).await?;
    assert_eq!(
        (id(&first), &first["outcome"]),
        (running, &Value::from("applied"))
    );
    assert_eq!(first["revision"], 1, "those who waited took no revision");
    assert_eq!(trail(&lab.client).await?.len(), 3);
    assert_exactly(&lab.asterisk, [1000]).await
}

#[tokio::test]
async fn an_apply_goes_on_when_its_client_goes_away() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    lab.asterisk.freeze()?;
    let impatient = tokio::spawn({
        let client = lab.client.clone();
        async move { client.post_nothing("/apply").await.map(drop) }
    });
    let running = running(&lab.client).await?;
    impatient.abort();
    assert!(impatient.await.is_err_and(|error| error.is_cancelled()));
    lab.asterisk.thaw()?;
    let path = format!("/applies/{running}");
    wait_until("the apply has ended", START_DEADLINE, async || {
        let reply = lab.client.get(&path).await.and_then(|reply| reply.json());
        reply.is_ok_and(|attempt| attempt["outcome"] == "applied")
    })
    .await?;
    assert_exactly(&lab.asterisk, [1000]).await
}
