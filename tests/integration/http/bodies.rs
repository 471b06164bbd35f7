//! What is sent and what comes back, byte by byte.

use reqwest::Method;
use serde_json::json;
use tests::lab::PortalLab;

use super::{raw, status};

#[tokio::test]
async fn text_is_kept_as_it_is_apart_from_outer_blanks() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let longest = "ž".repeat(100);
    for (number, (sent, kept)) in [
        ("  Ann  ", "Ann"),
        ("a  b", "a  b"),
        ("e\u{301}", "e\u{301}"),
        ("עברית", "עברית"),
        ("👩‍👩‍👧‍👦", "👩‍👩‍👧‍👦"),
        ("\\\"'/<>&", "\\\"'/<>&"),
        ("\u{fffd}\u{fffe}\u{10ffff}", "\u{fffd}\u{fffe}\u{10ffff}"),
        (&longest, &longest),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("u{number}@example.org");
        let user = lab.create_user(sent, &email).await?;
        let read = lab
            .client
            .get(&format!("/users/{}", user.id))
            .await?
            .expect(200)?
            .json()?;
        assert_eq!(read["name"], kept, "{sent:?}");
    }
    Ok(())
}

/// What is shown otherwise than it is written, or not at all, is nobody's name.
#[tokio::test]
async fn names_that_deceive_are_refused() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let email = "ann@example.org";
    let ann = lab.create_user("Ann", email).await?.id;
    let user = format!("/users/{ann}");
    for (name, code) in [
        ("nimda\u{202e}", "control_character"),
        ("\u{2066}a\u{2069}", "control_character"),
        ("a\u{200f}", "control_character"),
        ("\u{200b}", "empty"),
        ("\u{3164}\u{2800}", "empty"),
    ] {
        let tenant = json!({ "slug": "a", "name": name, "ext_min": 20, "ext_max": 29 });
        for (method, path, field, body) in [
            (
                Method::POST,
                "/users",
                "name",
                json!({ "name": name, "email": "b@example.org" }),
            ),
            (Method::PATCH, &user, "name", json!({ "name": name })),
            (
                Method::POST,
                "/devices",
                "label",
                json!({ "user_id": ann, "label": name }),
            ),
            (Method::POST, "/tenants", "name", tenant),
        ] {
            let reply = lab.client.request(method, path).json(&body).send().await?;
            assert_eq!(reply.problem(400)?, "validation_failed", "{name:?}: {path}");
            let error = &reply.json()?["errors"][0];
            assert_eq!(
                (&error["field"], &error["code"]),
                (&json!(field), &json!(code)),
                "{reply}"
            );
        }
    }
    // Whoever had such a name before stays, and is read.
    let pool = lab.database.pool().await?;
    sqlx::query(r#"update "user" set name = 'nimda' || chr(8238)"#)
        .execute(&pool)
        .await?;
    let read = lab.client.get(&user).await?.expect(200)?.json()?;
    assert_eq!(read["name"], "nimda\u{202e}");
    Ok(())
}

#[tokio::test]
async fn metadata_keeps_every_kind_of_value() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let metadata = json!({
        "null": null, "true": true, "zero": 0, "negative": -9_007_199_254_740_991_i64,
        "large": 18_446_744_073_709_551_615_u64, "fraction": 0.1, "text": "\u{1}\u{7f}\n\"",
        "": "empty key", "nested": { "a": [[[[[{}]]]]] }, "constructor": { "__proto__": 1 },
    });
    let request = json!({ "name": "Ann", "email": "ann@example.org", "metadata": metadata });
    let reply = lab.client.post("/users", &request).await?.expect(201)?;
    let read = lab
        .client
        .get(reply.header("location"))
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(read["metadata"], metadata);
    Ok(())
}

/// Whoever is stored must stay readable, and `GET /users` with them.
#[tokio::test]
async fn metadata_as_large_as_may_be_stays_readable_and_exact() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let mut state = 88_172_645_463_325_252_u64;
    let random = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        f64::from_bits(state)
    });
    // Some JSON readers lose the last bit of such numbers, so that they are written longer.
    let mut numbers: Vec<f64> = random
        .filter(|number| number.is_finite())
        .take(1600)
        .collect();
    // PostgreSQL writes these in 17 digits.
    numbers.extend([1e16; 320]);
    for (number, chunk) in numbers.chunks(120).enumerate() {
        let mut metadata = json!({ "n": chunk, "fill": "" });
        metadata["fill"] = "x".repeat(4096 - metadata.to_string().len()).into();
        let email = format!("user{number}@example.org");
        let request = json!({ "name": "Ann", "email": email, "metadata": metadata });
        lab.client.post("/users", &request).await?.expect(201)?;
    }
    let listed = lab.client.get("/users").await?.expect(200)?.json()?;
    let users = listed.as_array().map_or(&[][..], Vec::as_slice);
    let lists = users
        .iter()
        .filter_map(|user| user["metadata"]["n"].as_array());
    let read: Vec<f64> = lists
        .flatten()
        .filter_map(serde_json::Value::as_f64)
        .collect();
    assert_eq!(read, numbers);
    Ok(())
}

#[tokio::test]
async fn json_may_be_announced_in_any_usual_way() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for (number, content_type) in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/vnd.api+json",
    ]
    .into_iter()
    .enumerate()
    {
        let body = json!({ "name": "Ann", "email": format!("ann{number}@example.org") });
        let request = lab.client.request(Method::POST, "/users");
        request
            .body(content_type, body.to_string())
            .send()
            .await?
            .expect(201)?;
    }
    Ok(())
}

#[tokio::test]
async fn the_largest_body_is_64_kib_however_it_is_sent() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let body = |length: usize| {
        let frame = json!({ "name": "Ann", "email": "ann@example.org" }).to_string();
        format!("{}{frame}", " ".repeat(length - frame.len()))
    };
    // In pieces, so that the portal cannot know the length beforehand.
    let chunked = |text: String| {
        let mut request = b"POST /users HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
            Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
            .to_vec();
        for piece in text.as_bytes().chunks(1000) {
            request.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            request.extend_from_slice(piece);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"0\r\n\r\n");
        request
    };
    let limit = 64 * 1024;
    let post = |body| {
        lab.client
            .request(Method::POST, "/users")
            .body("application/json", body)
    };
    assert_eq!(
        post(body(limit + 1)).send().await?.problem(413)?,
        "body_too_large"
    );
    let reply = raw(&lab.portal, &chunked(body(limit + 1))).await?;
    assert_eq!(status(&reply), Some(413), "{reply}");
    let reply = raw(&lab.portal, &chunked(body(limit))).await?;
    assert_eq!(status(&reply), Some(201), "{reply}");
    assert_eq!(post(body(limit)).send().await?.problem(409)?, "email_taken");
    Ok(())
}
