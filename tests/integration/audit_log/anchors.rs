//! How far the trail is stands in the portal's log, which lies elsewhere.

use tests::lab::PortalLab;
use tests::process::wait_until;
use tests::scratch::Scratch;

use super::{faults, heads, since_head, verify};

#[tokio::test]
async fn the_log_keeps_heads_that_the_trail_is_compared_with() -> anyhow::Result<()> {
    let mut lab = PortalLab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    // Logged at the start, then once a day or every 10,000 entries.
    lab.portal.stop().await?;
    lab.portal.resume().await?;
    let verified = verify(&lab.database.url).await?;
    let head = heads(&verified);
    assert!(head.starts_with("head 1 3 "), "{verified:?}");
    let logged = async || lab.portal.log().contains(&format!("audit {head}"));
    wait_until("the head is logged", super::DEADLINE, logged).await?;

    // The log itself, as it is.
    let scratch = Scratch::new("heads")?;
    let since = since_head(&lab.database.url, &scratch, &lab.portal.log())?;
    assert!(faults(&since.clone().run(super::DEADLINE).await?)?.is_empty());
    let pool = lab.database.pool().await?;
    sqlx::raw_sql(
        "alter table audit_entry disable trigger user;
         alter table audit_lane disable trigger user;
         delete from audit_entry where position = 3;
         update audit_lane set position = 2,
            hash = (select hash from audit_entry where position = 2)",
    )
    .execute(&pool)
    .await?;
    assert!(faults(&verify(&lab.database.url).await?)?.is_empty());
    let found = faults(&since.run(super::DEADLINE).await?)?;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("lane 1, position 3: removed from the end"),
        "{found:?}"
    );
    Ok(())
}
