//! Row 3: a read-only file system. Nothing is touched, and the status says so before somebody
//! applies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Slot;
use shared::record::{Outcome, Phase};
use tests::mount::Mount;
use tests::process::wait_until;

use super::file_system;
use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle};
use crate::strace::skipped;

#[tokio::test]
async fn erofs_at_any_call_leaves_no_lie() -> anyhow::Result<()> {
    let calls = ["mkdirat", "openat", "renameat", "linkat"];
    file_system::fails_at_each_call(3, "EROFS", &calls).await
}

/// A directory that can be made read-only. `None`, said loudly, where that cannot be had.
async fn mounted(dir: &Path) -> Option<Mount> {
    match Mount::over_itself(dir).await {
        Ok(mount) => Some(mount),
        Err(error) => {
            skipped(&format!("no read-only file system: {error:#}"));
            None
        }
    }
}

async fn a_read_only_directory(dir: impl FnOnce(&Pbx) -> PathBuf) -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let dir = dir(&pbx);
    pbx.agent.stop().await?;
    let Some(mount) = mounted(&dir).await else {
        return Ok(());
    };
    pbx.agent.resume().await?;
    ensure!(pbx.link.status().await?.warnings.is_empty());
    let files = managed_files(&pbx.asterisk)?;
    mount.remount("bind,ro").await?;

    let warnings = pbx.link.status().await?.warnings.join("\n");
    let place = dir.display().to_string();
    let place = place.trim_end_matches('/');
    let told = warnings.contains(place) && warnings.contains("Read-only file system");
    ensure!(told, "the status does not say it: {warnings}");
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::WriteFailed), "{record:#?}");
    let reloaded = record
        .steps
        .iter()
        .any(|step| step.phase == Phase::Reloading);
    ensure!(!reloaded, "{record:#?}");
    ensure!(
        record.failure.contains("Read-only file system"),
        "{}",
        record.failure
    );
    ensure!(managed_files(&pbx.asterisk)? == files);
    assert_exactly(&pbx.asterisk, [1000]).await?;

    mount.remount("bind,rw").await?;
    ensure!(pbx.link.status().await?.warnings.is_empty());
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    pbx.agent.stop().await
}

#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_read_only_pjsip_directory_is_told_and_touches_nothing() -> anyhow::Result<()> {
    let dir = |pbx: &Pbx| pbx.asterisk.slot(Slot::PjsipEndpoints).with_file_name("");
    a_read_only_directory(dir).await
}

#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_read_only_dialplan_directory_is_told_and_touches_nothing() -> anyhow::Result<()> {
    let dir = |pbx: &Pbx| pbx.asterisk.slot(Slot::DialplanRouting).with_file_name("");
    a_read_only_directory(dir).await
}

/// Without its state directory the agent cannot promise anything: it does not start, and says why.
#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_read_only_state_directory_is_told_and_touches_nothing() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let files = managed_files(&pbx.asterisk)?;
    pbx.agent.stop().await?;
    let Some(mount) = mounted(pbx.agent.state_dir()).await else {
        return Ok(());
    };
    mount.remount("bind,ro").await?;
    // It may listen for a moment before it finds out.
    pbx.agent.resume().await.ok();
    let ended = async || !pbx.agent.is_running();
    wait_until("it has ended", Duration::from_secs(20), ended).await?;
    pbx.agent.kill();
    let log = pbx.agent.log();
    ensure!(log.contains("Read-only file system"), "{log}");
    ensure!(managed_files(&pbx.asterisk)? == files);
    mount.remount("bind,rw").await?;
    pbx.agent.resume().await?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    pbx.agent.stop().await
}
