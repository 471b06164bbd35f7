//! The same through the portal: every row of the audit trail is closed with the truth.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tests::lab::Lab;
use tests::process::wait_until;

use crate::audit::{applied, trail};
use crate::held::assert_exactly;
use crate::strace::{self, Attach, engine_thread, said};

const DEADLINE: Duration = Duration::from_mins(1);

/// From the upload to the tidying up.
const SAMPLE: [&str; 10] = [
    "renameat:signal=SIGKILL:when=1",
    "linkat:signal=SIGKILL:when=1",
    "fdatasync:signal=SIGKILL:when=1",
    "renameat:signal=SIGKILL:when=2",
    "renameat:signal=SIGKILL:when=3",
    "fdatasync:signal=SIGKILL:when=2",
    "pipe2:signal=SIGKILL:when=1",
    "renameat:signal=SIGKILL:when=4",
    "renameat:signal=SIGKILL:when=5",
    "ftruncate:signal=SIGKILL:when=1",
];

#[tokio::test]
#[ignore = "kills many times: ./test --faults"]
async fn killed_under_a_portal_every_row_is_closed_with_the_truth() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut lab = Lab::start().await?;
    lab.create_user("Ann", "ann@example.org").await?;
    applied(&lab.client, lab.apply().await?).await?;
    let (mut before, mut ends) = (vec![1000], BTreeMap::<String, usize>::new());
    for (number, fault) in SAMPLE.into_iter().enumerate() {
        let email = format!("user{number}@example.org");
        let user = lab.create_user("More", &email).await?;
        let after: Vec<u64> = before.iter().copied().chain([user.extension]).collect();
        let engine = engine_thread(lab.agent.pid()?)?;
        let strace = Attach::thread(engine).inject(fault).now().await?;
        let (client, agent) = (lab.client.clone(), &mut lab.agent);
        let restart = async {
            wait_until("it is killed", DEADLINE, async || strace.has_struck()).await?;
            agent.kill();
            agent.resume().await
        };
        let (reply, restarted) = tokio::join!(client.post_nothing("/apply"), restart);
        restarted.with_context(|| fault.to_owned())?;
        reply?;
        let client = lab.client.clone();
        let closed = async || {
            let rows = trail(&client).await.unwrap_or_default();
            !rows.is_empty() && rows.iter().all(|row| row["outcome"] != "started")
        };
        wait_until("every row is closed", DEADLINE, closed).await?;
        let newest = trail(&lab.client).await?.into_iter().next();
        let newest = newest.context("no row")?;
        let outcome = newest["outcome"].as_str().unwrap_or_default().to_owned();
        let untouched = ["interrupted", "never_started", "agent_unreachable"];
        let holds = match outcome.as_str() {
            "applied" => &after,
            other if untouched.contains(&other) => &before,
            _ => anyhow::bail!("{fault}: {newest}"),
        };
        ensure!(newest["ended_at"].is_string(), "{fault}: {newest}");
        assert_exactly(&lab.asterisk, holds.iter().copied()).await?;
        lab.apply().await?.expect(200)?;
        assert_exactly(&lab.asterisk, after.iter().copied()).await?;
        before = after;
        *ends.entry(outcome).or_default() += 1;
    }
    said(&format!(
        "row 5: killed under a portal at {} points, every row closed: {ends:?}",
        SAMPLE.len()
    ));
    Ok(())
}
