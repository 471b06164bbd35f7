//! What an entry says, and what it never says.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};

use super::{count, entries, entry};

async fn patch(client: &Client, path: &str, body: &Value) -> anyhow::Result<Reply> {
    let request = client.request(Method::PATCH, path);
    let request = request.body("application/merge-patch+json", body.to_string());
    request.send().await
}

#[tokio::test]
async fn a_change_is_told_with_who_where_what_it_was_and_what_it_became() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let path = format!("/users/{}", ann.id);
    let body = json!({
        "name": "Anna", "extension": 1500, "call_forward": { "busy": "+42" },
        "metadata": { "desk": "3.14", "n": 1.5 },
    });
    let request = lab.client.request(Method::PATCH, &path);
    let request = request
        .header("X-Admin-User", "berta")
        .header("X-Request-Id", "my-request.1")
        .body("application/merge-patch+json", body.to_string());
    request.send().await?.expect(200)?;

    let told = entry(&lab.client, "request_id=my-request.1").await?;
    for (name, expected) in [
        ("actor", json!("berta")),
        ("actor_kind", json!("trusted_network")),
        ("account_id", Value::Null),
        ("action", json!("user.changed")),
        ("entity_type", json!("user")),
        ("entity_id", json!(ann.id)),
        ("entity_name", json!("Anna")),
        ("tenant_id", ann.body["tenant_id"].clone()),
        ("source_address", json!("127.0.0.1")),
        ("applied_by", Value::Null),
    ] {
        assert_eq!(told[name], expected, "{name} of {told}");
    }
    assert_eq!(
        told["pending_on"].as_array().map(Vec::len),
        Some(1),
        "{told}"
    );
    let (before, after) = (&told["before"], &told["after"]);
    let shown = lab.client.get(&path).await?.expect(200)?.json()?;
    for (name, value) in shown.as_object().context("no object")? {
        if name != "voicemail" {
            assert_eq!(&after[name], value, "{name}");
        }
    }
    for (name, was, is) in [
        ("name", json!("Ann"), json!("Anna")),
        ("extension", json!(1000), json!(1500)),
        ("metadata", json!({}), json!({ "desk": "3.14", "n": 1.5 })),
        ("version", json!(1), json!(2)),
    ] {
        assert_eq!((&before[name], &after[name]), (&was, &is), "{told}");
    }
    assert_eq!(before["call_forward"]["busy"], Value::Null);
    assert_eq!(after["call_forward"]["busy"], "+42");

    // By itself it says the same.
    let id = told["id"].as_str().context("no id")?;
    let alone = lab.client.get(&format!("/audit/{id}")).await?.expect(200)?;
    assert_eq!(alone.json()?, told);
    let missing = "/audit/01900000-0000-7000-8000-00000000ffff";
    let missing = lab.client.get(missing).await?;
    assert_eq!(missing.problem(404)?, "audit_entry_not_found");
    Ok(())
}

#[tokio::test]
async fn entries_are_found_by_each_filter_and_by_words() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let body = json!({ "slug": "acme", "name": "Acme", "ext_min": 100, "ext_max": 199 });
    let acme = client.post("/tenants", &body).await?.expect(201)?.json()?;
    let acme = acme["id"].as_str().context("no id")?;
    let body = json!({ "name": "Bob 100%_", "email": "bob@example.org" });
    client
        .post("/tenants/acme/users", &body)
        .await?
        .expect(201)?;
    let all = entries(client, "").await?;
    let at = |entry: &Value| entry["at"].as_str().unwrap_or_default().to_owned();
    assert!(
        all.is_sorted_by_key(|entry| std::cmp::Reverse(at(entry))),
        "{all:?}"
    );
    // The first change of all was the portal's own.
    assert_eq!(
        all.last().map(|first| &first["actor"]),
        Some(&json!("portal"))
    );

    let middle = at(&all[2]).replace('+', "%2B");
    for (query, actions) in [
        ("actor=portal", vec!["pbx.changed"]),
        ("actor=nobody", vec![]),
        ("action=user.created", vec!["user.created"; 2]),
        ("entity_type=device", vec!["device.created"; 2]),
        (&format!("entity_id={}", ann.id), vec!["user.created"]),
        (
            &format!("tenant_id={acme}"),
            vec!["device.created", "tenant.created", "user.created"],
        ),
        ("q=100%25_", vec!["user.created"]),
        ("q=TENANT.cre", vec!["tenant.created"]),
        (
            "q=127.0.0",
            vec![
                "device.created",
                "device.created",
                "tenant.created",
                "user.created",
                "user.created",
            ],
        ),
        ("until=2020-01-01T00:00:00Z", vec![]),
        ("since=2999-01-01T00:00:00Z", vec![]),
    ] {
        let found = entries(client, query).await?;
        let mut found: Vec<&str> = found.iter().filter_map(|e| e["action"].as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, actions, "{query}");
    }
    let since = entries(client, &format!("since={middle}")).await?;
    let until = entries(client, &format!("until={middle}")).await?;
    assert_eq!(since.len() + until.len(), all.len(), "{middle}");
    assert!(since.contains(&all[2]) && !until.contains(&all[2]));
    let bad = client.get("/audit?since=yesterday&tenant_id=x").await?;
    assert_eq!(bad.problem(400)?, "validation_failed");
    Ok(())
}

#[tokio::test]
async fn no_secret_is_ever_told() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let (client, pin, other_pin) = (&lab.client, "47110815", "08154711");
    let body = json!({
        "name": "Ann", "email": "ann@example.org", "voicemail": { "pin": pin, "enabled": true },
    });
    let ann = client.post("/users", &body).await?.expect(201)?.json()?;
    let mut secrets = vec![pin.to_owned(), other_pin.to_owned()];
    let mut see = |reply: &Value| {
        let password = reply["sip"]["password"].as_str();
        secrets.extend(password.map(str::to_owned));
    };
    see(&ann);
    let user = format!("/users/{}", ann["id"].as_str().context("no id")?);
    let change = json!({ "voicemail": { "pin": other_pin } });
    patch(client, &user, &change).await?.expect(200)?;
    patch(client, &user, &json!({ "dnd": true }))
        .await?
        .expect(200)?;
    let clear = json!({ "voicemail": { "pin": null } });
    patch(client, &user, &clear).await?.expect(200)?;
    let body = json!({ "user_id": ann["id"], "label": "Desk", "reveal": false });
    let desk = client.post("/devices", &body).await?.expect(201)?.json()?;
    let desk = format!("/devices/{}", desk["id"].as_str().context("no id")?);
    let revealed = client.post_nothing(&format!("{desk}/reveal")).await?;
    see(&revealed.expect(200)?.json()?);
    let rotate = client.request(Method::POST, &format!("{desk}/rotate"));
    let rotate = rotate.header("If-Match", "*");
    let rotate = rotate
        .json(&json!({ "overlap_seconds": 60 }))
        .send()
        .await?;
    see(&rotate.expect(200)?.json()?);
    patch(client, &desk, &json!({ "label": "Desk 2" }))
        .await?
        .expect(200)?;
    client.delete(&user).await?.expect(204)?;
    assert_eq!(secrets.len(), 5, "{secrets:?}");

    let pool = lab.database.pool().await?;
    let whole: Vec<String> = sqlx::query_scalar("select e::text from audit_entry e")
        .fetch_all(&pool)
        .await?;
    let whole = whole.join("\n");
    secrets.push("argon2".to_owned());
    for secret in &secrets {
        assert!(!whole.contains(secret.as_str()), "{secret} in {whole}");
    }
    // Nor anything that was sealed.
    let sealed = count(
        &pool,
        "select count(*) from audit_entry e, device d
         where e::text like '%' || encode(d.sip_password_encrypted, 'hex') || '%'",
    );
    assert_eq!(sealed.await?, 0);

    changed_secrets_are_marked(client).await
}

/// What they were is not told, but that it was another one.
async fn changed_secrets_are_marked(client: &Client) -> anyhow::Result<()> {
    let pins = entries(client, "action=user.changed").await?;
    let pins: Vec<_> = pins
        .iter()
        .rev()
        .map(|e| {
            (
                &e["before"]["voicemail"]["pin"],
                &e["after"]["voicemail"]["pin"],
            )
        })
        .collect();
    let (secret, changed) = (json!("<secret>"), json!("<secret, changed>"));
    assert_eq!(
        pins,
        [
            (&secret, &changed),
            (&secret, &secret),
            (&secret, &Value::Null)
        ]
    );
    let rotated = entry(client, "action=device.rotated").await?;
    assert_eq!(rotated["before"]["sip_password"], secret);
    assert_eq!(rotated["after"]["sip_password"], changed);
    assert_eq!(rotated["before"]["previous_sip_password"], Value::Null);
    assert_eq!(rotated["after"]["previous_sip_password"], changed);
    let renamed = entry(client, "action=device.changed").await?;
    assert_eq!(renamed["after"]["sip_password"], secret);
    Ok(())
}

/// Text that would be more than text somewhere else.
#[tokio::test]
async fn text_of_people_stays_text() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let hostile =
        r#"","level":"ERROR","message":"owned'; drop table audit_entry; -- ${jndi:x} \n <b>"#;
    let admin = &hostile[..90.min(hostile.len())];
    let body = json!({
        "name": admin, "email": "ann@example.org",
        "metadata": { "line\nbreak": "a\r\n{\"level\":\"ERROR\"}\u{1b}[31m", "'": "\u{2028}" },
    });
    let request = lab.client.request(Method::POST, "/users");
    let request = request.header("X-Admin-User", admin).json(&body);
    request.send().await?.expect(201)?;
    // Header values with line ends do not even come to the portal; a request's id is made anew.
    let request = lab.client.request(Method::POST, "/users");
    let request = request.header("X-Request-Id", "a b\" forged");
    let body = json!({ "name": "Bob", "email": "bob@example.org" });
    let reply = request.json(&body).send().await?.expect(201)?;
    let id = reply.header("x-request-id");
    assert!(uuid::Uuid::try_parse(id).is_ok(), "{id}");

    let created = entries(&lab.client, "action=user.created").await?;
    let told = created.last().context("none")?;
    assert_eq!(
        (&told["actor"], &told["entity_name"]),
        (&json!(admin), &json!(admin))
    );
    assert_eq!(told["after"]["metadata"], body_metadata());
    for line in lab.portal.log().lines() {
        let line: Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        assert_ne!(line["level"], "ERROR", "{line}");
    }
    let verified = super::verify(&lab.database.url).await?;
    assert!(super::faults(&verified)?.is_empty());
    Ok(())
}

fn body_metadata() -> Value {
    json!({ "line\nbreak": "a\r\n{\"level\":\"ERROR\"}\u{1b}[31m", "'": "\u{2028}" })
}

/// What changed without any request is told as well: by the environment, and at the command line.
#[tokio::test]
async fn what_is_changed_without_a_request_is_told() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let first = entry(&lab.client, "action=pbx.changed").await?;
    assert_eq!(first["actor_kind"], "portal");
    assert_eq!(
        (&first["source_address"], &first["request_id"]),
        (&Value::Null, &Value::Null)
    );
    for action in ["rotate", "retire"] {
        let (old, new) = (tests::portal::SECRET_KEY, "33".repeat(32));
        let key = if action == "rotate" { old } else { &new };
        let program = tests::process::Program::new(tests::agent::binary("api-server")?)
            .args(["secret-key", action])
            .env("DATABASE_URL", &lab.database.url)
            .env("SECRET_KEY", key)
            .env("NEW_SECRET_KEY", &new);
        program.clone().run(super::DEADLINE).await?.success()?;
    }
    let pool = lab.database.pool().await?;
    let told: Vec<(String, String, Value, Value)> = sqlx::query_as(
        "select action, actor_name, before, after from audit_entry
         where entity_type = 'secret_key' order by position",
    )
    .fetch_all(&pool)
    .await?;
    let actions: Vec<_> = told
        .iter()
        .map(|(a, by, ..)| (a.as_str(), by.as_str()))
        .collect();
    assert_eq!(
        actions,
        [
            ("secret_key.rotated", "command-line"),
            ("secret_key.retired", "command-line")
        ]
    );
    let keys = |told: &Value| told["opened_by"].as_array().map(Vec::len);
    let counts: Vec<_> = told.iter().map(|(.., b, a)| (keys(b), keys(a))).collect();
    assert_eq!(counts, [(Some(1), Some(2)), (Some(2), Some(1))]);
    let verified = super::verify_program(&lab.database.url)?
        .env("SECRET_KEY", "33".repeat(32))
        .run(super::DEADLINE)
        .await?;
    assert!(super::faults(&verified)?.is_empty(), "{verified:?}");
    Ok(())
}

/// What cannot be read any more is put right all the same; the log says why the entry does not tell it.
#[tokio::test]
async fn what_was_spoilt_before_a_start_is_put_right_and_said_so() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    let pool = lab.database.pool().await?;
    let spoilt = "what the PBX was cannot be told";
    assert!(!lab.portal.log().contains(spoilt));
    lab.portal.stop().await?;
    sqlx::query("update pbx set agent_address = 'no address'")
        .execute(&pool)
        .await?;
    lab.portal.resume().await?;
    let told = entries(&lab.client, "action=pbx.changed").await?;
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0]["before"], Value::Null);
    assert_eq!(
        told[0]["after"]["agent_address"],
        told[1]["after"]["agent_address"]
    );
    assert!(lab.portal.log().contains(spoilt));
    Ok(())
}
