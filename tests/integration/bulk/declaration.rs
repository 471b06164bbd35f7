use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{PortalLab, create_user};
use tests::portal::{Client, Reply};

use super::rows;

async fn reconcile(client: &Client, query: &str, body: &Value) -> anyhow::Result<Reply> {
    client
        .post(&format!("/declaration/reconcile{query}"), body)
        .await
}

async fn declared(client: &Client) -> anyhow::Result<Value> {
    client.get("/declaration").await?.expect(200)?.json()
}

/// Entity, action and key of each change.
fn changes(told: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let changes = told["changes"].as_array().cloned().unwrap_or_default();
    let change = |change: &Value| {
        let [entity, action, key] = ["entity", "action", "key"].map(|name| text(&change[name]));
        format!("{entity} {action} {key}")
    };
    changes.iter().map(change).collect()
}

#[tokio::test]
async fn a_tenant_becomes_what_is_declared_and_the_same_again_changes_nothing() -> anyhow::Result<()>
{
    let lab = PortalLab::start().await?;
    create_user(&lab.client, "Ann", "ann@example.org").await?;
    let body = json!({
        "tenant": { "name": "House" },
        "users": [
            { "email": "ann@example.org", "name": "Anna", "metadata": { "room": 1 },
              "devices": [{ "label": "Phone" }, { "label": "Mobile", "codecs": ["opus"] }] },
            { "email": "bob@example.org", "name": "Bob", "extension": 1500, "status": "suspended",
              "devices": [{ "label": "Desk", "nat": { "direct_media": true } }] },
            { "email": "eve@example.org", "name": "Eve" },
        ],
    });
    let before = rows(&lab).await?;
    let plan = reconcile(&lab.client, "?preview=true", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(rows(&lab).await?, before);
    assert_eq!(
        changes(&plan),
        [
            "tenant changed default",
            "user changed ann@example.org",
            "user created bob@example.org",
            "user created eve@example.org",
            "device created ann@example.org Mobile",
        ]
    );
    let mut expecting = body.clone();
    expecting["expected_digest"] = plan["digest"].clone();
    let done = reconcile(&lab.client, "", &expecting)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(changes(&done), changes(&plan));
    let again = reconcile(&lab.client, "", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        again["counts"],
        json!({"created": 0, "changed": 0, "unchanged": 7, "deleted": 0})
    );
    // What was seen before is not what would be done now.
    assert_eq!(
        reconcile(&lab.client, "", &expecting).await?.problem(409)?,
        "plan_outdated"
    );
    let bob = lab.client.get("/users?extension=1500").await?.json()?;
    assert_eq!(bob[0]["status"], "suspended");
    let devices = lab
        .client
        .get(&format!(
            "/devices?user_id={}",
            bob[0]["id"].as_str().unwrap_or_default()
        ))
        .await?
        .json()?;
    assert_eq!(devices.as_array().map(Vec::len), Some(1));
    assert_eq!(
        (&devices[0]["label"], &devices[0]["nat"]["direct_media"]),
        (&json!("Desk"), &json!(true))
    );
    let ann = lab
        .client
        .get("/users?email=ann@example.org")
        .await?
        .json()?;
    assert_eq!(ann[0]["metadata"], json!({ "room": 1 }));
    Ok(())
}

#[tokio::test]
async fn a_plan_is_of_what_it_was_made_of() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    // The names of newcomers as well.
    let [one, other] = ["One", "Other"]
        .map(|name| json!({ "users": [{ "email": "new@example.org", "name": name }] }));
    let seen = reconcile(&lab.client, "?preview=true", &one).await?;
    let seen = seen.expect(200)?.json()?;
    let mut other = other;
    other["expected_digest"] = seen["digest"].clone();
    let changed = reconcile(&lab.client, "", &other).await?;
    assert_eq!(changed.problem(409)?, "plan_outdated");
    Ok(())
}

#[tokio::test]
async fn what_was_exported_changes_nothing_here_and_makes_the_same_elsewhere() -> anyhow::Result<()>
{
    let lab = PortalLab::start().await?;
    for n in 0..5 {
        let user = create_user(
            &lab.client,
            &format!("User {n}"),
            &format!("u{n}@example.org"),
        )
        .await?;
        for label in ["Phone", "Phone", "Desk"] {
            let device = json!({ "user_id": user.id, "label": label });
            lab.client.post("/devices", &device).await?.expect(201)?;
        }
    }
    let whole = declared(&lab.client).await?;
    let before = rows(&lab).await?;
    let mut strict = whole.clone();
    strict["remove_unlisted"] = json!(["users", "devices"]);
    let told = reconcile(&lab.client, "", &strict)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        told["counts"],
        json!({"created": 0, "changed": 0, "unchanged": 26, "deleted": 0})
    );
    assert_eq!(rows(&lab).await?, before);
    let tenant = json!({ "slug": "twin", "name": "Twin", "ext_min": 1000, "ext_max": 1999 });
    lab.client.post("/tenants", &tenant).await?.expect(201)?;
    lab.client
        .post("/tenants/twin/declaration/reconcile", &strict)
        .await?
        .expect(200)?;
    let twin = lab
        .client
        .get("/tenants/twin/declaration")
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(twin, whole);
    Ok(())
}

#[tokio::test]
async fn only_what_is_listed_as_such_is_removed() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for name in ["ann", "bob"] {
        create_user(&lab.client, name, &format!("{name}@example.org")).await?;
    }
    let one = json!({ "email": "ann@example.org", "devices": [] });
    let kept = reconcile(&lab.client, "", &json!({ "users": [one] }))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(changes(&kept), [""; 0]);
    let body = json!({ "users": [{ "email": "ann@example.org" }], "remove_unlisted": ["devices"] });
    let kept = reconcile(&lab.client, "", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(changes(&kept), [""; 0], "nothing is said of ann's devices");
    let body = json!({ "users": [one], "remove_unlisted": ["users", "devices"] });
    let told = reconcile(&lab.client, "?preview=true", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        changes(&told),
        [
            "user deleted bob@example.org",
            "device deleted ann@example.org Phone"
        ]
    );
    reconcile(&lab.client, "", &body).await?.expect(200)?;
    let left = lab.client.get("/users").await?.json()?;
    assert_eq!(left.as_array().map(Vec::len), Some(1));
    assert_eq!(lab.client.get("/devices").await?.json()?, json!([]));
    // A number is free for somebody who comes with the same declaration.
    let body = json!({
        "users": [{ "email": "new@example.org", "name": "New", "extension": 1000 }],
        "remove_unlisted": ["users"],
    });
    let told = reconcile(&lab.client, "", &body)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(
        changes(&told),
        [
            "user deleted ann@example.org",
            "user created new@example.org"
        ]
    );
    Ok(())
}

/// Which of several devices of one label is meant follows from what they are, not from their places.
#[tokio::test]
async fn devices_of_one_label_stay_who_they_are() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    let path = format!("/devices?user_id={}", ann.id);
    let devices = lab.client.get(&path).await?.json()?;
    let first = format!("/devices/{}", devices[0]["id"].as_str().unwrap_or_default());
    crate::life::patch(&lab.client, &first, &json!({ "label": "Old" }))
        .await?
        .expect(200)?;
    let device = json!({ "user_id": ann.id, "label": "Phone" });
    lab.client.post("/devices", &device).await?.expect(201)?;
    // The new one gets the place of the one that goes, before the one that is there.
    for (wanted, disabled) in [
        (
            json!([{ "label": "Phone", "enabled": false }, { "label": "Phone" }]),
            1,
        ),
        // Of the first two nothing is said, so the one that is disabled may stay so.
        (
            json!([{ "label": "Phone" }, { "label": "Phone" }, { "label": "Phone", "enabled": false }]),
            2,
        ),
    ] {
        let body = json!({
            "users": [{ "email": "ann@example.org", "devices": wanted }],
            "remove_unlisted": ["devices"],
        });
        reconcile(&lab.client, "", &body).await?.expect(200)?;
        let again = reconcile(&lab.client, "", &body)
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(changes(&again), [""; 0]);
        let devices = lab.client.get(&path).await?.json()?;
        let devices = devices.as_array().cloned().unwrap_or_default();
        let found = devices.iter().filter(|device| device["enabled"] == false);
        assert_eq!(found.count(), disabled);
    }
    Ok(())
}

#[tokio::test]
async fn all_of_it_or_nothing() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    create_user(&lab.client, "Ann", "ann@example.org").await?;
    let before = rows(&lab).await?;
    let body = json!({
        "users": [
            { "email": "good@example.org", "name": "Good" },
            { "email": "other@example.org", "name": "Other", "extension": 1000 },
            { "email": "nameless@example.org" },
        ],
    });
    let reply = reconcile(&lab.client, "", &body).await?;
    assert_eq!(reply.problem(422)?, "declaration_refused");
    let refusals = reply.json()?["refusals"].clone();
    let codes: Vec<_> = refusals
        .as_array()
        .into_iter()
        .flatten()
        .map(|refusal| (&refusal["key"], &refusal["errors"][0]["code"]))
        .collect();
    assert_eq!(
        codes,
        [
            (&json!("other@example.org"), &json!("extension_taken")),
            (&json!("nameless@example.org"), &json!("missing")),
        ]
    );
    assert_eq!(rows(&lab).await?, before);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_declaration_is_named() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (body, field, code) in [
        (json!({ "users": {} }), "users", "wrong_type"),
        (json!({ "users": [1] }), "users[0]", "wrong_type"),
        (
            json!({ "users": [{ "name": "X" }] }),
            "users[0].email",
            "missing",
        ),
        (
            json!({ "users": [{ "email": "a@example.org", "devices": [{}] }] }),
            "users[0].devices[0].label",
            "missing",
        ),
        (
            json!({ "users": [{ "email": "a@example.org", "voicemail": { "pin": "4711" } }] }),
            "users[0].voicemail.pin",
            "read_only",
        ),
        (json!({ "user": [] }), "user", "unknown_field"),
        (
            json!({ "remove_unlisted": ["tenants"] }),
            "remove_unlisted",
            "unknown_value",
        ),
        (
            json!({ "expected_digest": "x" }),
            "expected_digest",
            "malformed",
        ),
        (
            json!({ "tenant": { "slug": "x" } }),
            "tenant.slug",
            "unknown_field",
        ),
    ] {
        let request = lab.client.request(Method::POST, "/declaration/reconcile");
        let reply = request.json(&body).send().await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{body}");
        let error = &reply.json()?["errors"][0];
        assert_eq!(
            (&error["field"], &error["code"]),
            (&json!(field), &json!(code)),
            "{body}"
        );
    }
    Ok(())
}

/// A body of many small things is far larger in memory, and one of many mistakes would be answered by a far
/// larger one.
#[tokio::test]
async fn what_is_read_and_what_is_told_is_bounded() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let send = async |users: String| {
        let request = lab.client.request(Method::POST, "/declaration/reconcile");
        let body = format!("{{\"users\":[{users}]}}");
        request.body("application/json", body).send().await
    };
    let many = vec!["{}"; 300_000].join(",");
    assert_eq!(send(many).await?.problem(400)?, "malformed_json");
    let listed = vec!["{}"; 20_001].join(",");
    let error = &send(listed).await?.expect(400)?.json()?["errors"][0];
    assert_eq!(
        (&error["field"], &error["code"]),
        (&json!("users"), &json!("too_many"))
    );
    let wrong = vec!["{}"; 150].join(",");
    let told = send(wrong).await?.expect(400)?.json()?;
    assert_eq!(told["errors"].as_array().map(Vec::len), Some(100));
    assert_eq!(told["errors"][99]["field"], "users[99].email");
    let metadata = format!("\"{{\"\"n\"\":[{}0]}}\"", "[0],".repeat(900));
    let lines = (0..500).map(|n| format!("u{n}@example.org,U,{metadata}\n"));
    let table = format!("email,name,metadata\n{}", lines.collect::<String>());
    let refused = super::import(&lab.client, "/imports/users", &table).await?;
    let error = &refused.expect(400)?.json()?["errors"][0];
    assert_eq!(error["code"], "too_many");
    Ok(())
}
