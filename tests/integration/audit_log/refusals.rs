//! Who was refused something is in the trail, and a flood of refusals is not.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::{Access, Client, Portal, PortalSetup};

use super::{entries, entry};

/// A portal of the lab's database that asks who is there.
async fn with_sign_in(lab: &PortalLab) -> anyhow::Result<(Portal, Client)> {
    let portal = Portal::start(PortalSetup {
        database_url: &lab.database.url,
        agent: lab.agent.port(1),
        pki: &lab.pki,
        secret_key: None,
        access: Access {
            login: true,
            https: false,
        },
        listen: None,
        env: &[],
    })
    .await?;
    let client = portal.client()?;
    Ok((portal, client))
}

#[tokio::test]
async fn wrong_credentials_are_told_once_a_minute_for_each_address() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let (_portal, client) = with_sign_in(&lab).await?;
    let ask = async |credentials: Option<&str>| {
        let mut request = client.request(Method::GET, "/tenants").undocumented();
        if let Some(credentials) = credentials {
            request = request.header("Authorization", credentials);
        }
        request.send().await
    };
    // Nothing was shown: browsers and probes do that.
    let reply = ask(None).await?;
    assert_eq!(reply.problem(401)?, "unauthenticated");
    assert_eq!(
        entries(&lab.client, "action=request.refused").await?.len(),
        0
    );
    let secret = "pbxt_GuessedTokenNeedle";
    let first = ask(Some(&format!("Bearer {secret}"))).await?;
    assert_eq!(first.problem(401)?, "unauthenticated");
    for _ in 0..20 {
        ask(Some("Bearer other")).await?;
    }
    let told = entry(&lab.client, "action=request.refused").await?;
    for (name, expected) in [
        ("actor", json!("unknown")),
        ("actor_kind", json!("unknown")),
        ("entity_type", json!("operation")),
        ("entity_id", json!("list_tenants")),
        ("source_address", json!("127.0.0.1")),
        ("request_id", json!(first.header("x-request-id"))),
        ("before", Value::Null),
    ] {
        assert_eq!(told[name], expected, "{name} of {told}");
    }
    assert_eq!(told["after"]["count"], 1, "{told}");
    let text = serde_json::to_string(&told)?;
    assert!(!text.contains("Needle"), "{text}");
    Ok(())
}

/// What was refused for another reason than who asked changed nothing, and is no entry.
#[tokio::test]
async fn a_request_that_failed_leaves_no_entry() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let before = entries(&lab.client, "").await?.len();
    let user = format!("/users/{}", ann.id);
    let change = |body: &Value, tag: &str| {
        let request = lab.client.request(Method::PATCH, &user);
        let request = request.header("If-Match", tag);
        request.body("application/merge-patch+json", body.to_string())
    };
    let taken = json!({ "name": "Ann", "email": "ann@example.org" });
    let outside = json!({ "name": "B", "email": "b@example.org", "extension": 99 });
    let statuses = [
        lab.client.post("/users", &taken).await?.status,
        lab.client.post("/users", &outside).await?.status,
        change(&json!({ "name": "X" }), "\"9\"")
            .send()
            .await?
            .status,
        change(&json!({ "extension": 5 }), "*").send().await?.status,
        lab.client.delete("/tenants/default").await?.status,
        lab.client.post("/tenants", &json!({})).await?.status,
        lab.client.delete(&format!("{user}x")).await?.status,
    ];
    assert!(
        statuses.iter().all(|s| (400..500).contains(s)),
        "{statuses:?}"
    );
    let after = entries(&lab.client, "").await?;
    assert_eq!(after.len(), before, "{:?}", after.first().context("none")?);
    Ok(())
}
