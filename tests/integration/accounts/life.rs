//! What becomes of an account, from its creation to its end.

use serde_json::{Value, json};
use tests::lab::PortalLab;

use super::{PASSWORD, account, me, patch, person, refused, sign_in, text, trail};

#[tokio::test]
async fn an_account_is_made_suspended_and_ended() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let body = json!({ "login": "Ann@Example.org", "name": " Ann ", "role": "operator",
        "tenant": "default" });
    let created = lab.client.post("/accounts", &body).await?.expect(201)?;
    let made = created.json()?;
    assert_eq!(made["login"], "ann@example.org");
    assert_eq!(made["name"], "Ann");
    assert_eq!(made["role"], "operator");
    assert_eq!(made["status"], "active");
    assert_eq!(made["password_set_at"], Value::Null);
    assert_eq!(made["second_factor"], false);
    assert_eq!(
        created.header("location"),
        format!("/accounts/{}", text(&made["id"]))
    );
    // Nobody signs in without a password, and nobody is told why.
    let early = sign_in(&lab.client, "ann@example.org", PASSWORD, None).await?;
    assert_eq!(early.problem(401)?, "wrong_credentials");

    let ann = super::signed_in(&lab, &made).await?;
    let own = me(&ann.client).await?.expect(200)?;
    assert_eq!(own.json()?["id"], made["id"]);
    assert_ne!(own.json()?["password_set_at"], Value::Null);
    assert_ne!(own.json()?["last_sign_in_at"], Value::Null);
    assert_ne!(own.header("etag"), created.header("etag"));

    let suspended = patch(&lab.client, &ann.path(), &json!({ "status": "suspended" })).await?;
    assert_eq!(suspended.expect(200)?.json()?["status"], "suspended");
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let refused = sign_in(&lab.client, &ann.login, PASSWORD, None).await?;
    assert_eq!(refused.problem(403)?, "account_suspended");
    patch(&lab.client, &ann.path(), &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    // What ended stays ended.
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let again = lab.client.sign_in(&ann.login, PASSWORD).await?;
    me(&again).await?.expect(200)?;

    lab.client.delete(&ann.path()).await?.expect(204)?;
    assert_eq!(me(&again).await?.problem(401)?, "unauthenticated");
    assert_eq!(
        lab.client.get(&ann.path()).await?.problem(404)?,
        "account_not_found"
    );
    let gone = sign_in(&lab.client, &ann.login, PASSWORD, None).await?;
    assert_eq!(gone.problem(401)?, "wrong_credentials");
    let told = trail(&lab, "account.%").await?;
    assert_eq!(
        told,
        [
            "account.created",
            "account.created",
            "account.changed",
            "account.changed",
            "account.deleted"
        ]
    );
    Ok(())
}

/// What a body may not say, by its name in the body or in the table.
#[tokio::test]
async fn nobody_sets_what_is_not_to_be_set() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = json!({ "login": "ann", "name": "Ann", "role": "operator", "tenant": "default" });
    let unknown = [
        "password",
        "password_hash",
        "totp_secret",
        "totp_secret_encrypted",
        "totp_confirmed_at",
        "totp_last_step",
        "version",
        "created_by",
        "account_id",
    ];
    let read_only = [
        "id",
        "tenant_id",
        "second_factor",
        "password_set_at",
        "last_sign_in_at",
        "created_at",
        "updated_at",
    ];
    for field in unknown.iter().chain(&read_only).chain(&["status"]) {
        let mut body = body.clone();
        body[*field] = json!("x");
        let reply = lab.client.post("/accounts", &body).await?;
        let expected = ((*field).to_owned(), "unknown_field".to_owned());
        assert_eq!(refused(&reply)?, expected, "{reply}");
    }
    let made = account(&lab.client, &body).await?;
    let path = format!("/accounts/{}", text(&made["id"]));
    let fields = unknown.map(|field| (field, "unknown_field")).into_iter();
    let fields = fields.chain(read_only.map(|field| (field, "read_only")));
    for (field, code) in fields.chain([("user_id", "read_only")]) {
        let reply = patch(&lab.client, &path, &json!({ field: "x" })).await?;
        let expected = (field.to_owned(), code.to_owned());
        assert_eq!(refused(&reply)?, expected, "{reply}");
    }
    assert_eq!(lab.client.get(&path).await?.json()?, made);
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_an_account_is_said_field_by_field() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let good = json!({ "login": "ann", "name": "Ann", "role": "operator", "tenant": "default" });
    let nobody = "01900000-0000-7000-8000-00000000ffff";
    for (field, value, about, code) in [
        ("login", json!("a b"), "login", "malformed"),
        ("login", json!("a"), "login", "malformed"),
        ("login", json!("änn"), "login", "malformed"),
        (
            "login",
            json!("a'; drop table account; --"),
            "login",
            "malformed",
        ),
        ("login", json!(7), "login", "wrong_type"),
        ("login", json!("a".repeat(255)), "login", "malformed"),
        ("name", json!(""), "name", "empty"),
        ("name", json!("a\nb"), "name", "control_character"),
        ("name", json!("x".repeat(101)), "name", "too_long"),
        ("role", json!("god"), "role", "unknown_value"),
        ("role", json!("user"), "role", "unknown_value"),
        ("role", json!("platform_admin"), "tenant", "with_tenant"),
        ("role", Value::Null, "role", "missing"),
        ("tenant", Value::Null, "tenant", "without_tenant"),
        ("tenant", json!(["default"]), "tenant", "wrong_type"),
        ("user_id", json!(nobody), "role", "not_wanted"),
        ("user_id", json!("me"), "user_id", "malformed"),
    ] {
        let mut body = good.clone();
        body[field] = value.clone();
        let reply = lab.client.post("/accounts", &body).await?;
        let expected = (about.to_owned(), code.to_owned());
        assert_eq!(refused(&reply)?, expected, "{field} {value}");
    }
    for (tenant, user) in [("nobody", None), ("UPPER", None), ("default", Some(nobody))] {
        let mut body = good.clone();
        body["tenant"] = json!(tenant);
        if let Some(user) = user {
            body["user_id"] = json!(user);
            body["role"] = Value::Null;
        }
        let reply = lab.client.post("/accounts", &body).await?;
        let code = user.map_or("tenant_not_found", |_| "user_not_found");
        assert_eq!(reply.problem(404)?, code);
    }
    account(&lab.client, &good).await?;
    let twin = json!({ "login": "ANN", "name": "Twin", "role": "platform_admin" });
    let reply = lab.client.post("/accounts", &twin).await?;
    assert_eq!(reply.problem(409)?, "login_taken");
    let pool = lab.database.pool().await?;
    let count: i64 = sqlx::query_scalar("select count(*) from account")
        .fetch_one(&pool)
        .await?;
    assert_eq!(count, 1);
    Ok(())
}

#[tokio::test]
async fn accounts_are_listed_by_what_is_asked() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let other = super::tenant(&lab.client, "other").await?;
    for (login, name, role, tenant) in [
        ("root", "Root", "platform_admin", None),
        ("zoe", "Zoë Operator", "operator", Some("default")),
        ("ann@example.org", "Ann", "tenant_admin", Some("default")),
        ("bob", "Bob Ann", "operator", Some("other")),
    ] {
        let body = json!({ "login": login, "name": name, "role": role, "tenant": tenant });
        account(&lab.client, &body).await?;
    }
    let logins = async |query: &str| {
        let reply = lab.client.get(&format!("/accounts{query}")).await?;
        let items = reply.expect(200)?.json()?;
        let items = items.as_array().cloned().unwrap_or_default();
        let logins: Vec<String> = items
            .iter()
            .map(|item| text(&item["login"]).to_owned())
            .collect();
        anyhow::Ok(logins)
    };
    assert_eq!(logins("").await?, ["ann@example.org", "bob", "root", "zoe"]);
    assert_eq!(
        logins("?sort=-created_at&limit=2").await?,
        ["bob", "ann@example.org"]
    );
    assert_eq!(logins("?role=operator").await?, ["bob", "zoe"]);
    assert_eq!(logins(&format!("?tenant_id={other}")).await?, ["bob"]);
    assert_eq!(logins("?q=ANN").await?, ["ann@example.org", "bob"]);
    assert_eq!(logins("?q=zo%C3%AB").await?, ["zoe"]);
    assert_eq!(logins("?status=suspended").await?, Vec::<String>::new());
    let first = lab.client.get("/accounts?limit=3").await?.expect(200)?;
    let next = first.next().unwrap_or_default().to_owned();
    let last = lab.client.get(&next).await?.expect(200)?.json()?;
    assert_eq!(last[0]["login"], "zoe");
    // Nobody has signed in here.
    assert_eq!(me(&lab.client).await?.problem(404)?, "account_not_found");
    assert_eq!(
        lab.client.get("/api-tokens").await?.problem(404)?,
        "account_not_found"
    );
    Ok(())
}

#[tokio::test]
async fn an_account_is_changed_by_whoever_has_seen_it() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let seen = lab.client.get(&ann.path()).await?.expect(200)?;
    let renamed = patch(&ann.client, "/accounts/me", &json!({ "name": "Anna" })).await?;
    assert_eq!(renamed.expect(200)?.json()?["name"], "Anna");
    let late = lab
        .client
        .request(reqwest::Method::PATCH, &ann.path())
        .header("If-Match", seen.header("etag"))
        .json(&json!({ "name": "Old" }))
        .send()
        .await?;
    assert_eq!(late.problem(412)?, "precondition_failed");
    // Somebody becomes an administrator of the platform, and of a tenant again.
    let promoted = patch(
        &lab.client,
        &ann.path(),
        &json!({ "role": "platform_admin" }),
    )
    .await?;
    let promoted = promoted.expect(200)?.json()?;
    assert_eq!(promoted["tenant_id"], Value::Null);
    let again = lab.client.sign_in("ann", PASSWORD).await?;
    again.get("/tenants").await?.expect(200)?;
    let homeless = patch(&lab.client, &ann.path(), &json!({ "role": "operator" })).await?;
    assert_eq!(
        refused(&homeless)?,
        ("tenant".to_owned(), "without_tenant".to_owned())
    );
    let back = json!({ "role": "tenant_admin", "tenant": "default" });
    let back = patch(&lab.client, &ann.path(), &back)
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(back["role"], "tenant_admin");
    assert_eq!(again.get("/pbxes").await?.problem(403)?, "forbidden");
    Ok(())
}

/// Whoever works for a tenant without having a number there ends with it.
#[tokio::test]
async fn the_staff_of_a_tenant_ends_with_it() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    super::tenant(&lab.client, "acme").await?;
    let ann = person(&lab, "ann", "tenant_admin", Some("acme")).await?;
    me(&ann.client).await?.expect(200)?;
    let request = lab.client.request(reqwest::Method::DELETE, "/tenants/acme");
    let request = request.header("If-Match", "*");
    request.send().await?.expect(204)?;
    assert_eq!(me(&ann.client).await?.problem(401)?, "unauthenticated");
    let gone = lab.client.get(&ann.path()).await?;
    assert_eq!(gone.problem(404)?, "account_not_found");
    let told = trail(&lab, "account.deleted").await?;
    assert_eq!(told.len(), 1, "{told:?}");
    // The login is free again.
    person(&lab, "ann", "operator", Some("default")).await?;
    Ok(())
}
