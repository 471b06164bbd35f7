//! A database of an earlier version goes on with this one.

use std::borrow::Cow;

use api_server::db::MIGRATOR;
use api_server::domain::DeviceId;
use api_server::vault::{Place, Vault};
use serde_json::json;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::postgres::TestDatabase;
use uuid::Uuid;

/// The last version in which an extension was the account.
const BEFORE_DEVICES: i64 = 5;

/// As of every portal in a test.
const SECRET_KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

#[tokio::test]
async fn accounts_become_devices_with_the_passwords_that_they_had() -> anyhow::Result<()> {
    let database = TestDatabase::create().await?;
    let mut connection = PgConnection::connect(&database.url).await?;
    let before = MIGRATOR.iter().filter(|m| m.version <= BEFORE_DEVICES);
    let before = Migrator {
        migrations: Cow::Owned(before.cloned().collect()),
        ..Migrator::DEFAULT
    };
    before.run(&mut connection).await?;
    let (ann, vault) = (Uuid::from_u128(7), SECRET_KEY.parse::<Vault>()?);
    let place = Place::SipPassword(DeviceId(ann));
    let mut rng = api_server::clock::os_rng();
    let sealed = vault.seal_as_before(place, b"abcdefABCDEF123456789012", &mut rng);
    sqlx::query(
        r#"insert into "user" (user_id, tenant_id, name, email, created_at, created_by)
           select $1, tenant_id, 'Ann', 'ann@example.org', now(), 'anna' from tenant"#,
    )
    .bind(ann)
    .execute(&mut connection)
    .await?;
    sqlx::query(
        "insert into extension
            (tenant_id, number, user_id, allocated_at, sip_username, sip_password_encrypted)
         select tenant_id, 1000, $1, now(), '1000', $2 from tenant",
    )
    .bind(ann)
    .bind(sealed)
    .execute(&mut connection)
    .await?;
    sqlx::query("update tenant set ext_free_from = 1001")
        .execute(&mut connection)
        .await?;

    let lab = PortalLab::start_with(database, &[]).await?;
    let users = lab.client.get("/users").await?.expect(200)?.json()?;
    assert_eq!(users[0]["extension"], 1000);
    assert_eq!(users[0]["status"], "active");
    let devices = lab.client.get("/devices").await?.expect(200)?.json()?;
    assert_eq!(devices[0]["sip_username"], "1000");
    assert_eq!(devices[0]["password_revealed"], true);
    // The password opens: it is rendered, and there is no agent that could take it.
    let preview = lab
        .client
        .get("/apply/preview")
        .await?
        .expect(200)?
        .json()?;
    assert_eq!(preview["user_count"], 1, "{preview}");
    let path = format!("/devices/{ann}/rotate");
    let request = lab.client.request(reqwest::Method::POST, &path);
    let request = request.header("If-Match", "*");
    let rotated = request
        .json(&json!({ "overlap_seconds": 60 }))
        .send()
        .await?;
    assert_eq!(rotated.expect(200)?.json()?["sip"]["username"], "1000");
    let next = lab.create_user("Bob", "bob@example.org").await?;
    assert_eq!(next.extension, 1001);
    Ok(())
}
