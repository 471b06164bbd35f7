//! Words that this version does not know, of a portal that is newer: they are shown as they came.

use anyhow::ensure;
use serde_json::{Value, json};

use super::canned::{Answer, Desk};
use super::ended;

const ID: &str = "01900000-0000-7000-8000-000000000009";
const AT: &str = "2026-11-21T03:45:12Z";

fn step() -> Value {
    json!({ "phase": "rehearsing", "action": "a", "started_at": AT, "duration_ms": 1.5, "ok": true,
        "said": "" })
}

fn attempt(outcome: &str) -> Value {
    let mismatch = json!({ "object": "trunk", "name": "t", "kind": "stale", "detail": "d" });
    json!({
        "id": ID, "pbx_id": ID, "pbx": "default", "outcome": outcome, "revision": 1, "digest": null,
        "on_reload_failure": "ask_somebody", "requested_by": "ann", "request_id": "r",
        "source_address": "192.0.2.1", "started_at": AT, "ended_at": AT, "failure": null,
        "steps": [step()], "files": [], "reloads": [], "mismatches": [mismatch], "notes": [],
        "live_revision": 1, "changes": null, "restored_from": null, "restorable": true,
        "change_count": 0, "user_count": 1, "carried": [], "new_field": {},
    })
}

fn user() -> Value {
    let forward = json!({ "always": null, "busy": null, "no_answer": null, "unregistered": null,
        "delay_seconds": 25 });
    json!({
        "id": ID, "tenant_id": ID, "name": "Ann", "email": "ann@example.org", "extension": 1000,
        "status": "on_leave", "role": "receptionist", "outbound_caller_id": null,
        "voicemail": { "enabled": false, "pin_set": false }, "dnd": false, "call_forward": forward,
        "metadata": {}, "created_at": AT, "updated_at": AT,
    })
}

fn status() -> Value {
    let file = json!({ "slot": "queues", "path": null, "verdict": "quarantined", "wanted": null,
        "last_applied": null, "on_disk": null, "problem": null, "loaded": null,
        "loaded_detail": null });
    let pending = json!({ "differs": false, "user_count": 1, "changes": null, "in_force": null });
    json!([{
        "id": ID, "name": "default", "degraded": false, "reasons": [],
        "warnings": [{ "code": "leap_second", "message": "m" }], "agent": "sleepy",
        "agent_detail": "d", "asterisk": null, "wanted_digest": null, "wanted_problem": null,
        "files": [file], "pending": pending, "last_attempt": null, "last_proven": null,
        "active": null, "running": null, "open": [], "queued": 0, "drift": null,
        "foreign_files": [], "safe_mode": null, "certificates": [], "counters": {},
    }])
}

fn imported() -> Value {
    let line = json!({ "line": 2, "outcome": "merged", "id": null, "key": "ann@example.org",
        "extension": 1000, "changes": [], "errors": [], "sip": null });
    json!({ "mode": "all_or_nothing", "preview": true, "lines": [line],
        "counts": { "created": 0, "changed": 0, "unchanged": 0, "refused": 0, "merged": 1 } })
}

/// Each command, what is answered, and the words that must be seen.
#[tokio::test]
async fn words_of_a_newer_portal_are_shown_as_they_came() -> anyhow::Result<()> {
    let shown = attempt("applied_later");
    for (command, answer, words) in [
        (&["history"][..], json!([shown]), &["applied_later"][..]),
        (
            &["history", ID],
            shown.clone(),
            &["applied_later", "rehearsing", "stale: trunk t: d"],
        ),
        (
            &["status"],
            status(),
            &["queues", "quarantined", "leap_second", "sleepy"],
        ),
        (
            &["user", "list"],
            json!([user()]),
            &["on_leave", "receptionist"],
        ),
        (&["user", "show", ID], user(), &["on_leave", "receptionist"]),
        (
            &["user", "import", "users.csv", "--preview"],
            imported(),
            &["merged"],
        ),
    ] {
        let desk = Desk::new(vec![Answer::Whole(200, answer.to_string())]).await?;
        let output = desk.run(command).await?;
        ended(&output, 0)?;
        for word in words {
            ensure!(output.stdout.contains(word), "{word}: {}", output.stdout);
        }
    }
    Ok(())
}

#[tokio::test]
async fn an_apply_of_a_newer_portal_is_followed() -> anyhow::Result<()> {
    let mut accepted = attempt("queued");
    accepted["applies"] = json!([{ "pbx_id": ID, "pbx": "default", "apply_id": ID, "revision": 1,
        "outcome": "queued", "failure": null, "skipped": null }]);
    let state = json!({ "state": "dreaming\u{1b}[2J", "at": AT });
    let events = format!(
        "event: state\ndata: {state}\n\nevent: step\nid: 1\ndata: {}\n\nevent: omen\ndata: 1\n\n\
         event: ended\ndata: {{}}\n\n",
        step()
    );
    let answers = vec![
        Answer::Whole(202, accepted.to_string()),
        Answer::Whole(200, events),
        Answer::Whole(200, attempt("applied_later").to_string()),
    ];
    let desk = Desk::new(answers).await?;
    let output = desk.run(&["apply"]).await?;
    // What it does not know to be in force is not.
    ended(&output, 6)?;
    for word in ["dreaming\\u{1b}[2J", "rehearsing", "applied_later"] {
        ensure!(output.stdout.contains(word), "{word}: {}", output.stdout);
    }
    Ok(())
}

/// Nobody shows it again.
#[tokio::test]
async fn a_password_is_printed_however_it_comes() -> anyhow::Result<()> {
    let body = r#"{"account":{"secret":"k0Rr3nBb"}}"#;
    for command in [
        &["user", "create", "--name", "A", "--email", "a@example.org"][..],
        &["device", "reveal", ID],
        &["token", "create", "--name", "t", "--scopes", "users.read"],
    ] {
        let desk = Desk::new(vec![Answer::Whole(201, body.to_owned())]).await?;
        let output = desk.run(command).await?;
        ended(&output, 1)?;
        ensure!(output.stdout.contains("k0Rr3nBb"), "{}", output.stdout);
    }
    Ok(())
}

/// With `--json` what came is printed, whether it is understood or not.
#[tokio::test]
async fn what_is_not_understood_is_still_printed() -> anyhow::Result<()> {
    for command in [&["status"][..], &["preview"], &["user", "list"]] {
        let body = r#"[{"of_a_newer_portal":true}]"#;
        let answer = || Answer::Whole(200, body.to_owned());
        let desk = Desk::new(vec![answer(), answer()]).await?;
        let output = desk.run(command).await?;
        ended(&output, 1)?;
        ensure!(output.stderr.contains("or --json"), "{}", output.stderr);
        let output = desk.run(&[command, &["--json"]].concat()).await?;
        assert_eq!(output.stdout.trim(), body);
    }
    Ok(())
}
