//! Answers that are lost or break off: what is sent again, and what is told when nothing tells whether
//! it was done.

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::scratch::{self, Scratch};

use super::canned::{Answer, Asked, Desk};
use super::{DEADLINE, Terminal, ended};

const HEAD: &str = "key,device_id,sip_username,sip_password,sip_realm\n";

fn problem(status: u16, code: &str) -> Answer {
    let problem = json!({ "type": "x", "title": "T", "status": status, "detail": "d",
        "instance": "/", "code": code, "request_id": "r" });
    Answer::Whole(status, problem.to_string())
}

fn account() -> Value {
    json!({ "device_id": "00000000-0000-7000-8000-000000000001", "username": "1000",
        "password": "pw", "realm": "r" })
}

fn imported() -> Answer {
    let line = json!({ "line": 2, "outcome": "created", "id": null, "key": "ann@example.org",
        "extension": 1000, "changes": [], "errors": [], "sip": account() });
    let counts = json!({ "created": 1, "changed": 0, "unchanged": 0, "refused": 0 });
    let body =
        json!({ "mode": "all_or_nothing", "preview": false, "counts": counts, "lines": [line] });
    Answer::Whole(200, body.to_string())
}

fn reconciled(digest: &str, preview: bool, changes: usize) -> Answer {
    let sip = (!preview).then(account);
    let change = json!({ "entity": "user", "action": "created", "key": "ann@example.org", "id": null,
        "extension": 1000, "changes": [], "sip": sip });
    let counts = json!({ "created": changes, "changed": 0, "unchanged": 0, "deleted": 0 });
    let body = json!({ "preview": preview, "digest": digest, "counts": counts,
        "changes": vec![change; changes] });
    Answer::Whole(200, body.to_string())
}

fn pbx() -> String {
    json!({ "id": "01900000-0000-7000-8000-000000000001", "name": "b", "agent_address": "h:1",
        "agent_identity": "i", "sip_realm": "r", "transports": {}, "default": false,
        "created_at": "2026-11-21T03:45:12Z" })
    .to_string()
}

fn key(asked: &Asked) -> Option<&str> {
    let mut lines = asked.head.lines();
    lines.find_map(|line| line.strip_prefix("idempotency-key: "))
}

/// What a command is told to be run with again.
fn again(said: &str) -> anyhow::Result<Vec<&str>> {
    let told = said.split_once("The same command with ");
    let told = told.and_then(|(_, rest)| rest.split_once(" tells"));
    let words = told.with_context(|| format!("nothing is told: {said}"))?.0;
    Ok(words.split(' ').collect())
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_as_good_as_none() -> anyhow::Result<()> {
    let half = || Answer::Broken("{\"id\":".to_owned());
    let answers = vec![
        half(),
        Answer::Whole(201, pbx()),
        half(),
        Answer::Whole(200, pbx()),
        half(),
        half(),
    ];
    let desk = Desk::new(answers).await?;
    let create = ["pbx", "create", "--name", "b", "--agent-address", "h:1"];
    ended(&desk.run(&create).await?, 0)?;
    let asked = desk.portal.asked();
    ensure!(key(&asked[0]).is_some() && key(&asked[0]) == key(&asked[1]));
    ensure!(asked[0].body == asked[1].body);
    ended(&desk.run(&["pbx", "show", "b"]).await?, 0)?;
    assert_eq!(desk.asked()[2..], ["GET /pbxes/b HTTP/1.1"; 2]);
    let output = desk.run(&["pbx", "show", "b"]).await?;
    ended(&output, 7)?;
    ensure!(output.stderr.contains("broke off"), "{}", output.stderr);
    Ok(())
}

/// The first one may have been carried out: whoever is not let in any more does not hear of it.
#[tokio::test]
async fn a_refusal_after_a_lost_answer_tells_nothing() -> anyhow::Result<()> {
    for refused in [
        || problem(401, "unauthenticated"),
        || problem(403, "forbidden"),
        || problem(429, "too_many_attempts"),
        || problem(503, "overloaded"),
        || Answer::Lost,
        || Answer::Broken("{".to_owned()),
    ] {
        let desk = Desk::new(vec![Answer::Lost, refused(), imported()]).await?;
        let import = ["user", "import", "users.csv", "--yes", "--result", "r.csv"];
        let output = desk.run(&import).await?;
        ended(&output, 8)?;
        ensure!(
            output.stderr.contains("It may have been done"),
            "{}",
            output.stderr
        );
        let file = desk.place.path().join("r.csv");
        assert_eq!(std::fs::read_to_string(&file)?, HEAD);

        // What is told leads to the passwords.
        let again = again(&output.stderr)?;
        let output = desk.run(&[&import[..], &again].concat()).await?;
        ended(&output, 0)?;
        let written = std::fs::read_to_string(&file)?;
        ensure!(
            written.starts_with(HEAD) && written.contains(",pw,"),
            "{written}"
        );
        let asked = desk.portal.asked();
        let keys: Vec<_> = asked.iter().map(key).collect();
        ensure!(keys[0].is_some() && keys[0] == keys[1] && keys[0] == keys[2]);
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_that_tells_of_both_stays_one() -> anyhow::Result<()> {
    let answers = vec![
        Answer::Lost,
        problem(422, "import_refused"),
        problem(401, "unauthenticated"),
    ];
    let desk = Desk::new(answers).await?;
    let import = ["user", "import", "users.csv", "--yes", "--result", "r.csv"];
    ended(&desk.run(&import).await?, 5)?;
    ensure!(!desk.place.path().join("r.csv").exists());
    // No answer was lost.
    ended(&desk.run(&import).await?, 3)?;
    ensure!(!desk.place.path().join("r.csv").exists());
    Ok(())
}

#[tokio::test]
async fn what_is_not_known_is_told_of_every_command() -> anyhow::Result<()> {
    let lost = || Answer::Lost;
    let answers = vec![
        lost(),
        problem(403, "forbidden"),
        problem(409, "idempotency_key_in_use"),
        problem(500, "internal_error"),
    ];
    let desk = Desk::new(answers).await?;
    let create = ["user", "create", "--name", "A", "--email", "a@example.org"];
    let output = desk.run(&[&create[..], &["--json"]].concat()).await?;
    ended(&output, 8)?;
    let told: Value = serde_json::from_str(&output.stderr)?;
    assert_eq!(
        (&told["code"], &told["may_have_been_done"]),
        (&"forbidden".into(), &true.into())
    );
    let key = key(&desk.portal.asked()[0]).map(|key| format!("--idempotency-key {key}"));
    assert_eq!(told["again_with"].as_str(), key.as_deref());

    let again = [&create[..], &["--idempotency-key", "k 1"]].concat();
    ended(&desk.run(&again).await?, 2)?;
    let again = [&create[..], &["--idempotency-key", "k1"]].concat();
    let output = desk.run(&again).await?;
    ended(&output, 8)?;
    ensure!(
        output.stderr.contains("--idempotency-key k1"),
        "{}",
        output.stderr
    );
    // One that takes no key: somebody has to look.
    let token = ["token", "create", "--name", "t", "--scopes", "users.read"];
    let output = desk.run(&token).await?;
    ended(&output, 8)?;
    ensure!(
        output.stderr.contains("look at what became of it"),
        "{}",
        output.stderr
    );
    Ok(())
}

#[tokio::test]
async fn whoever_stops_waiting_is_told_how_to_ask() -> anyhow::Result<()> {
    let desk = Desk::new(vec![Answer::Never, imported()]).await?;
    let import = ["user", "import", "users.csv", "--yes", "--result", "r.csv"];
    let log = desk.place.path().join("log");
    let mut process = desk.program(&import)?.start(&log)?;
    let asked = async || !desk.asked().is_empty();
    process.wait_until("the request", DEADLINE, asked).await?;
    let status = process.stop(Signal::SIGINT, DEADLINE).await?;
    assert_eq!(status.code(), Some(8), "{}", process.log());
    let said = process.log();
    ended(&desk.run(&[&import[..], &again(&said)?].concat()).await?, 0)?;
    let asked = desk.portal.asked();
    ensure!(key(&asked[0]).is_some() && key(&asked[0]) == key(&asked[1]));
    Ok(())
}

/// A preview does nothing: what becomes of it is no riddle.
#[tokio::test]
async fn a_preview_is_not_doubted() -> anyhow::Result<()> {
    let desk = Desk::new(vec![Answer::Lost, problem(403, "forbidden")]).await?;
    ended(
        &desk
            .run(&["user", "import", "users.csv", "--preview"])
            .await?,
        3,
    )
}

#[tokio::test]
async fn a_tenant_file_is_asked_about_again() -> anyhow::Result<()> {
    let answers = vec![
        reconciled("d1", true, 1),
        Answer::Lost,
        problem(401, "unauthenticated"),
        reconciled("d2", true, 0),
        reconciled("d2", false, 1),
        reconciled("d1", true, 1),
        reconciled("d1", false, 1),
        reconciled("d2", true, 1),
        problem(409, "plan_outdated"),
    ];
    let desk = Desk::new(answers).await?;
    scratch::write(&desk.place.path().join("t.yaml"), 0o600, "users: []\n")?;
    let apply = ["apply", "-f", "t.yaml", "--yes", "--result", "r.csv"];
    let output = desk.run(&apply).await?;
    ended(&output, 8)?;
    // It was done: nothing would be changed, and the answer is still to be had.
    let told = again(&output.stderr)?;
    let output = desk.run(&[&apply[..], &told].concat()).await?;
    ended(&output, 0)?;
    let written = std::fs::read_to_string(desk.place.path().join("r.csv"))?;
    ensure!(written.contains(",pw,"), "{written}");
    let asked = desk.portal.asked();
    ensure!(key(&asked[0]) != key(&asked[1]) && key(&asked[3]) != key(&asked[4]));
    ensure!(key(&asked[1]) == key(&asked[4]) && asked[1].body == asked[4].body);

    // A key of one's own: the request is the same whatever would be done by then.
    let own = ["apply", "-f", "t.yaml", "--yes", "--idempotency-key", "k1"];
    ended(&desk.run(&own).await?, 0)?;
    let asked = desk.portal.asked();
    assert_eq!(
        (key(&asked[6]), asked[6].body.as_str()),
        (Some("k1"), r#"{"users":[]}"#)
    );
    let bound = [&own[..], &["--expected-digest", "d1"]].concat();
    ended(&desk.run(&bound).await?, 5)?;
    let body: Value = serde_json::from_str(&desk.portal.asked()[8].body)?;
    assert_eq!(body["expected_digest"], "d1");
    Ok(())
}

/// Under the same key the real portal does it once and tells the passwords again.
#[tokio::test]
async fn the_same_key_tells_the_same_passwords() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::signed_in(&lab).await?;
    let place = Scratch::new("again")?;
    let path = |name: &str| place.path().join(name).display().to_string();
    scratch::write(
        &place.path().join("u.csv"),
        0o600,
        "name,email\nAnn,ann@example.org\n",
    )?;
    let yaml = "users: [{ name: Bob, email: bob@example.org }]\n";
    scratch::write(&place.path().join("t.yaml"), 0o600, yaml)?;
    let (csv, yaml) = (path("u.csv"), path("t.yaml"));
    for (name, command) in [
        ("import", &["user", "import", &csv][..]),
        ("apply", &["apply", "-f", &yaml]),
    ] {
        let mut results = Vec::new();
        for time in ["first", "again"] {
            let result = path(&format!("{name}-{time}.csv"));
            let how = ["--yes", "--idempotency-key", name, "--result", &result];
            terminal.says(&[command, &how].concat()).await?;
            results.push(std::fs::read_to_string(&result)?);
        }
        assert_eq!(results[0].lines().count(), 2);
        assert_eq!(results[0], results[1]);
    }
    let create = ["device", "create", "--user", "1000", "--label", "Mobile"];
    let create = [&create[..], &["--idempotency-key", "mobile"]].concat();
    let (first, again) = (terminal.json(&create).await?, terminal.json(&create).await?);
    ensure!(
        first["sip"]["password"].is_string() && first == again,
        "{again}"
    );
    Ok(())
}
