//! A rename fails, and taking the one before it back fails as well: nobody says that the old files
//! are intact.

use anyhow::ensure;
use serde_json::Value;
use shared::bundle::Slot;
use shared::record::{OnReloadFailure, Outcome, Phase};

use crate::held::{assert_exactly, live_files};
use crate::pbx::{Pbx, bundle, request_id, text};
use crate::strace::{self, Strace};

/// In the engine's thread: the staged bundle, the first file, the second one (fails), the first one
/// back (fails), the ledger.
const FAULT: &str = "renameat:error=EIO:when=3..4";

async fn torn() -> anyhow::Result<Option<Pbx>> {
    if !strace::available().await? {
        return Ok(None);
    }
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let old = live_files(&pbx.asterisk)?;
    let strace = Strace::attach(pbx.agent.pid()?, FAULT, &[]).await?;
    let next = bundle(&[1000, 1001], "one");
    let record = pbx.apply(&next).await?;
    drop(strace);
    ensure!(
        record.outcome == Some(Outcome::RollbackFailed),
        "{record:#?}"
    );
    ensure!(
        record.failure.contains("a mixture of old and new"),
        "{}",
        record.failure
    );
    ensure!(
        !record
            .steps
            .iter()
            .any(|step| step.phase == Phase::Reloading)
    );
    // It is true.
    let new = Slot::ALL.map(|slot| text(&next, slot));
    let mixed = live_files(&pbx.asterisk)?;
    ensure!(mixed != old && mixed != new, "no mixture");
    let status = pbx.link.status().await?;
    let reason = status.safe_mode.unwrap_or_default();
    ensure!(reason.contains("a mixture"), "{reason}");
    let refused = pbx
        .apply(&next)
        .await
        .err()
        .map(|error| format!("{error:#}"));
    ensure!(
        refused
            .as_ref()
            .is_some_and(|text| text.contains("SAFE_MODE")),
        "{refused:?}"
    );
    Ok(Some(pbx))
}

#[tokio::test]
async fn a_torn_switch_is_mended_by_a_forced_apply() -> anyhow::Result<()> {
    let Some(pbx) = torn().await? else {
        return Ok(());
    };
    let next = bundle(&[1000, 1001], "two");
    let mut order = pbx.order(&next, OnReloadFailure::RollBack);
    order.force = true;
    let record = pbx.execute(&order, &next).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    ensure!(pbx.link.status().await?.safe_mode.is_none());
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    // The fence holds.
    let mut stale = pbx.order(&next, OnReloadFailure::RollBack);
    stale.revision = shared::bundle::Revision(1);
    stale.force = true;
    let refused = pbx.link.stage(&stale, next, &request_id()).await;
    ensure!(format!("{refused:?}").contains("Stale"), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn a_torn_switch_is_mended_by_a_restart() -> anyhow::Result<()> {
    let Some(mut pbx) = torn().await? else {
        return Ok(());
    };
    pbx.agent.kill();
    pbx.agent.resume().await?;
    let status = pbx.link.status().await?;
    ensure!(status.safe_mode.is_none(), "{:?}", status.safe_mode);
    let old = bundle(&[1000], "one");
    ensure!(live_files(&pbx.asterisk)? == Slot::ALL.map(|slot| text(&old, slot)));
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let log = pbx.agent.log();
    let lines = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    ensure!(lines.count() > 10);
    Ok(())
}
