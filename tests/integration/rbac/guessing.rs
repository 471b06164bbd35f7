//! Ids and paths of others, put wherever a path takes one, in every spelling.

use std::collections::BTreeSet;

use anyhow::ensure;
use reqwest::Method;
use serde_json::json;
use tests::portal::{Client, Reply};

use super::places::{OTHER, OWN, Who, World};
use super::unchanged::state;
use crate::http::habits::{Route, routes};

/// What is the other tenant's.
const WORD: &str = "foreign-word";

/// Other spellings of a path parameter, which a careless reader may take for it.
fn spellings(text: &str) -> Vec<String> {
    let first = text.chars().next().map_or(0, |first| first as u32);
    let rest = text.get(1..).unwrap_or_default();
    vec![
        text.to_owned(),
        text.to_uppercase(),
        format!("%{first:02x}{rest}"),
        format!("%25{first:02x}{rest}"),
        format!("{text}%20"),
        format!("{text}%00"),
        format!("{text}%2f"),
        format!("{text};"),
        format!("%7B{text}%7D"),
        text.replace('-', ""),
        format!("{OWN}%2f..%2f{text}"),
        format!("..%2f{text}"),
        format!(".%2f{text}"),
        format!("{OWN}%2F{text}"),
    ]
}

async fn ask(client: &Client, method: &Method, path: &str) -> anyhow::Result<Reply> {
    let request = client.request(method.clone(), path).header("If-Match", "*");
    let request = match method.as_str() {
        "PATCH" => request.body("application/merge-patch+json", r#"{"dnd":false}"#),
        "POST" => request.json(&json!({})),
        _ => request,
    };
    request.undocumented().send().await
}

/// Everything of the other tenant that has an id, and the tenant itself.
async fn foreign(world: &World) -> anyhow::Result<BTreeSet<String>> {
    let admin = &world.lab.client;
    let path = format!("/tenants/{OTHER}");
    let mut ids = BTreeSet::from([OTHER.to_owned()]);
    let tenant = admin.get(&path).await?.expect(200)?.json()?;
    ids.extend(tenant["id"].as_str().map(str::to_owned));
    for (collection, method) in [("users", Method::GET), ("deleted-users", Method::DELETE)] {
        let body = json!({ "name": WORD, "email": format!("{WORD}.{collection}@example.org") });
        let made = admin
            .post(&format!("{path}/users"), &body)
            .await?
            .expect(201)?
            .json()?;
        let id = made["id"].as_str().unwrap_or_default();
        if method == Method::DELETE {
            admin
                .delete(&format!("{path}/users/{id}"))
                .await?
                .expect(204)?;
        } else {
            ids.extend(made["sip"]["device_id"].as_str().map(str::to_owned));
        }
        ids.insert(id.to_owned());
    }
    let login = json!({ "login": WORD, "name": WORD, "role": "operator", "tenant": OTHER });
    let made = admin.post("/accounts", &login).await?.expect(201)?.json()?;
    ids.extend(made["id"].as_str().map(str::to_owned));
    ids.extend(world.applies_of_others());
    Ok(ids)
}

/// Paths of a route with foreign ids in it, under the own tenant and under the other one.
fn paths(route: &Route, ids: &BTreeSet<String>) -> BTreeSet<String> {
    let mut paths = BTreeSet::from([route.path.clone()]);
    for parameter in ["{tenant}", "{id}", "{account}", "{session}", "{pbx}"] {
        paths = paths
            .iter()
            .flat_map(|path| {
                let given = ids.iter().flat_map(|id| spellings(id));
                let own = (parameter == "{tenant}").then(|| OWN.to_owned());
                let given: Vec<String> = given.chain(own).collect();
                if path.contains(parameter) {
                    let put = |text: &String| path.replace(parameter, text);
                    given.iter().map(put).collect()
                } else {
                    vec![path.clone()]
                }
            })
            .collect();
    }
    // What is one's own is no guess.
    paths.retain(|path| *path != route.path && *path != route.path.replace("{tenant}", OWN));
    paths
}

/// A part of many, always the same one.
fn some(paths: BTreeSet<String>) -> impl Iterator<Item = String> {
    let step = (paths.len() / 16).max(1);
    paths.into_iter().step_by(step)
}

#[tokio::test]
async fn no_spelling_of_a_foreign_id_leads_anywhere() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ids = foreign(&world).await?;
    ensure!(ids.len() >= 7, "{ids:?}");
    let pool = world.lab.database.pool().await?;
    let before = state(&pool).await?;
    let mut tried = 0;
    for route in routes(world.lab.client.openapi())? {
        for path in some(paths(&route, &ids)) {
            for who in [Who::User, Who::Operator, Who::TenantAdmin] {
                let reply = ask(&world.client(who, None), &route.method, &path).await?;
                ensure!((400..500).contains(&reply.status), "{who:?}: {reply}");
                let told = reply.text().replace(&path, "");
                ensure!(!told.contains(WORD), "{who:?}: {reply}");
                tried += 1;
            }
        }
    }
    ensure!(state(&pool).await? == before, "something was changed");
    println!("rbac: {tried} guesses");
    ensure!(tried > 2000, "only {tried} guesses");
    Ok(())
}

#[tokio::test]
async fn a_path_has_one_spelling() -> anyhow::Result<()> {
    let world = World::start().await?;
    let chief = world.client(Who::TenantAdmin, None);
    for path in [
        format!("/tenants/{OWN}/users/"),
        format!("//tenants/{OWN}/users"),
        format!("/tenants//{OWN}/users"),
        format!("/Tenants/{OWN}/users"),
        format!("/tenants/{OWN}/Users"),
        format!("/tenants/{OWN}/users/%2e%2e/%2e%2e/{OTHER}/users"),
        format!("/tenants/{OWN}/tenants/{OTHER}/users"),
        format!("/tenants/{OWN}/users;x"),
        format!("/tenants/{OWN}/users%3Fx"),
    ] {
        let reply = ask(&chief, &Method::GET, &path).await?;
        ensure!(reply.status == 404, "{reply}");
    }
    chief
        .get(&format!("/tenants/{OWN}/users"))
        .await?
        .expect(200)?;
    // A method that says to be another one is the one that it is.
    let request = chief.request(Method::POST, "/pbxes");
    let request = request
        .header("X-HTTP-Method-Override", "GET")
        .json(&json!({}));
    assert_eq!(request.send().await?.problem(403)?, "forbidden");
    // Nor does a header say who asks.
    let request = world
        .client(Who::Nobody, None)
        .request(Method::GET, "/users");
    let request = request
        .header("X-Admin-User", "boss")
        .header("X-Forwarded-User", "boss");
    assert_eq!(request.send().await?.problem(401)?, "unauthenticated");
    Ok(())
}
