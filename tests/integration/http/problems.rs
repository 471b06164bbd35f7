//! Errors are problem documents (RFC 9457) with a stable code and the request's id.

use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Reply;
use uuid::Uuid;

use super::{raw, status};

/// Fails unless `reply` is a problem document of that status and code, whole and without internals.
pub(super) fn assert_problem(reply: &Reply, status: u16, code: &str) -> anyhow::Result<Value> {
    assert_eq!(reply.problem(status)?, code, "{reply}");
    let body = reply.json()?;
    for member in ["type", "title", "detail", "instance", "code", "request_id"] {
        let text = body[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "no {member}: {reply}");
    }
    assert!(
        body["type"]
            .as_str()
            .is_some_and(|kind| kind.ends_with(code)),
        "{reply}"
    );
    assert_eq!(body["request_id"], reply.header("x-request-id"), "{reply}");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    assert_eq!(reply.header("cache-control"), "no-store");
    for internal in [
        "sqlx",
        "serde",
        "axum",
        "src/",
        ".rs",
        "panicked",
        "line 1 column",
    ] {
        let told = internal == "line 1 column" && code == "malformed_json";
        assert!(
            told || !reply.text().contains(internal),
            "{internal}: {reply}"
        );
    }
    Ok(body)
}

const JSON: &str = "application/json";

/// Fails unless `POST path` with each body is refused so, and nobody is stored.
async fn assert_refused(path: &str, cases: &[(&str, &[u8], u16, &str)]) -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (content_type, body, status, code) in cases {
        let mut request = lab.client.request(Method::POST, path);
        if !content_type.is_empty() {
            request = request.body(content_type, body.to_vec());
        }
        assert_problem(&request.send().await?, *status, code)?;
    }
    assert_eq!(lab.client.get("/users").await?.json()?, json!([]));
    assert_eq!(lab.client.get("/applies").await?.json()?, json!([]));
    Ok(())
}

#[tokio::test]
async fn bodies_that_are_no_json_object_are_refused() -> anyhow::Result<()> {
    let deep = "[".repeat(60_000);
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    let huge = format!("{{\"name\":\"{}\"}}", "x".repeat(65_536));
    let cases: &[(&str, &[u8], u16, &str)] = &[
        (JSON, b"{\"name\": ", 400, "malformed_json"),
        (JSON, b"", 400, "malformed_json"),
        (JSON, b"{} {}", 400, "malformed_json"),
        (JSON, b"\xef\xbb\xbf{}", 400, "malformed_json"),
        (JSON, b"{\"name\":\"\xff\"}", 400, "malformed_json"),
        (JSON, b"{\"name\":\"\0\"}", 400, "malformed_json"),
        (JSON, b"{\"name\":\"\\ud800\"}", 400, "malformed_json"),
        (JSON, b"{'name':'Ann'}", 400, "malformed_json"),
        (JSON, b"{\"metadata\":{\"a\":1e999}}", 400, "malformed_json"),
        (JSON, b"{\"metadata\":{\"a\":NaN}}", 400, "malformed_json"),
        (
            JSON,
            b"{\"name\":\"Ann\",\"name\":\"Bob\"}",
            400,
            "malformed_json",
        ),
        (JSON, b"\x1f\x8b\x08\0", 400, "malformed_json"),
        (JSON, deep.as_bytes(), 400, "malformed_json"),
        (JSON, nested.as_bytes(), 400, "malformed_json"),
        (JSON, b"[]", 400, "not_an_object"),
        (JSON, b"null", 400, "not_an_object"),
        (JSON, b"\"name\"", 400, "not_an_object"),
        (JSON, b"{}", 400, "validation_failed"),
        (JSON, huge.as_bytes(), 413, "body_too_large"),
        ("", b"", 415, "unsupported_media_type"),
        ("text/plain", b"{}", 415, "unsupported_media_type"),
        ("application/jsonx", b"{}", 415, "unsupported_media_type"),
        (
            "application/x-www-form-urlencoded",
            b"name=Ann",
            415,
            "unsupported_media_type",
        ),
    ];
    assert_refused("/users", cases).await
}

#[tokio::test]
async fn orders_to_apply_that_mean_nothing_are_refused() -> anyhow::Result<()> {
    let cases: &[(&str, &[u8], u16, &str)] = &[
        (JSON, b"x", 400, "malformed_json"),
        (JSON, b"[]", 400, "not_an_object"),
        (
            JSON,
            b"{\"on_reload_failure\":\"x\"}",
            400,
            "validation_failed",
        ),
        (
            JSON,
            b"{\"on_reload_failure\":true}",
            400,
            "validation_failed",
        ),
        (JSON, b"{\"force\":1}", 400, "validation_failed"),
        (
            JSON,
            b"{\"expected_digest\":\"00\"}",
            400,
            "validation_failed",
        ),
        (JSON, b"{\"restore\":true}", 400, "validation_failed"),
        ("text/plain", b"{}", 415, "unsupported_media_type"),
    ];
    assert_refused("/apply", cases).await
}

#[tokio::test]
async fn paths_that_lead_nowhere_are_told_apart() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let unknown = Uuid::from_u128(7);
    let get = |path: String| lab.client.request(Method::GET, &path);
    for (path, status, code) in [
        ("/users/1000".to_owned(), 400, "malformed_id"),
        ("/users/%F0%9F%92%A9".to_owned(), 400, "malformed_id"),
        ("/users/%ff".to_owned(), 400, "malformed_id"),
        (format!("/users/{}", unknown.simple()), 400, "malformed_id"),
        (format!("/users/{{{unknown}}}"), 400, "malformed_id"),
        (format!("/users/{unknown}%00"), 400, "malformed_id"),
        ("/applies/x".to_owned(), 400, "malformed_id"),
        (format!("/users/{unknown}"), 404, "user_not_found"),
        (format!("/applies/{unknown}"), 404, "apply_not_found"),
    ] {
        assert_problem(&get(path).send().await?, status, code)?;
    }
    for path in [
        "/",
        "/users/",
        "//users",
        "/Users",
        "/users/a/b",
        "/%2e%2e/etc",
        "/applies/",
    ] {
        let reply = get(path.to_owned()).undocumented().send().await?;
        assert_problem(&reply, 404, "unknown_path")?;
    }
    Ok(())
}

#[tokio::test]
async fn every_invalid_field_is_named_at_once() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let request = json!({
        "name": "", "email": "x", "metadata": 7, "role": "admin", "extension": 7, "id": null,
    });
    let reply = lab.client.post("/users", &request).await?;
    let body = assert_problem(&reply, 400, "validation_failed")?;
    let errors = body["errors"].as_array().expect("a list of errors");
    let mut named: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                error["field"].as_str().unwrap_or(""),
                error["code"].as_str().unwrap_or(""),
            )
        })
        .collect();
    named.sort_unstable();
    assert_eq!(
        named,
        [
            ("email", "malformed"),
            ("extension", "out_of_range"),
            ("id", "unknown_field"),
            ("metadata", "wrong_type"),
            ("name", "empty"),
            ("role", "unknown_value"),
        ]
    );
    // What was sent is not repeated, but for the names of unknown fields, and those are cut.
    let long = json!({ "x".repeat(5000): 1 });
    let reply = lab.client.post("/users", &long).await?;
    assert_problem(&reply, 400, "validation_failed")?;
    assert!(reply.text().len() < 2000, "{reply}");
    Ok(())
}

#[tokio::test]
async fn an_address_is_taken_whatever_its_case() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let ann = lab.create_user("Ann", "Ann@Example.org").await?;
    for email in ["Ann@Example.org", "ann@example.org", "ANN@EXAMPLE.ORG"] {
        let again = json!({ "name": "Another", "email": email });
        assert_problem(
            &lab.client.post("/users", &again).await?,
            409,
            "email_taken",
        )?;
    }
    // Who was refused took no number.
    assert_eq!(
        lab.create_user("Bob", "bob@example.org").await?.extension,
        1001
    );
    lab.client
        .delete(&format!("/users/{}", ann.id))
        .await?
        .expect(204)?;
    assert_eq!(
        lab.create_user("Ann", "ann@example.org").await?.extension,
        1000
    );
    Ok(())
}

#[tokio::test]
async fn of_many_who_want_one_address_at_once_one_gets_it() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = lab.client.clone();
    let create = move |number: usize| {
        let client = client.clone();
        async move {
            let email = if number.is_multiple_of(2) {
                "one@example.org"
            } else {
                "ONE@example.org"
            };
            let reply = client
                .post("/users", &json!({ "name": "One", "email": email }))
                .await?;
            if reply.status != 201 {
                assert_problem(&reply, 409, "email_taken")?;
            }
            Ok(reply.status)
        }
    };
    let statuses = crate::crowd::at_once(16, 16, create).await?;
    assert_eq!(
        statuses.iter().filter(|status| **status == 201).count(),
        1,
        "{statuses:?}"
    );
    assert_eq!(
        lab.client
            .get("/users")
            .await?
            .json()?
            .as_array()
            .map(Vec::len),
        Some(1)
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_http_is_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for request in [
        &b"GET /users HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a\r\n b\r\n\r\n"[..],
        b"GET /users HTTP/1.1\r\nHost: localhost\r\nX-Admin-User: a\0b\r\n\r\n",
        b"GET /users HTTP/1.1\r\nHost: localhost\r\nX-Admin-User: a\rb\r\n\r\n",
        b"GET /users HTTP/1.1\r\nHost: localhost\r\nBad Header: x\r\n\r\n",
        b"GET /us ers HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ] {
        let reply = raw(&lab.portal, request).await?;
        let status = status(&reply);
        assert_eq!(
            status,
            Some(400),
            "{}: {reply}",
            String::from_utf8_lossy(request)
        );
    }
    // A body that ends before its announced length never becomes a user.
    let cut = b"POST /users HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
        Content-Length: 1000\r\nConnection: close\r\n\r\n{\"name\":\"Ann\",\"email\":\"a@example.org\"}";
    let mut stream = tokio::net::TcpStream::connect(lab.portal.address()).await?;
    tokio::io::AsyncWriteExt::write_all(&mut stream, cut).await?;
    drop(stream);
    assert_eq!(lab.client.get("/users").await?.json()?, json!([]));
    Ok(())
}
