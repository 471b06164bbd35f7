//! Every route that changes something writes into the audit trail what it changed, and nothing when it
//! changed nothing.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::lab::Lab;
use tests::portal::{Client, Reply, Request};

use super::{KEYLESS, Kind, Route, bodies, place, request, routes};
use crate::audit_log::entries;

/// Routes that change nothing although they are no reads, and why.
const NO_CHANGE: &[(&str, &str)] = &[];

fn mutating(client: &Client) -> anyhow::Result<Vec<Route>> {
    let mut routes = routes(client.openapi())?;
    routes.retain(|route| {
        let reads = matches!(route.kind, Kind::List | Kind::Single | Kind::Report);
        let keyless = KEYLESS.iter().any(|(path, _)| *path == route.path);
        !reads && !keyless && NO_CHANGE.iter().all(|(name, _)| *name != route.name())
    });
    Ok(routes)
}

/// The entries that the request of a reply has left.
async fn entries_of(client: &Client, reply: &Reply) -> anyhow::Result<Vec<Value>> {
    let id = reply.header("x-request-id");
    ensure!(!id.is_empty(), "{reply}");
    entries(client, &format!("request_id={id}")).await
}

/// The request of a route's sample.
async fn sampled(
    client: &Client,
    route: &Route,
    path: &str,
    number: usize,
) -> anyhow::Result<Request> {
    let body = match route.kind {
        Kind::Delete => Value::Null,
        _ => bodies(client, route, [2 * number; 2]).await?[0].clone(),
    };
    Ok(request(client, &route.method, path, &body))
}

#[tokio::test]
async fn every_change_is_told_and_no_failure_is() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let auditor = &lab.client;
    let routes = mutating(auditor)?;
    assert!(routes.len() >= 20, "{}", routes.len());
    for (number, route) in routes.iter().enumerate() {
        let name = route.name();
        let (client, path) = place(&lab, route, number).await?;

        // A state that it is not in; a body that nobody could have meant.
        if route.parameter("header", "If-Match").is_some() {
            let request = sampled(&client, route, &path, number).await?;
            let failed = request.header("If-Match", "\"4611686018427387904\"");
            let failed = failed.send().await?;
            assert_eq!(failed.status, 412, "{name}: {failed}");
            assert_eq!(
                entries_of(auditor, &failed).await?,
                Vec::<Value>::new(),
                "{name}"
            );
        }
        if route.kind != Kind::Delete {
            let wrong = json!({ "no_such_field": 1 });
            let failed = request(&client, &route.method, &path, &wrong);
            let failed = failed.header("If-Match", "*").send().await?;
            // What takes no body does not look at it.
            if failed.status >= 400 {
                // A table is not JSON.
                assert!([400, 415].contains(&failed.status), "{name}: {failed}");
                assert_eq!(
                    entries_of(auditor, &failed).await?,
                    Vec::<Value>::new(),
                    "{name}"
                );
            }
        }

        let (client, path) = place(&lab, route, 1000 + number).await?;
        let request = sampled(&client, route, &path, number).await?;
        let request = request.header("If-Match", "*");
        let keyed = route.parameter("header", "Idempotency-Key").is_some();
        let request = if keyed {
            request.header("Idempotency-Key", &name.replace(' ', "-"))
        } else {
            request
        };
        let reply = request.send().await?;
        assert!((200..300).contains(&reply.status), "{name}: {reply}");
        let told = entries_of(auditor, &reply).await?;
        assert!(
            !told.is_empty(),
            "{name} changed something and told nothing of it"
        );
        for entry in &told {
            assert_names(entry).with_context(|| name.clone())?;
        }
    }
    Ok(())
}

/// What happened is called after what it happened to, and says what that was or became.
fn assert_names(entry: &Value) -> anyhow::Result<()> {
    let action = entry["action"].as_str().context("no action")?;
    let (_, what) = action.split_once('.').context("no part behind the dot")?;
    ensure!(what.ends_with("ed"), "{action} is no past participle");
    let id = entry["entity_id"].as_str().context("no id")?;
    ensure!(!id.is_empty(), "{entry}");
    Ok(())
}

/// What is so already is no change, whether a body names it or is empty: neither for the version, nor
/// for the trail. The state that whoever asks has in mind is looked at all the same.
#[tokio::test]
async fn a_patch_that_changes_nothing_leaves_no_trace() -> anyhow::Result<()> {
    let lab = Lab::builder().login().start().await?;
    let mut changes = mutating(&lab.client)?;
    changes.retain(|route| route.kind == Kind::Change);
    assert!(changes.len() >= 5, "{changes:?}");
    for (number, route) in changes.iter().enumerate() {
        let name = route.name();
        let (client, path) = place(&lab, route, number).await?;
        let sample = sampled(&client, route, &path, number).await?;
        let first = sample.header("If-Match", "*").send().await?.expect(200)?;
        let shown = client.get(&path).await?.expect(200)?;
        let mut bodies = vec![
            json!({}),
            bodies(&client, route, [2 * number; 2]).await?[0].clone(),
        ];
        let fields = shown.json()?;
        let fields = fields.as_object().context("no object")?;
        bodies.extend(fields.iter().map(|(field, value)| json!({ field: value })));
        let mut taken = 0;
        for body in &bodies {
            let again = request(&client, &route.method, &path, body);
            let again = again.header("If-Match", first.header("etag"));
            let again = again.send().await?;
            if again.status == 400 {
                // It is shown, and not to be written.
                continue;
            }
            let again = again.expect(200)?;
            assert_eq!(again.header("etag"), first.header("etag"), "{name} {body}");
            assert_eq!(again.body, first.body, "{name} {body}");
            let told = entries_of(&lab.client, &again).await?;
            assert_eq!(told, Vec::<Value>::new(), "{name} {body}");
            taken += 1;
        }
        assert!(taken >= 3, "{name}: {taken} of {bodies:?}");
        assert_eq!(client.get(&path).await?.expect(200)?.body, shown.body);
        let outdated = request(&client, &route.method, &path, &json!({}));
        let outdated = outdated.header("If-Match", "\"4611686018427387904\"");
        assert_eq!(outdated.send().await?.status, 412, "{name}");
    }
    Ok(())
}

/// What is answered from memory was changed once.
#[tokio::test]
async fn a_repetition_leaves_no_entry() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let body = json!({ "name": "Ann", "email": "ann@example.org" });
    let send = async || {
        let request = lab.client.request(reqwest::Method::POST, "/users");
        let request = request.header("Idempotency-Key", "once").json(&body);
        request.send().await
    };
    let first = send().await?.expect(201)?;
    let again = send().await?.expect(201)?;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(entries_of(&lab.client, &first).await?.len(), 2);
    assert_eq!(entries_of(&lab.client, &again).await?.len(), 0);
    Ok(())
}
