//! A database that was restored from an old backup gives out revisions that the agent has seen.

use tests::lab::Lab;

#[tokio::test]
async fn after_an_old_backup_one_apply_is_refused_and_the_next_one_goes_on() -> anyhow::Result<()> {
    let lab = Lab::start().await?;
    for number in 0..3 {
        let email = format!("user{number}@example.org");
        lab.create_user("Somebody", &email).await?;
        lab.apply().await?.expect(200)?;
    }
    let pool = lab.database.pool().await?;
    // What a restored dump of the time before the second apply would look like.
    sqlx::query("delete from apply where revision > 1")
        .execute(&pool)
        .await?;
    sqlx::query("update pbx set last_revision = 1")
        .execute(&pool)
        .await?;

    let refused = lab.apply().await?;
    assert_ne!(refused.status, 200, "{}", refused.text());
    assert!(
        refused.text().contains("stale_revision"),
        "{}",
        refused.text()
    );
    assert!(refused.text().contains("apply again"), "{}", refused.text());

    let applied = lab.apply().await?.expect(200)?.json()?;
    assert_eq!(applied["revision"], 4, "{applied}");
    Ok(())
}
