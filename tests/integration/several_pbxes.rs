//! Several PBXes: each with its agent, its Asterisk, its line, its revisions and its failures, none
//! of which touches another.

mod failures;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use shared::bundle::Slot;
use tests::lab::{Lab, OtherPbx};
use tests::phones::Phone;
use tests::portal::{Client, Reply};
use tests::postgres::TestDatabase;
use tests::process::wait_until;
use tests::scratch;

use crate::held::assert_exactly;
use crate::respond_async::{accept, ended};

const DEADLINE: Duration = Duration::from_mins(1);

/// A lab whose portals look often, and a second PBX in service.
async fn two() -> anyhow::Result<(Lab, OtherPbx)> {
    let lab = Lab::builder().portal_env("MONITOR_PERIOD_MS", "300");
    let lab = lab.start().await?;
    let branch = lab.another_pbx("branch").await?;
    Ok((lab, branch))
}

async fn apply(client: &Client, body: Value) -> anyhow::Result<Reply> {
    client.post("/apply", &body).await
}

/// What a reply to `POST /apply` says of each PBX: name, and outcome or why it was left alone.
fn told(reply: &Reply) -> anyhow::Result<Vec<(String, String)>> {
    let body = reply.json()?;
    let applies = body["applies"].as_array().context("no applies")?;
    let word = |value: &Value| value.as_str().map(str::to_owned);
    applies
        .iter()
        .map(|of| {
            let became = word(&of["skipped"])
                .or_else(|| word(&of["outcome"]))
                .or_else(|| word(&of["failure"]["code"]));
            Ok((
                word(&of["pbx"]).context("no name")?,
                became.with_context(|| format!("nothing is told: {of}"))?,
            ))
        })
        .collect()
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
}

pub(crate) async fn list(client: &Client, path: &str) -> anyhow::Result<Vec<Value>> {
    let reply = client.get(path).await?.expect(200)?.json()?;
    reply.as_array().cloned().context("no array")
}

pub(crate) async fn patch(client: &Client, pbx: &str, body: Value) -> anyhow::Result<Reply> {
    let request = client.request(Method::PATCH, &format!("/pbxes/{pbx}"));
    request.json(&body).send().await
}

pub(crate) async fn delete(client: &Client, pbx: &str, tag: &str) -> anyhow::Result<Reply> {
    let request = client.request(Method::DELETE, &format!("/pbxes/{pbx}"));
    request.header("If-Match", tag).send().await
}

async fn one(client: &Client, path: &str) -> anyhow::Result<Value> {
    let mut all = list(client, path).await?;
    ensure!(all.len() == 1, "{path}: {all:?}");
    all.pop().context("none")
}

async fn revisions(client: &Client, pbx: &str) -> anyhow::Result<Vec<u64>> {
    let all = list(client, &format!("/revisions?pbx={pbx}")).await?;
    ensure!(all.iter().all(|of| of["pbx"] == pbx), "{all:?}");
    Ok(all
        .iter()
        .filter_map(|of| of["revision"].as_u64())
        .collect())
}

/// Puts the default tenant, with all its users, on a PBX: a change on both.
pub(crate) async fn move_tenant(database: &TestDatabase, pbx: &str) -> anyhow::Result<()> {
    let pool = database.pool().await?;
    let query = "update tenant set pbx_id =
            (select pbx_id from pbx where name = $1 and deleted_at is null)
        where tenant_id = '01900000-0000-7000-8000-000000000002'";
    let moved = sqlx::query(query).bind(pbx).execute(&pool).await?;
    ensure!(moved.rows_affected() == 1);
    Ok(())
}

#[tokio::test]
async fn each_pbx_with_changes_is_applied_and_told_of() -> anyhow::Result<()> {
    let (lab, branch) = two().await?;
    // Nothing was ever proven on either.
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "applied"), ("default", "applied")])
    );
    let body = reply.json()?;
    assert_eq!(
        (&body["pbx"], &body["revision"]),
        (&json!("default"), &json!(1))
    );

    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "no_changes"), ("default", "applied")])
    );
    assert_exactly(&lab.asterisk, [1000]).await?;
    assert_exactly(&branch.asterisk, []).await?;
    // None has changes: each is proven once more.
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "unchanged"), ("default", "unchanged")])
    );

    // A user of the second PBX registers there, and nowhere else.
    move_tenant(&lab.database, "branch").await?;
    let reply = apply(&lab.client, json!({ "pbx": "branch" }))
        .await?
        .expect(200)?;
    assert_eq!(told(&reply)?, pairs([("branch", "applied")]));
    assert_eq!(reply.json()?["pbx"], "branch");
    let phone = Phone::new(&branch.asterisk, &ann.sip_username, &ann.sip_password)?;
    phone.register().await?.accepted()?;
    let status = list(&lab.client, "/apply/status").await?;
    let differs = status
        .iter()
        .map(|of| (&of["name"], &of["pending"]["differs"]));
    let expected = [
        (json!("branch"), json!(false)),
        (json!("default"), json!(true)),
    ];
    assert!(
        differs.eq(expected.iter().map(|(a, b)| (a, b))),
        "{status:?}"
    );
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "no_changes"), ("default", "applied")])
    );
    assert_exactly(&lab.asterisk, []).await?;
    assert_exactly(&branch.asterisk, [1000]).await?;

    // Revisions are counted for each, and a bundle goes back to where it was.
    assert_eq!(revisions(&lab.client, "default").await?, [4, 3, 2, 1]);
    assert_eq!(revisions(&lab.client, "branch").await?, [3, 2, 1]);
    let first = list(&lab.client, "/revisions?pbx=branch").await?[2]["apply_id"].clone();
    let path = format!("/applies/{}/restore", first.as_str().context("no id")?);
    let restored = lab.client.post_nothing(&path).await?.expect(200)?.json()?;
    assert_eq!(
        (&restored["pbx"], &restored["revision"]),
        (&json!("branch"), &json!(4))
    );
    assert_exactly(&branch.asterisk, []).await?;
    assert_eq!(list(&lab.client, "/applies").await?.len(), 8);
    assert_eq!(list(&lab.client, "/applies?pbx=branch").await?.len(), 4);
    Ok(())
}

#[tokio::test]
async fn one_pbx_is_named_by_id_or_by_name() -> anyhow::Result<()> {
    let (lab, _branch) = two().await?;
    lab.apply().await?.expect(200)?;
    let branch = lab.client.get("/pbxes/branch").await?.expect(200)?.json()?;
    let id = branch["id"].as_str().context("no id")?;
    for named in [id, "branch"] {
        let path = format!("/apply/preview?pbx={named}");
        let preview = lab.client.get(&path).await?.expect(200)?.json()?;
        assert_eq!(preview["pbx_id"], id, "{preview}");
        let digest = &preview["digest"];
        let wish = json!({ "pbx": named, "expected_digest": digest });
        let applied = apply(&lab.client, wish).await?.expect(200)?.json()?;
        assert_eq!(
            (&applied["pbx_id"], &applied["digest"]),
            (&json!(id), digest)
        );
        let body = json!({ "pbx": named });
        let verified = lab
            .client
            .post("/apply/verify", &body)
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(
            (&verified["pbx"], &verified["in_force"]),
            (&json!("branch"), &json!(true))
        );
        let status = one(&lab.client, &format!("/apply/status?pbx={named}")).await?;
        assert_eq!(status["id"], id);
    }
    // One digest cannot be that of several.
    let wish = json!({ "expected_digest": "0f".repeat(32) });
    let reply = apply(&lab.client, wish).await?;
    assert_eq!(reply.problem(400)?, "validation_failed");
    assert_eq!(reply.json()?["errors"][0]["field"], "pbx");
    for nobody in ["nobody", "01900000-0000-7000-8000-00000000ffff"] {
        let body = json!({ "pbx": nobody });
        for path in ["/apply", "/apply/verify"] {
            let reply = lab.client.post(path, &body).await?;
            assert_eq!(reply.problem(404)?, "pbx_not_found");
        }
        for path in [
            "/apply/preview",
            "/apply/status",
            "/revisions",
            "/events",
            "/applies",
        ] {
            let reply = lab.client.get(&format!("{path}?pbx={nobody}")).await?;
            assert_eq!(reply.problem(404)?, "pbx_not_found", "{path}");
            let reply = lab.client.get(&format!("{path}?pbx=A%20b")).await?;
            assert_eq!(reply.problem(400)?, "validation_failed", "{path}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn accepted_applies_run_on_both() -> anyhow::Result<()> {
    let (lab, branch) = two().await?;
    // The one behind the frozen agent waits for nobody but it.
    branch.agent.signal(Signal::SIGSTOP)?;
    let reply = accept(&lab.client).await?.expect(202)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "queued"), ("default", "queued")])
    );
    let body = reply.json()?;
    let id = |n: usize| body["applies"][n]["apply_id"].as_str().context("no id");
    assert_eq!(
        (&body["pbx"], &body["id"]),
        (&json!("default"), &json!(id(1)?))
    );
    assert_eq!(reply.header("location"), format!("/applies/{}", id(1)?));
    let own = ended(&lab.client, id(1)?, DEADLINE).await?;
    assert_eq!(
        (&own["outcome"], &own["pbx"]),
        (&json!("applied"), &json!("default"))
    );
    let open = lab
        .client
        .get(&format!("/applies/{}", id(0)?))
        .await?
        .json()?;
    assert_eq!(open["ended_at"], Value::Null, "{open}");
    branch.agent.signal(Signal::SIGCONT)?;
    // Steps come from the agent of its own PBX.
    let mut stream = lab.client.follow(id(0)?).await?;
    let mut last = None;
    while let Some(event) = stream.next().await? {
        last = Some(event);
    }
    let last = last.context("nothing was told")?;
    assert_eq!(
        (last.name.as_str(), &last.data["outcome"]),
        ("ended", &json!("applied"))
    );
    assert_eq!(last.data["pbx"], "branch");
    Ok(())
}

#[tokio::test]
async fn drift_is_told_of_the_pbx_that_has_it() -> anyhow::Result<()> {
    let (lab, branch) = two().await?;
    lab.apply().await?.expect(200)?;
    let path = branch.asterisk.slot(Slot::DialplanRouting);
    let text = std::fs::read_to_string(&path)?;
    scratch::write(&path, 0o644, &format!("{text}; by hand\n"))?;
    let found = async || {
        let events = list(&lab.client, "/events?kind=drift_found").await;
        events.is_ok_and(|events| !events.is_empty())
    };
    wait_until("the drift is told", DEADLINE, found).await?;
    let event = one(&lab.client, "/events?kind=drift_found").await?;
    assert_eq!(event["pbx"], "branch");
    let status = list(&lab.client, "/apply/status").await?;
    let drift = [0, 1].map(|n| (&status[n]["name"], status[n]["drift"]["since"].is_string()));
    assert_eq!(
        drift,
        [(&json!("branch"), true), (&json!("default"), false)]
    );
    assert_eq!(status[1]["warnings"], json!([]), "{}", status[1]);
    Ok(())
}

#[tokio::test]
async fn portals_learn_of_pbxes_from_the_database() -> anyhow::Result<()> {
    let mut lab = Lab::builder()
        .portal_env("MONITOR_PERIOD_MS", "300")
        .start()
        .await?;
    let other = lab.another_portal().await?;
    let other = other.client()?;
    let mut branch = lab.another_pbx("branch").await?;
    // Whoever names it is understood at once, the rest follows by itself.
    apply(&other, json!({ "pbx": "branch" }))
        .await?
        .expect(200)?;
    branch.agent.kill();
    let noticed = async || {
        let status = other.get("/apply/status?pbx=branch").await;
        status.and_then(|reply| reply.json()).is_ok_and(|body| {
            let name = "pbx_portal_monitor_failures_total";
            body[0]["counters"][name]
                .as_u64()
                .is_some_and(|count| count > 0)
        })
    };
    wait_until("the other portal watches it", DEADLINE, noticed).await?;
    branch.agent.resume().await?;

    // After a start both are there again.
    lab.portal.stop().await?;
    lab.portal.resume().await?;
    let found = async || {
        let status = list(&lab.client, "/apply/status").await;
        status.is_ok_and(|status| {
            status.len() == 2 && status.iter().all(|of| of["agent"] == "reachable")
        })
    };
    wait_until("both are found", DEADLINE, found).await?;
    let reply = lab.apply().await?.expect(200)?;
    assert_eq!(
        told(&reply)?,
        pairs([("branch", "no_changes"), ("default", "applied")])
    );

    // One that is renamed or taken away is so for both.
    let renamed = patch(&lab.client, "branch", json!({ "name": "office" })).await?;
    renamed.expect(200)?;
    apply(&other, json!({ "pbx": "office" }))
        .await?
        .expect(200)?;
    let request = lab.client.request(Method::DELETE, "/pbxes/office");
    request.header("If-Match", "*").send().await?.expect(204)?;
    wait_until("the other portal forgets it", DEADLINE, async || {
        let status = list(&other, "/apply/status").await;
        status.is_ok_and(|status| status.len() == 1)
    })
    .await?;
    let reply = apply(&other, json!({ "pbx": "office" })).await?;
    assert_eq!(reply.problem(404)?, "pbx_not_found");
    // What was done there stays told.
    assert_eq!(list(&other, "/applies").await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn a_pbx_on_which_an_apply_runs_stays_as_it_is() -> anyhow::Result<()> {
    let (lab, branch) = two().await?;
    lab.apply().await?.expect(200)?;
    branch.agent.signal(Signal::SIGSTOP)?;
    let body = json!({ "pbx": "branch" });
    let running = tokio::spawn({
        let client = lab.client.clone();
        async move { apply(&client, body).await }
    });
    wait_until("the apply is sent", DEADLINE, async || {
        let newest = list(&lab.client, "/applies?pbx=branch&limit=1").await;
        newest.is_ok_and(|newest| newest[0]["outcome"] == "started")
    })
    .await?;
    let elsewhere = json!({ "agent_address": "127.0.0.1:9" });
    let reply = patch(&lab.client, "branch", elsewhere).await?;
    assert_eq!(reply.problem(409)?, "apply_busy");
    let reply = delete(&lab.client, "branch", "*").await?;
    assert_eq!(reply.problem(409)?, "apply_busy");
    patch(&lab.client, "branch", json!({ "name": "office" }))
        .await?
        .expect(200)?;
    branch.agent.signal(Signal::SIGCONT)?;
    let reply = running.await??.expect(200)?;
    assert_eq!(told(&reply)?, pairs([("office", "unchanged")]));
    delete(&lab.client, "office", "*").await?.expect(204)?;
    Ok(())
}
