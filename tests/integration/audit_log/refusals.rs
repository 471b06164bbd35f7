//! Who was refused something is in the trail, and a flood of refusals is not.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Client;

use super::{entries, entry};
use crate::rbac::people::Person;

#[tokio::test]
async fn wrong_credentials_are_told_once_a_minute_for_each_address() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let anybody = lab.client.anonymous();
    // Nothing was shown: browsers and probes do that.
    let reply = anybody.get("/tenants").await?;
    assert_eq!(reply.problem(401)?, "unauthenticated");
    assert_eq!(refusals(&lab.client).await?.len(), 0);
    let guesses = anybody.with_bearer("pbxt_GuessedTokenNeedle");
    let first = guesses.get("/tenants").await?;
    assert_eq!(first.problem(401)?, "unauthenticated");
    for _ in 0..20 {
        let reply = anybody.with_bearer("other").get("/users").await?;
        assert_eq!(reply.problem(401)?, "unauthenticated");
    }
    let told = entry(&lab.client, "action=request.refused").await?;
    for (name, expected) in [
        ("actor", json!("unknown")),
        ("actor_kind", json!("unknown")),
        ("account_id", Value::Null),
        ("entity_type", json!("operation")),
        ("entity_id", json!("list_tenants")),
        ("source_address", json!("127.0.0.1")),
        ("request_id", json!(first.header("x-request-id"))),
        ("before", Value::Null),
    ] {
        assert_eq!(told[name], expected, "{name} of {told}");
    }
    assert_eq!(told["after"]["count"], 1, "{told}");
    let pool = lab.database.pool().await?;
    let whole: Vec<String> = sqlx::query_scalar("select e::text from audit_entry e")
        .fetch_all(&pool)
        .await?;
    assert!(!whole.join("").contains("Needle"));
    Ok(())
}

async fn refusals(client: &Client) -> anyhow::Result<Vec<Value>> {
    entries(client, "action=request.refused").await
}

/// Each is told with the permission that was missing, until there are too many in a minute.
#[tokio::test]
async fn what_an_account_may_not_do_is_told() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let admin = &lab.client;
    let tenant = json!({ "slug": "acme", "name": "Acme", "ext_min": 100, "ext_max": 199 });
    let acme = admin.post("/tenants", &tenant).await?.expect(201)?.json()?;
    let seat = |role| json!({ "role": role, "tenant": "acme" });
    let operator = Person::create(admin, "olga", &seat("operator")).await?;
    let chief = Person::create(admin, "chief", &seat("tenant_admin")).await?;

    let user = json!({ "name": "Ann", "email": "ann@example.org" });
    let refused = operator.client.post("/tenants/acme/users", &user).await?;
    assert_eq!(refused.problem(403)?, "forbidden");
    let told = entry(admin, "action=request.refused").await?;
    for (name, expected) in [
        ("actor", json!("olga")),
        ("actor_kind", json!("account")),
        ("account_id", json!(operator.account)),
        ("entity_id", json!("create_user")),
        ("tenant_id", acme["id"].clone()),
        ("request_id", json!(refused.header("x-request-id"))),
    ] {
        assert_eq!(told[name], expected, "{name} of {told}");
    }
    assert!(told["credential_id"].is_string(), "{told}");
    assert_eq!(told["after"]["permission"], "users.write", "{told}");

    // The tenant's administrator sees it, and nothing of other tenants or of the portal.
    assert_eq!(refusals(&chief.client).await?, std::slice::from_ref(&told));
    let seen = entries(&chief.client, "").await?;
    assert!(
        seen.iter().all(|e| e["tenant_id"] == acme["id"]),
        "{seen:?}"
    );
    assert!(seen.len() >= 4 && seen.len() < entries(admin, "").await?.len());
    let other = entries(admin, "action=pbx.changed").await?;
    let other = other[0]["id"].as_str().context("no id")?;
    let hidden = chief.client.get(&format!("/audit/{other}")).await?;
    assert_eq!(hidden.problem(404)?, "audit_entry_not_found");
    let default = format!("tenant_id={}", "01900000-0000-7000-8000-000000000002");
    assert_eq!(entries(&chief.client, &default).await?, Vec::<Value>::new());
    let own = told["id"].as_str().context("no id")?;
    let shown = chief
        .client
        .get(&format!("/audit/{own}"))
        .await?
        .expect(200)?;
    assert_eq!(shown.json()?, told);
    let by_operator = operator.client.get("/audit").await?;
    assert_eq!(by_operator.problem(403)?, "forbidden");

    for _ in 0..30 {
        operator.client.get("/pbxes").await?.problem(403)?;
    }
    assert_eq!(refusals(admin).await?.len(), 20);
    let verified = super::verify(&lab.database.url).await?;
    assert!(super::faults(&verified)?.is_empty(), "{verified:?}");
    Ok(())
}

/// By a page of another site, of which it is not looked up whose browser has it; and by cookie without
/// the token of the session, of which it is known.
#[tokio::test]
async fn what_other_sites_have_a_browser_send_is_told() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let seat = json!({ "role": "tenant_admin", "tenant": "default" });
    let ann = Person::create(&lab.client, "ann", &seat).await?;
    let browser = lab.client.with_cookie(&ann.cookie().await?, "");
    let send = async |origin: Option<&str>| {
        let request = browser.request(Method::POST, "/users").json(&json!({}));
        let request = match origin {
            Some(origin) => request.header("origin", origin),
            None => request,
        };
        request.send().await
    };
    for (origin, code, actor, account) in [
        (None, "csrf_token_needed", "ann", json!(ann.account)),
        (
            Some("https://evil.example"),
            "cross_site",
            "unknown",
            Value::Null,
        ),
    ] {
        let refused = send(origin).await?;
        assert_eq!(refused.problem(403)?, code);
        let id = refused.header("x-request-id");
        let told = entry(&lab.client, &format!("request_id={id}")).await?;
        for (name, expected) in [
            ("action", json!("request.refused")),
            ("actor", json!(actor)),
            ("account_id", account),
            ("entity_id", json!("create_user")),
            ("source_address", json!("127.0.0.1")),
        ] {
            assert_eq!(told[name], expected, "{name} of {told}");
        }
    }
    // No site fills the trail by them.
    for _ in 0..25 {
        send(None).await?.problem(403)?;
        send(Some("https://evil.example")).await?.problem(403)?;
    }
    let told = refusals(&lab.client).await?;
    let by = |actor: &str| told.iter().filter(|e| e["actor"] == actor).count();
    assert_eq!((by("ann"), by("unknown")), (20, 1), "{told:?}");
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
