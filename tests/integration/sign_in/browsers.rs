//! What other sites cannot make a browser do: session fixation, and requests that it sends for them.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;
use tests::portal::{Client, Reply};

use super::{PASSWORD, Tokens, ann, assert_out, attempt, credentials, current, lab, noted};

/// A browser that has signed in: what it keeps, and the token that its pages know.
struct Browser {
    cookie: String,
    csrf: String,
}

impl Browser {
    fn of(reply: &Reply) -> anyhow::Result<Self> {
        let cookie = reply.header("set-cookie").split(';').next();
        Ok(Self {
            cookie: cookie.context("no cookie")?.to_owned(),
            csrf: reply.json()?["csrf_token"]
                .as_str()
                .context("no token")?
                .to_owned(),
        })
    }

    async fn open(client: &Client, brought: &[&str]) -> anyhow::Result<Self> {
        let mut body = credentials("ann", PASSWORD);
        body["kind"] = json!("cookie");
        let mut request = attempt(client, "127.0.0.1", &body);
        for cookie in brought {
            request = request.header("cookie", cookie);
        }
        Self::of(&request.send().await?.expect(201)?)
    }

    fn client(&self, client: &Client) -> Client {
        client.with_cookie(&self.cookie, &self.csrf)
    }
}

/// What is planted in a browser before its owner signs in leads nowhere afterwards.
#[tokio::test]
async fn a_planted_cookie_is_never_taken_over() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, _) = ann(&lab).await?;
    let planted = Browser::open(&lab.client, &[]).await?;
    let unknown = format!("__Host-session={}", "A".repeat(43));
    for brought in [&planted.cookie, &unknown] {
        let fresh = Browser::open(&lab.client, &[brought]).await?;
        assert_ne!(&fresh.cookie, brought);
        assert_ne!(fresh.csrf, planted.csrf);
        current(&fresh.client(&lab.client)).await?.expect(200)?;
    }
    assert_out(&planted.client(&lab.client), "replaced").await?;
    let nobodys = lab.client.with_cookie(&unknown, "x");
    assert_out(&nobodys, "never opened").await?;
    let ended = noted(&pool, "session.ended").await?;
    assert_eq!(ended.len(), 1, "{ended:?}");
    assert_eq!(ended[0].2["reason"], "replaced");
    Ok(())
}

#[tokio::test]
async fn who_fails_to_sign_in_ends_nobodys_session() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let browser = Browser::open(&lab.client, &[]).await?;
    let body = credentials("ann", "wrong");
    let request = attempt(&lab.client, "127.0.0.1", &body).header("cookie", &browser.cookie);
    assert_eq!(request.send().await?.problem(401)?, "wrong_credentials");
    current(&browser.client(&lab.client)).await?.expect(200)?;
    Ok(())
}

/// Each way of changing something, with a cookie and whatever else a request carries.
async fn change(
    client: &Client,
    browser: &Browser,
    headers: &[(&str, &str)],
) -> anyhow::Result<Vec<Reply>> {
    let mut replies = Vec::new();
    for (method, path) in [
        (Method::POST, "/users"),
        (Method::PATCH, "/users/01900000-0000-7000-8000-00000000ffff"),
        (
            Method::DELETE,
            "/users/01900000-0000-7000-8000-00000000ffff",
        ),
        (Method::POST, "/apply"),
    ] {
        let request = client
            .anonymous()
            .request(method.clone(), path)
            .undocumented();
        let mut request = request.header("cookie", &browser.cookie);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = match method {
            Method::DELETE => request,
            _ => request.json(&json!({})),
        };
        replies.push(request.send().await?);
    }
    Ok(replies)
}

#[tokio::test]
async fn a_change_by_cookie_needs_the_token_of_its_own_session() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let browser = Browser::open(&lab.client, &[]).await?;
    let other = Browser::open(&lab.client, &[]).await?;
    for headers in [
        &[][..],
        &[("x-csrf-token", "")],
        &[("x-csrf-token", "undefined")],
        &[("x-csrf-token", other.csrf.as_str())],
        &[("x-csrf-token", &browser.csrf[..42])],
        &[
            ("x-csrf-token", &browser.csrf),
            ("x-csrf-token", &browser.csrf),
        ],
    ] {
        for reply in change(&lab.client, &browser, headers).await? {
            assert_eq!(reply.problem(403)?, "csrf_token_needed", "{headers:?}");
        }
    }
    let token = ("x-csrf-token", browser.csrf.as_str());
    for reply in change(&lab.client, &browser, &[token]).await? {
        assert_ne!(reply.status, 403, "{reply}");
    }
    // What only reads needs none.
    let client = lab.client.with_cookie(&browser.cookie, "");
    current(&client).await?.expect(200)?;
    // Nor does a program, which no site can make send its token.
    let program = Tokens::open(&lab.client, "ann").await?;
    let program = lab.client.with_bearer(&program.access);
    let body = json!({ "name": "Ann", "email": "ann@example.org" });
    program.post("/users", &body).await?.expect(201)?;
    Ok(())
}

#[tokio::test]
async fn a_page_of_another_site_changes_nothing() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let browser = Browser::open(&lab.client, &[]).await?;
    let token = ("x-csrf-token", browser.csrf.as_str());
    let own = lab.portal.url();
    for foreign in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        (
            "origin",
            &own.replace("http:", "https:").replace(":8080", ""),
        ),
        ("sec-fetch-site", "cross-site"),
    ] {
        for reply in change(&lab.client, &browser, &[token, foreign]).await? {
            assert_eq!(reply.problem(403)?, "cross_site", "{foreign:?}");
        }
        // Nor does it sign anybody in, as whomever it likes.
        let body = credentials("ann", PASSWORD);
        let request = attempt(&lab.client, "127.0.0.1", &body);
        let reply = request.header(foreign.0, foreign.1).send().await?;
        assert_eq!(reply.problem(403)?, "cross_site", "{foreign:?}");
    }
    let (origin, site) = (("origin", own.as_str()), ("sec-fetch-site", "same-origin"));
    for reply in change(&lab.client, &browser, &[token, origin, site]).await? {
        assert_ne!(reply.status, 403, "{reply}");
    }
    Ok(())
}

/// Whoever says `Authorization` is judged by that alone, also when it is worth nothing.
#[tokio::test]
async fn a_cookie_beside_authorization_says_nothing() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let browser = Browser::open(&lab.client, &[]).await?;
    for value in ["Bearer x", "Bearer ", "Basic YTpi", ""] {
        let request = browser.client(&lab.client);
        let request = request
            .request(Method::GET, "/sessions/current")
            .undocumented();
        let reply = request.header("authorization", value).send().await?;
        assert_eq!(reply.problem(401)?, "unauthenticated", "{value}");
    }
    // Two cookies of the name, one of which somebody else may have set, are none.
    let twice = format!("{}; __Host-session={}", browser.cookie, "A".repeat(43));
    assert_out(&lab.client.with_cookie(&twice, ""), "two cookies").await
}
