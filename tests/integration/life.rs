//! The life of tenants, users and devices, through REST.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::NewUser;
use tests::portal::{Client, Reply};

mod devices;
mod isolation;
mod phones;
mod races;
mod tenants;
mod users;

/// Changes a resource whatever its state.
pub(crate) async fn patch(client: &Client, path: &str, changes: &Value) -> anyhow::Result<Reply> {
    client
        .request(Method::PATCH, path)
        .json(changes)
        .send()
        .await
}

/// Changes a resource that is in this state.
async fn patch_if(
    client: &Client,
    path: &str,
    tag: &str,
    changes: &Value,
) -> anyhow::Result<Reply> {
    let request = client.request(Method::PATCH, path).header("If-Match", tag);
    request.json(changes).send().await
}

/// Removes a resource that is in this state.
async fn delete_if(client: &Client, path: &str, tag: &str) -> anyhow::Result<Reply> {
    let request = client.request(Method::DELETE, path);
    request.header("If-Match", tag).send().await
}

/// Gives a device a new password, whatever its state.
async fn rotate(client: &Client, path: &str, body: &Value) -> anyhow::Result<Value> {
    let request = client.request(Method::POST, &format!("{path}/rotate"));
    let reply = request.header("If-Match", "*").json(body).send().await?;
    reply.expect(200)?.json()
}

/// Creates a tenant with the numbers 1000 to 1999 on the default PBX.
async fn tenant(client: &Client, slug: &str) -> anyhow::Result<Value> {
    let body = json!({ "slug": slug, "name": slug, "ext_min": 1000, "ext_max": 1999 });
    client.post("/tenants", &body).await?.expect(201)?.json()
}

/// Creates a user of a tenant, or of the default one when `base` is empty.
pub(crate) async fn user(client: &Client, base: &str, name: &str) -> anyhow::Result<NewUser> {
    let email = format!("{}@example.org", name.to_lowercase());
    let body = json!({ "name": name, "email": email });
    let reply = client.post(&format!("{base}/users"), &body).await?;
    NewUser::read(reply.expect(201)?.json()?)
}

/// Creates a device.
async fn device(client: &Client, base: &str, user: &str, label: &str) -> anyhow::Result<Value> {
    let body = json!({ "user_id": user, "label": label });
    let reply = client.post(&format!("{base}/devices"), &body).await?;
    reply.expect(201)?.json()
}

async fn read(client: &Client, path: &str) -> anyhow::Result<Value> {
    client.get(path).await?.expect(200)?.json()
}

/// The fields of a list's items.
async fn listed(client: &Client, path: &str, field: &str) -> anyhow::Result<Vec<Value>> {
    let items = read(client, path).await?;
    let items = items.as_array().context("a list")?;
    Ok(items.iter().map(|item| item[field].clone()).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The SIP credentials of an answer that shows them.
fn credentials(body: &Value) -> (&str, &str) {
    (
        text(&body["sip"]["username"]),
        text(&body["sip"]["password"]),
    )
}
