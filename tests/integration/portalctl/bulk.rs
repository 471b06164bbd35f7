//! Tables and tenant files: what is asked of the portal, and what is made of its answers.

use std::os::unix::fs::MetadataExt as _;

use anyhow::ensure;
use serde_json::{Value, json};
use tests::scratch;

use super::canned::{Answer, Desk};
use super::ended;

/// Some device.
const DEVICE: &str = "00000000-0000-7000-8000-000000000001";

fn outcome(preview: bool, refused: usize) -> Value {
    let sip =
        json!({ "device_id": DEVICE, "username": "1000", "password": "pw,\"1", "realm": "r" });
    let error = json!({ "field": "email", "code": "email_taken", "message": "is taken" });
    let mut lines = vec![json!({
        "line": 2, "outcome": "created", "id": null, "key": "ann@example.org", "extension": 1000,
        "changes": [{ "field": "name", "before": null, "after": "Ann" }], "errors": [],
        "sip": if preview { Value::Null } else { sip },
    })];
    if refused > 0 {
        lines.push(
            json!({ "line": 3, "outcome": "refused", "id": null, "key": "b@example.org",
            "extension": null, "changes": [], "errors": [error], "sip": null }),
        );
    }
    json!({
        "mode": "all_or_nothing", "preview": preview,
        "counts": { "created": 1, "changed": 0, "unchanged": 0, "refused": refused },
        "lines": lines,
    })
}

fn good(body: &Value) -> Answer {
    Answer::Whole(200, body.to_string())
}

#[tokio::test]
async fn an_import_is_shown_before_it_is_asked_about() -> anyhow::Result<()> {
    let desk = Desk::new(vec![good(&outcome(true, 0)), good(&outcome(true, 0))]).await?;
    let preview = [
        "user",
        "import",
        "users.csv",
        "--preview",
        "--encoding",
        "windows-1250",
    ];
    let output = desk
        .run(&[&["--tenant", "acme"], &preview[..]].concat())
        .await?;
    ended(&output, 0)?;
    ensure!(output.stdout.contains("created") && output.stdout.contains("name: \"Ann\""));
    ensure!(
        output.stdout.contains("1 would be created"),
        "{}",
        output.stdout
    );
    let asked = desk.portal.asked();
    let line = "POST /tenants/acme/imports/users?mode=all_or_nothing&preview=true HTTP/1.1";
    assert_eq!(asked[0].line(), line);
    ensure!(asked[0].has("content-type: text/csv; charset=windows-1250"));
    ensure!(asked[0].has("authorization: Bearer pbxt_x"));
    // The last line counts, whether it ends or not.
    assert_eq!(asked[0].body, "name;email\nAnn;ann@example.org");

    // Nobody can be asked: nothing is done.
    let output = desk
        .run(&["device", "import", "users.csv", "--per-line"])
        .await?;
    ended(&output, 2)?;
    assert_eq!(
        desk.asked()[1..],
        ["POST /imports/devices?mode=per_line&preview=true HTTP/1.1"]
    );
    Ok(())
}

#[tokio::test]
async fn passwords_of_what_is_created_are_written_down_once() -> anyhow::Result<()> {
    let problem = json!({
        "type": "urn:synergycall:problem:import_refused", "title": "Import refused", "status": 422,
        "detail": "Nothing was changed.", "instance": "/imports/users", "code": "import_refused",
        "request_id": "r", "import": outcome(false, 1),
    });
    let refused = Answer::Whole(422, problem.to_string());
    let desk = Desk::new(vec![good(&outcome(false, 0)), refused]).await?;
    let import = [
        "user",
        "import",
        "users.csv",
        "--yes",
        "--result",
        "result.csv",
    ];
    let output = desk
        .run(&[&import[..], &["--idempotency-key", "k1"]].concat())
        .await?;
    ended(&output, 0)?;
    ensure!(!output.stdout.contains("pw,"), "{}", output.stdout);
    ensure!(desk.portal.asked()[0].has("idempotency-key: k1"));
    let file = desk.place.path().join("result.csv");
    let written = std::fs::read_to_string(&file)?;
    let expected = "key,device_id,sip_username,sip_password,sip_realm\nann@example.org,00000000-0000-7000-8000-000000000001,1000,\"pw,\"\"1\",r\n";
    assert_eq!(written, expected);
    assert_eq!(std::fs::metadata(&file)?.mode() & 0o777, 0o600);

    // What is there is not replaced, and nothing is sent.
    let again = desk.run(&import).await?;
    ended(&again, 1)?;
    ensure!(
        again.stderr.contains("choose another name"),
        "{}",
        again.stderr
    );
    assert_eq!(
        (desk.asked().len(), std::fs::read_to_string(&file)?.as_str()),
        (1, expected)
    );

    let import = [
        "user",
        "import",
        "users.csv",
        "--yes",
        "--result",
        "other.csv",
    ];
    let output = desk.run(&import).await?;
    ended(&output, 5)?;
    ensure!(
        output.stdout.contains("email: is taken"),
        "{}",
        output.stdout
    );
    ensure!(
        output.stderr.contains("import_refused"),
        "{}",
        output.stderr
    );
    ensure!(!desk.place.path().join("other.csv").exists());
    Ok(())
}

#[tokio::test]
async fn an_import_that_changes_nothing_is_not_asked_about() -> anyhow::Result<()> {
    let same = json!({
        "mode": "all_or_nothing", "preview": true,
        "counts": { "created": 0, "changed": 0, "unchanged": 1, "refused": 0 },
        "lines": [{ "line": 2, "outcome": "unchanged", "id": null, "key": "ann@example.org",
            "extension": 1000, "changes": [], "errors": [], "sip": null }],
    });
    let desk = Desk::new((0..4).map(|_| good(&same)).collect()).await?;
    let import = ["user", "import", "users.csv"];
    let output = desk.run(&import).await?;
    ended(&output, 0)?;
    ensure!(
        output.stdout.contains("Nothing would change."),
        "{}",
        output.stdout
    );
    assert_eq!(desk.asked().len(), 1);
    let output = desk.run(&[&import[..], &["--json"]].concat()).await?;
    ended(&output, 0)?;
    assert_eq!(serde_json::from_str::<Value>(&output.stdout)?, same);
    assert_eq!(desk.asked().len(), 2);

    // Under a key it may have been done before: the answer is asked for.
    let again = [&import[..], &["--idempotency-key", "k1"]].concat();
    ended(&desk.run(&again).await?, 0)?;
    assert_eq!(
        desk.asked()[3],
        "POST /imports/users?mode=all_or_nothing&preview=false HTTP/1.1"
    );
    Ok(())
}

#[tokio::test]
async fn an_export_is_whole_or_not_there() -> anyhow::Result<()> {
    let csv = "id,extension\n1,1000\n".to_owned();
    let whole = Answer::Whole(200, csv.clone());
    let broken = || Answer::Broken(csv.clone());
    let desk = Desk::new(vec![whole, broken(), broken()]).await?;
    let export = ["user", "export", "-o", "out.csv"];
    ended(&desk.run(&export).await?, 0)?;
    let file = desk.place.path().join("out.csv");
    assert_eq!(std::fs::read_to_string(&file)?, csv);
    // It is not replaced without asking, and nothing is sent.
    ended(&desk.run(&export).await?, 2)?;
    assert_eq!(desk.asked().len(), 1);
    std::fs::remove_file(&file)?;

    let output = desk.run(&export).await?;
    ended(&output, 7)?;
    ensure!(output.stderr.contains("broke off"), "{}", output.stderr);
    let left = std::fs::read_dir(desk.place.path())?.count();
    assert_eq!(left, 1, "something is left beside users.csv");
    ended(
        &desk.run(&["device", "export", "--format", "json"]).await?,
        7,
    )?;
    let asked = [
        "GET /exports/users?format=csv HTTP/1.1",
        "GET /exports/devices?format=json HTTP/1.1",
    ];
    assert_eq!(desk.asked(), [asked[0], asked[0], asked[1]]);
    Ok(())
}

fn planned(preview: bool, changes: &Value) -> Value {
    json!({ "preview": preview, "digest": "d1",
        "counts": { "created": 1, "changed": 0, "unchanged": 0, "deleted": 0 }, "changes": changes })
}

#[tokio::test]
async fn a_tenant_file_is_planned_and_then_exactly_that_is_done() -> anyhow::Result<()> {
    let change = json!([{ "entity": "user", "action": "created", "key": "ann@example.org", "id": null,
        "changes": [{ "field": "name", "before": null, "after": "Ann" }], "sip": null }]);
    let plan = || good(&planned(true, &change));
    let nothing = good(&planned(true, &json!([])));
    let answers = vec![
        plan(),
        plan(),
        plan(),
        good(&planned(false, &change)),
        nothing,
    ];
    let desk = Desk::new(answers).await?;
    let yaml =
        "users:\n  - {email: ann@example.org, name: no, outbound_caller_id: +420123456789}\n";
    scratch::write(&desk.place.path().join("t.yaml"), 0o600, yaml)?;

    let output = desk
        .run(&["plan", "-f", "t.yaml", "--remove-unlisted", "users"])
        .await?;
    ended(&output, 0)?;
    ensure!(
        output
            .stdout
            .contains("+ user ann@example.org: name: \"Ann\""),
        "{}",
        output.stdout
    );
    let body: Value = serde_json::from_str(&desk.portal.asked()[0].body)?;
    let user =
        json!({ "email": "ann@example.org", "name": "no", "outbound_caller_id": "+420123456789" });
    assert_eq!(
        body,
        json!({ "users": [user], "remove_unlisted": ["users"] })
    );

    ended(&desk.run(&["apply", "-f", "t.yaml"]).await?, 2)?;
    assert_eq!(desk.asked().len(), 2);
    ended(&desk.run(&["apply", "-f", "t.yaml", "--yes"]).await?, 0)?;
    let asked = desk.portal.asked();
    assert_eq!(
        asked[3].line(),
        "POST /declaration/reconcile?preview=false HTTP/1.1"
    );
    let body: Value = serde_json::from_str(&asked[3].body)?;
    assert_eq!(body, json!({ "users": [user], "expected_digest": "d1" }));

    let output = desk.run(&["apply", "-f", "t.yaml", "--yes"]).await?;
    ended(&output, 0)?;
    ensure!(
        output.stdout.contains("Nothing would change"),
        "{}",
        output.stdout
    );
    assert_eq!(desk.asked().len(), 5);
    // The PBX is another matter.
    ended(
        &desk.run(&["apply", "-f", "t.yaml", "--pbx", "x"]).await?,
        2,
    )?;
    Ok(())
}

#[tokio::test]
async fn a_tenant_is_written_as_a_file() -> anyhow::Result<()> {
    let declaration = r#"{"tenant":{"name":"no","ext_min":1000},"users":[{"email":"a@b.c","outbound_caller_id":"+420123456789","dnd":false}]}"#;
    let answer = || Answer::Whole(200, declaration.to_owned());
    let desk = Desk::new(vec![answer(), answer(), answer()]).await?;
    ended(
        &desk
            .run(&["--tenant", "acme", "export", "-f", "t.yaml"])
            .await?,
        0,
    )?;
    assert_eq!(desk.asked(), ["GET /tenants/acme/declaration HTTP/1.1"]);
    let file = desk.place.path().join("t.yaml");
    let yaml = std::fs::read_to_string(&file)?;
    ensure!(
        yaml.contains("\"+420123456789\"") || yaml.contains("'+420123456789'"),
        "{yaml}"
    );
    ensure!(yaml.find("tenant") < yaml.find("users"), "{yaml}");
    // It is not replaced without asking.
    ended(&desk.run(&["export", "-f", "t.yaml"]).await?, 2)?;
    let output = desk.run(&["export", "-f", "-"]).await?;
    assert_eq!(output.stdout, yaml);
    Ok(())
}
