//! `GET /apply/preview`: what an apply would do, without doing any of it.

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shared::bundle::Slot;
use tests::lab::{Lab, PortalLab};
use tests::portal::Client;

use crate::audit::{applied, trail};
use crate::held::{live_files, managed_files};
use crate::phones::delete;
use crate::status::{edit, warning_codes};

/// A preview.
pub(crate) async fn preview(client: &Client) -> anyhow::Result<Value> {
    client.get("/apply/preview").await?.expect(200)?.json()
}

/// The texts of both diffs.
fn diffs(preview: &Value) -> Vec<&str> {
    let files = preview["changes"]["files"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    files
        .iter()
        .filter_map(|file| file["diff"].as_str())
        .collect()
}

/// `action object name` of each object that differs.
fn objects(preview: &Value) -> Vec<String> {
    let list = preview["changes"]["objects"]["list"].as_array();
    let word = |object: &Value, key: &str| object[key].as_str().unwrap_or_default().to_owned();
    list.into_iter()
        .flatten()
        .map(|object| {
            ["action", "object", "name"]
                .map(|key| word(object, key))
                .join(" ")
        })
        .collect()
}

/// `action name` of each user that differs.
pub(crate) fn users(changes: &Value) -> Vec<String> {
    let list = changes["list"].as_array().or(changes.as_array());
    let word = |user: &Value, key: &str| user[key].as_str().unwrap_or_default().to_owned();
    list.into_iter()
        .flatten()
        .map(|user| ["action", "name"].map(|key| word(user, key)).join(" "))
        .collect()
}

fn digests(files: &[String]) -> Vec<String> {
    let lines = files.iter().flat_map(|file| file.lines());
    let digests = lines.filter_map(|line| line.strip_prefix("password_digest = MD5:"));
    digests.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_apply_does_what_its_preview_showed_and_a_preview_does_nothing() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let before = managed_files(&lab.asterisk)?;
    let nobody = preview(&lab.client).await?;
    assert_eq!(nobody["user_count"], 0, "{nobody}");
    lab.create_user("Ann", "ann@example.org").await?;
    let shown = preview(&lab.client).await?;
    assert_ne!(shown["digest"], nobody["digest"]);
    assert_eq!(shown["would_apply"], true, "{shown}");
    assert_eq!(shown["changes_nothing"], false);
    assert_eq!(shown["compared_with"], Value::Null);
    let expected = [
        "added aor 1000",
        "added auth 1000",
        "added endpoint 1000",
        "added extension 1000@synergy-internal",
    ];
    assert_eq!(objects(&shown), expected, "no marker among them");
    assert_eq!(users(&shown["changes"]["users"]), ["added Ann"]);
    assert_eq!(shown["changes"]["tenants"][0]["name"], "default");
    // Nothing happened.
    assert_eq!(managed_files(&lab.asterisk)?, before);
    assert!(trail(&lab.client).await?.is_empty());

    let body = json!({ "expected_digest": shown["digest"] });
    let attempt = applied(&lab.client, lab.client.post("/apply", &body).await?).await?;
    assert_eq!(attempt["digest"], shown["digest"]);
    assert_eq!(attempt["revision"], 1, "a preview takes no revision");
    let summary = &attempt["changes"];
    assert_eq!(
        summary["objects"],
        json!({ "added": 4, "changed": 0, "removed": 0 })
    );
    assert_eq!(summary["against_revision"], Value::Null);
    assert_eq!(users(&summary["user_names"]), ["added Ann"]);

    let again = preview(&lab.client).await?;
    assert_eq!(again["changes_nothing"], true, "{again}");
    assert_eq!(again["digest"], shown["digest"]);
    assert_eq!(again["compared_with"]["apply_id"], attempt["id"]);
    assert_eq!(diffs(&again), ["", ""]);
    assert_eq!(objects(&again), [""; 0]);
    // A second apply with the same digest is still what was shown.
    let unchanged = lab
        .client
        .post("/apply", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(unchanged["changes"]["objects"]["added"], 0, "{unchanged}");
    Ok(())
}

#[tokio::test]
async fn a_preview_names_what_changes_and_shows_no_secret() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let mut secrets = digests(&live_files(&lab.asterisk)?);
    let _online = lab.phone(&bob)?.online().await?;
    delete(&lab, &bob).await?;
    let carl = lab.create_user("Carl", "carl@example.org").await?;
    assert_eq!(carl.extension, 1001);
    lab.create_user("Dora", "dora@example.org").await?;
    let reply = lab.client.get("/apply/preview").await?.expect(200)?;
    let shown = reply.json()?;

    assert_eq!(shown["compared_with"]["revision"], 1);
    let expected = [
        "changed auth 1001",
        "changed endpoint 1001",
        "added aor 1002",
        "added auth 1002",
        "added endpoint 1002",
        "added extension 1002@synergy-internal",
    ];
    assert_eq!(objects(&shown), expected);
    let list = &shown["changes"]["objects"]["list"];
    let digest = json!({ "field": "password_digest", "secret": true, "old": null, "new": null });
    assert_eq!(list[0]["fields"], json!([digest]));
    let caller_id = json!({
        "field": "callerid", "secret": false,
        "old": "\"Bob\" <1001>", "new": "\"Carl\" <1001>"
    });
    assert_eq!(list[1]["fields"], json!([caller_id]));
    let expected = ["added Carl", "removed Bob", "added Dora"];
    assert_eq!(users(&shown["changes"]["users"]), expected);
    // An agent that cannot tell is no reason to fail.
    let phones = &shown["changes"]["phones"];
    if phones.is_null() {
        assert!(shown["changes"]["phones_unknown"].is_string(), "{shown}");
    } else {
        assert_eq!(phones["count"], 1, "{phones}");
        assert_eq!(phones["list"][0]["aor"], "1001", "{phones}");
    }
    let diff = diffs(&shown)[0];
    for line in [
        "-callerid = \"Bob\" <1001>\n+callerid = \"Carl\" <1001>\n",
        "-password_digest = <secret>\n+password_digest = <secret, changed>\n",
        "+[1002]\n",
    ] {
        assert!(diff.contains(line), "{line} is missing in {diff}");
    }

    applied(&lab.client, lab.apply().await?).await?;
    secrets.extend(digests(&live_files(&lab.asterisk)?));
    assert!(secrets.len() > 5, "{}", secrets.len());
    for secret in secrets {
        assert!(!reply.text().contains(&secret), "a digest is shown");
    }
    Ok(())
}

#[tokio::test]
async fn an_outdated_preview_is_refused_and_nothing_happens() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Bob", "bob@example.org").await?;
    let shown = preview(&lab.client).await?;
    lab.create_user("Carl", "carl@example.org").await?;
    let before = managed_files(&lab.asterisk)?;
    let body = json!({ "expected_digest": shown["digest"] });
    let reply = lab.client.post("/apply", &body).await?;
    assert_eq!(reply.problem(412)?, "preview_outdated");
    assert_eq!(
        managed_files(&lab.asterisk)?,
        before,
        "bytes, inodes or times"
    );
    let told = reply.json()?["apply"].clone();
    assert_eq!(told["outcome"], "preview_outdated");
    assert_eq!(told["revision"], Value::Null);
    assert_eq!(told["user_count"], 3, "what it would have been");
    let kept = trail(&lab.client).await?;
    assert_eq!((kept.len(), &kept[0]["id"]), (2, &told["id"]));
    // With what it is now, it goes.
    let body = json!({ "expected_digest": preview(&lab.client).await?["digest"] });
    applied(&lab.client, lab.client.post("/apply", &body).await?).await?;
    Ok(())
}

#[tokio::test]
async fn without_an_agent_a_preview_tells_what_it_does_not_know() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    delete(&lab, &ann).await?;
    lab.agent.stop().await?;
    let shown = preview(&lab.client).await?;
    assert_eq!(users(&shown["changes"]["users"]), ["removed Ann"]);
    assert_eq!(shown["changes"]["phones"], Value::Null);
    let reason = shown["changes"]["phones_unknown"]
        .as_str()
        .unwrap_or_default();
    assert!(reason.contains("agent"), "{shown}");
    assert_eq!(shown["check"]["by_agent"], false);
    assert_eq!(shown["would_apply"], Value::Null, "{shown}");
    assert_eq!(shown["findings"], json!([]));
    assert_eq!(warning_codes(&shown), ["agent_unreachable"], "{shown}");
    assert!(shown["digest"].is_string(), "what the database says");

    // One that hangs says as little.
    lab.agent.resume().await?;
    assert_eq!(preview(&lab.client).await?["would_apply"], true);
    lab.agent.signal(Signal::SIGSTOP)?;
    let shown = preview(&lab.client).await;
    lab.agent.signal(Signal::SIGCONT)?;
    let shown = shown?;
    assert_eq!(shown["would_apply"], Value::Null, "{shown}");
    assert_eq!(warning_codes(&shown), ["agent_unreachable"], "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_preview_names_the_hand_edits_that_an_apply_overwrites() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["warnings"], json!([]), "{shown}");
    edit(&lab, Slot::DialplanRouting, |old| {
        format!("{old}; by hand\n")
    })?;
    std::fs::remove_file(lab.asterisk.slot(Slot::PjsipEndpoints))?;
    let shown = preview(&lab.client).await?;
    assert_eq!(warning_codes(&shown), ["drift", "drift"], "{shown}");
    for (warning, slot, words) in [
        (0, Slot::PjsipEndpoints, "is gone"),
        (1, Slot::DialplanRouting, "overwrites it"),
    ] {
        let told = shown["warnings"][warning]["message"].to_string();
        let path = lab.asterisk.slot(slot).display().to_string();
        assert!(told.contains(&path) && told.contains(words), "{told}");
    }
    assert_eq!(shown["changes_nothing"], true, "of the data");
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(preview(&lab.client).await?["warnings"], json!([]));

    lab.asterisk.kill();
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["would_apply"], false, "{shown}");
    assert_eq!(shown["findings"][0]["source"], "agent", "{shown}");
    Ok(())
}

#[tokio::test]
async fn data_that_can_be_no_configuration_is_a_finding() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let pool = lab.database.pool().await?;
    sqlx::query("update \"user\" set name = E'Ann\\n[1001]'")
        .execute(&pool)
        .await?;
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["would_apply"], false);
    for unknown in ["digest", "changes", "user_count"] {
        assert_eq!(shown[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(shown["finding_count"], 1, "{shown}");
    assert_eq!(shown["findings"][0]["source"], "data");
    let message = shown["findings"][0]["message"].as_str().unwrap_or_default();
    assert!(message.contains(&ann.id), "{message}");
    Ok(())
}

/// What the stored bundle of the revision in force says is not known: the preview says so.
#[tokio::test]
async fn an_unreadable_bundle_in_force_leaves_the_changes_unknown() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let pool = lab.database.pool().await?;
    sqlx::query("update apply set bundle_encrypted = set_byte(bundle_encrypted, 99, 0) || 'x'")
        .execute(&pool)
        .await?;
    lab.create_user("Bob", "bob@example.org").await?;
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["changes"], Value::Null);
    let reason = shown["changes_unknown"].as_str().context("a reason")?;
    assert!(reason.contains("altered"), "{reason}");
    assert_eq!(shown["would_apply"], true);
    // An apply does not need it.
    let attempt = applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(attempt["changes"], Value::Null);
    Ok(())
}

#[tokio::test]
async fn no_name_forges_a_line_of_a_diff() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let names = [
        "--- a",
        "+++ b",
        "@@ -1,1 +1,1 @@",
        "password_digest = MD5:0123456789abcdef0123456789abcdef",
        "; <secret>",
        "[1001]",
        "a; b\\",
        "\u{200b}abc",
    ];
    for (number, name) in names.iter().enumerate() {
        lab.create_user(name, &format!("user{number}@example.org"))
            .await?;
    }
    let shown = preview(&lab.client).await?;
    assert_eq!(shown["user_count"], names.len());
    for file in shown["changes"]["files"].as_array().context("files")? {
        let diff = file["diff"].as_str().context("a diff")?;
        let (_, body) = diff.split_once("@@\n").context("a hunk")?;
        assert!(body.lines().all(|line| line.starts_with('+')), "{diff}");
        assert_eq!(file["lines_added"], body.lines().count());
        assert_eq!(file["truncated"], false);
    }
    let masked = diffs(&shown)[0]
        .matches("+password_digest = <secret>\n")
        .count();
    assert_eq!(masked, names.len() + 1, "one of each, and the marker's");
    Ok(())
}
