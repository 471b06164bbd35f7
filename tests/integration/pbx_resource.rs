//! `/pbxes` as a resource: made, changed, taken away, and what is refused.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::process::wait_until;

use crate::several_pbxes::{delete, list, move_tenant, patch};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_pbx_is_made_changed_and_taken_away() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({
        "name": "branch", "agent_address": "127.0.0.1:9", "transports": { "udp": "transport-udp" },
    });
    let reply = lab.client.post("/pbxes", &body).await?.expect(201)?;
    let made = reply.json()?;
    let id = made["id"].as_str().context("no id")?.to_owned();
    assert_eq!(reply.header("location"), format!("/pbxes/{id}"));
    assert_eq!(reply.header("etag"), "\"1\"");
    assert_eq!(made["agent_identity"], "spiffe://pbx.internal/agent/branch");
    assert_eq!(
        (&made["sip_realm"], &made["default"]),
        (&json!("synergycall"), &json!(false))
    );
    let names = list(&lab.client, "/pbxes").await?;
    let names: Vec<&Value> = names.iter().map(|of| &of["name"]).collect();
    assert_eq!(names, ["branch", "default"]);

    // Only what is named changes; a version is seen once.
    let request = lab.client.request(Method::PATCH, &format!("/pbxes/{id}"));
    let change = json!({ "transports": { "tls": "transport-tls" } }).to_string();
    let request = request.body("application/merge-patch+json", change);
    let reply = request
        .header("If-Match", "\"1\"")
        .send()
        .await?
        .expect(200)?;
    assert_eq!(reply.header("etag"), "\"2\"");
    let mut expected = made.clone();
    expected["transports"]["tls"] = json!("transport-tls");
    assert_eq!(reply.json()?, expected);
    let request = lab.client.request(Method::PATCH, "/pbxes/branch");
    let request = request
        .json(&json!({ "sip_realm": "x" }))
        .header("If-Match", "\"1\"");
    assert_eq!(request.send().await?.problem(412)?, "precondition_failed");
    let same = patch(&lab.client, "branch", json!({ "name": "branch" }))
        .await?
        .expect(200)?;
    assert_eq!(same.header("etag"), "\"2\"");
    let gone = json!({ "transports": { "udp": null } });
    let gone = patch(&lab.client, "branch", gone)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(gone["transports"], json!({ "tls": "transport-tls" }));

    Ok(())
}

#[tokio::test]
async fn only_one_that_nobody_is_on_is_taken_away() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "name": "branch", "agent_address": "127.0.0.1:9" });
    let made = lab
        .client
        .post("/pbxes", &body)
        .await?
        .expect(201)?
        .json()?;
    let id = made["id"].as_str().context("no id")?;
    let realm = json!({ "sip_realm": "x" });
    patch(&lab.client, "branch", realm).await?.expect(200)?;
    let reply = lab.client.delete("/pbxes/branch").await?;
    assert_eq!(reply.problem(428)?, "precondition_required");
    let reply = delete(&lab.client, "branch", "\"1\"").await?;
    assert_eq!(reply.problem(412)?, "precondition_failed");
    move_tenant(&lab.database, "branch").await?;
    let reply = delete(&lab.client, "branch", "\"2\"").await?;
    assert_eq!(reply.problem(409)?, "pbx_in_use");
    let reply = delete(&lab.client, "default", "*").await?;
    assert_eq!(reply.problem(409)?, "default_pbx");
    move_tenant(&lab.database, "default").await?;
    delete(&lab.client, "branch", "\"2\"").await?.expect(204)?;
    let reply = lab.client.get("/pbxes/branch").await?;
    assert_eq!(reply.problem(404)?, "pbx_not_found");
    // Name and agent are free again; the old one keeps its trail.
    let again = lab
        .client
        .post("/pbxes", &body)
        .await?
        .expect(201)?
        .json()?;
    assert_ne!(again["id"], json!(id));
    assert_eq!(
        list(&lab.client, &format!("/applies?pbx={id}"))
            .await?
            .len(),
        0
    );
    Ok(())
}

/// Nobody will ask its agent any more how an apply ended whose portal died: the row says so.
#[tokio::test]
async fn an_apply_that_was_open_is_closed_with_its_pbx() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "name": "branch", "agent_address": "127.0.0.1:9" });
    lab.client.post("/pbxes", &body).await?.expect(201)?;
    let query = "insert into apply (
            apply_id, pbx_id, revision, digest, on_reload_failure, outcome, requested_by,
            request_id, source_address, started_at, bundle_encrypted
        )
        select gen_random_uuid(), pbx_id, 1, decode(repeat('0f', 32), 'hex'), 'roll_back',
            'started', 'anna', 'r', '127.0.0.1', now(), ''::bytea
        from pbx where name = 'branch'";
    sqlx::query(query)
        .execute(&lab.database.pool().await?)
        .await?;
    // The reconciler holds the PBX's lock for a moment when it looks.
    wait_until("the PBX is idle", DEADLINE, async || {
        let deleted = delete(&lab.client, "branch", "*").await;
        deleted.is_ok_and(|reply| reply.status == 204)
    })
    .await?;
    let attempt = &list(&lab.client, "/applies").await?[0];
    assert_eq!(attempt["outcome"], "interrupted", "{attempt}");
    assert_eq!(attempt["pbx"], "branch");
    Ok(())
}

#[tokio::test]
async fn no_two_have_one_name_or_one_agent() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let post = async |body: Value| lab.client.post("/pbxes", &body).await;
    let first = json!({ "name": "one", "agent_address": "127.0.0.1:9" });
    post(first).await?.expect(201)?;
    // Two for one agent would fight over its revisions.
    let own = lab
        .client
        .get("/pbxes/default")
        .await?
        .expect(200)?
        .json()?;
    for (field, value) in [
        ("agent_address", json!("127.0.0.1:9")),
        ("agent_address", own["agent_address"].clone()),
        ("agent_identity", json!("spiffe://pbx.internal/agent/one")),
        ("agent_identity", own["agent_identity"].clone()),
    ] {
        let mut body = json!({ "name": "two", "agent_address": "127.0.0.1:10" });
        body[field] = value.clone();
        assert_eq!(post(body).await?.problem(409)?, "agent_taken", "{field}");
        let reply = patch(&lab.client, "one", json!({ field: value })).await?;
        if own[field] == value {
            assert_eq!(reply.problem(409)?, "agent_taken", "{field}");
        }
    }
    let same = json!({ "name": "one", "agent_address": "127.0.0.1:10",
        "agent_identity": "spiffe://pbx.internal/agent/x" });
    assert_eq!(post(same).await?.problem(409)?, "pbx_name_taken");
    let reply = patch(&lab.client, "one", json!({ "name": "default" })).await?;
    assert_eq!(reply.problem(409)?, "pbx_name_taken");

    Ok(())
}

#[tokio::test]
async fn what_the_environment_says_is_not_changed() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (field, value) in [
        ("agent_address", "127.0.0.1:11"),
        ("agent_identity", "spiffe://pbx.internal/agent/x"),
        ("sip_realm", "other"),
    ] {
        let reply = patch(&lab.client, "default", json!({ field: value })).await?;
        assert_eq!(reply.problem(409)?, "set_by_environment", "{field}");
    }
    let ours = json!({ "name": "main", "transports": { "udp": "transport-udp" } });
    patch(&lab.client, "default", ours).await?.expect(200)?;
    let ready = lab.client.get("/health/ready").await?.json()?;
    assert_eq!(ready["pbxes"][0]["name"], "main", "{ready}");
    Ok(())
}

/// Whatever is written into files, paths and connections, in every field.
#[tokio::test]
async fn hostile_values_are_refused_by_field() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let post = async |body: Value| lab.client.post("/pbxes", &body).await;
    let first = json!({ "name": "one", "agent_address": "127.0.0.1:9" });
    post(first).await?.expect(201)?;
    for hostile in hostile() {
        let body = json!({ "name": hostile, "agent_address": "h:1" });
        assert_eq!(
            post(body).await?.problem(400)?,
            "validation_failed",
            "{hostile}"
        );
        for field in ["agent_address", "agent_identity", "sip_realm"] {
            // Absent and null are the same where there is a default.
            if hostile.is_null() && field != "agent_address" {
                continue;
            }
            let mut body = json!({ "name": "x", "agent_address": "h:1" });
            body[field] = hostile.clone();
            let reply = post(body).await?;
            assert_eq!(
                reply.problem(400)?,
                "validation_failed",
                "{field}: {hostile}"
            );
        }
        if hostile != json!("A") && !hostile.is_null() {
            let body =
                json!({ "name": "x", "agent_address": "h:1", "transports": { "udp": hostile } });
            assert_eq!(
                post(body).await?.problem(400)?,
                "validation_failed",
                "{hostile}"
            );
        }
    }
    let reply = patch(
        &lab.client,
        "one",
        json!({ "id": "x", "name": null, "y": 1 }),
    )
    .await?;
    let errors = reply.json()?["errors"].clone();
    let codes = [0, 1, 2].map(|n| errors[n]["code"].clone());
    assert_eq!(
        codes,
        ["read_only", "not_nullable", "unknown_field"].map(Value::from)
    );
    assert_eq!(list(&lab.client, "/pbxes").await?.len(), 2);
    Ok(())
}

fn hostile() -> Vec<Value> {
    vec![
        json!(""),
        json!(" "),
        json!("a b"),
        json!("A"),
        json!("ä"),
        json!("a\nb"),
        json!("a;b"),
        json!("a]\n[x"),
        json!("../x"),
        json!("a\0b"),
        json!("a'b\"c"),
        json!("%61"),
        json!("a".repeat(70_000 / 4)),
        json!(null),
        json!(7),
        json!([]),
        json!({}),
        json!("spiffe://pbx.internal/portal"),
        json!("http://x:1"),
        json!("x:99999"),
    ]
}
