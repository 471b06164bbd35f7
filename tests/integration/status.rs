//! `GET /apply/status`: what is wanted, applied, on disk and loaded, and what that means.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use shared::bundle::Slot;
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;
use tests::process::wait_until;
use tests::scratch;

use crate::audit::{applied, trail};
use crate::crowd::create_users;
use crate::events::{of_kind, wait_for};
use crate::preview::preview;
use crate::respond_async::accepted;
use crate::stand_in::{self, Reload};

const DEADLINE: Duration = Duration::from_secs(20);

/// The status of the one PBX.
pub(crate) async fn status(client: &Client) -> anyhow::Result<Value> {
    let body = client.get("/apply/status").await?.expect(200)?.json()?;
    anyhow::ensure!(body.as_array().map(Vec::len) == Some(1), "{body}");
    Ok(body[0].clone())
}

/// The codes of what is warned of, in a status or in an answer of readiness; but that nobody signs
/// in, as in most tests, is no matter of a PBX.
pub(crate) fn warning_codes(body: &Value) -> Vec<&str> {
    let warnings = body["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    let codes = warnings
        .iter()
        .filter_map(|warning| warning["code"].as_str());
    codes.filter(|code| *code != "trusted_network").collect()
}

#[tokio::test]
async fn without_an_agent_the_database_tells_what_it_knows() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 2).await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    lab.agent.kill();
    let state = status(&lab.client).await?;
    assert_eq!(state["agent"], "unreachable", "{state}");
    assert_eq!(
        (&state["degraded"], &state["name"]),
        (&json!(true), &json!("default"))
    );
    assert!(
        state["reasons"][0]
            .to_string()
            .contains("cannot be reached"),
        "{state}"
    );
    assert_eq!(state["last_attempt"]["id"], attempt["id"]);
    assert_eq!(state["last_proven"]["outcome"], "applied");
    assert_eq!(state["wanted_digest"], attempt["digest"]);
    for (file, written) in [0, 1].map(|n| (&state["files"][n], &attempt["files"][n])) {
        assert_eq!(file["verdict"], "unknown", "{file}");
        assert_eq!(file["wanted"]["sha256"], written["sha256"]);
        assert_eq!(file["last_applied"]["sha256"], written["sha256"]);
        assert_eq!(file["last_applied"]["apply_id"], attempt["id"]);
        assert_eq!(
            (&file["on_disk"], &file["loaded"]),
            (&Value::Null, &Value::Null)
        );
    }
    let counter = "pbx_portal_applies_applied_total";
    assert_eq!(state["counters"][counter], 1, "{state}");
    Ok(())
}

#[tokio::test]
async fn before_the_first_apply_nothing_is_applied() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let state = status(&lab.client).await?;
    for field in ["last_attempt", "last_proven", "running", "active", "drift"] {
        assert_eq!(state[field], Value::Null, "{field}");
    }
    assert_eq!(state["open"], json!([]));
    assert_eq!(state["files"][0]["last_applied"], Value::Null);
    assert!(state["files"][1]["wanted"]["generation"].is_string());
    Ok(())
}

fn verdicts(state: &Value) -> [&str; 2] {
    [0, 1].map(|n| state["files"][n]["verdict"].as_str().unwrap_or_default())
}

/// Everything, with a portal that looks at its agent several times a second.
async fn watched() -> anyhow::Result<Lab> {
    let lab = Lab::builder().portal_env("MONITOR_PERIOD_MS", "300");
    let lab = lab.start().await?;
    create_users(&lab.client, 2).await?;
    applied(&lab.client, lab.apply().await?).await?;
    Ok(lab)
}

/// Replaces a live file in place, as an editor would.
pub(crate) fn edit(
    lab: &Lab,
    slot: Slot,
    change: impl FnOnce(&str) -> String,
) -> anyhow::Result<String> {
    let path = lab.asterisk.slot(slot);
    let old = std::fs::read_to_string(&path)?;
    // In one go: half an edit would be another drift than the whole one.
    scratch::write(&path, 0o644, &change(&old))?;
    Ok(old)
}

#[tokio::test]
async fn each_file_is_in_sync_after_an_apply_and_pending_after_a_change() -> anyhow::Result<()> {
    let lab = watched().await?;
    let state = status(&lab.client).await?;
    assert_eq!(verdicts(&state), ["in_sync", "in_sync"], "{state}");
    assert_eq!(
        (&state["degraded"], &state["reasons"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(state["pending"]["differs"], false, "{state}");
    for file in [&state["files"][0], &state["files"][1]] {
        assert_eq!(file["on_disk"]["sha256"], file["wanted"]["sha256"]);
        assert_eq!(file["loaded"]["generation"], file["wanted"]["generation"]);
        assert_eq!(file["loaded"]["revision"], 1, "{file}");
        assert_eq!(file["last_applied"]["requested_by"], "trusted-network");
    }
    assert_eq!(
        (&state["active"]["revision"], &state["running"]),
        (&json!(1), &Value::Null)
    );
    let ends: Vec<&Value> = state["certificates"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|certificate| &certificate["name"])
        .collect();
    for name in ["portal certificate", "agent certificate", "CA certificate"] {
        assert!(ends.contains(&&json!(name)), "{name}: {ends:?}");
    }
    for counter in [
        "pbx_portal_monitor_polls_total",
        "pbx_agent_drift_checks_total",
    ] {
        assert!(
            state["counters"][counter].as_u64() > Some(0),
            "{counter}: {state}"
        );
    }

    lab.create_user("Late", "late@example.org").await?;
    let state = status(&lab.client).await?;
    assert_eq!(
        verdicts(&state),
        ["pending_changes", "pending_changes"],
        "{state}"
    );
    assert_eq!(state["degraded"], false, "{state}");
    assert_eq!(state["pending"]["differs"], true);
    assert_eq!(state["pending"]["changes"]["users"]["added"], 1);
    Ok(())
}

/// The watch finds it, status and readiness say it, the audit trail keeps it, the next apply ends it.
#[tokio::test]
async fn a_hand_edit_is_drift_until_the_next_apply() -> anyhow::Result<()> {
    let lab = watched().await?;
    edit(&lab, Slot::DialplanRouting, |old| {
        format!("{old}; by hand\n")
    })?;
    let found = wait_for(&lab.client, "drift_found", 1).await?;
    let detail = found[0]["detail"].to_string();
    assert!(detail.contains("generated_routing.conf"), "{detail}");
    let state = status(&lab.client).await?;
    assert_eq!(verdicts(&state), ["in_sync", "drifted"], "{state}");
    assert!(
        state["reasons"]
            .to_string()
            .contains("is not what was applied"),
        "{state}"
    );
    assert!(state["drift"]["since"].is_string(), "{state}");
    let ready = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    assert!(
        ready["warnings"]
            .to_string()
            .contains("generated_routing.conf"),
        "{ready}"
    );
    for body in [&state, &ready] {
        assert_eq!(warning_codes(body), ["drift"], "{body}");
    }

    // The data did not change, the file did: it is put back.
    applied(&lab.client, lab.apply().await?).await?;
    let over = wait_for(&lab.client, "drift_overwritten", 1).await?;
    assert!(over[0]["detail"].to_string().contains("drift/"), "{over:?}");
    let state = status(&lab.client).await?;
    assert_eq!(verdicts(&state), ["in_sync", "in_sync"], "{state}");
    assert_eq!(state["drift"]["since"], Value::Null);
    assert_eq!(of_kind(&lab.client, "drift_found").await?.len(), 1);
    Ok(())
}

/// The disk is as it should be, but Asterisk has read something else.
#[tokio::test]
async fn what_asterisk_has_read_meanwhile_is_not_loaded() -> anyhow::Result<()> {
    let lab = watched().await?;
    let state = status(&lab.client).await?;
    let generation = state["files"][0]["wanted"]["generation"].as_str();
    let generation = generation.context("no generation")?.to_owned();
    let old = edit(&lab, Slot::PjsipEndpoints, |old| {
        old.replace(&generation, "g-ffffffffffffffff")
    })?;
    lab.asterisk.rx("pjsip reload").await?;
    edit(&lab, Slot::PjsipEndpoints, |_| old)?;
    let held = async || {
        let state = status(&lab.client).await.unwrap_or_default();
        state["files"][0]["loaded"]["generation"] == "g-ffffffffffffffff"
    };
    wait_until("the reload is over", DEADLINE, held).await?;
    let state = status(&lab.client).await?;
    assert_eq!(verdicts(&state), ["not_loaded", "in_sync"], "{state}");
    assert_eq!(state["degraded"], true);
    assert!(
        state["reasons"].to_string().contains("does not hold"),
        "{state}"
    );
    Ok(())
}

#[tokio::test]
async fn the_running_apply_is_named() -> anyhow::Result<()> {
    let (lab, stand_in) = stand_in::lab().await?;
    let hold = stand_in.hold(Reload::Pjsip)?;
    let id = accepted(&lab.client).await?;
    hold.reached().await?;
    accepted(&lab.client).await?;
    let state = status(&lab.client).await?;
    assert_eq!(state["running"]["id"], json!(id), "{state}");
    assert_eq!(state["running"]["requested_by"], "anna");
    assert_eq!(
        (&state["open"][0]["id"], &state["queued"]),
        (&json!(id), &json!(1))
    );
    assert_eq!(state["last_attempt"]["outcome"], "started");
    // What may be in force besides is open, but nothing has ended and nothing is wrong.
    assert_eq!(state["pending"]["in_force"]["certain"], false, "{state}");
    assert_eq!(warning_codes(&state), [""; 0], "{state}");
    let notes = preview(&lab.client).await?["notes"].to_string();
    assert!(
        notes.contains(&id) && notes.contains("has begun") && !notes.contains("ended"),
        "{notes}"
    );
    drop(hold);
    Ok(())
}

/// Refused before anything was sent, so it hides nothing of what was.
#[tokio::test]
async fn an_apply_that_never_began_does_not_hide_the_last_one_that_did() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    let body = json!({ "expected_digest": "00".repeat(32) });
    let refused = lab.client.post("/apply", &body).await?;
    assert_eq!(refused.problem(412)?, "preview_outdated");
    let state = status(&lab.client).await?;
    assert_eq!(state["last_attempt"]["id"], attempt["id"], "{state}");
    assert_eq!(state["degraded"], false, "{state}");
    let newest = trail(&lab.client).await?[0].clone();
    assert_eq!(newest["id"], refused.json()?["apply"]["id"]);
    Ok(())
}

#[tokio::test]
async fn a_foreign_file_is_told_when_it_comes_and_when_it_goes() -> anyhow::Result<()> {
    let lab = watched().await?;
    let beside = lab
        .asterisk
        .slot(Slot::PjsipEndpoints)
        .with_file_name("foreign.conf");
    scratch::write(&beside, 0o644, "; nothing\n")?;
    wait_for(&lab.client, "foreign_file_found", 1).await?;
    let state = status(&lab.client).await?;
    assert!(
        state["foreign_files"].to_string().contains("foreign.conf"),
        "{state}"
    );
    let ready = lab.client.get("/health/ready").await?.expect(200)?.json()?;
    assert!(
        ready["warnings"].to_string().contains("foreign.conf"),
        "{ready}"
    );
    assert!(warning_codes(&ready).contains(&"foreign_file"), "{ready}");
    std::fs::remove_file(&beside)?;
    wait_for(&lab.client, "foreign_file_gone", 1).await?;
    Ok(())
}
