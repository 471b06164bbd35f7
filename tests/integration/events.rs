//! `GET /events`: what happened to the PBX apart from applies, each once.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::bundle::Slot;
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;
use tests::process::wait_until;
use tests::scratch;

const DEADLINE: Duration = Duration::from_secs(30);

/// The events of a kind, the newest first.
pub(crate) async fn of_kind(client: &Client, kind: &str) -> anyhow::Result<Vec<Value>> {
    let path = format!("/events?limit=200&kind={kind}");
    let events = client.get(&path).await?.expect(200)?.json()?;
    events.as_array().cloned().context("no array")
}

/// Waits for `count` events of a kind.
pub(crate) async fn wait_for(
    client: &Client,
    kind: &str,
    count: usize,
) -> anyhow::Result<Vec<Value>> {
    let mut events = Vec::new();
    let what = format!("{count} events {kind}");
    wait_until(&what, DEADLINE, async || {
        events = of_kind(client, kind).await.unwrap_or_default();
        events.len() >= count
    })
    .await?;
    Ok(events)
}

/// Two portals see the agent go and come back; each of that is told once.
#[tokio::test]
async fn an_agent_that_goes_and_comes_back_is_told_once_by_two_portals() -> anyhow::Result<()> {
    let mut lab = Lab::builder()
        .portal_env("MONITOR_PERIOD_MS", "200")
        .start()
        .await?;
    let other = lab.another_portal().await?;
    let client = other.client()?;
    for round in 1..=3 {
        lab.agent.kill();
        wait_for(&lab.client, "agent_unreachable", round).await?;
        // Both have noticed when both say so.
        for client in [&lab.client, &client] {
            let failures = async || {
                let status = client
                    .get("/apply/status")
                    .await
                    .and_then(|reply| reply.json());
                let failures = status.map(|body| {
                    let name = "pbx_portal_monitor_failures_total";
                    body[0]["counters"][name].as_u64().unwrap_or_default()
                });
                failures.is_ok_and(|failures| failures >= 2 * round as u64)
            };
            wait_until("the portal has noticed", DEADLINE, failures).await?;
        }
        lab.agent.resume().await?;
        wait_for(&client, "agent_back", round).await?;
        assert_eq!(of_kind(&client, "agent_unreachable").await?.len(), round);
        assert_eq!(of_kind(&client, "agent_back").await?.len(), round);
    }
    // In turn, and with words.
    let all = lab.client.get("/events").await?.json()?;
    let kinds: Vec<&Value> = all
        .as_array()
        .context("no array")?
        .iter()
        .map(|e| &e["kind"])
        .collect();
    let turns: Vec<&Value> = kinds
        .into_iter()
        .filter(|k| k.to_string().contains("agent_"))
        .collect();
    let expected = [json!("agent_back"), json!("agent_unreachable")];
    assert_eq!(turns, expected.iter().cycle().take(6).collect::<Vec<_>>());
    let away = of_kind(&client, "agent_unreachable").await?;
    assert!(
        away[0]["detail"].to_string().contains("cannot be reached"),
        "{away:?}"
    );
    Ok(())
}

#[tokio::test]
async fn events_are_paged_and_filtered() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let away = wait_for(&lab.client, "agent_unreachable", 1).await?;
    let pool = lab.database.pool().await?;
    sqlx::query(
        "insert into pbx_event (pbx_id, kind, detail, at)
         select pbx_id, 'drift_found', 'n' || n, now() from pbx, generate_series(1, 7) n",
    )
    .execute(&pool)
    .await?;
    let mut seen = Vec::new();
    let mut path = Some("/events?limit=3".to_owned());
    while let Some(at) = path {
        let reply = lab.client.get(&at).await?.expect(200)?;
        let page = reply.json()?;
        seen.extend(page.as_array().cloned().context("no array")?);
        path = reply.next().map(str::to_owned);
    }
    let details: Vec<&str> = seen.iter().filter_map(|e| e["detail"].as_str()).collect();
    assert_eq!(details[..7], ["n7", "n6", "n5", "n4", "n3", "n2", "n1"]);
    assert_eq!(seen[7], away[0]);
    assert_eq!(of_kind(&lab.client, "drift_found").await?.len(), 7);
    for bad in ["kind=x", "cursor=x", "limit=0", "limit=201", "y=1"] {
        let reply = lab.client.get(&format!("/events?{bad}")).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{bad}");
    }
    Ok(())
}

/// What happens all day pushes out its own kind only.
#[tokio::test]
async fn the_newest_of_each_kind_are_kept() -> anyhow::Result<()> {
    let mut lab = Lab::builder()
        .portal_env("MONITOR_PERIOD_MS", "200")
        .start()
        .await?;
    let pool = lab.database.pool().await?;
    sqlx::query(
        "insert into pbx_event (pbx_id, kind, detail, at)
         select pbx_id, kind, 'n' || n, now() from pbx, generate_series(1, 10000) n,
            (values ('drift_found'), ('agent_unreachable')) kinds (kind)",
    )
    .execute(&pool)
    .await?;
    // The last word must be the other one, or there is nothing to tell.
    sqlx::query(
        "insert into pbx_event (pbx_id, kind, detail, at)
         select pbx_id, 'agent_back', '', now() from pbx",
    )
    .execute(&pool)
    .await?;
    let count = async |kind: &'static str| -> anyhow::Result<i64> {
        let count = sqlx::query_scalar("select count(*) from pbx_event where kind = $1");
        Ok(count.bind(kind).fetch_one(&pool).await?)
    };
    lab.agent.kill();
    let newest = async || {
        let events = of_kind(&lab.client, "agent_unreachable")
            .await
            .unwrap_or_default();
        events
            .first()
            .is_some_and(|event| event["detail"] != "n10000")
    };
    wait_until("the new one is recorded", DEADLINE, newest).await?;
    assert_eq!(count("agent_unreachable").await?, 10_000);
    assert_eq!(count("drift_found").await?, 10_000);
    Ok(())
}

/// Each event of the agent stands there once, although two portals see all of them, and again after
/// they were started anew.
#[tokio::test]
async fn an_event_of_the_agent_is_recorded_once_by_two_portals() -> anyhow::Result<()> {
    let lab = Lab::builder().portal_env("MONITOR_PERIOD_MS", "100");
    let mut lab = lab.start().await?;
    let mut other = lab.another_portal().await?;
    let beside = lab.asterisk.slot(Slot::PjsipEndpoints);
    for round in 1..=5 {
        let foreign = beside.with_file_name(format!("foreign{round}.conf"));
        scratch::write(&foreign, 0o644, "; nothing\n")?;
        wait_for(&lab.client, "foreign_file_found", round).await?;
        std::fs::remove_file(&foreign)?;
        wait_for(&lab.client, "foreign_file_gone", round).await?;
    }
    // Whoever starts anew has forgotten what it recorded, the database has not.
    for portal in [&mut lab.portal, &mut other] {
        portal.stop().await?;
        portal.resume().await?;
    }
    let polls = async || {
        let status = lab
            .client
            .get("/apply/status")
            .await
            .and_then(|reply| reply.json());
        let name = "pbx_portal_monitor_polls_total";
        status.is_ok_and(|body| body[0]["counters"][name].as_u64() > Some(5))
    };
    wait_until("the portal has looked again", DEADLINE, polls).await?;
    for kind in ["foreign_file_found", "foreign_file_gone"] {
        let events = of_kind(&lab.client, kind).await?;
        assert_eq!(events.len(), 5, "{kind}: {events:#?}");
    }
    // In the order in which it happened, the newest first.
    let found = of_kind(&lab.client, "foreign_file_found").await?;
    assert!(
        found[0]["detail"].to_string().contains("foreign5"),
        "{found:#?}"
    );
    Ok(())
}

/// A certificate that ends soon is told once, by readiness, status and the audit trail.
#[tokio::test]
async fn certificates_that_end_are_told_in_good_time() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .portal_env("CERT_WARNING_DAYS", "3650")
        .portal_env("MONITOR_PERIOD_MS", "200")
        .start()
        .await?;
    let other = lab.another_portal().await?;
    let events = wait_for(&lab.client, "certificate_expiring", 1).await?;
    assert!(
        events[0]["detail"]
            .to_string()
            .contains("certificate ends on"),
        "{events:?}"
    );
    let ready = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    assert!(
        ready["warnings"]
            .to_string()
            .contains("portal certificate ends on"),
        "{ready}"
    );
    let status = other.client()?.get("/apply/status").await?.json()?;
    assert!(
        status[0]["warnings"]
            .to_string()
            .contains("portal certificate ends on"),
        "{status}"
    );
    assert_eq!(status[0]["degraded"], false, "{status}");
    Ok(())
}
