//! "How does system handle malformed user data (invalid characters, SQL injection attempts)? Must
//! validate and sanitize all inputs before database insertion."

use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::{Lab, PortalLab};

use crate::audit::{applied, included};
use crate::held::{assert_exactly, live_files, sections};

/// Names that mean something to SQL, to Asterisk's files, to SIP or to a terminal.
const HOSTILE_NAMES: &[&str] = &[
    r#"Robert'); DROP TABLE "user"; --"#,
    "' OR '1'='1",
    "'; delete from extension where true; --",
    r"\'; select pg_sleep(10); --",
    "$1 $$ ${SHELL(id > /tmp/x)} %s %n",
    "[general]",
    "a](!) #include /etc/passwd",
    "a ; comment",
    ";-- open",
    "close --;",
    r#"" <sip:evil@example.org>"#,
    r"ends with \",
    "x> , <sip:evil@x",
    "<script>alert(1)</script>",
    "עברית desrever \u{feff}",
    "Zoë Číž 李 🙂",
];

#[tokio::test]
async fn injection_attempts_are_data_in_the_database_and_in_asterisk() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    for (number, name) in HOSTILE_NAMES.iter().enumerate() {
        let metadata = json!({ *name: name });
        let email = format!("o'neil+{number}@example.org");
        let request = json!({ "name": name, "email": email, "metadata": metadata });
        let request = lab.client.request(Method::POST, "/users").json(&request);
        let reply = request
            .header("X-Admin-User", "'; drop table apply; --")
            .send()
            .await?;
        let created = reply.expect(201)?.json()?;
        let path = format!("/users/{}", created["id"].as_str().unwrap_or_default());
        let read = lab.client.get(&path).await?.expect(200)?.json()?;
        assert_eq!(read["name"], *name);
        assert_eq!(read["email"], email.as_str());
        assert_eq!(read["metadata"], metadata);
    }
    let pool = lab.database.pool().await?;
    let names: Vec<String> = sqlx::query_scalar(
        r#"select name from "user" join extension using (user_id) order by number"#,
    )
    .fetch_all(&pool)
    .await?;
    assert_eq!(names, HOSTILE_NAMES);

    let attempt = applied(&lab.client, lab.apply().await?).await?;
    let count = HOSTILE_NAMES.len();
    assert_eq!(included(&attempt).len(), count);
    assert_exactly(&lab.asterisk, 1000..1000 + u64::try_from(count)?).await?;
    let [endpoints, _] = live_files(&lab.asterisk)?;
    assert_eq!(sections(&endpoints, "endpoint").len(), count + 1);
    Ok(())
}

/// Fails unless each value of `field` is refused with its code, as the only fault, and nobody is
/// stored.
async fn assert_refused(field: &str, cases: &[(Value, &str)]) -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (value, code) in cases {
        let mut request = json!({ "name": "Ann", "email": "ann@example.org" });
        request[field] = value.clone();
        let reply = lab.client.post("/users", &request).await?;
        assert_eq!(reply.problem(400)?, "validation_failed", "{request}");
        let errors = reply.json()?["errors"].clone();
        let found: Vec<_> = errors
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|error| (error["field"].as_str(), error["code"].as_str()))
            .collect();
        assert_eq!(found, [(Some(field), Some(*code))], "{request}");
    }
    let pool = lab.database.pool().await?;
    let stored: i64 = sqlx::query_scalar(r#"select count(*) from "user""#)
        .fetch_one(&pool)
        .await?;
    assert_eq!(stored, 0);
    Ok(())
}

#[tokio::test]
async fn names_that_are_no_single_line_are_refused() -> anyhow::Result<()> {
    let cases = [
        (json!(""), "empty"),
        (json!(" \t "), "empty"),
        (json!("x".repeat(101)), "too_long"),
        (json!("🙂".repeat(51)), "too_long"),
        (json!("a\nb"), "control_character"),
        (json!("a\r\n[evil]\r\ntype=endpoint"), "control_character"),
        (json!("a\0b"), "control_character"),
        (json!("a\u{1b}[31m"), "control_character"),
        (json!("a\u{7f}"), "control_character"),
        (json!("a\u{85}b"), "control_character"),
        (json!("a\u{2028}b"), "control_character"),
        (json!(7), "wrong_type"),
        (json!(["a"]), "wrong_type"),
        (json!({ "$ne": "" }), "wrong_type"),
    ];
    assert_refused("name", &cases).await
}

#[tokio::test]
async fn addresses_that_are_none_are_refused() -> anyhow::Result<()> {
    let cases = [
        (json!(""), "empty"),
        (json!("ann"), "malformed"),
        (json!("ann@"), "malformed"),
        (json!("@example.org"), "malformed"),
        (json!("ann@@example.org"), "malformed"),
        (json!(" ann@example.org"), "malformed"),
        (json!("a b@example.org"), "malformed"),
        (json!("Ann <ann@example.org>"), "malformed"),
        (
            json!("ann@example.org'; drop table \"user\"; --"),
            "malformed",
        ),
        (json!("ann@example.org\nBcc: x@example.org"), "malformed"),
        (json!("ann@exa\0mple.org"), "malformed"),
        (json!("ann|x@example.org"), "malformed"),
        (json!("änn@example.org"), "malformed"),
        (
            json!(format!("{}@example.org", "x".repeat(250))),
            "too_long",
        ),
        (json!(false), "wrong_type"),
    ];
    assert_refused("email", &cases).await
}

#[tokio::test]
async fn metadata_that_cannot_be_kept_is_refused() -> anyhow::Result<()> {
    let deep = (0..9).fold(json!(1), |inner, _| json!({ "a": inner }));
    let cases = [
        (json!([]), "wrong_type"),
        (json!("x"), "wrong_type"),
        (json!(0), "wrong_type"),
        (json!({ "a": "\0" }), "control_character"),
        (json!({ "\0": 1 }), "control_character"),
        (json!({ "a": [{ "b": ["\0"] }] }), "control_character"),
        (deep, "too_deep"),
        (json!({ "a": "x".repeat(4089) }), "too_long"),
    ];
    assert_refused("metadata", &cases).await
}
