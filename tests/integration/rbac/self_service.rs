//! What a user may do for itself, and that it is nothing else; and what strangers are told.

use anyhow::ensure;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{NewUser, PortalLab, create_user};
use tests::portal::{Client, Reply};

use super::people::{Person, text};

async fn patch(client: &Client, path: &str, change: &Value) -> anyhow::Result<Reply> {
    let request = client.request(Method::PATCH, path);
    let request = request.body("application/merge-patch+json", change.to_string());
    request.send().await
}

/// Ann, who has signed in, and Bob of the same tenant.
async fn two(lab: &PortalLab) -> anyhow::Result<(Person, [NewUser; 2])> {
    let ann = create_user(&lab.client, "Ann", "ann@example.org").await?;
    let bob = create_user(&lab.client, "Bob", "bob@example.org").await?;
    let seat = json!({ "user_id": ann.id, "tenant": "default" });
    let person = Person::create(&lab.client, "ann", &seat).await?;
    Ok((person, [ann, bob]))
}

#[tokio::test]
async fn a_user_sees_itself_and_changes_how_its_own_calls_go() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let (person, [ann, bob]) = two(&lab).await?;
    let client = &person.client;
    let ids = |list: &Value| -> Vec<String> {
        let items = list.as_array().into_iter().flatten();
        items
            .filter_map(|item| item["id"].as_str())
            .map(str::to_owned)
            .collect()
    };
    let device = text(&ann.body["sip"], "device_id")?;
    for (path, expected) in [
        ("/users", vec![ann.id.clone()]),
        ("/users?limit=1&sort=name", vec![ann.id.clone()]),
        ("/users?q=bob", vec![]),
        ("/users?extension=1001", vec![]),
        ("/tenants/default/users", vec![ann.id.clone()]),
        ("/devices", vec![device.clone()]),
        (&format!("/devices?user_id={}", bob.id), vec![]),
        ("/deleted-users", vec![]),
    ] {
        let list = client.get(path).await?.expect(200)?.json()?;
        assert_eq!(ids(&list), expected, "{path}");
    }
    let own = format!("/users/{}", ann.id);
    let change = json!({
        "dnd": true, "voicemail": { "enabled": true, "pin": "4711" },
        "call_forward": { "busy": "1001" },
    });
    let changed = patch(client, &own, &change).await?.expect(200)?.json()?;
    assert_eq!(
        (&changed["dnd"], &changed["call_forward"]["busy"]),
        (&json!(true), &json!("1001"))
    );
    for change in [
        json!({ "name": "Queen" }),
        json!({ "email": "queen@example.org" }),
        json!({ "extension": 1500 }),
        json!({ "status": "suspended" }),
        json!({ "role": "tenant_admin" }),
        json!({ "outbound_caller_id": "+420123456789" }),
        json!({ "metadata": { "a": 1 } }),
        json!({ "dnd": false, "name": "Queen" }),
    ] {
        let refused = patch(client, &own, &change).await?;
        assert_eq!(refused.problem(403)?, "forbidden", "{change}: {refused}");
        ensure!(refused.text().contains("users.write"), "{refused}");
    }
    let now = lab.client.get(&own).await?.expect(200)?.json()?;
    assert_eq!(now, changed);
    let refused = patch(
        client,
        &format!("/users/{}", bob.id),
        &json!({ "dnd": true }),
    )
    .await?;
    assert_eq!(refused.problem(404)?, "user_not_found");
    Ok(())
}

#[tokio::test]
async fn a_user_gets_new_passwords_for_its_own_devices_only() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let (person, [ann, bob]) = two(&lab).await?;
    let client = &person.client;
    let rotate = async |device: &str| {
        let request = client.request(Method::POST, &format!("/devices/{device}/rotate"));
        request
            .header("If-Match", "*")
            .json(&json!({ "reveal": false }))
            .send()
            .await
    };
    let own = text(&ann.body["sip"], "device_id")?;
    let rotated = rotate(&own).await?.expect(200)?;
    assert_eq!(rotated.json()?["sip"]["password"], Value::Null, "{rotated}");
    let shown = client
        .post_nothing(&format!("/devices/{own}/reveal"))
        .await?
        .expect(200)?;
    ensure!(shown.json()?["sip"]["password"].is_string(), "{shown}");
    let others = text(&bob.body["sip"], "device_id")?;
    let before = lab
        .client
        .get(&format!("/devices/{others}"))
        .await?
        .json()?;
    assert_eq!(rotate(&others).await?.problem(404)?, "device_not_found");
    let refused = client
        .post_nothing(&format!("/devices/{others}/reveal"))
        .await?;
    assert_eq!(refused.problem(404)?, "device_not_found");
    let after = lab
        .client
        .get(&format!("/devices/{others}"))
        .await?
        .json()?;
    assert_eq!(after, before);
    Ok(())
}

/// A token goes no further than its scopes, whoever's it is; a role says what an account may do.
#[tokio::test]
async fn a_token_changes_what_its_scopes_name() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let (_, [ann, _]) = two(&lab).await?;
    let seat = json!({ "role": "tenant_admin", "tenant": "default" });
    let chief = Person::create(&lab.client, "chief", &seat).await?;
    let own = format!("/users/{}", ann.id);
    let calls = chief.token("calls", &["users.calls"]).await?.client;
    let users = chief
        .token("users", &["users.calls", "users.write"])
        .await?
        .client;
    patch(&calls, &own, &json!({ "dnd": true }))
        .await?
        .expect(200)?;
    let refused = patch(&calls, &own, &json!({ "name": "Queen" })).await?;
    assert_eq!(refused.problem(403)?, "forbidden", "{refused}");
    patch(&users, &own, &json!({ "name": "Queen" }))
        .await?
        .expect(200)?;
    let refused = patch(&users, &own, &json!({ "role": "tenant_admin" })).await?;
    ensure!(refused.problem(403)? == "forbidden" && refused.text().contains("accounts.write"));
    patch(&chief.client, &own, &json!({ "role": "operator" }))
        .await?
        .expect(200)?;
    Ok(())
}

#[tokio::test]
async fn strangers_are_told_whether_the_portal_works_and_no_more() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let (person, _) = two(&lab).await?;
    let scoped = Person::create(&lab.client, "boss", &json!({ "role": "platform_admin" })).await?;
    let supervisor = scoped
        .token("supervisor", &["diagnostics.run"])
        .await?
        .client;
    let others = scoped.token("others", &["users.read"]).await?.client;
    let anonymous = lab.client.anonymous();
    let address = lab.agent.port(1).to_string();
    for (client, in_full) in [
        (&lab.client, true),
        (&supervisor, true),
        (&others, false),
        (&person.client, false),
        (&anonymous, false),
        (&anonymous.with_bearer("nobody's"), false),
    ] {
        let reply = client.get("/health/ready").await?.expect(503)?;
        let body = reply.json()?;
        assert_eq!(body["database"]["ok"], true, "{reply}");
        assert_eq!(body["agent"]["ok"], false, "{reply}");
        assert_eq!(body["pbxes"] != json!([]), in_full, "{reply}");
        for word in ["default", "connect", "schema", &address] {
            ensure!(in_full || !reply.text().contains(word), "{word}: {reply}");
        }
    }
    Ok(())
}
