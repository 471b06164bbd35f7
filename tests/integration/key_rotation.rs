//! `SECRET_KEY` is changed while portals run, and whoever comes with another key is told so.

mod killed;
mod refusals;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::db::sealed::{SEALED, Sealed};
use api_server::domain::DeviceId;
use api_server::vault::{Place, Vault};
use shared::bundle::ApplyId;
use sqlx::PgPool;
use tests::agent::binary;
use tests::lab::{Lab, create_user};
use tests::pki::Pki;
use tests::portal::{Access, Client, Portal, PortalSetup};
use tests::process::{Output, Program, wait_until};
use tests::scratch::Scratch;
use uuid::Uuid;

use crate::audit::applied;
use crate::outage::ready;

/// The key of every portal of the harness.
pub(crate) const OLD: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The one that comes after it.
pub(crate) const NEW: &str = "ffeeddccbbaa99887766554433221100ffeeddccbbaa99887766554433221100";

const DEADLINE: Duration = Duration::from_mins(1);

/// `api-server secret-key ACTION` with the key in use.
fn secret_key(action: &str, url: &str, key: &str) -> anyhow::Result<Program> {
    let program = Program::new(binary("api-server")?).args(["secret-key", action]);
    Ok(program.env("DATABASE_URL", url).env("SECRET_KEY", key))
}

/// From the old key to the new one.
fn rotate(url: &str) -> anyhow::Result<Program> {
    Ok(secret_key("rotate", url, OLD)?.env("NEW_SECRET_KEY", NEW))
}

/// What it said, if it failed, and that this was none of the keys.
fn failure(output: Output) -> anyhow::Result<String> {
    ensure!(!output.status.success(), "{}", output.stdout);
    let said = output.stdout + &output.stderr;
    for key in [OLD, NEW] {
        ensure!(!said.contains(key), "a key was shown: {said}");
    }
    Ok(said)
}

fn id(key: &str) -> anyhow::Result<String> {
    Ok(key.parse::<Vault>()?.master_key_id().to_string())
}

/// How many rows of all sealed columns are sealed with each key.
async fn rows_by_key(pool: &PgPool) -> anyhow::Result<Vec<(Vec<u8>, i64)>> {
    Ok(sqlx::query_as(
        "select substr(sealed, 1, 17), count(*) from (
            select sip_password_encrypted as sealed from device
            union all select bundle_encrypted from apply where bundle_encrypted is not null
         ) s group by 1",
    )
    .fetch_all(pool)
    .await?)
}

/// Fails unless there is one data key, everything is sealed with it, and so many master keys open
/// it. Returns it.
async fn assert_one_data_key(pool: &PgPool, masters: usize) -> anyhow::Result<Uuid> {
    let keys: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as("select data_key_id, master_key_id from data_key_wrapping")
            .fetch_all(pool)
            .await?;
    ensure!(keys.len() == masters, "{keys:?}");
    let (key, _) = keys.first().context("no data key")?;
    ensure!(keys.iter().all(|(other, _)| other == key), "{keys:?}");
    let used = rows_by_key(pool).await?;
    let wanted = [&[2], key.as_bytes().as_slice()].concat();
    ensure!(used.iter().all(|(by, _)| *by == wanted), "{used:?}");
    ensure!(!used.is_empty(), "nothing is sealed");
    Ok(*key)
}

/// Seals every row as portals did before there were data keys, and forgets the data keys.
async fn as_before(pool: &PgPool) -> anyhow::Result<()> {
    let vault: Vault = OLD.parse()?;
    let mut transaction = pool.begin().await?;
    let opener = vault.opener(&mut transaction).await?;
    let anew = |place: Place, sealed: &[u8]| {
        let clear = opener.open(place, sealed)?;
        let mut rng = api_server::clock::os_rng();
        let sealed = vault.seal_as_before(place, &clear, &mut rng);
        sealed.context("too new a place")
    };
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as("select device_id, sip_password_encrypted from device")
            .fetch_all(&mut *transaction)
            .await?;
    for (device, sealed) in rows {
        let sealed = anew(Place::SipPassword(DeviceId(device)), &sealed)?;
        sqlx::query("update device set sip_password_encrypted = $2 where device_id = $1")
            .bind(device)
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
    }
    let rows: Vec<(Uuid, Vec<u8>)> = sqlx::query_as(
        "select apply_id, bundle_encrypted from apply where bundle_encrypted is not null",
    )
    .fetch_all(&mut *transaction)
    .await?;
    for (apply, sealed) in rows {
        let sealed = anew(Place::Bundle(ApplyId(apply)), &sealed)?;
        sqlx::query("update apply set bundle_encrypted = $2 where apply_id = $1")
            .bind(apply)
            .bind(sealed)
            .execute(&mut *transaction)
            .await?;
    }
    // Neither were there sessions, nor an audit trail, whose key keeps itself from being removed.
    sqlx::raw_sql(
        "delete from signing_key;
         alter table audit_key disable trigger user;
         delete from audit_key;
         alter table audit_key enable always trigger audit_key_stays;
         delete from data_key",
    )
    .execute(&mut *transaction)
    .await?;
    Ok(transaction.commit().await?)
}

/// The digest of what the database says: it is the same when every password is.
async fn wanted_digest(client: &Client) -> anyhow::Result<String> {
    let preview = client.get("/apply/preview").await?.expect(200)?.json()?;
    let digest = preview["digest"].as_str().map(str::to_owned);
    digest.with_context(|| format!("nothing can be rendered: {preview}"))
}

async fn portal_with(
    key: &str,
    url: &str,
    agent: std::net::SocketAddr,
    pki: &Pki,
) -> anyhow::Result<Portal> {
    Portal::start(PortalSetup {
        database_url: url,
        agent,
        pki,
        secret_key: Some(key),
        access: Access::default(),
        listen: None,
        env: &[],
    })
    .await
}

/// Somebody who keeps asking until told to stop, and fails at the first refusal.
fn keep_asking(
    client: &Client,
    (what, own): (&'static str, usize),
    stop: &Arc<AtomicBool>,
    count: &Arc<AtomicUsize>,
) -> tokio::task::JoinHandle<anyhow::Result<()>> {
    let (client, stop, count) = (client.clone(), Arc::clone(stop), Arc::clone(count));
    tokio::spawn(async move {
        for number in 0_u32.. {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            match what {
                "create" => {
                    let email = format!("user{number}@host{own}.example.org");
                    let user = create_user(&client, "Somebody", &email).await?;
                    let path = format!("/users/{}", user.id);
                    client.delete(&path).await?.expect(204)?;
                }
                "apply" => {
                    client.post_nothing("/apply").await?.expect(200)?;
                }
                path => {
                    client.get(path).await?.expect(200)?;
                }
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })
}

#[tokio::test]
async fn keys_are_changed_while_two_portals_work_and_nobody_notices() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    let other = lab.another_portal().await?;
    let ann = lab.create_user("Ann", "ann@example.org").await?;
    let first = applied(&lab.client, lab.apply().await?).await?;
    let pool = lab.database.pool().await?;
    let before = assert_one_data_key(&pool, 1).await?;

    let (stop, count) = (Arc::default(), Arc::default());
    let mut busy = Vec::new();
    for (own, client) in [&lab.client, &other.client()?].into_iter().enumerate() {
        for what in ["create", "/users", "/apply/preview", "apply"] {
            busy.push(keep_asking(client, (what, own), &stop, &count));
        }
    }
    let asked_more = async |than: usize| {
        let more = async || count.load(Ordering::Relaxed) > than;
        wait_until("more was asked", DEADLINE, more).await
    };
    asked_more(8).await?;
    let said = rotate(&lab.database.url)?.run(DEADLINE).await?.success()?;
    asked_more(count.load(Ordering::Relaxed) + 16).await?;
    stop.store(true, Ordering::Relaxed);
    for asker in busy {
        asker.await??;
    }
    for word in [
        &*id(OLD)?,
        &*id(NEW)?,
        "device.sip_password_encrypted",
        "retire",
    ] {
        assert!(said.contains(word), "{said}");
    }
    assert_ne!(assert_one_data_key(&pool, 2).await?, before);

    // Both keys do, and what is sealed means what it meant.
    let fresh = portal_with(NEW, &lab.database.url, lab.agent.address(), &lab.pki).await?;
    for client in [lab.client.clone(), other.client()?, fresh.client()?] {
        client.post_nothing("/apply").await?.expect(200)?;
        let restore = format!(
            "/applies/{}/restore",
            first["id"].as_str().context("an id")?
        );
        let restored = client.post_nothing(&restore).await?;
        let restored = restored.expect(200)?.json()?;
        assert_eq!(restored["digest"], first["digest"]);
    }
    lab.phone(&ann)?.register().await?.accepted()?;
    only_the_new_key(&lab, &fresh.client()?, &pool).await
}

/// From `retire` on.
async fn only_the_new_key(lab: &Lab, fresh: &Client, pool: &PgPool) -> anyhow::Result<()> {
    let url = &lab.database.url;
    let retire = secret_key("retire", url, NEW)?;
    retire.run(DEADLINE).await?.success()?;
    assert_one_data_key(pool, 1).await?;
    assert_eq!(ready(fresh).await?, (200, [true; 3]));
    fresh.post_nothing("/apply").await?.expect(200)?;

    // Who still runs with the old key is told so, and cannot begin again with it.
    let told = lab.client.get("/health/ready").await?;
    assert_eq!(told.status, 503);
    assert!(told.text().contains("was retired"), "{told}");
    let again = start::serve(url, lab.agent.address(), &lab.pki, Some(OLD)).await?;
    assert_eq!(again.status.code(), Some(1));
    let said = failure(again)?;
    assert!(
        said.contains(&id(OLD)?) && said.contains(&id(NEW)?),
        "{said}"
    );
    // Nor does it seal anything that the others could not read, after yet another rotation.
    let next = secret_key("rotate", url, NEW)?.env("NEW_SECRET_KEY", OLD.replace('0', "a"));
    next.run(DEADLINE).await?.success()?;
    let refused = lab.client.post_nothing("/apply").await?;
    assert_eq!(refused.problem(503)?, "database_unavailable");
    fresh.post_nothing("/apply").await?.expect(200)?;
    Ok(())
}

/// A later table cannot be forgotten.
#[tokio::test]
async fn the_list_of_sealed_columns_is_that_of_the_schema() -> anyhow::Result<()> {
    let lab = tests::lab::PortalLab::start().await?;
    let mut schema: Vec<String> = sqlx::query_scalar(
        r"select table_name || '.' || column_name from information_schema.columns
          where data_type = 'bytea' and column_name like '%\_encrypted'
            and table_schema = 'public'",
    )
    .fetch_all(&lab.database.pool().await?)
    .await?;
    let mut listed: Vec<String> = SEALED.iter().map(Sealed::name).collect();
    schema.sort_unstable();
    listed.sort_unstable();
    assert_eq!(listed, schema);
    Ok(())
}
