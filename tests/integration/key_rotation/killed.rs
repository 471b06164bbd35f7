//! A rotation is held up, killed, and run again.

use tests::lab::PortalLab;

use super::*;

/// Somebody who seals holds the change of keys up, and somebody who holds a row locked keeps that row
/// from being sealed anew: nothing of theirs is lost, and whoever kills the rotation meanwhile runs
/// it again.
#[tokio::test]
async fn a_rotation_waits_for_others_and_can_be_killed_and_run_again() -> anyhow::Result<()> {
    let lab = PortalLab::start().await?;
    for number in 0..5 {
        let email = format!("user{number}@example.org");
        lab.create_user("Somebody", &email).await?;
    }
    let (pool, dir) = (lab.database.pool().await?, Scratch::new("rotation")?);
    let log = dir.path().join("log");
    let before = assert_one_data_key(&pool, 1).await?;

    // In the middle of sealing.
    let mut sealing = pool.begin().await?;
    let vault: Vault = OLD.parse()?;
    let seal = vault.sealer(&mut sealing).await?;
    let mut rotation = rotate(&lab.database.url)?.start(&log)?;
    let waits = async || waits_for_a_lock(&pool).await.unwrap_or(false);
    rotation.wait_until("it waits", DEADLINE, waits).await?;
    // Those who come meanwhile do not fail.
    lab.create_user("Bob", "bob@example.org").await?;
    assert_eq!(seal.data_key_id().0, before);
    rotation.end();
    assert_one_data_key(&pool, 1).await?;
    sealing.commit().await?;

    // In the middle of the rows: one of them is locked.
    let mut held = pool.begin().await?;
    sqlx::query("select from device order by device_id limit 1 for update")
        .execute(&mut *held)
        .await?;
    let mut rotation = rotate(&lab.database.url)?.start(&log)?;
    let all_but_one = async || {
        let rows = rows_by_key(&pool).await.unwrap_or_default();
        let mut counts: Vec<i64> = rows.into_iter().map(|(_, count)| count).collect();
        counts.sort_unstable();
        counts == [1, 5]
    };
    rotation
        .wait_until("all but one row", DEADLINE, all_but_one)
        .await?;
    lab.create_user("Carl", "carl@example.org").await?;
    rotation.end();
    // Now the portals may have either key.
    let fresh = portal_with(NEW, &lab.database.url, lab.agent.port(1), &lab.pki).await?;
    let both = wanted_digest(&lab.client).await?;
    assert_eq!(wanted_digest(&fresh.client()?).await?, both);
    held.commit().await?;

    let again = rotate(&lab.database.url)?.run(DEADLINE).await?.success()?;
    assert!(again.contains("sip_password_encrypted: 1 rows"), "{again}");
    assert_ne!(assert_one_data_key(&pool, 2).await?, before);
    assert_eq!(wanted_digest(&fresh.client()?).await?, both);
    // And once more, when there is nothing left to do.
    let again = rotate(&lab.database.url)?.run(DEADLINE).await?.success()?;
    assert!(again.contains("sip_password_encrypted: 0 rows"), "{again}");
    Ok(())
}

/// Every SIP password, as whoever has `key` reads it.
async fn passwords(pool: &PgPool, key: &str) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut connection = pool.acquire().await?;
    let opener = key.parse::<Vault>()?.opener(&mut connection).await?;
    let rows: Vec<(Uuid, Vec<u8>)> =
        sqlx::query_as("select device_id, sip_password_encrypted from device order by device_id")
            .fetch_all(&mut *connection)
            .await?;
    let open = |(device, sealed): &(Uuid, Vec<u8>)| {
        let place = Place::SipPassword(api_server::domain::DeviceId(*device));
        Ok(opener.open(place, sealed)?)
    };
    rows.iter().map(open).collect()
}

/// As soon as it has begun, has wrapped the keys, has sealed the first row.
#[tokio::test]
async fn wherever_a_rotation_is_killed_the_old_key_opens_everything() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    for number in 0..300 {
        let email = format!("user{number}@example.org");
        lab.create_user("Somebody", &email).await?;
    }
    let (pool, dir) = (lab.database.pool().await?, Scratch::new("rotation")?);
    lab.portal.stop().await?;
    as_before(&pool).await?;
    let known = {
        // The first data key comes with the first portal.
        lab.portal.resume().await?;
        lab.client.get("/users").await?.expect(200)?;
        passwords(&pool, OLD).await?
    };
    let (mut old, mut new) = (OLD, NEW);
    for (round, condition) in [
        "select exists (select from pg_locks where locktype = 'advisory' and objsubid = 2)",
        "select count(distinct master_key_id) = 2 from data_key_wrapping",
        "select count(distinct master_key_id) = 2 and exists (
            select from device e join data_key k on k.is_current
            and substr(e.sip_password_encrypted, 2, 16) = uuid_send(k.data_key_id)
         ) from data_key_wrapping",
    ]
    .into_iter()
    .cycle()
    .take(6)
    .enumerate()
    {
        let program = secret_key("rotate", &lab.database.url, old)?.env("NEW_SECRET_KEY", new);
        let mut rotation = program.start(&dir.path().join("log"))?;
        let there = async || {
            let there = sqlx::query_scalar(condition).fetch_one(&pool).await;
            there.unwrap_or(false)
        };
        let reached = rotation.wait_until(condition, DEADLINE, there).await;
        rotation.end();
        // One that has ended meanwhile leaves nothing to kill.
        reached.or_else(|error| match error.to_string() {
            said if said.contains("exit status 0") => Ok(()),
            _ => Err(error),
        })?;
        ensure!(passwords(&pool, old).await? == known, "round {round}");
        let gone = async || {
            let again = program.run(DEADLINE).await;
            again.is_ok_and(|output| output.status.success())
        };
        wait_until("it can be run again", DEADLINE, gone).await?;
        for key in [old, new] {
            ensure!(passwords(&pool, key).await? == known, "round {round}");
        }
        let retire = secret_key("retire", &lab.database.url, new)?;
        retire.run(DEADLINE).await?.success()?;
        ensure!(passwords(&pool, old).await.is_err(), "round {round}");
        assert_one_data_key(&pool, 1).await?;
        (old, new) = (new, old);
    }
    Ok(())
}

async fn waits_for_a_lock(pool: &PgPool) -> anyhow::Result<bool> {
    Ok(sqlx::query_scalar(
        "select exists (select from pg_locks where not granted and mode = 'ExclusiveLock'
         and relation = 'data_key'::regclass)",
    )
    .fetch_one(pool)
    .await?)
}
