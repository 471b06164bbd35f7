//! "How does system handle Asterisk server being unreachable during Apply? Must fail gracefully, log
//! error, leave database unchanged, and inform admin."

use serde_json::Value;
use tests::lab::Lab;

use super::ready;
use crate::audit::{applied, audited, included, steps, trail};
use crate::crowd::create_users;
use crate::held::{assert_exactly, live_files};

#[tokio::test]
async fn asterisk_unreachable_fails_gracefully_and_takes_the_files_when_it_starts()
-> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(ready(&lab.client).await?, (200, [true, true, true]));
    lab.asterisk.stop().await?;
    assert_eq!(ready(&lab.client).await?, (503, [true, true, false]));

    lab.create_user("Late", "late@example.org").await?;
    let users = lab.client.get("/users").await?.json()?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(502)?, "apply_reload_failed_files_kept");
    let detail = reply.json()?["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    for told in [&detail, &lab.portal.log(), &lab.agent.log()] {
        assert!(told.contains("Asterisk is not running"), "{told}");
    }
    let attempt = audited(&lab.client, &reply).await?;
    // The policy is to roll back. While Asterisk is down that would only hide the new files.
    assert_eq!(attempt["on_reload_failure"], "roll_back");
    assert_eq!(
        lab.client.get("/users").await?.json()?,
        users,
        "the database changed"
    );

    lab.asterisk.resume().await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_eq!(ready(&lab.client).await?, (200, [true, true, true]));
    Ok(())
}

#[tokio::test]
async fn asterisk_hung_is_no_failure_and_no_success() -> anyhow::Result<()> {
    let lab = Lab::builder()
        .agent_env("RELOAD_DEADLINE_MS", "1000")
        .start()
        .await?;
    create_users(&lab.client, 1).await?;
    applied(&lab.client, lab.apply().await?).await?;
    lab.create_user("Late", "late@example.org").await?;
    lab.asterisk.freeze()?;
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(504)?, "apply_reload_unknown");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "reload_unknown");
    lab.asterisk.thaw()?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn agent_unreachable_fails_gracefully_and_is_audited() -> anyhow::Result<()> {
    let mut lab = Lab::start().await?;
    create_users(&lab.client, 1).await?;
    let files = live_files(&lab.asterisk)?;
    lab.agent.stop().await?;
    assert_eq!(ready(&lab.client).await?, (503, [true, false, false]));
    let reply = lab.apply().await?;
    assert_eq!(reply.problem(503)?, "agent_unreachable");
    let attempt = audited(&lab.client, &reply).await?;
    assert_eq!(attempt["outcome"], "agent_unreachable");
    assert_eq!((included(&attempt), steps(&attempt).len()), (vec![1000], 0));
    assert_eq!(live_files(&lab.asterisk)?, files);

    lab.agent.resume().await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000]).await?;
    let outcomes: Vec<Value> = trail(&lab.client)
        .await?
        .into_iter()
        .map(|attempt| attempt["outcome"].clone())
        .collect();
    assert_eq!(outcomes, ["applied", "agent_unreachable"]);
    Ok(())
}
