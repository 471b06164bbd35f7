//! The edge cases of the specification, in its order and under its words.

use std::time::Duration;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;
use tests::postgres::{Cluster, TestDatabase};
use tests::process::wait_until;
use uuid::Uuid;

use crate::audit::{applied, assert_one_after_another, audited, included, step, steps, trail};
use crate::crowd::{at_once, create_users, numbers, stored_numbers};
use crate::held::{assert_exactly, live_files, sections};

/// How long the portal may take to notice that what it needs is back.
const RECOVERY_DEADLINE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn extension_pool_exhausted_rejects_and_stores_nobody() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let users = create_users(&lab.client, 1000).await?;
    let pool = lab.database.pool().await?;
    for user in &users[..3] {
        lab.client
            .delete(&format!("/users/{}", user.id))
            .await?
            .expect(204)?;
    }
    // Twenty want the three that are free.
    let client = lab.client.clone();
    let rush = move |number: usize| {
        let client = client.clone();
        async move {
            let email = format!("rush{number}@example.org");
            let reply = client
                .post("/users", &json!({ "name": "Rush", "email": email }))
                .await?;
            if reply.status == 201 {
                return Ok(reply.json()?["extension"].as_u64());
            }
            assert_eq!(reply.problem(409)?, "extension_pool_exhausted");
            Ok(None)
        }
    };
    let mut given: Vec<u64> = at_once(20, 20, rush).await?.into_iter().flatten().collect();
    given.sort_unstable();
    assert_eq!(given, numbers(&users[..3]));
    assert_eq!(
        stored_numbers(&pool).await?,
        (1000..=1999).collect::<Vec<_>>()
    );
    let living: i64 = sqlx::query_scalar(r#"select count(*) from "user" where deleted_at is null"#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(living, 1000);
    Ok(())
}

/// `GET /health/ready`: whether each thing is well, and the status.
async fn ready(client: &Client) -> anyhow::Result<(u16, [bool; 3])> {
    let reply = client.get("/health/ready").await?;
    let body = reply.json()?;
    let well = ["database", "agent", "asterisk"].map(|name| body[name]["ok"] == true);
    Ok((reply.status, well))
}

#[tokio::test]
async fn asterisk_unreachable_fails_gracefully_and_takes_the_files_when_it_starts()
-> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(ready(&lab.client).await?, (200, [true, true, true]));
    lab.asterisk.stop().await?;
    assert_eq!(ready(&lab.client).await?, (503, [true, true, false]));

    lab.create_user("Late", "late@example.org").await?;
    let users = lab.client.get("/users").await?.json()?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_reload_failed_files_kept");
    let detail = reply.json()?["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(detail.contains("Asterisk is not running"), "{detail}");
    let attempt = audited(&lab.client, &reply).await?;
    // The policy is to roll back. While Asterisk is down that would only hide the new files.
    assert_eq!(attempt["on_reload_failure"], "roll_back");
    assert_eq!(
        lab.client.get("/users").await?.json()?,
        users,
        "the database changed"
    );

    lab.asterisk.resume().await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(ready(&lab.client).await?, (200, [true, true, true]));
    Ok(())
}

#[tokio::test]
async fn asterisk_hung_is_no_failure_and_no_success() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .agent_env("RELOAD_DEADLINE_MS", "1000")
        .start()
        .await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Late", "late@example.org").await?;
    lab.asterisk.freeze()?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(504)?, "apply_reload_unknown");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "reload_unknown");
    lab.asterisk.thaw()?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn agent_unreachable_fails_gracefully_and_is_audited() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    let files = live_files(&lab.asterisk)?;
    lab.agent.stop().await?;
    assert_eq!(ready(&lab.client).await?, (503, [true, false, false]));
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "agent_unreachable");
    assert_eq!((included(&attempt), steps(&attempt).len()), (vec![1000], 0));
    assert_eq!(live_files(&lab.asterisk)?, files);

    lab.agent.resume().await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000]).await?;
    let outcomes: Vec<Value> = trail(&lab.client)
        .await?
        .into_iter()
        .map(|attempt| attempt["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["applied", "agent_unreachable"]);
    Ok(())
}

#[tokio::test]
async fn two_simultaneous_applies_run_one_after_the_other() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let other = lab.another_portal().await?;
    let client = other.client()?;
    create_users(&lab.client, 20).await?;
    let (one, two) = tokio::join!(lab.apply(), client.post_nothing("/apply"));
    let one = audited(&lab.client, &one?.expect(200)?).await?;
    // Either portal knows the whole trail.
    let two = audited(&lab.client, &two?.expect(200)?).await?;
    let mut outcomes = [&one, &two].map(|attempt| attempt["outcome"].as_str().unwrap_or_default());
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["applied", "unchanged"]);
    assert_one_after_another(&[one, two])?;
    assert_exactly(&lab.asterisk, 1000..1020).await
}

/// Names that mean something to SQL, to Asterisk's files, to SIP or to a terminal.
const HOSTILE_NAMES: &[&str] = &[
    r#"Robert'); DROP TABLE "user"; --"#,
    "' OR '1'='1",
    "'; delete from extension where true; --",
    r"\'; select pg_sleep(10); --",
    "$1 $$ ${SHELL(id > /tmp/x)} %s %n",
    "[general]",
    "a](!) #include /etc/passwd",
    "a ; comment",
    ";-- open",
    "close --;",
    r#"" <sip:evil@example.org>"#,
    r"ends with \",
    "x> , <sip:evil@x",
    "<script>alert(1)</script>",
    "\u{202e}desrever\u{202c} \u{feff}",
    "Zoë Číž 李 🙂",
];

#[tokio::test]
async fn injection_attempts_are_data_in_the_database_and_in_asterisk() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    for (number, name) in HOSTILE_NAMES.iter().enumerate() {
        let metadata = json!({ *name: name });
        let email = format!("o'neil+{number}@example.org");
        let request = json!({ "name": name, "email": email, "metadata": metadata });
        let request = lab.client.request(Method::POST, "/users").json(&request);
        let reply = request
            .header("X-Admin-User", "'; drop table apply; --")
            .send()
            .await?;
        let created = reply.expect(201)?.json()?;
        let path = format!("/users/{}", created["id"].as_str().unwrap_or_default());
        let read = lab.client.get(&path).await?.expect(200)?.json()?;
        assert_eq!(read["name"], *name);
        assert_eq!(read["email"], email.as_str());
        assert_eq!(read["metadata"], metadata);
    }
    let pool = lab.database.pool().await?;
    let names: Vec<String> = sqlx::query_scalar(
        r#"select name from "user" join extension using (user_id) order by number"#,
    )
    .fetch_all(&pool)
    .await?;
    assert_eq!(names, HOSTILE_NAMES);

    let attempt = applied(&lab.client, lab.apply().await?).await?;
    let count = HOSTILE_NAMES.len();
    assert_eq!(included(&attempt).len(), count);
    assert_exactly(&lab.asterisk, 1000..1000 + u64::try_from(count)?).await?;
    let [endpoints, _] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint").len(), count + 1);
    Ok(())
}

#[tokio::test]
async fn malformed_user_data_is_refused_before_the_database() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let long = "x".repeat(101);
    let deep = (0..9).fold(json!(1), |inner, _| json!({ "a": inner }));
    let large = json!({ "a": "x".repeat(4097) });
    let good = ("Ann", "ann@example.org");
    let name = |name: &str| json!({ "name": name, "email": good.1 });
    let email = |email: &str| json!({ "name": good.0, "email": email });
    let metadata = |value: &Value| json!({ "name": good.0, "email": good.1, "metadata": value });
    for (request, field, code) in [
        (name(""), "name", "empty"),
        (name(" \t "), "name", "empty"),
        (name(&long), "name", "too_long"),
        (name("a\nb"), "name", "control_character"),
        (
            name("a\r\n[evil]\r\ntype=endpoint"),
            "name",
            "control_character",
        ),
        (name("a\0b"), "name", "control_character"),
        (name("a\u{7f}"), "name", "control_character"),
        (name("a\u{85}b"), "name", "control_character"),
        (name("a\u{2028}b"), "name", "control_character"),
        (json!({ "name": 7, "email": good.1 }), "name", "wrong_type"),
        (json!({ "name": [], "email": good.1 }), "name", "wrong_type"),
        (email(""), "email", "empty"),
        (email("ann"), "email", "malformed"),
        (email("ann@"), "email", "malformed"),
        (
            email("ann@example.org'; drop table \"user\"; --"),
            "email",
            "malformed",
        ),
        (
            email("ann@example.org\nBcc: x@example.org"),
            "email",
            "malformed",
        ),
        (email("a b@example.org"), "email", "malformed"),
        (email("ann@exa\u{0}mple.org"), "email", "malformed"),
        (email("änn@example.org"), "email", "malformed"),
        (
            email(&format!("{}@example.org", "x".repeat(250))),
            "email",
            "too_long",
        ),
        (metadata(&json!([])), "metadata", "wrong_type"),
        (metadata(&json!("x")), "metadata", "wrong_type"),
        (
            metadata(&json!({ "a": "\0" })),
            "metadata",
            "control_character",
        ),
        (
            metadata(&json!({ "\0": 1 })),
            "metadata",
            "control_character",
        ),
        (metadata(&deep), "metadata", "too_deep"),
        (metadata(&large), "metadata", "too_long"),
    ] {
        let reply = lab.client.post("/users", &request).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{request}");
        let errors = reply.json()?["errors"].clone();
        assert_eq!(errors[0]["field"], field, "{request}: {errors}");
        assert_eq!(errors[0]["code"], code, "{request}: {errors}");
        assert_eq!(
            errors.as_array().map(Vec::len),
            Some(1),
            "{request}: {errors}"
        );
    }
    // Surrogates have no UTF-8, so they are no JSON either.
    for body in [
        r#"{"name":"\ud800","email":"a@example.org"}"#,
        "{\"name\":\"\u{0}\"}",
    ] {
        let request = lab.client.request(Method::POST, "/users");
        let reply = request
            .body("application/json", body.to_owned())
            .send()
            .await?;
        assert_eq!(reply.problem(400)?, "malformed_json", "{body}");
    }
    let pool = lab.database.pool().await?;
    let stored: i64 = sqlx::query_scalar(r#"select count(*) from "user""#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(stored, 0);
    Ok(())
}

/// Everything that needs the database: method and path.
fn database_calls(user: &str) -> Vec<(Method, String)> {
    vec![
        (Method::POST, "/users".to_owned()),
        (Method::GET, "/users".to_owned()),
        (Method::GET, format!("/users/{user}")),
        (Method::DELETE, format!("/users/{user}")),
        (Method::POST, "/apply".to_owned()),
        (Method::GET, "/applies".to_owned()),
        (Method::GET, format!("/applies/{}", Uuid::nil())),
    ]
}

/// Fails unless each of them answers that the database is away, and tells nothing about it.
async fn assert_unavailable(client: &Client, user: &str) -> anyhow::Result<()> {
    for (method, path) in database_calls(user) {
        let mut request = client.request(method, &path);
        if path == "/users" {
            request = request.json(&json!({ "name": "Bob", "email": "bob@example.org" }));
        }
        let reply = request.send().await?;
        assert_eq!(reply.problem(503)?, "database_unavailable", "{reply}");
        let told = reply.text().to_lowercase();
        for secret in ["postgres", "socket", "sqlx", "select", "localhost", "/tmp"] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
    client.get("/health/live").await?.expect(200)?;
    client.get("/openapi.json").await?.expect(200)?;
    assert!(!ready(client).await?.1[0]);
    Ok(())
}

async fn wait_for_database(client: &Client) -> anyhow::Result<()> {
    wait_until(
        "the portal has its database again",
        RECOVERY_DEADLINE,
        async || {
            ready(client)
                .await
                .is_ok_and(|(_, [database, _, _])| database)
        },
    )
    .await
}

#[tokio::test]
async fn postgres_unavailable_answers_503_everywhere_and_recovers() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let lab = PortalLab::start_with(TestDatabase::create_in(&cluster).await?, &[]).await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    cluster.stop().await?;
    assert_unavailable(&lab.client, &ann.id).await?;
    cluster.start().await?;
    wait_for_database(&lab.client).await?;
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(users[0]["id"], ann.id.as_str());
    assert_eq!(
        users.as_array().map(Vec::len),
        Some(1),
        "what was refused was stored: {users}"
    );
    assert_eq!(
        lab.create_user("Bob", "bob@example.org").await?.extension,
        1001
    );
    Ok(())
}

#[tokio::test]
async fn postgres_hung_answers_503_and_recovers() -> anyhow::Result<()> {
    let cluster = Cluster::temporary().await?;
    let lab = PortalLab::start_with(TestDatabase::create_in(&cluster).await?, &[]).await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    cluster.signal(Signal::SIGSTOP)?;
    let reply = lab.client.get("/users").await?;
    assert_eq!(reply.problem(503)?, "database_unavailable", "{reply}");
    cluster.signal(Signal::SIGCONT)?;
    wait_for_database(&lab.client).await?;
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(users[0]["id"], ann.id.as_str());
    Ok(())
}

#[tokio::test]
async fn postgres_unavailable_at_start_the_portal_waits_for_it() -> anyhow::Result<()> {
    let mut cluster = Cluster::temporary().await?;
    let database = TestDatabase::create_in(&cluster).await?;
    cluster.stop().await?;
    let lab = PortalLab::start_with(database, &[]).await?;
    assert_unavailable(&lab.client, &Uuid::nil().to_string()).await?;
    cluster.start().await?;
    wait_for_database(&lab.client).await?;
    // It has made its schema by itself.
    assert_eq!(
        lab.create_user("Ann", "ann@example.org").await?.extension,
        1000
    );
    Ok(())
}

/// PJSIP takes the new configuration and the dialplan cannot: `pbx_config.so` is unloaded, so that
/// Asterisk does not know `dialplan reload`, answers so with exit status 0, and has no dialplan.
async fn lab_without_dialplan_module() -> anyhow::Result<Lab> {
    let lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Late", "late@example.org").await?;
    lab.asterisk.rx("module unload pbx_config.so").await?;
    Ok(lab)
}

fn assert_both_told(attempt: &Value) -> anyhow::Result<()> {
    assert_eq!(step(attempt, "'pjsip reload'")?["ok"], true);
    let dialplan = step(attempt, "'dialplan reload'")?;
    assert_eq!(dialplan["ok"], false);
    let said = dialplan["said"].as_str().unwrap_or_default();
    assert!(said.contains("No such command"), "{said}");
    let reason = attempt["failure"]["message"].as_str().unwrap_or_default();
    assert!(reason.contains("PJSIP: was reloaded"), "{reason}");
    assert!(
        reason.contains("Dialplan: ") && reason.contains("No such command"),
        "{reason}"
    );
    Ok(())
}

#[tokio::test]
async fn partial_reload_failure_is_told_and_the_files_stay() -> anyhow::Result<()> {
    let lab = lab_without_dialplan_module().await?;
    let keep = json!({ "on_reload_failure": "keep_new_files" });
    let reply = lab.client.post("/apply", &keep).await?;
    assert_eq!(reply.problem(502)?, "apply_reload_failed_files_kept");
    assert_both_told(&audited(&lab.client, &reply).await?)?;
    let [endpoints, routing] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint").len(), 3);
    assert!(routing.contains("Dial(PJSIP/1001,25)"));

    // Loading the module reads the new dialplan; nothing but an apply calls it proven.
    lab.asterisk.rx("module load pbx_config.so").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn partial_reload_failure_that_cannot_be_rolled_back_is_told() -> anyhow::Result<()> {
    let lab = lab_without_dialplan_module().await?;
    let proven = live_files(&lab.asterisk)?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_rollback_failed");
    let attempt = audited(&lab.client, &reply).await?;
    assert_both_told(&attempt)?;
    // The old dialplan could not be loaded either, but both files are of one revision again.
    assert_eq!(live_files(&lab.asterisk)?, proven);
    lab.asterisk.rx("module load pbx_config.so").await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}
