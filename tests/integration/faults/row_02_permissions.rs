//! Row 2: EACCES and EPERM. Everything stays as it was, and the message names the place. For an
//! account without permissions see also scenario 2.3 of the second story.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::{ApplyRecord, Outcome, Phase};
use tests::process::Program;

use super::file_system;
use crate::audit::{applied, audited};
use crate::held::{File, assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle};
use crate::stand_in;
use crate::strace;

const CHATTR_DEADLINE: Duration = Duration::from_secs(20);

/// An immutable directory, in which not even its owner may rename, or file, which nobody may
/// replace.
struct Immutable<'a>(&'a Path);

impl<'a> Immutable<'a> {
    /// `None`, said loudly, where that cannot be had: not root, or another file system.
    async fn new(dir: &'a Path) -> Option<Self> {
        let works = chattr("+i", dir).await;
        if !works {
            strace::skipped(&format!("chattr +i is not possible in {}", dir.display()));
        }
        works.then_some(Self(dir))
    }

    async fn end(self) -> anyhow::Result<()> {
        ensure!(chattr("-i", self.0).await, "chattr -i failed");
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Immutable<'_> {
    fn drop(&mut self) {
        // A failed test: without this, nobody could remove the directory.
        let dir = self.0.to_owned();
        let undo = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.is_ok_and(|runtime| runtime.block_on(chattr("-i", &dir)))
        };
        std::thread::spawn(undo).join().ok();
    }
}

async fn chattr(flag: &str, dir: &Path) -> bool {
    let run = Program::new("chattr")
        .arg(flag)
        .arg(dir)
        .run(CHATTR_DEADLINE)
        .await;
    run.is_ok_and(|output| output.status.success())
}

#[tokio::test]
async fn immutable_directories_leave_everything_as_it_was() -> anyhow::Result<()> {
    let (lab, _stand_in) = stand_in::lab().await?;
    let before = managed_files(&lab.asterisk)?;
    for slot in Slot::ALL {
        let path = lab.asterisk.slot(slot);
        let dir = path.parent().context("no directory")?;
        let Some(immutable) = Immutable::new(dir).await else {
            return Ok(());
        };
        let reply = lab.apply().await?;
        assert_eq!(reply.problem(502)?, "apply_write_failed");
        let attempt = audited(&lab.client, &reply).await?;
        let said = attempt["failure"]["message"].as_str().unwrap_or_default();
        assert!(said.contains(&dir.display().to_string()), "{said}");
        assert_eq!(managed_files(&lab.asterisk)?, before);
        immutable.end().await?;
    }
    assert_exactly(&lab.asterisk, [1000]).await?;
    applied(&lab.client, lab.apply().await?).await?;
    assert_exactly(&lab.asterisk, [1000, 1001]).await
}

/// The second file cannot be replaced, although its directory may be written: the rename of the
/// first is taken back, with its bytes and its time.
#[tokio::test]
async fn an_immutable_file_is_found_at_the_rename_and_the_other_comes_back() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let before = managed_files(&pbx.asterisk)?;
    for slot in Slot::ALL {
        let file = pbx.asterisk.slot(slot);
        let Some(immutable) = Immutable::new(&file).await else {
            return Ok(());
        };
        let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
        ensure!(record.outcome == Some(Outcome::WriteFailed), "{record:#?}");
        let path = file.display().to_string();
        ensure!(record.failure.contains(&path), "{}", record.failure);
        immutable.end().await?;
        assert_untouched(&pbx, &before, &record)?;
    }
    assert_exactly(&pbx.asterisk, [1000]).await?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

/// Fails unless the files have their old bytes and times, with nothing beside them, and Asterisk was
/// not told to reload.
fn assert_untouched(
    pbx: &Pbx,
    before: &BTreeMap<String, File>,
    record: &ApplyRecord,
) -> anyhow::Result<()> {
    let seen = |files: &BTreeMap<String, File>| -> Vec<_> {
        let seen = |(name, file): (&String, &File)| {
            (name.clone(), file.text.clone(), file.modified, file.mode)
        };
        files.iter().map(seen).collect()
    };
    let after = managed_files(&pbx.asterisk)?;
    ensure!(seen(&after) == seen(before), "{after:#?}");
    let reloaded = record
        .steps
        .iter()
        .any(|step| step.phase == Phase::Reloading);
    ensure!(!reloaded, "{record:#?}");
    Ok(())
}

/// As the service's user: a directory that it may not write to, or not even open.
#[tokio::test]
async fn directories_without_permission_leave_everything_as_it_was() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    if pbx.asterisk.agent_account().is_none() {
        strace::skipped("directories of mode 0555 with group ID: this needs root");
        return Ok(());
    }
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let before = managed_files(&pbx.asterisk)?;
    for slot in Slot::ALL {
        let path = pbx.asterisk.slot(slot);
        let dir = path.parent().context("no directory")?;
        for mode in [0o2550, 0o555, 0] {
            std::fs::set_permissions(dir, Permissions::from_mode(mode))?;
            let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
            std::fs::set_permissions(dir, Permissions::from_mode(0o2750))?;
            ensure!(
                record.outcome == Some(Outcome::WriteFailed),
                "{mode:o} {record:#?}"
            );
            let place = dir.display().to_string();
            let told = record.failure.contains(&place) && record.failure.contains("denied");
            ensure!(told, "{mode:o}: {}", record.failure);
            assert_untouched(&pbx, &before, &record)?;
        }
    }
    assert_exactly(&pbx.asterisk, [1000]).await
}

#[tokio::test]
async fn permission_denied_at_any_call_leaves_no_lie() -> anyhow::Result<()> {
    file_system::fails_at_each_call(2, "EACCES", &["openat", "renameat", "mkdirat"]).await?;
    file_system::fails_at_each_call(2, "EPERM", &["fchmod", "renameat", "unlinkat"]).await
}
