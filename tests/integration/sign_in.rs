//! Signing in, by the attack that each rule stops.
//!
//! The portal is behind a proxy here, so that a test can come from any address.

mod addresses;
mod at_once;
mod bodies;
mod browsers;
mod forged;
mod injection;
mod life;
mod lock_out;
mod passwords;
mod refresh;
mod second_factor;
mod storm;
mod story;
mod unlocking;

use anyhow::Context as _;
use api_server::domain::password::{NewPassword, Password};
use api_server::services::passwords as hashing;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::PgPool;
use tests::lab::PortalLab;
use tests::portal::{Access, Client, Reply, Request};
use tests::postgres::TestDatabase;
use uuid::Uuid;

/// Where nobody has signed in from.
const STRANGER: &str = "203.0.113.1";

/// What every account here is signed in to with.
const PASSWORD: &str = "correct horse battery staple";

/// A portal where one signs in, behind a proxy.
async fn lab() -> anyhow::Result<PortalLab> {
    let access = Access {
        login: true,
        https: false,
    };
    PortalLab::reached_by(access, TestDatabase::create().await?, &[]).await
}

/// Whose an account is.
#[derive(Clone, Copy)]
enum Whose<'a> {
    /// A platform administrator's.
    Platform,
    /// A user's, by tenant, id and role.
    User(&'a str, &'a str, &'a str),
}

/// Makes an account that is signed in to with [`PASSWORD`].
async fn account(pool: &PgPool, login: &str, whose: Whose<'_>) -> anyhow::Result<Uuid> {
    let password: Password = PASSWORD.parse()?;
    let hash = hashing::hash(NewPassword::choose(password, &[])?).await?;
    let id = Uuid::now_v7();
    let (tenant, user, role) = match whose {
        Whose::Platform => (None, None, "platform_admin"),
        Whose::User(tenant, user, role) => (Some(tenant), Some(user), role),
    };
    sqlx::query(
        "insert into account (account_id, login, name, tenant_id, user_id, role, password_hash,
            password_set_at, created_at, created_by, updated_at)
         values ($1, $2, $2, $3::uuid, $4::uuid, $5, $6, now(), now(), 'test', now())",
    )
    .bind(id)
    .bind(login)
    .bind(tenant)
    .bind(user)
    .bind(role)
    .bind(hash.expose())
    .execute(pool)
    .await?;
    Ok(id)
}

/// A platform administrator's account, and where it is kept.
async fn ann(lab: &PortalLab) -> anyhow::Result<(PgPool, Uuid)> {
    let pool = lab.database.pool().await?;
    let id = account(&pool, "ann", Whose::Platform).await?;
    Ok((pool, id))
}

fn credentials(login: &str, password: &str) -> Value {
    json!({ "login": login, "password": password })
}

/// An attempt to sign in, as it comes from `address`.
fn attempt(client: &Client, address: &str, body: &Value) -> Request {
    let request = client.anonymous().request(Method::POST, "/sessions");
    request.header("X-Forwarded-For", address).json(body)
}

/// Tries to sign in from `address`.
async fn try_from(
    client: &Client,
    address: &str,
    login: &str,
    password: &str,
) -> anyhow::Result<Reply> {
    let body = credentials(login, password);
    attempt(client, address, &body).send().await
}

/// A session of tokens.
struct Tokens {
    access: String,
    refresh: String,
    id: String,
}

impl Tokens {
    fn of(reply: &Reply) -> anyhow::Result<Self> {
        let body = reply.json()?;
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        Ok(Self {
            access: text("access_token").context("no access token")?,
            refresh: text("refresh_token").context("no refresh token")?,
            id: text("id").context("no id")?,
        })
    }

    /// Signs in to an account of [`PASSWORD`].
    async fn open(client: &Client, login: &str) -> anyhow::Result<Self> {
        let body = credentials(login, PASSWORD);
        let reply = client.anonymous().post("/sessions", &body).await?;
        Self::of(&reply.expect(201)?)
    }

    /// Asks for the session by its access token.
    async fn current(&self, client: &Client) -> anyhow::Result<Reply> {
        current(&client.with_bearer(&self.access)).await
    }
}

/// Whether a client is let in, and by which session.
async fn current(client: &Client) -> anyhow::Result<Reply> {
    let request = client.request(Method::GET, "/sessions/current");
    request.undocumented().send().await
}

/// Fails unless a client is let in nowhere.
async fn assert_out(client: &Client, why: &str) -> anyhow::Result<()> {
    for path in ["/sessions/current", "/tenants"] {
        let request = client.request(Method::GET, path).undocumented();
        let code = request.send().await?.problem(401).context(why.to_owned())?;
        assert_eq!(code, "unauthenticated", "{why}: {path}");
    }
    Ok(())
}

/// Uses a refresh token.
async fn refresh(client: &Client, token: &str) -> anyhow::Result<Reply> {
    let body = json!({ "refresh_token": token });
    client.anonymous().post("/sessions/refresh", &body).await
}

/// What the audit trail says of an action, the last entry first: whose name stands there, what it
/// happened to, and what came of it.
async fn noted(pool: &PgPool, action: &str) -> anyhow::Result<Vec<(String, String, Value)>> {
    Ok(sqlx::query_as(
        "select actor_name, entity_id, after from audit_entry where action = $1
         order by at desc, audit_entry_id desc",
    )
    .bind(action)
    .fetch_all(pool)
    .await?)
}
