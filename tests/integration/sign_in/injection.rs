//! Whatever a client says of itself ends as one line, or nowhere.

use reqwest::Method;
use serde_json::{Value, json};

use super::{PASSWORD, Tokens, ann, attempt, credentials, lab};

/// What would be a line of its own, the colours of a terminal, and the end of a field.
const HOSTILE: [&str; 5] = [
    "ann\n{\"level\":\"INFO\",\"fields\":{\"message\":\"forged\"}}",
    "ann\r\nSet-Cookie: __Host-session=forged",
    "ann\u{1b}[2Jforged",
    "ann\u{2028}forged",
    "ann\0forged",
];

#[tokio::test]
async fn a_hostile_login_forges_no_line() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    for login in HOSTILE {
        let body = credentials(login, PASSWORD);
        let reply = attempt(&lab.client, "198.51.100.1", &body).send().await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{login:?}");
        assert!(!reply.text().contains("forged"), "{reply}");
        assert_eq!(reply.header("set-cookie"), "");
    }
    for (name, value) in [("kind", "cookie\r\nX: forged"), ("code", "123456\nforged")] {
        let mut body = credentials("ann", PASSWORD);
        body[name] = json!(value);
        let reply = attempt(&lab.client, "198.51.100.1", &body).send().await?;
        assert_eq!(reply.problem(400)?, "validation_failed");
    }
    // Lines that begin as the log's do, and nothing of what was sent.
    let log = lab.portal.log();
    for line in log.lines() {
        serde_json::from_str::<Value>(line)?;
    }
    assert!(!log.contains("forged"), "{log}");
    Ok(())
}

#[tokio::test]
async fn a_hostile_user_agent_is_shown_as_one_line() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    for (sent, shown) in [
        ("curl/8.5.0".to_owned(), "curl/8.5.0".to_owned()),
        ("a\tb\u{2028}c\u{85}d".to_owned(), "abcd".to_owned()),
        (
            "<script>'; drop table session; --".to_owned(),
            "<script>'; drop table session; --".to_owned(),
        ),
        ("é".repeat(500), "é".repeat(200)),
    ] {
        let body = credentials("ann", PASSWORD);
        let request = attempt(&lab.client, "198.51.100.2", &body);
        let reply = request
            .header("user-agent", &sent)
            .send()
            .await?
            .expect(201)?;
        let tokens = Tokens::of(&reply)?;
        let told = tokens.current(&lab.client).await?.json()?;
        assert_eq!(told["user_agent"], shown);
        let kept: String =
            sqlx::query_scalar("select user_agent from session where session_id = $1::uuid")
                .bind(&tokens.id)
                .fetch_one(&pool)
                .await?;
        assert_eq!(kept, shown);
    }
    for line in lab.portal.log().lines() {
        serde_json::from_str::<Value>(line)?;
    }
    Ok(())
}

/// No secret that sign-in knows is told by the log, the audit trail or the tables.
#[tokio::test]
async fn secrets_are_kept_nowhere() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let mistyped = "my secret passphrase as login";
    attempt(
        &lab.client,
        "198.51.100.3",
        &credentials(mistyped, PASSWORD),
    )
    .send()
    .await?;
    attempt(&lab.client, "198.51.100.3", &credentials("ann", mistyped))
        .send()
        .await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let mut body = credentials("ann", PASSWORD);
    body["kind"] = json!("cookie");
    let reply = attempt(&lab.client, "127.0.0.1", &body)
        .send()
        .await?
        .expect(201)?;
    let cookie = reply
        .header("set-cookie")
        .split(';')
        .next()
        .unwrap_or_default();
    let csrf = reply.json()?["csrf_token"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let client = lab.client.with_bearer(&tokens.access);
    client
        .request(Method::GET, "/tenants")
        .send()
        .await?
        .expect(200)?;
    let mut everything = lab.portal.log();
    for table in [
        "audit_entry",
        "session",
        "refresh_token",
        "account",
        "sign_in_failure",
    ] {
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(format!(
            "select t::text from {table} t"
        )))
        .fetch_all(&pool)
        .await?;
        assert!(!rows.is_empty() || table == "sign_in_failure", "{table}");
        everything.extend(rows);
    }
    let secret_part = tokens.access.rsplit('.').next().unwrap_or_default();
    for secret in [
        PASSWORD,
        mistyped,
        secret_part,
        &tokens.refresh["pbxr_".len()..],
        &cookie["__Host-session=".len()..],
        &csrf,
    ] {
        assert!(secret.len() > 20, "{secret}");
        assert!(!everything.contains(secret), "{secret}");
    }
    Ok(())
}
