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
async fn plain_http_where_https_is_spoken_is_told() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    let url = terminal.url.replace("https://", "http://");
    let login = ["login", "--url", &url, "--password-stdin", "admin"];
    let output = terminal.run_with(&login, "wrong\n").await?;
    ended(&output, 5)?;
    ensure!(output.stderr.contains("use https://"), "{}", output.stderr);
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

const ID: &str = "01900000-0000-7000-8000-000000000009";

#[tokio::test]
async fn what_can_be_no_id_is_wrong_usage() -> anyhow::Result<()> {
    let desk = Desk::new(vec![]).await?;
    for (command, shown_by) in [
        (&["history", "foo"][..], "history"),
        (&["restore", "foo"], "history"),
        (&["audit", "show", "foo"], "audit list"),
        (&["device", "show", "foo"], "device list"),
        (&["device", "edit", "foo", "--label", "x"], "device list"),
        (&["device", "rotate", "foo"], "device list"),
        (&["device", "reveal", "foo"], "device list"),
        (&["device", "delete", "foo"], "device list"),
        (&["token", "show", "foo"], "token list"),
        (&["token", "revoke", "foo"], "token list"),
    ] {
        let output = desk.run(&[command, &["--yes"]].concat()).await?;
        ended(&output, 2)?;
        let expected = format!("foo: must be an id as `portalctl {shown_by}` shows it");
        ensure!(output.stderr.contains(&expected), "{}", output.stderr);
    }
    Ok(())
}

fn device() -> Value {
    json!({ "id": ID, "user_id": ID, "tenant_id": ID, "label": "Desk", "enabled": true,
        "sip_username": "1000", "transport": null, "codecs": ["alaw"], "digest_algorithm": "md5",
        "nat": { "rtp_symmetric": true, "force_rport": true, "rewrite_contact": true,
            "direct_media": false },
        "password_set_at": "2026-11-21T03:45:12Z", "password_revealed": true, "overlap_until": null,
        "created_at": "2026-11-21T03:45:12Z", "updated_at": "2026-11-21T03:45:12Z" })
}

/// With `--json` a program finds one document on standard error, whoever made it.
#[tokio::test]
async fn every_failure_is_a_problem_document() -> anyhow::Result<()> {
    let device = device();
    let refused = json!({ "line": 2, "outcome": "refused", "id": null, "key": "b@example.org",
        "extension": null, "changes": [], "sip": null,
        "errors": [{ "field": "email", "code": "email_taken", "message": "is taken" }] });
    let refused = json!({ "mode": "all_or_nothing", "preview": true, "lines": [refused],
        "counts": { "created": 0, "changed": 0, "unchanged": 0, "refused": 1 } });
    let answer = |status: u16, body: &Value| Answer::Whole(status, body.to_string());
    for (command, answers, status, code) in [
        (
            &["user", "show", "1999"][..],
            vec![answer(200, &json!([]))],
            4,
            "not_found",
        ),
        (&["user", "show", "foo"], vec![], 2, "wrong_usage"),
        (
            &["device", "delete", ID],
            vec![answer(200, &device)],
            2,
            "wrong_usage",
        ),
        (
            &["user", "import", "users.csv"],
            vec![answer(200, &refused)],
            5,
            "refused",
        ),
        (
            &["user", "import", "users.csv", "--preview"],
            vec![answer(200, &refused)],
            5,
            "refused",
        ),
        (&["user", "import", "no.csv", "--yes"], vec![], 1, "failed"),
        (
            &["pbx", "list"],
            vec![answer(502, &json!({}))],
            7,
            "refused",
        ),
        (&["pbx", "list"], vec![], 7, "unreachable"),
        (
            &["apply"],
            vec![Answer::Lost, Answer::Lost],
            8,
            "unreachable",
        ),
    ] {
        let desk = Desk::new(answers).await?;
        let output = desk.run(&[command, &["--json"]].concat()).await?;
        ended(&output, status)?;
        let problem: Value = serde_json::from_str(&output.stderr)?;
        assert_eq!(problem["code"], code, "{problem}");
        for member in ["type", "title", "detail"] {
            ensure!(problem[member].is_string(), "{member}: {problem}");
        }
        assert_eq!(
            problem["may_have_been_done"] == true,
            status == 8,
            "{problem}"
        );
        if status == 5 {
            assert_eq!(serde_json::from_str::<Value>(&output.stdout)?, refused);
        }
    }
    Ok(())
}
