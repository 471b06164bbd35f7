//! What is of one tenant is nobody else's: over REST, and in the database itself.

use std::path::Path;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tests::lab::PortalLab;
use tests::portal::Client;

use super::{device, listed, patch, read, tenant, text, user};

/// Every operation below a tenant's path, from the document, so that none is forgotten.
fn below_a_tenant(document: &Value) -> Vec<(Method, String)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let mut operations = Vec::new();
    for (path, item) in paths.filter(|(path, _)| path.starts_with("/tenants/{tenant}/")) {
        for method in ["get", "post", "patch", "delete"] {
            if item.get(method).is_some() {
                let method = method.to_uppercase().parse().unwrap_or(Method::GET);
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

/// Asks for what is one tenant's under the paths of others, by each operation that there is.
async fn ask_elsewhere(
    client: &Client,
    bases: &[String],
    [user, device, deleted]: [&str; 3],
) -> anyhow::Result<usize> {
    let mut tried = 0;
    for (method, path) in below_a_tenant(client.openapi()) {
        let rest = path.trim_start_matches("/tenants/{tenant}");
        let id = match rest {
            _ if rest.starts_with("/users/") => user,
            _ if rest.starts_with("/devices/") => device,
            _ if rest.starts_with("/deleted-users/") => deleted,
            _ => {
                ensure!(!rest.contains('{'), "{path}: whose id is that?");
                continue;
            }
        };
        for base in bases {
            let path = format!("{base}{}", rest.replace("{id}", id));
            let request = client.request(method.clone(), &path);
            let request = request.header("If-Match", "*");
            let request = match method {
                Method::PATCH => request.json(&json!({})),
                _ => request,
            };
            let reply = request.send().await?;
            ensure!(reply.status == 404, "{method} {path}: {reply}");
            tried += 1;
        }
    }
    Ok(tried)
}

#[tokio::test]
async fn a_foreign_object_is_not_found() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let (_, b) = (tenant(client, "a").await?, tenant(client, "b").await?);
    let ann = user(client, "/tenants/a", "Ann").await?;
    let gone = user(client, "/tenants/a", "Gone").await?;
    client
        .delete(&format!("/tenants/a/users/{}", gone.id))
        .await?
        .expect(204)?;
    let own = text(&ann.body["sip"]["device_id"]);
    let before = (
        read(client, &format!("/tenants/a/users/{}", ann.id)).await?,
        read(client, &format!("/tenants/a/devices/{own}")).await?,
    );
    let bases = [
        "/tenants/b".to_owned(),
        format!("/tenants/{}", text(&b["id"])),
        String::new(),
    ];
    let tried = ask_elsewhere(client, &bases, [&ann.id, own, &gone.id]).await?;
    ensure!(tried >= 27, "only {tried} were tried");
    for base in &bases {
        for list in ["users", "devices", "deleted-users"] {
            let path = format!("{base}/{list}");
            ensure!(listed(client, &path, "id").await?.is_empty(), "{path}");
        }
        let naming = json!({ "user_id": ann.id, "label": "x" });
        let reply = client.post(&format!("{base}/devices"), &naming).await?;
        assert_eq!(reply.problem(404)?, "user_not_found");
    }
    // Nor can one's own device be given to somebody of another tenant.
    let bob = user(client, "/tenants/b", "Bob").await?;
    let path = format!("/tenants/b/devices/{}", text(&bob.body["sip"]["device_id"]));
    let reply = patch(client, &path, &json!({ "user_id": ann.id })).await?;
    assert_eq!(reply.problem(404)?, "user_not_found");
    let filter = format!("/tenants/b/devices?user_id={}", ann.id);
    ensure!(listed(client, &filter, "id").await?.is_empty());
    let after = (
        read(client, &format!("/tenants/a/users/{}", ann.id)).await?,
        read(client, &format!("/tenants/a/devices/{own}")).await?,
    );
    assert_eq!(after, before);
    // The same address, the same number: another tenant, another world.
    let twin = user(client, "/tenants/b", "Ann").await?;
    assert_eq!(user(client, "", "Ann").await?.extension, 1000);
    assert_eq!((ann.extension, twin.extension), (1000, 1001));
    for bad in [
        "/tenants/A/users",
        "/tenants/c/users",
        "/tenants/a%20/users",
    ] {
        assert_eq!(
            client.get(bad).await?.problem(404)?,
            "tenant_not_found",
            "{bad}"
        );
    }
    Ok(())
}

/// Whoever reaches the tables past the portal cannot tie a row of one tenant to one of another.
#[tokio::test]
async fn the_database_refuses_rows_that_cross_tenants() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let client = &lab.client;
    let (a, b) = (tenant(client, "a").await?, tenant(client, "b").await?);
    let ann = user(client, "/tenants/a", "Ann").await?;
    let bob = user(client, "/tenants/b", "Bob").await?;
    device(client, "/tenants/a", &ann.id, "Second").await?;
    let pool = lab.database.pool().await?;
    let (a, b) = (text(&a["id"]), text(&b["id"]));
    for (attempt, constraint) in [
        (
            format!(
                "update device set slot = slot + 10, user_id = '{}' where user_id = '{}'",
                bob.id, ann.id
            ),
            "device_user_fkey",
        ),
        (
            format!(
                "update device set tenant_id = '{b}' where user_id = '{}'",
                ann.id
            ),
            "device_user_fkey",
        ),
        (
            format!(
                "update extension set tenant_id = '{b}', number = 1900 where user_id = '{}'",
                ann.id
            ),
            "extension_user_fkey",
        ),
        (
            format!(
                "update \"user\" set tenant_id = '{b}' where user_id = '{}'",
                ann.id
            ),
            "extension_user_fkey",
        ),
        (
            format!(
                "insert into extension (tenant_id, number, user_id, allocated_at) \
                select '{a}', 1950, user_id, now() from \"user\" where user_id = '{}'",
                bob.id
            ),
            "extension_user_key",
        ),
        (
            format!(
                "insert into device (device_id, tenant_id, user_id, slot, label, \
                sip_password_encrypted, password_set_at, created_at, created_by, updated_at) \
                values (gen_random_uuid(), '{a}', '{}', 9, 'x', '', now(), now(), 'x', now())",
                bob.id
            ),
            "device_user_fkey",
        ),
    ] {
        let refused = sqlx::query(sqlx::AssertSqlSafe(attempt.clone()))
            .execute(&pool)
            .await;
        let error = refused
            .err()
            .with_context(|| format!("{attempt} went through"))?;
        let named = error.as_database_error().and_then(|e| e.constraint());
        assert_eq!(named, Some(constraint), "{attempt}: {error}");
    }
    Ok(())
}

/// Tables whose rows belong to a tenant.
const OWNED: [&str; 3] = ["user", "device", "extension"];

/// A statement on a tenant's rows names the tenant, so that no id of another one finds anything. The
/// exceptions read what belongs together for a whole PBX.
#[test]
fn every_statement_on_a_tenants_rows_names_the_tenant() -> anyhow::Result<()> {
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api-server/.sqlx");
    let mut looked_at = 0;
    for entry in std::fs::read_dir(recorded)? {
        let data: Value = serde_json::from_str(&std::fs::read_to_string(entry?.path())?)?;
        let query = text(&data["query"]).to_owned();
        let words: Vec<&str> = query
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        let reads = |table: &str| {
            words.windows(2).any(|pair| {
                ["from", "join", "update", "into"].contains(&pair[0]) && pair[1] == table
                    || (pair[0].is_empty()
                        && pair[1] == table
                        && query.contains(&format!("\"{table}\"")))
            })
        };
        if !OWNED.iter().any(|table| reads(table)) {
            continue;
        }
        looked_at += 1;
        let for_a_whole_pbx = query.contains("pbx_id = $1");
        // The names of tenants, for a preview of a PBX.
        let of_tenants = query
            .trim_start()
            .starts_with("select tenant_id, name from tenant");
        // What is inserted is held to its tenant by the foreign keys.
        let inserts = query.trim_start().starts_with("insert into") && query.contains("tenant_id,");
        ensure!(
            for_a_whole_pbx || of_tenants || inserts || query.contains("tenant_id = $"),
            "no tenant: {query}"
        );
    }
    ensure!(looked_at > 15, "only {looked_at} statements were looked at");
    Ok(())
}
