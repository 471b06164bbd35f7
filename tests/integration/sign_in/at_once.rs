//! What is taken from somebody is gone with the next request, however long the tokens last.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tests::lab::PortalLab;
use tests::portal::Client;
use uuid::Uuid;

use super::{PASSWORD, STRANGER, Tokens, Whose, account, ann, assert_out, current, lab, try_from};

/// A user of a tenant with an account, and a client by each kind of credential.
struct Somebody {
    tenant: String,
    user: String,
    account: Uuid,
    clients: Vec<(&'static str, Client)>,
}

async fn somebody(lab: &PortalLab, pool: &PgPool, role: &str) -> anyhow::Result<Somebody> {
    let made = Uuid::now_v7().simple().to_string();
    let body =
        json!({ "slug": format!("t{}", &made[20..]), "name": "T", "ext_min": 100, "ext_max": 199 });
    let tenant = lab.client.post("/tenants", &body).await?.expect(201)?;
    let tenant = tenant.json()?["id"].as_str().context("no id")?.to_owned();
    let body = json!({ "name": "Somebody", "email": "somebody@example.org", "role": role });
    let path = format!("/tenants/{tenant}/users");
    let user = lab.client.post(&path, &body).await?.expect(201)?;
    let user = user.json()?["id"].as_str().context("no id")?.to_owned();
    let login = format!("u{made}");
    let account = account(pool, &login, Whose::User(&tenant, &user, role)).await?;
    let token = format!("pbxt_{}", &format!("{made}{made}")[..43]);
    sqlx::query(
        "insert into api_token (api_token_id, account_id, name, token_hash, scopes, created_at,
            expires_at)
         values ($1, $2, 'x', $3, '{users.read}', now(), now() + interval '1 day')",
    )
    .bind(Uuid::now_v7())
    .bind(account)
    .bind(Sha256::digest(&token).as_slice())
    .execute(pool)
    .await?;
    let clients = vec![
        ("access token", lab.client.sign_in(&login, PASSWORD).await?),
        (
            "cookie",
            lab.client.sign_in_by_cookie(&login, PASSWORD).await?,
        ),
        ("API token", lab.client.with_bearer(&token)),
    ];
    Ok(Somebody {
        tenant,
        user,
        account,
        clients,
    })
}

impl Somebody {
    /// How a list of the tenant's users is answered to each of the clients.
    async fn statuses(&self) -> anyhow::Result<Vec<(&'static str, u16)>> {
        let path = format!("/tenants/{}/users", self.tenant);
        let mut statuses = Vec::new();
        for (kind, client) in &self.clients {
            let reply = client.request(Method::GET, &path).undocumented();
            statuses.push((*kind, reply.send().await?.status));
        }
        Ok(statuses)
    }

    async fn assert_all(&self, status: u16, why: &str) -> anyhow::Result<()> {
        let statuses = self.statuses().await?;
        assert!(
            statuses.iter().all(|(_, s)| *s == status),
            "{why}: {statuses:?}"
        );
        Ok(())
    }
}

async fn change(client: &Client, path: &str, body: &Value) -> anyhow::Result<()> {
    let request = client.request(Method::PATCH, path);
    let request = request.body("application/merge-patch+json", body.to_string());
    request.send().await?.expect(200)?;
    Ok(())
}

#[tokio::test]
async fn whoever_is_suspended_is_out_with_the_next_request() -> anyhow::Result<()> {
    let lab = lab().await?;
    let pool = lab.database.pool().await?;
    let suspended = json!({ "status": "suspended" });
    for what in ["account", "user", "tenant", "deleted user"] {
        let somebody = somebody(&lab, &pool, "operator").await?;
        somebody.assert_all(200, what).await?;
        let tenant = format!("/tenants/{}", somebody.tenant);
        let user = format!("{tenant}/users/{}", somebody.user);
        match what {
            "account" => {
                sqlx::query("update account set status = 'suspended' where account_id = $1")
                    .bind(somebody.account)
                    .execute(&pool)
                    .await?;
            }
            "user" => change(&lab.client, &user, &suspended).await?,
            "tenant" => change(&lab.client, &tenant, &suspended).await?,
            _ => {
                lab.client.delete(&user).await?.expect(204)?;
            }
        }
        somebody.assert_all(401, what).await?;
    }
    Ok(())
}

#[tokio::test]
async fn another_role_counts_with_the_next_request() -> anyhow::Result<()> {
    let lab = lab().await?;
    let pool = lab.database.pool().await?;
    let somebody = somebody(&lab, &pool, "tenant_admin").await?;
    let path = format!("/tenants/{}/users", somebody.tenant);
    let create = async |n: u8| {
        let (_, client) = &somebody.clients[0];
        let email = format!("made{n}@example.org");
        let request = client.request(Method::POST, &path).undocumented();
        let request = request.json(&json!({ "name": "Made", "email": email }));
        request.send().await
    };
    create(1).await?.expect(201)?;
    // In the database alone, so that nothing but the lookup of the request can notice.
    for role in ["operator", "tenant_admin"] {
        sqlx::query(r#"update "user" set role = $2 where user_id = $1::uuid"#)
            .bind(&somebody.user)
            .bind(role)
            .execute(&pool)
            .await?;
        match role {
            "operator" => assert_eq!(create(2).await?.problem(403)?, "forbidden"),
            _ => {
                create(2).await?.expect(201)?;
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_suspended_account_is_told_so_only_with_the_right_password() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (pool, id) = ann(&lab).await?;
    let before = Tokens::open(&lab.client, "ann").await?;
    let suspend = async |status: &str| {
        sqlx::query("update account set status = $2 where account_id = $1")
            .bind(id)
            .bind(status)
            .execute(&pool)
            .await
    };
    suspend("suspended").await?;
    let right = try_from(&lab.client, STRANGER, "ann", PASSWORD).await?;
    assert_eq!(right.problem(403)?, "account_suspended");
    let wrong = try_from(&lab.client, STRANGER, "ann", "wrong").await?;
    assert_eq!(wrong.problem(401)?, "wrong_credentials");
    assert_out(&lab.client.with_bearer(&before.access), "suspended").await?;
    let refused = super::refresh(&lab.client, &before.refresh).await?;
    assert_eq!(refused.problem(401)?, "refresh_refused");
    // Nothing was used up by that.
    suspend("active").await?;
    super::refresh(&lab.client, &before.refresh)
        .await?
        .expect(200)?;
    Ok(())
}

/// Whoever signs out elsewhere is out here.
#[tokio::test]
async fn a_sign_out_counts_in_every_portal_at_once() -> anyhow::Result<()> {
    let lab = lab().await?;
    ann(&lab).await?;
    let tokens = Tokens::open(&lab.client, "ann").await?;
    let other = tests::portal::PortalSetup {
        database_url: &lab.database.url,
        agent: lab.agent.port(1),
        pki: &lab.pki,
        secret_key: None,
        access: tests::portal::Access::LOGIN,
        listen: None,
        env: &[],
    };
    let other = tests::portal::Portal::start(other).await?;
    // Signed by one, read by the other.
    let there = other.client()?.with_bearer(&tokens.access);
    tests::process::wait_until(
        "it is let in",
        std::time::Duration::from_secs(30),
        async || current(&there).await.is_ok_and(|reply| reply.status == 200),
    )
    .await?;
    let here = lab.client.with_bearer(&tokens.access);
    here.delete("/sessions/current").await?.expect(204)?;
    assert_out(&there, "signed out elsewhere").await
}
