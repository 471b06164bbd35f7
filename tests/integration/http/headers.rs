//! `X-Request-Id` and `X-Admin-User`: what callers say about themselves.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};

use super::problems::assert_problem;
use super::{raw, status};
use crate::audit::trail;

async fn with(client: &Client, name: &str, value: &str) -> anyhow::Result<Reply> {
    client
        .request(Method::GET, "/users")
        .header(name, value)
        .send()
        .await
}

#[tokio::test]
async fn a_sane_request_id_is_kept_and_any_other_replaced() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let longest = "x".repeat(64);
    for sane in [
        "a",
        "A-Z.0_9",
        "01900000-0000-7000-8000-000000000001",
        &longest,
    ] {
        let reply = with(&lab.client, "x-request-id", sane).await?;
        assert_eq!(reply.header("x-request-id"), sane);
    }
    let too_long = "x".repeat(65);
    let mut made = BTreeSet::new();
    let hostile = [
        "",
        "a b",
        "a,b",
        "a%0d%0aX-Evil: 1",
        "<script>",
        "a\tb",
        "a;b",
        &too_long,
    ];
    for bad in hostile {
        let reply = with(&lab.client, "x-request-id", bad).await?;
        let id = reply.header("x-request-id").to_owned();
        assert_ne!(id, bad);
        assert_eq!(uuid::Uuid::parse_str(&id)?.get_version_num(), 7, "{id}");
        assert!(reply.headers.get("x-evil").is_none());
        made.insert(id);
    }
    assert_eq!(made.len(), hostile.len(), "an id was used twice");
    // In problems, in the audit trail and in the log it is the same.
    let request = lab
        .client
        .request(Method::POST, "/apply")
        .header("x-request-id", "find-me");
    let reply = request.send().await?;
    assert_problem(&reply, 503, "agent_unreachable")?;
    assert_eq!(reply.header("x-request-id"), "find-me");
    assert_eq!(trail(&lab.client).await?[0]["request_id"], "find-me");
    assert!(lab.portal.log().contains("find-me"));
    Ok(())
}

#[tokio::test]
async fn whoever_asks_stands_in_the_audit_trail() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let longest = "ž".repeat(100);
    for (given, kept) in [
        (None, "trusted-network"),
        (Some("olga"), "olga"),
        (Some("  Olga Nováková  "), "Olga Nováková"),
        (Some("'; drop table apply; --"), "'; drop table apply; --"),
        (Some("{\"admin\":true}"), "{\"admin\":true}"),
        (Some(longest.as_str()), longest.as_str()),
    ] {
        let mut request = lab.client.request(Method::POST, "/apply");
        if let Some(given) = given {
            request = request.header("X-Admin-User", given);
        }
        request.send().await?.expect(503)?;
        let newest = &trail(&lab.client).await?[0];
        assert_eq!(newest["requested_by"], kept, "{given:?}");
        assert!(
            newest["source_address"]
                .as_str()
                .is_some_and(|ip| ip.starts_with("127."))
        );
    }
    Ok(())
}

#[tokio::test]
async fn users_remember_who_created_and_deleted_them() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let request = json!({ "name": "Ann", "email": "ann@example.org" });
    let create = lab.client.request(Method::POST, "/users").json(&request);
    let reply = create
        .header("X-Admin-User", "olga")
        .send()
        .await?
        .expect(201)?;
    let delete = lab.client.request(Method::DELETE, reply.header("location"));
    delete
        .header("X-Admin-User", "petr")
        .send()
        .await?
        .expect(204)?;
    let pool = lab.database.pool().await?;
    let who: (String, String) = sqlx::query_as(r#"select created_by, deleted_by from "user""#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(who, ("olga".to_owned(), "petr".to_owned()));
    Ok(())
}

#[tokio::test]
async fn an_administrator_who_forges_lines_is_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let too_long = "x".repeat(101);
    let hostile = [
        "",
        "  ",
        "a\tb",
        "a\u{85}b",
        "a\u{2028}b",
        "nimda\u{202e}",
        "\u{200b}",
        &too_long,
    ];
    for bad in hostile {
        let request = lab
            .client
            .request(Method::POST, "/apply")
            .header("X-Admin-User", bad);
        assert_problem(&request.send().await?, 400, "invalid_header")?;
    }
    let twice = lab
        .client
        .request(Method::POST, "/apply")
        .header("X-Admin-User", "a");
    let twice = twice.header("X-Admin-User", "b").send().await?;
    assert_problem(&twice, 400, "invalid_header")?;
    // Bytes that are no UTF-8 do not pass through decent clients.
    let request = b"POST /apply HTTP/1.1\r\nHost: localhost\r\nX-Admin-User: \xff\xfe\r\n\
        Connection: close\r\n\r\n";
    let reply = raw(&lab.portal, request).await?;
    assert_eq!(status(&reply), Some(400), "{reply}");
    assert!(reply.contains("\"invalid_header\""), "{reply}");
    // None of them was an attempt.
    assert_eq!(trail(&lab.client).await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn a_password_is_shown_once_and_written_nowhere() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let request = json!({ "name": "Ann", "email": "ann@example.org" });
    let reply = lab.client.post("/users", &request).await?.expect(201)?;
    assert_eq!(reply.header("cache-control"), "no-store");
    let created = reply.json()?;
    let password = created["sip"]["password"].as_str().unwrap_or_default();
    assert_eq!(password.len(), 24);
    assert!(password.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    lab.client.post_nothing("/apply").await?.expect(503)?;
    let attempt = format!(
        "/applies/{}",
        trail(&lab.client).await?[0]["id"].as_str().unwrap_or("")
    );
    for path in [
        "/users",
        reply.header("location"),
        "/applies",
        &attempt,
        "/health/ready",
    ] {
        let text = lab.client.get(path).await?.text();
        assert!(
            !text.contains(password) && !text.contains("password"),
            "{path}: {text}"
        );
    }
    assert!(
        !lab.portal.log().contains(password),
        "the log holds a password"
    );
    let pool = lab.database.pool().await?;
    let rows: String = sqlx::query_scalar(
        r#"select concat(
            (select string_agg(u::text, ',') from "user" u),
            (select string_agg(d::text || encode(sip_password_encrypted, 'escape'), ',')
             from device d),
            (select string_agg(a::text || encode(coalesce(bundle_encrypted, ''), 'escape'), ',')
             from apply a)
        )"#,
    )
    .fetch_one(&pool)
    .await?;
    assert!(rows.contains("ann@example.org"), "nothing was read: {rows}");
    assert!(
        !rows.contains(password),
        "the database holds a clear password"
    );
    // The digest that Asterisk gets opens the same door.
    assert!(
        !rows.contains("MD5:") && !rows.contains("[1000]"),
        "a bundle is stored in clear"
    );
    Ok(())
}
