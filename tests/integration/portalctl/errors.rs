//! What is refused, and how that is said.

use anyhow::ensure;
use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::canned::{Answer, Desk};
use super::{Terminal, ended};

#[tokio::test]
async fn a_problem_names_each_field_and_what_to_do() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let create = [
        "user", "create", "--name", "", "--email", "nope", "--role", "king",
    ];
    let said = terminal.fails(5, &create).await?;
    for part in [
        "error: Invalid fields (validation_failed)",
        "Correct these fields: ",
        "email: must be an e-mail address such as ann@example.com",
        "name: ",
        "role: ",
        "request id: ",
    ] {
        ensure!(said.contains(part), "{part}: {said}");
    }
    let output = terminal.run(&[&create[..], &["--json"]].concat()).await?;
    ended(&output, 5)?;
    let problem: Value = serde_json::from_str(&output.stderr)?;
    assert_eq!(problem["code"], "validation_failed");
    assert_eq!(output.stdout, "");
    Ok(())
}

#[tokio::test]
async fn exit_statuses() -> anyhow::Result<()> {
    let mut lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    lab.create_user("Ann", "ann@example.org").await?;
    terminal.fails(2, &["user", "make"]).await?;
    terminal.fails(2, &["user", "list", "--limit", "0"]).await?;
    let again = [
        "user",
        "create",
        "--name",
        "Ann",
        "--email",
        "ann@example.org",
    ];
    let said = terminal.fails(5, &again).await?;
    ensure!(said.contains("email_taken"), "{said}");
    terminal.fails(4, &["user", "show", "1999"]).await?;
    terminal
        .fails(4, &["history", "01900000-0000-7000-8000-000000000002"])
        .await?;
    terminal
        .fails(5, &["audit", "list", "--since", "yesterday"])
        .await?;
    // Nobody listens where the agent should be.
    let said = terminal.fails(6, &["apply"]).await?;
    ensure!(said.contains("not in force"), "{said}");
    // Where there is nothing to ask by, nothing is done.
    terminal.fails(2, &["user", "delete", "1000"]).await?;
    terminal.says(&["user", "show", "1000"]).await?;

    lab.portal.stop().await?;
    let said = terminal.fails(7, &["user", "list"]).await?;
    ensure!(said.contains("cannot reach"), "{said}");
    Ok(())
}

#[tokio::test]
async fn what_is_changed_is_what_was_seen() -> anyhow::Result<()> {
    let user = json!({
        "id": "01900000-0000-7000-8000-000000000009", "tenant_id": "01900000-0000-7000-8000-000000000002",
        "name": "Ann", "email": "ann@example.org", "extension": 1000, "status": "active", "role": "user",
        "outbound_caller_id": null, "voicemail": { "enabled": false, "pin_set": false }, "dnd": false,
        "call_forward": { "always": null, "busy": null, "no_answer": null, "unregistered": null,
            "delay_seconds": 25 },
        "metadata": {}, "created_at": "2026-11-21T03:45:12Z", "updated_at": "2026-11-21T03:45:12Z",
    });
    let seen = || Answer::Whole(200, user.to_string());
    let problem = json!({ "type": "x", "title": "Changed meanwhile", "status": 412, "detail": "d",
        "instance": "/users", "code": "precondition_failed", "request_id": "r" });
    let moved = || Answer::Whole(412, problem.to_string());
    let desk = Desk::new(vec![seen(), seen(), seen(), moved(), seen(), moved()]).await?;
    let id = "01900000-0000-7000-8000-000000000009";
    ended(&desk.run(&["user", "edit", id, "--dnd", "true"]).await?, 0)?;
    for command in [
        &["user", "edit", id, "--name", "X"][..],
        &["user", "delete", id, "--yes"],
    ] {
        let output = desk.run(command).await?;
        ended(&output, 5)?;
        ensure!(
            output.stderr.contains("look at it again"),
            "{}",
            output.stderr
        );
    }
    let asked = desk.portal.asked();
    assert_eq!(asked[1].body, r#"{"dnd":true}"#);
    ensure!(asked[1].has("content-type: application/merge-patch+json"));
    for change in [1, 3, 5] {
        ensure!(
            asked[change].has("if-match: \"7\""),
            "{}",
            asked[change].head
        );
    }
    Ok(())
}

#[tokio::test]
async fn what_is_carried_out_once_is_sent_again_when_its_answer_is_lost() -> anyhow::Result<()> {
    let pbx = json!({ "id": "01900000-0000-7000-8000-000000000001", "name": "b", "agent_address": "h:1",
        "agent_identity": "i", "sip_realm": "r", "transports": {}, "default": false,
        "created_at": "2026-11-21T03:45:12Z" });
    let whole = || Answer::Whole(201, pbx.to_string());
    let desk = Desk::new(vec![Answer::Lost, whole(), Answer::Lost, whole()]).await?;
    let create = ["pbx", "create", "--name", "b", "--agent-address", "h:1"];
    ended(&desk.run(&create).await?, 0)?;
    let asked = desk.portal.asked();
    let key = |index: usize| {
        let lines = asked[index].head.lines();
        lines
            .filter(|line| line.starts_with("idempotency-key: "))
            .collect::<Vec<_>>()
    };
    assert_eq!((key(0).len(), key(0) == key(1)), (1, true));
    // Nobody knows what became of a sign-in: it is not sent again.
    ended(&desk.run(&["logout"]).await?, 7)?;
    assert_eq!(desk.asked().len(), 3);
    Ok(())
}
