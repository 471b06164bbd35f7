//! PINs of an import: each takes as long to hash as a password.

use anyhow::Context as _;
use reqwest::Method;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tests::lab::PortalLab;
use tests::process::wait_until;

use super::{DEADLINE, import, people};

/// Users with a PIN each.
fn with_pins(count: u32) -> String {
    let lines = (0..count).map(|n| format!("Pin {n},pin{n}@example.org,{}\n", 1000 + n));
    let lines = lines.collect::<Vec<_>>().concat();
    format!("name,email,voicemail_pin\n{lines}")
}

/// Many PINs keep neither the imports of others waiting nor whoever sets a single one.
#[tokio::test]
async fn others_import_while_many_pins_are_hashed() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let tenant = json!({ "slug": "other", "name": "Other", "ext_min": 2000, "ext_max": 2999 });
    lab.client.post("/tenants", &tenant).await?.expect(201)?;
    let client = lab.client.clone();
    let many = tokio::spawn(async move {
        let table = with_pins(999);
        import(&client, "/imports/users", &table).await
    });
    for n in 0..15 {
        let table = format!("name,email,voicemail_pin\nAnn,ann{n}@example.org,4711\n");
        let path = "/tenants/other/imports/users";
        import(&lab.client, path, &table).await?.expect(200)?;
        let user = json!({
            "name": "Bob", "email": format!("bob{n}@example.org"), "voicemail": { "pin": "4711" },
        });
        let path = "/tenants/other/users";
        lab.client.post(path, &user).await?.expect(201)?;
    }
    assert!(!many.is_finished(), "999 were hashed as fast as 30");
    many.abort();
    Ok(())
}

/// What a portal keeps in memory does not grow with what it has hashed.
#[tokio::test]
async fn hashing_leaves_no_memory_behind() -> anyhow::Result<()> {
    const MEGABYTES_MAX: u64 = 250;
    let lab = PortalLab::start().await?;
    import(&lab.client, "/imports/users", &with_pins(120))
        .await?
        .expect(200)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.portal.pid()?))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.split_whitespace().next());
    let kilobytes: u64 = kilobytes.context("no VmRSS")?.parse()?;
    assert!(kilobytes < MEGABYTES_MAX * 1024, "{kilobytes} kB are held");
    Ok(())
}

/// What was done is answered at once, whoever has the turn.
#[tokio::test]
async fn a_repetition_waits_for_no_other_import() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    let send = async || {
        let request = lab.client.request(Method::POST, "/imports/users");
        let request = request.header("Idempotency-Key", "once");
        request.body("text/csv", with_pins(2)).send().await
    };
    let first = send().await?.expect(200)?;
    // Another import, which waits for a lock in its turn.
    let mut holder = PgConnection::connect(&lab.database.url).await?;
    let mut lock = holder.begin().await?;
    sqlx::query("select from tenant for update")
        .execute(&mut *lock)
        .await?;
    let client = lab.client.clone();
    let other = tokio::spawn(async move {
        let table = format!("name,email\n{}", people(0..2));
        import(&client, "/imports/users", &table).await
    });
    let pool = lab.database.pool().await?;
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'";
    let waits = async || {
        let waiting = sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await;
        waiting.is_ok_and(|waiting| waiting > 0)
    };
    wait_until("the other import has its turn", DEADLINE, waits).await?;
    let again = send().await?.expect(200)?;
    assert_eq!(again.body, first.body);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert!(!other.is_finished());
    lock.rollback().await?;
    other.await??.expect(200)?;
    Ok(())
}
