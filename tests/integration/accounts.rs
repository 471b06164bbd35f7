//! Accounts, their passwords, second factors and API tokens, through REST.

mod api_tokens;
mod command;
mod in_flight;
mod life;
mod passwords;
mod promotions;
mod races;
mod rules;
pub(crate) mod second_factor;
mod users;

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tests::lab::PortalLab;
use tests::portal::{Client, Reply};

use crate::life::patch;

/// A password that may be chosen.
const PASSWORD: &str = "correct horse battery staple";

/// Another one.
const OTHER_PASSWORD: &str = "Wiege Ampel 7 Überholspur";

/// Somebody who has signed in.
struct Person {
    id: String,
    login: String,
    client: Client,
}

impl Person {
    fn path(&self) -> String {
        format!("/accounts/{}", self.id)
    }
}

/// Creates an account.
async fn account(client: &Client, body: &Value) -> anyhow::Result<Value> {
    client.post("/accounts", body).await?.expect(201)?.json()
}

/// Somebody without a number, who has signed in.
async fn person(
    lab: &PortalLab,
    login: &str,
    role: &str,
    tenant: Option<&str>,
) -> anyhow::Result<Person> {
    let body = json!({ "login": login, "name": login, "role": role, "tenant": tenant });
    let made = account(&lab.client, &body).await?;
    signed_in(lab, &made).await
}

/// The owner of an account that was just created.
async fn signed_in(lab: &PortalLab, made: &Value) -> anyhow::Result<Person> {
    let (id, login) = (text(&made["id"]), text(&made["login"]));
    let token = reset_token(&lab.client, id).await?;
    redeem(&lab.client, &token, PASSWORD).await?.expect(204)?;
    Ok(Person {
        id: id.to_owned(),
        login: login.to_owned(),
        client: lab.client.sign_in(login, PASSWORD).await?,
    })
}

/// Somebody new of the default tenant, who has signed in; `client` is an administrator's.
pub(crate) async fn newcomer(client: &Client, login: &str) -> anyhow::Result<Client> {
    let body = json!({ "login": login, "name": login, "role": "operator", "tenant": "default" });
    let made = account(client, &body).await?;
    let token = reset_token(client, text(&made["id"])).await?;
    redeem(client, &token, PASSWORD).await?.expect(204)?;
    client.sign_in(login, PASSWORD).await
}

/// A token that sets the password of an account.
async fn reset_token(client: &Client, id: &str) -> anyhow::Result<String> {
    let reply = client
        .post_nothing(&format!("/accounts/{id}/reset"))
        .await?;
    Ok(text(&reply.expect(200)?.json()?["token"]).to_owned())
}

/// Sets a password by a token, as anybody.
async fn redeem(client: &Client, token: &str, password: &str) -> anyhow::Result<Reply> {
    let body = json!({ "token": token, "password": password });
    client.anonymous().post("/password-resets", &body).await
}

/// What becomes of an attempt to sign in.
async fn sign_in(
    client: &Client,
    login: &str,
    password: &str,
    code: Option<&str>,
) -> anyhow::Result<Reply> {
    let mut body = json!({ "login": login, "password": password });
    if let Some(code) = code {
        body["code"] = json!(code);
    }
    client.anonymous().post("/sessions", &body).await
}

/// Creates a tenant.
async fn tenant(client: &Client, slug: &str) -> anyhow::Result<String> {
    let body = json!({ "slug": slug, "name": slug, "ext_min": 1000, "ext_max": 1999 });
    let made = client.post("/tenants", &body).await?.expect(201)?.json()?;
    Ok(text(&made["id"]).to_owned())
}

/// The code of the only field that a reply refuses, and which one that is.
fn refused(reply: &Reply) -> anyhow::Result<(String, String)> {
    assert_eq!(reply.problem(400)?, "validation_failed");
    let body = reply.json()?;
    let errors = body["errors"].as_array().context("no errors")?;
    assert_eq!(errors.len(), 1, "{reply}");
    let part = |name: &str| text(&errors[0][name]).to_owned();
    Ok((part("field"), part("code")))
}

/// The actions of the audit trail, in their order.
async fn trail(lab: &PortalLab, like: &str) -> anyhow::Result<Vec<String>> {
    let pool = lab.database.pool().await?;
    let actions = sqlx::query_scalar(
        "select action from audit_entry where action like $1 order by at, audit_entry_id",
    );
    Ok(actions.bind(like).fetch_all(&pool).await?)
}

/// Everything that the database holds, as text.
async fn dump(lab: &PortalLab) -> anyhow::Result<String> {
    let pool = lab.database.pool().await?;
    let tables: Vec<String> = sqlx::query_scalar(
        "select quote_ident(tablename) from pg_tables where schemaname = 'public'",
    )
    .fetch_all(&pool)
    .await?;
    let mut all = String::new();
    for table in tables {
        let sql = format!("select coalesce(string_agg(t::text, chr(10)), '') from {table} t");
        let rows: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&pool)
            .await?;
        all.push_str(&rows);
    }
    anyhow::ensure!(
        all.contains("audit") || all.len() > 1000,
        "nothing was dumped"
    );
    Ok(all)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn me(client: &Client) -> anyhow::Result<Reply> {
    client.request(Method::GET, "/accounts/me").send().await
}
