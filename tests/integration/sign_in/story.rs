//! How it is meant to go: for programs, for browsers, and what the audit trail tells of it.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Tokens, ann, assert_out, credentials, current, lab, noted, refresh};

#[tokio::test]
async fn a_program_signs_in_goes_on_and_signs_out() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, account) = ann(&lab).await?;
    assert_out(&lab.client.anonymous(), "without anything").await?;
    let body = credentials(" ANN ", super::PASSWORD);
    let opened = lab.client.anonymous().post("/sessions", &body).await?;
    let opened = opened.expect(201)?;
    let tokens = Tokens::of(&opened)?;
    let told = opened.json()?;
    assert_eq!(told["account_id"], account.to_string());
    assert_eq!(
        (&told["kind"], &told["current"]),
        (&json!("bearer"), &json!(true))
    );
    assert_eq!(
        (&told["token_type"], &told["expires_in"]),
        (&json!("Bearer"), &json!(600))
    );
    assert_eq!(
        opened.header("location"),
        format!("/sessions/{}", tokens.id)
    );
    assert_eq!(opened.header("cache-control"), "no-store");
    assert_eq!(opened.header("set-cookie"), "");

    let client = lab.client.with_bearer(&tokens.access);
    let shown = client.get(opened.header("location")).await?.expect(200)?;
    assert_eq!(shown.header("etag"), opened.header("etag"));
    for secret in ["access_token", "refresh_token", "csrf_token"] {
        assert_eq!(shown.json()?[secret], Value::Null, "{secret}");
    }
    client.get("/tenants").await?.expect(200)?;
    let listed = client.get("/sessions").await?.expect(200)?.json()?;
    assert_eq!(listed.as_array().map(Vec::len), Some(1));

    let next = Tokens::of(&refresh(&client, &tokens.refresh).await?.expect(200)?)?;
    assert_eq!(next.id, tokens.id);
    assert_ne!(next.refresh, tokens.refresh);
    next.current(&client).await?.expect(200)?;

    let client = lab.client.with_bearer(&next.access);
    client.delete("/sessions/current").await?.expect(204)?;
    for access in [&tokens.access, &next.access] {
        assert_out(&lab.client.with_bearer(access), "signed out").await?;
    }
    let refused = refresh(&client, &next.refresh).await?;
    assert_eq!(refused.problem(401)?, "refresh_refused");

    let created = noted(&pool, "session.created").await?;
    let (who, which, after) = &created[0];
    assert_eq!((who.as_str(), which.as_str()), ("ann", tokens.id.as_str()));
    assert_eq!(after["account_id"], account.to_string());
    let ended = noted(&pool, "session.ended").await?;
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(
        (ended[0].0.as_str(), &ended[0].2["reason"]),
        ("ann", &json!("signed_out"))
    );
    Ok(())
}

#[tokio::test]
async fn a_browser_signs_in_and_out() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (_, account) = ann(&lab).await?;
    let mut body = credentials("ann", super::PASSWORD);
    body["kind"] = json!("cookie");
    let opened = lab.client.anonymous().post("/sessions", &body).await?;
    let opened = opened.expect(201)?;
    let cookie = opened.header("set-cookie").to_owned();
    let (pair, attributes) = cookie.split_once("; ").unwrap_or_default();
    assert!(
        pair.starts_with("__Host-session=") && pair.len() == 15 + 43,
        "{cookie}"
    );
    assert_eq!(attributes, "Path=/; Secure; HttpOnly; SameSite=Strict");
    let told = opened.json()?;
    assert_eq!(told["account_id"], account.to_string());
    for secret in ["access_token", "refresh_token"] {
        assert_eq!(told[secret], Value::Null, "{secret}");
    }
    assert!(
        !opened.text().contains(&pair[15..]),
        "the cookie is in the body"
    );
    let csrf = told["csrf_token"].as_str().unwrap_or_default();
    let browser = lab.client.with_cookie(pair, csrf);
    let shown = current(&browser).await?.expect(200)?.json()?;
    assert_eq!(
        (&shown["csrf_token"], &shown["kind"]),
        (&told["csrf_token"], &json!("cookie"))
    );

    // Another session of the same account is not shown the token of this one.
    let other = Tokens::open(&lab.client, "ann").await?;
    let list = lab
        .client
        .with_bearer(&other.access)
        .get("/sessions")
        .await?;
    assert!(!list.text().contains(csrf), "{list}");

    let gone = browser.delete("/sessions/current").await?.expect(204)?;
    let cleared = gone.header("set-cookie");
    assert!(cleared.starts_with("__Host-session=; ") && cleared.ends_with("; Max-Age=0"));
    assert_out(&browser, "signed out").await?;
    Ok(())
}

#[tokio::test]
async fn sessions_are_seen_and_ended_by_their_owner_alone() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    super::account(&pool, "bob", super::Whose::Platform).await?;
    let (here, there) = (
        Tokens::open(&lab.client, "ann").await?,
        Tokens::open(&lab.client, "ann").await?,
    );
    let bob = Tokens::open(&lab.client, "bob").await?;
    let client = lab.client.with_bearer(&here.access);
    let path = format!("/sessions/{}", bob.id);
    for method in [Method::GET, Method::DELETE] {
        let reply = client.request(method, &path).send().await?;
        assert_eq!(reply.problem(404)?, "session_not_found");
    }
    bob.current(&client).await?.expect(200)?;
    let listed = client.get("/sessions").await?.expect(200)?.json()?;
    let listed: Vec<_> = listed.as_array().into_iter().flatten().collect();
    assert_eq!(listed.len(), 2, "{listed:?}");
    for session in listed {
        assert_eq!(session["current"], json!(session["id"] == here.id.as_str()));
    }
    // A lost device.
    let path = format!("/sessions/{}", there.id);
    client.delete(&path).await?.expect(204)?;
    assert_out(&client.with_bearer(&there.access), "revoked").await?;
    here.current(&client).await?.expect(200)?;
    assert_eq!(
        noted(&pool, "session.ended").await?[0].2["reason"],
        "revoked"
    );
    for bad in ["x", "CURRENT", "%20"] {
        let reply = client.get(&format!("/sessions/{bad}")).await?;
        assert_eq!(reply.problem(400)?, "malformed_id", "{bad}");
    }
    Ok(())
}
