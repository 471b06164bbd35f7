//! API tokens: as much as their scopes and their account, as long as both last.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Client;
use tests::process::wait_until;
use time::format_description::well_known::Rfc3339;

use super::{dump, patch, person, refused, text, trail};

fn in_days(days: i64) -> anyhow::Result<String> {
    let at = SystemClock.now() + time::Duration::days(days);
    Ok(at.format(&Rfc3339)?)
}

fn wanted(name: &str, scopes: &[&str]) -> anyhow::Result<Value> {
    Ok(json!({ "name": name, "scopes": scopes, "expires_at": in_days(30)? }))
}

/// A client with a fresh token, and where that is.
pub(super) async fn token(
    owner: &Client,
    name: &str,
    scopes: &[&str],
) -> anyhow::Result<(Client, String)> {
    let reply = owner
        .post("/api-tokens", &wanted(name, scopes)?)
        .await?
        .expect(201)?;
    let made = reply.json()?;
    let token = text(&made["token"]);
    ensure!(token.starts_with("pbxt_") && token.len() == 48, "{token}");
    Ok((
        owner.with_bearer(token),
        reply.header("location").to_owned(),
    ))
}

/// What a change needs, a table and a declaration need as well.
#[tokio::test]
async fn a_token_does_no_more_by_an_import_than_by_a_change() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let bob = lab.create_user("Bob", "bob@example.org").await?;
    let (blind, _) = token(&lab.client, "Blind", &["users.write", "devices.write"]).await?;
    for (path, body) in [("users", "email,name"), ("devices", "user_email,label")] {
        let request = blind.request(
            reqwest::Method::POST,
            &format!("/imports/{path}?preview=true"),
        );
        let refused = request.body("text/csv", body.to_owned()).send().await?;
        ensure!(refused.problem(403)? == "forbidden", "{refused}");
    }
    let (writer, _) = token(&lab.client, "Writer", &["users.write", "users.read"]).await?;
    let import = async |table: &str| {
        let request = writer.request(reqwest::Method::POST, "/imports/users");
        request.body("text/csv", table.to_owned()).send().await
    };
    for (table, field) in [
        ("email,dnd\nbob@example.org,true\n", "id"),
        ("email,forward_always\nbob@example.org,+420123\n", "id"),
        ("email,voicemail_pin\nbob@example.org,4711\n", "id"),
        ("email,role\nbob@example.org,operator\n", "role"),
    ] {
        let refused = import(table).await?;
        ensure!(refused.problem(422)? == "import_refused", "{refused}");
        let error = &refused.json()?["import"]["lines"][0]["errors"][0];
        let told = (&error["code"], &error["field"]);
        ensure!(told == (&json!("forbidden"), &json!(field)), "{refused}");
    }
    for (declared, field) in [
        (
            json!({ "users": [{ "email": "bob@example.org", "dnd": true }] }),
            "id",
        ),
        (json!({ "tenant": { "name": "Other" } }), "tenant"),
    ] {
        let refused = writer.post("/declaration/reconcile", &declared).await?;
        ensure!(refused.problem(422)? == "declaration_refused", "{refused}");
        ensure!(refused.json()?["refusals"][0]["errors"][0]["field"] == field);
    }
    // What is so already needs nothing.
    let same = "email,name,dnd,role,forward_always\nbob@example.org,Bobby,false,user,\n";
    import(same).await?.expect(200)?;
    let bob = lab.client.get(&format!("/users/{}", bob.id)).await?;
    let bob = bob.expect(200)?.json()?;
    ensure!(bob["name"] == "Bobby" && bob["dnd"] == false && bob["role"] == "user");
    Ok(())
}

#[tokio::test]
async fn a_token_does_what_its_scopes_and_its_account_may() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "tenant_admin", Some("default")).await?;
    let (reader, place) = token(&ann.client, "Reader", &["users.read", "accounts.read"]).await?;
    reader.get("/users").await?.expect(200)?;
    reader.get("/accounts/me").await?.expect(200)?;
    let body = json!({ "name": "Bob", "email": "bob@example.org" });
    for reply in [
        reader.post("/users", &body).await?,
        reader.get("/devices").await?,
        reader.get("/pbxes").await?,
        patch(&reader, "/accounts/me", &json!({ "name": "X" })).await?,
    ] {
        assert_eq!(reply.problem(403)?, "forbidden", "{reply}");
    }
    // Not even with every scope, what needs somebody who has signed in.
    let all = [
        "users.read",
        "users.write",
        "accounts.read",
        "accounts.write",
    ];
    let (writer, _) = token(&ann.client, "Writer", &all).await?;
    writer.post("/users", &body).await?.expect(201)?;
    let passwords = json!({ "current_password": super::PASSWORD, "new_password": "x" });
    for reply in [
        writer.get("/api-tokens").await?,
        writer
            .post("/api-tokens", &wanted("More", &["users.read"])?)
            .await?,
        writer.get(&place).await?,
        writer.delete(&place).await?,
        writer.get("/sessions").await?,
        writer.post("/accounts/me/password", &passwords).await?,
        writer
            .post("/accounts/me/totp", &json!({ "password": super::PASSWORD }))
            .await?,
        writer
            .post("/accounts/me/totp/confirm", &json!({ "code": "123456" }))
            .await?,
        writer
            .post("/accounts/me/recovery-codes", &json!({ "code": "123456" }))
            .await?,
        writer
            .post(
                "/accounts/me/totp/remove",
                &json!({ "password": super::PASSWORD }),
            )
            .await?,
    ] {
        assert_eq!(reply.problem(403)?, "session_needed", "{reply}");
    }
    assert_eq!(
        writer
            .post_nothing("/accounts/me/reset")
            .await?
            .problem(409)?,
        "own_account"
    );
    // A scope outlives the role in name only.
    patch(&lab.client, &ann.path(), &json!({ "role": "operator" }))
        .await?
        .expect(200)?;
    let again = json!({ "name": "Eve", "email": "eve@example.org" });
    assert_eq!(
        writer.post("/users", &again).await?.problem(403)?,
        "forbidden"
    );
    writer.get("/users").await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn a_token_ends_with_its_time_its_revocation_or_its_account() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let (revoked, place) = token(&ann.client, "One", &["users.read"]).await?;
    let (expired, _) = token(&ann.client, "Two", &["users.read"]).await?;
    let (suspended, kept) = token(&ann.client, "Three", &["users.read"]).await?;
    for client in [&revoked, &expired, &suspended] {
        client.get("/users").await?.expect(200)?;
    }
    let twin = ann
        .client
        .post("/api-tokens", &wanted("One", &["users.read"])?)
        .await?;
    assert_eq!(twin.problem(409)?, "api_token_name_taken");
    ann.client.delete(&place).await?.expect(204)?;
    assert_eq!(
        revoked.get("/users").await?.problem(401)?,
        "unauthenticated"
    );
    assert_eq!(
        ann.client.delete(&place).await?.problem(404)?,
        "api_token_not_found"
    );
    // Its name is free again.
    token(&ann.client, "One", &["users.read"]).await?;

    let pool = lab.database.pool().await?;
    let ended = sqlx::query("update api_token set expires_at = now() where name = 'Two'");
    assert_eq!(ended.execute(&pool).await?.rows_affected(), 1);
    assert_eq!(
        expired.get("/users").await?.problem(401)?,
        "unauthenticated"
    );

    // Somebody else's are nobody's business.
    let eve = person(&lab, "eve", "tenant_admin", Some("default")).await?;
    assert_eq!(
        eve.client.get(&kept).await?.problem(404)?,
        "api_token_not_found"
    );
    assert_eq!(
        eve.client.delete(&kept).await?.problem(404)?,
        "api_token_not_found"
    );
    assert_eq!(eve.client.get("/api-tokens").await?.json()?, json!([]));

    patch(&lab.client, &ann.path(), &json!({ "status": "suspended" }))
        .await?
        .expect(200)?;
    assert_eq!(
        suspended.get("/users").await?.problem(401)?,
        "unauthenticated"
    );
    patch(&lab.client, &ann.path(), &json!({ "status": "active" }))
        .await?
        .expect(200)?;
    suspended.get("/users").await?.expect(200)?;
    lab.client.delete(&ann.path()).await?.expect(204)?;
    assert_eq!(
        suspended.get("/users").await?.problem(401)?,
        "unauthenticated"
    );
    let told = trail(&lab, "api_token.%").await?;
    assert_eq!(
        told.iter()
            .filter(|action| *action == "api_token.revoked")
            .count(),
        1
    );
    Ok(())
}

#[tokio::test]
async fn a_tokens_last_use_is_visible_and_itself_is_not() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    let body = wanted("Reader", &["users.read"])?;
    let keyed = ann.client.request(reqwest::Method::POST, "/api-tokens");
    let keyed = keyed
        .header("Idempotency-Key", "once")
        .json(&body)
        .send()
        .await?;
    let made = keyed.expect(201)?.json()?;
    let secret = text(&made["token"]).to_owned();
    let place = format!("/api-tokens/{}", text(&made["id"]));
    let unused = ann.client.get(&place).await?.expect(200)?;
    ensure!(unused.json()?["last_used_at"].is_null() && unused.json()?["token"].is_null());
    ann.client
        .with_bearer(&secret)
        .get("/users")
        .await?
        .expect(200)?;
    let used = async || {
        let shown = ann.client.get(&place).await.and_then(|reply| reply.json());
        shown.is_ok_and(|shown| !shown["last_used_at"].is_null())
    };
    wait_until("the use is visible", Duration::from_secs(10), used).await?;
    let shown = ann.client.get(&place).await?.expect(200)?;
    assert_eq!(shown.json()?["last_used_address"], "127.0.0.1");
    assert_ne!(shown.header("etag"), unused.header("etag"));
    // A second use within the minute is not written down.
    ann.client
        .with_bearer(&secret)
        .get("/users")
        .await?
        .expect(200)?;
    let listed = ann.client.get("/api-tokens").await?.expect(200)?.json()?;
    assert_eq!(listed[0], shown.json()?);
    let kept = dump(&lab).await? + &lab.portal.log();
    ensure!(
        !kept.contains(&secret[5..]),
        "the token is kept in clear or logged"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let ann = person(&lab, "ann", "operator", Some("default")).await?;
    for (field, value, code) in [
        ("name", json!(""), "empty"),
        ("name", json!("a\nb"), "control_character"),
        ("name", json!("x".repeat(61)), "too_long"),
        ("scopes", json!([]), "empty"),
        ("scopes", json!(["users.read", "users.read"]), "duplicate"),
        ("scopes", json!(["everything"]), "unknown_value"),
        ("scopes", json!("users.read"), "wrong_type"),
        ("scopes", json!([1]), "wrong_type"),
        ("scopes", json!(["users.read", "users.write"]), "not_held"),
        ("scopes", json!(["pbxes.read"]), "not_held"),
        ("expires_at", json!("tomorrow"), "malformed"),
        ("expires_at", json!("2020-01-01T00:00:00Z"), "out_of_range"),
        ("expires_at", json!(in_days(367)?), "out_of_range"),
        (
            "expires_at",
            json!("9999-12-31T23:59:59+00:00"),
            "out_of_range",
        ),
        ("expires_at", Value::Null, "wrong_type"),
        ("token", json!("pbxt_mine"), "unknown_field"),
        ("account_id", json!(ann.id), "unknown_field"),
    ] {
        let mut body = wanted("Good", &["users.read"])?;
        body[field] = value.clone();
        let reply = ann.client.post("/api-tokens", &body).await?;
        assert_eq!(
            refused(&reply)?,
            (field.to_owned(), code.to_owned()),
            "{value}"
        );
    }
    let (mine, _) = token(&ann.client, "Mine", &["users.read"]).await?;
    let secret = mine.bearer().context("a token")?.to_owned();
    for wrong in [
        "pbxt_",
        &secret[..47],
        &format!("{secret}A"),
        &secret.to_uppercase(),
        &secret.replace("pbxt_", "pbxp_"),
        &secret.replace("pbxt_", ""),
        &format!("pbxt_{}", "A".repeat(43)),
    ] {
        let reply = lab.client.with_bearer(wrong).get("/users").await?;
        assert_eq!(reply.problem(401)?, "unauthenticated", "{wrong}");
    }
    let pool = lab.database.pool().await?;
    sqlx::query(
        "insert into api_token (
            api_token_id, account_id, name, token_hash, scopes, created_at, expires_at
         )
         select gen_random_uuid(), account_id, 'n' || n, sha256(n::text::bytea), '{users.read}',
            now(), now()
         from account, generate_series(1, 99) n where login = 'ann'",
    )
    .execute(&pool)
    .await?;
    let many = ann
        .client
        .post("/api-tokens", &wanted("More", &["users.read"])?)
        .await?;
    assert_eq!(many.problem(409)?, "too_many_api_tokens");
    Ok(())
}

/// A role is given to nobody by a token that may only write users.
#[tokio::test]
async fn a_user_gets_a_role_only_from_who_may_write_accounts() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let user = |number: usize, role: &str| {
        let email = format!("u{number}@example.org");
        json!({ "name": "Ann", "email": email, "role": role })
    };
    let (users, _) = token(&lab.client, "Users", &["users.write"]).await?;
    for (number, role) in ["operator", "tenant_admin"].into_iter().enumerate() {
        let reply = users.post("/users", &user(number, role)).await?;
        assert_eq!(reply.problem(403)?, "forbidden", "{role}");
    }
    users.post("/users", &user(2, "user")).await?.expect(201)?;
    let scopes = ["users.write", "accounts.write"];
    let (both, _) = token(&lab.client, "Both", &scopes).await?;
    both.post("/users", &user(3, "operator"))
        .await?
        .expect(201)?;
    Ok(())
}
