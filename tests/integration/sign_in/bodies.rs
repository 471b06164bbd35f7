//! Bodies that are no sign-in: too large, too deep, with more or less than there may be.

use reqwest::Method;
use serde_json::json;

use super::{PASSWORD, ann, attempt, credentials, lab};

#[tokio::test]
async fn oversized_and_nested_bodies_are_refused() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let send = async |path: &str, body: String| {
        let request = lab.client.anonymous().request(Method::POST, path);
        request.body("application/json", body).send().await
    };
    for path in ["/sessions", "/sessions/refresh"] {
        let large = json!({ "login": "a".repeat(70_000), "password": PASSWORD });
        assert_eq!(
            send(path, large.to_string()).await?.problem(413)?,
            "body_too_large"
        );
        for (open, close) in [("[", "]"), ("{\"login\":", "}")] {
            let deep = format!("{}1{}", open.repeat(800), close.repeat(800));
            assert_eq!(send(path, deep).await?.problem(400)?, "malformed_json");
            let unclosed = open.repeat(800);
            assert_eq!(send(path, unclosed).await?.problem(400)?, "malformed_json");
        }
        let twice = r#"{"login":"ann","login":"bob","password":"x"}"#.to_owned();
        assert_eq!(send(path, twice).await?.problem(400)?, "malformed_json");
        for other in ["[]", "null", "\"ann\""] {
            let reply = send(path, other.to_owned()).await?;
            assert_eq!(reply.problem(400)?, "not_an_object");
        }
    }
    let form = lab.client.anonymous().request(Method::POST, "/sessions");
    let form = form.body("application/x-www-form-urlencoded", "login=ann&password=x");
    assert_eq!(form.send().await?.problem(415)?, "unsupported_media_type");
    // The portal is as well as before.
    let body = credentials("ann", PASSWORD);
    attempt(&lab.client, "127.0.0.1", &body)
        .send()
        .await?
        .expect(201)?;
    Ok(())
}

#[tokio::test]
async fn every_mistake_is_named_and_nothing_is_assigned_that_was_not_asked_for()
-> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    for (body, fields) in [
        (json!({}), &["login", "password"][..]),
        (
            json!({ "login": "", "password": "", "code": "x", "kind": "x" }),
            &["login", "password", "code", "kind"],
        ),
        (
            json!({ "login": 1, "password": ["x"] }),
            &["login", "password"],
        ),
        (
            json!({ "login": "a".repeat(255), "password": "ä".repeat(129) }),
            &["login", "password"],
        ),
        (
            json!({ "login": "ann", "password": PASSWORD, "role": "platform_admin",
            "account_id": "x", "expires_at": "9999-12-31T00:00:00Z" }),
            &["account_id", "expires_at", "role"],
        ),
    ] {
        let reply = attempt(&lab.client, "127.0.0.1", &body).send().await?;
        assert_eq!(reply.problem(400)?, "validation_failed");
        let body = reply.json()?;
        let errors = body["errors"].as_array().cloned().unwrap_or_default();
        let named: Vec<_> = errors.iter().map(|error| error["field"].clone()).collect();
        assert_eq!(named, fields, "{reply}");
    }
    Ok(())
}

/// So that no flood of large bodies comes from whoever is not signed in.
#[tokio::test]
async fn whoever_is_not_signed_in_says_little() -> anyhow::Result<()> {
    let lab = lab().await?;
    let body = |length: usize| format!("{}{{}}", " ".repeat(length - 2));
    for path in ["/sessions", "/sessions/refresh", "/password-resets"] {
        let post = async |length| {
            let request = lab.client.anonymous().request(Method::POST, path);
            let request = request.body("application/json", body(length));
            request.send().await
        };
        assert_eq!(
            post(8192).await?.problem(400)?,
            "validation_failed",
            "{path}"
        );
        assert_eq!(post(8193).await?.problem(413)?, "body_too_large", "{path}");
    }
    // Whoever is known may say more.
    let request = lab.client.request(Method::POST, "/users");
    let reply = request
        .body("application/json", body(60_000))
        .send()
        .await?;
    assert_eq!(reply.problem(400)?, "validation_failed");
    Ok(())
}
