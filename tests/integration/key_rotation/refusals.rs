//! What `secret-key rotate` and `secret-key retire` do not do, and how they say it.

use tests::lab::PortalLab;

use super::*;

async fn lab() -> anyhow::Result<PortalLab> {
    let lab = PortalLab::start().await?;
    for name in ["Ann", "Bob"] {
        lab.create_user(name, &format!("{name}@example.org"))
            .await?;
    }
    Ok(lab)
}

async fn refused(program: Program, words: &[&str]) -> anyhow::Result<()> {
    let said = failure(program.run(DEADLINE).await?)?;
    for word in words {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn alone_it_prints_a_fresh_key() -> anyhow::Result<()> {
    let program = Program::new(binary("api-server")?).arg("secret-key");
    let (one, two) = (program.run(DEADLINE).await?, program.run(DEADLINE).await?);
    let keys = [one.success()?, two.success()?];
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        key.trim_end_matches('\n').parse::<Vault>()?;
    }
    Ok(())
}

#[tokio::test]
async fn keys_that_cannot_be_rotated_to_or_retired_are_named() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (url, pool) = (lab.database.url.as_str(), lab.database.pool().await?);
    let before = assert_one_data_key(&pool, 1).await?;
    let (old, new) = (id(OLD)?, id(NEW)?);
    let third = OLD.replace('0', "a");

    let same = secret_key("rotate", url, OLD)?.env("NEW_SECRET_KEY", OLD);
    refused(same, &["NEW_SECRET_KEY is the key that SECRET_KEY is"]).await?;
    let malformed = secret_key("rotate", url, OLD)?.env("NEW_SECRET_KEY", &NEW[1..]);
    refused(malformed, &["NEW_SECRET_KEY: a secret key is 64"]).await?;
    let missing = secret_key("rotate", url, OLD)?;
    refused(missing, &["NEW_SECRET_KEY_FILE", "the key to come"]).await?;
    let both = rotate(url)?.env("NEW_SECRET_KEY_FILE", "/nowhere");
    refused(both, &["are both set"]).await?;
    let wrong = secret_key("rotate", url, &third)?.env("NEW_SECRET_KEY", NEW);
    refused(wrong, &["sealed with key", &old, &id(&third)?]).await?;
    let nothing = secret_key("rotate", "postgres://nobody@127.0.0.1:1/x", OLD)?;
    refused(
        nothing.env("NEW_SECRET_KEY", NEW),
        &["the database could not"],
    )
    .await?;
    refused(
        secret_key("retire", url, NEW)?,
        &["sealed with key", &old, &new],
    )
    .await?;
    assert_eq!(assert_one_data_key(&pool, 1).await?, before);

    // The key in use has nothing to retire, today and tomorrow.
    for _ in 0..2 {
        let said = secret_key("retire", url, OLD)?
            .run(DEADLINE)
            .await?
            .success()?;
        assert!(said.contains("nothing to remove"), "{said}");
    }
    rotate(url)?.run(DEADLINE).await?.success()?;
    // A third key, while portals may still have the first.
    let third = secret_key("rotate", url, NEW)?.env("NEW_SECRET_KEY", third);
    refused(third, &["still opens with key", &old]).await?;
    let said = secret_key("retire", url, NEW)?
        .run(DEADLINE)
        .await?
        .success()?;
    assert!(
        said.contains(&new) && !said.contains("nothing to remove"),
        "{said}"
    );
    let said = secret_key("retire", url, NEW)?
        .run(DEADLINE)
        .await?
        .success()?;
    assert!(said.contains("nothing to remove"), "{said}");
    refused(rotate(url)?, &["sealed with key", &new]).await
}

#[tokio::test]
async fn two_changes_at_once_and_half_of_one_are_refused() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (url, pool) = (lab.database.url.as_str(), lab.database.pool().await?);
    let mut held = pool.begin().await?;
    sqlx::query("select from device order by device_id limit 1 for update")
        .execute(&mut *held)
        .await?;
    let dir = Scratch::new("rotation")?;
    let mut rotation = rotate(url)?.start(&dir.path().join("log"))?;
    let half = async || rows_by_key(&pool).await.is_ok_and(|rows| rows.len() == 2);
    rotation
        .wait_until("a row is sealed anew", DEADLINE, half)
        .await?;
    for program in [rotate(url)?, secret_key("retire", url, NEW)?] {
        refused(program, &["is at work on this database"]).await?;
    }
    rotation.end();
    let over = async || {
        let retire = secret_key("retire", url, NEW);
        let Ok(retire) = retire else { return false };
        let refused = refused(retire, &["1 rows are sealed with an older data key"]);
        refused.await.is_ok()
    };
    wait_until("only the rows are in the way", DEADLINE, over).await?;
    // Nothing was lost by that.
    wanted_digest(&lab.client).await?;
    held.commit().await?;
    rotate(url)?.run(DEADLINE).await?.success()?;
    secret_key("retire", url, NEW)?
        .run(DEADLINE)
        .await?
        .success()?;
    assert_one_data_key(&pool, 1).await.map(drop)
}

/// A secret is bound to its row; one that does not open is named, and the others are sealed anew.
#[tokio::test]
async fn a_secret_that_was_copied_to_another_row_does_not_open() -> anyhow::Result<()> {
    let lab = lab().await?;
    let (url, pool) = (lab.database.url.as_str(), lab.database.pool().await?);
    let bob: Uuid = sqlx::query_scalar(
        "update device set sip_password_encrypted = (
            select sip_password_encrypted from device join extension using (user_id)
            where number = 1000
         )
         where user_id = (select user_id from extension where number = 1001)
         returning device_id",
    )
    .fetch_one(&pool)
    .await?;
    let told = lab.client.get("/apply/preview").await?.expect(200)?;
    assert!(told.text().contains("belongs to another row"), "{told}");
    let bob = bob.to_string();
    refused(
        rotate(url)?,
        &["1 rows of device", &bob, "belongs to another row"],
    )
    .await?;
    assert_eq!(rows_by_key(&pool).await?.len(), 2);
    let retire = secret_key("retire", url, NEW)?;
    refused(retire, &["1 rows are sealed with an older data key"]).await?;
    lab.client
        .delete(&format!("/devices/{bob}"))
        .await?
        .expect(204)?;
    rotate(url)?.run(DEADLINE).await?.success()?;
    secret_key("retire", url, NEW)?
        .run(DEADLINE)
        .await?
        .success()?;
    assert_one_data_key(&pool, 1).await.map(drop)
}
