//! By behaviour, each route in turn.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::Lab;
use tests::portal::{Client, Reply};

use super::super::problems::assert_problem;
use super::{Kind, Route, bodies, place, request, routes};

/// The entity tag of no resource.
const WRONG: &str = "\"4611686018427387904\"";

/// Nothing that could be one.
const MALFORMED: [&str; 3] = ["7", "\"7", "*, \"7\""];

fn of_kind(client: &Client, kinds: &[Kind]) -> anyhow::Result<Vec<Route>> {
    let mut routes = routes(client.openapi())?;
    routes.retain(|route| kinds.contains(&route.kind));
    Ok(routes)
}

/// Fails unless the reply refuses exactly this field.
fn assert_refused(reply: &Reply, field: &str, what: &str) -> anyhow::Result<()> {
    let body = assert_problem(reply, 400, "validation_failed").with_context(|| what.to_owned())?;
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    assert_eq!(errors.len(), 1, "{what}: {reply}");
    assert_eq!(errors[0]["field"], field, "{what}: {reply}");
    Ok(())
}

#[tokio::test]
async fn lists_take_what_they_document_and_refuse_anything_else() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let lists = of_kind(&lab.client, &[Kind::List])?;
    assert!(lists.len() >= 4, "{lists:?}");
    for (number, route) in lists.iter().enumerate() {
        let (client, path) = place(&lab, route, number).await?;
        for (query, field) in [
            ("cursor=x", "cursor"),
            ("cursor=", "cursor"),
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=1", "limit"),
            ("sort=nothing", "sort"),
            ("sort=", "sort"),
            ("unknown=1", "unknown"),
            ("%ff=1", "%ff"),
        ] {
            let reply = client.get(&format!("{path}?{query}")).await?;
            assert_refused(&reply, field, &format!("{path}?{query}"))?;
        }
        for (name, schema) in route.parameters("query") {
            for value in values(name, schema) {
                let reply = client.get(&format!("{path}?{name}={value}")).await?;
                // What does not exist cannot be filtered by.
                let known = [200, 404].contains(&reply.status);
                assert!(known, "{reply}");
            }
        }
    }
    Ok(())
}

/// Values that a parameter takes by its schema.
fn values(name: &str, schema: &Value) -> Vec<String> {
    if let Some(words) = schema["enum"].as_array() {
        return words
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
    }
    let value = match (name, schema["type"].as_str(), schema["format"].as_str()) {
        ("cursor", ..) => return Vec::new(),
        (_, Some("integer"), _) => "1",
        (_, Some("boolean"), _) => "true",
        (_, _, Some("date-time")) => "2026-01-31T12:00:00Z",
        (_, _, Some("uuid")) => "01900000-0000-7000-8000-00000000ffff",
        _ => "x",
    };
    vec![value.to_owned()]
}

#[tokio::test]
async fn what_takes_no_query_refuses_one_and_does_nothing() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let mut without = routes(lab.client.openapi())?;
    without.retain(|route| route.parameters("query").is_empty());
    assert!(without.len() > 20, "{without:?}");
    for (number, route) in without.iter().enumerate() {
        let (client, path) = place(&lab, route, number).await?;
        let takes = route.is_keyed() || route.kind == Kind::Change;
        let body = if takes {
            bodies(&client, route, [number; 2]).await?[0].clone()
        } else {
            Value::Null
        };
        let before = history(&lab.client).await?;
        for (query, field) in [("pbx=default", "pbx"), ("%ff=1", "%ff")] {
            let path = format!("{path}?{query}");
            let request = request(&client, &route.method, &path, &body);
            let reply = request.header("If-Match", "*").send().await?;
            assert_refused(&reply, field, &format!("{} {path}", route.method))?;
        }
        assert_eq!(history(&lab.client).await?, before, "{}", route.name());
    }
    Ok(())
}

/// What there is and was done, as far as lists tell.
async fn history(client: &Client) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut said = Vec::new();
    for list in [
        "/tenants",
        "/users",
        "/devices",
        "/pbxes",
        "/applies",
        "/deleted-users",
    ] {
        let reply = client
            .get(&format!("{list}?limit=200"))
            .await?
            .expect(200)?;
        said.push(reply.body);
    }
    Ok(said)
}

#[tokio::test]
async fn single_resources_are_not_sent_to_whoever_has_them() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let singles = of_kind(&lab.client, &[Kind::Single])?;
    assert!(singles.len() >= 2, "{singles:?}");
    for (number, route) in singles.iter().enumerate() {
        let (client, path) = place(&lab, route, number).await?;
        let reply = client.get(&path).await?.expect(200)?;
        let tag = reply.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 2, "{path}: {tag}");
        let ask = async |known: &str| {
            let request = client.request(Method::GET, &path);
            request.header("If-None-Match", known).send().await
        };
        for known in [
            tag.clone(),
            format!("W/{tag}"),
            format!("{WRONG}, {tag}"),
            "*".to_owned(),
        ] {
            let reply = ask(&known).await?.expect(304)?;
            assert!(reply.body.is_empty(), "{path}: {reply}");
            assert_eq!(reply.header("etag"), tag, "{path}");
        }
        assert_eq!(ask(WRONG).await?.expect(200)?.body, reply.body);
        for bad in MALFORMED {
            assert_problem(&ask(bad).await?, 400, "invalid_header")?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn every_post_is_carried_out_once_under_its_key() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let mut posts = of_kind(&lab.client, &[Kind::Create, Kind::Action])?;
    posts.retain(Route::is_keyed);
    assert!(posts.len() >= 4, "{posts:?}");
    for (number, route) in posts.iter().enumerate() {
        let name = route.name();
        let (client, path) = place(&lab, route, number).await?;
        let numbers = [2 * number, 2 * number + 1];
        let [body, other] = bodies(&client, route, numbers).await?;
        let keyed = |key: &str, body: &Value| {
            let request = request(&client, &route.method, &path, body);
            let request = request.header("If-Match", "*");
            request.header("Idempotency-Key", key)
        };
        for bad in ["a b", &"k".repeat(256)] {
            assert_problem(&keyed(bad, &body).send().await?, 400, "invalid_header")?;
        }
        let twice = keyed("a", &body).header("Idempotency-Key", "b");
        assert_problem(&twice.send().await?, 400, "invalid_header")?;

        let first = keyed(&name.replace(' ', "-"), &body).send().await?;
        assert!((200..300).contains(&first.status), "{first}");
        let again = keyed(&name.replace(' ', "-"), &body).send().await?;
        assert_eq!(again.status, first.status, "{name}: {again}");
        assert_eq!(again.body, first.body, "{name}: other bytes");
        assert_eq!(again.header("idempotency-replayed"), "true", "{name}");
        assert_eq!(first.header("idempotency-replayed"), "", "{name}");
        assert_eq!(again.header("location"), first.header("location"), "{name}");
        let reused = keyed(&name.replace(' ', "-"), &other).send().await?;
        assert_problem(&reused, 422, "idempotency_key_reused")?;

        if route.kind == Kind::Create {
            let created = first.expect(201)?;
            let location = created.header("location").to_owned();
            let reply = client.get(&location).await?.expect(200)?;
            assert_eq!(reply.header("etag"), created.header("etag"), "{name}");
            assert_eq!(reply.json()?["id"], created.json()?["id"], "{name}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_changed_that_was_changed_meanwhile() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let changes = of_kind(&lab.client, &[Kind::Change, Kind::Delete])?;
    assert!(!changes.is_empty());
    for (number, route) in changes.iter().enumerate() {
        let name = route.name();
        let (client, path) = place(&lab, route, number).await?;
        let body = match route.kind {
            Kind::Change => bodies(&client, route, [number; 2]).await?[0].clone(),
            _ => Value::Null,
        };
        let before = client.get(&path).await?.expect(200)?;
        let matching = async |tag: &str| {
            let request = request(&client, &route.method, &path, &body);
            request.header("If-Match", tag).send().await
        };
        for bad in MALFORMED {
            assert_problem(&matching(bad).await?, 400, "invalid_header")?;
        }
        let weak = format!("W/{}", before.header("etag"));
        for wrong in [WRONG, "\"x\"", &weak] {
            let reply = matching(wrong).await?;
            assert_problem(&reply, 412, "precondition_failed")?;
            assert_eq!(reply.header("etag"), before.header("etag"), "{name}");
        }
        if route.has_response(428) {
            let blind = request(&client, &route.method, &path, &body).send().await?;
            assert_problem(&blind, 428, "precondition_required")?;
        }
        let unchanged = client.get(&path).await?.expect(200)?;
        assert_eq!(unchanged.body, before.body, "{name}");
        if route.kind == Kind::Change {
            let other = client.request(route.method.clone(), &path);
            let other = other
                .body("application/json-patch+json", "[]")
                .send()
                .await?;
            assert_problem(&other, 415, "unsupported_media_type")?;
            assert_eq!(other.header("accept-patch"), "application/merge-patch+json");
            let unknown = json!({ "no_such_field": 1 });
            let unknown = request(&client, &route.method, &path, &unknown)
                .send()
                .await?;
            assert_refused(&unknown, "no_such_field", &name)?;
        }
        let reply = matching(before.header("etag")).await?;
        assert!((200..300).contains(&reply.status), "{name}: {reply}");
        if route.kind == Kind::Change {
            assert_ne!(reply.header("etag"), before.header("etag"), "{name}");
            let after = client.get(&path).await?.expect(200)?;
            assert_eq!(after.header("etag"), reply.header("etag"), "{name}");
        }
    }
    Ok(())
}
