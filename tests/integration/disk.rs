//! The disk is full, read-only or dying.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api_server::agent::AgentError;
use shared::bundle::{Bundle, Slot};
use shared::record::{ApplyRecord, Outcome, Phase};
use tests::process::Program;

use crate::audit::{applied, audited};
use crate::held::{ENDPOINTS_FILE, File, ROUTING_FILE, assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text};
use crate::stand_in;
use crate::strace::{self, Strace};

const CHATTR_DEADLINE: Duration = Duration::from_secs(20);

/// An immutable directory: not even its owner may rename in it.
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

/// A full disk, a read-only file system, a dying one: at each system call of an apply that writes,
/// syncs or renames, one after the other. Whatever is answered must be true.
#[tokio::test]
async fn a_file_system_that_fails_at_any_point_leaves_no_lie() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let pbx = Pbx::start().await?;
    let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "one")];
    ensure!(pbx.apply(&bundles[0]).await?.outcome == Some(Outcome::Applied));
    let mut in_force = 0;
    let mut failed = 0;
    for (call, error) in [
        ("openat", "EROFS"),
        ("write", "ENOSPC"),
        ("fsync", "EIO"),
        ("renameat", "EROFS"),
    ] {
        for count in 1.. {
            let fault = format!("{call}:error={error}:when={count}");
            let paths = touched_by(&pbx, call);
            let strace = Strace::attach(pbx.agent.pid()?, &fault, &paths).await?;
            let mut before = managed_files(&pbx.asterisk)?;
            before.retain(|name, _| !is_leftover(name));
            let applied = pbx.apply(&bundles[1 - in_force]).await;
            let struck = strace.has_struck();
            drop(strace);
            in_force = judge(&pbx, &bundles, in_force, &before, applied)
                .await
                .context(fault)?;
            if !struck {
                // An apply has no such call any more.
                ensure!(count > 2, "no fault came to it: {call}");
                failed += count - 1;
                break;
            }
        }
    }
    ensure!(failed > 15, "only {failed} faults came to it");
    let record = pbx.apply(&bundles[1 - in_force]).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_eq!(
        managed_files(&pbx.asterisk)?.len(),
        2,
        "leftovers stay for ever"
    );
    Ok(())
}

/// What the calls that count touch: opening in the managed directories, writing to the copies there,
/// and every other call wherever it is.
fn touched_by(pbx: &Pbx, call: &str) -> Vec<PathBuf> {
    let path = |slot: Slot| {
        let live = pbx.asterisk.slot(slot);
        let name = live
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        match call {
            "openat" => live.parent().map(Path::to_owned),
            "write" => Some(live.with_file_name(format!(".{name}.{}.tmp", pbx.next_revision()))),
            _ => None,
        }
    };
    Slot::ALL.into_iter().filter_map(path).collect()
}

/// Fails unless what was answered is true. Returns which of the bundles is in force now.
async fn judge(
    pbx: &Pbx,
    bundles: &[Bundle; 2],
    in_force: usize,
    before: &BTreeMap<String, File>,
    applied: anyhow::Result<ApplyRecord>,
) -> anyhow::Result<usize> {
    let outcome = match &applied {
        Ok(record) => record.outcome,
        // The upload could not be kept: nothing was started.
        Err(error) if error.is::<AgentError>() => None,
        Err(error) => bail!("{error:#}"),
    };
    let at = || format!("{applied:#?}");
    let now = match outcome {
        Some(Outcome::Applied) => 1 - in_force,
        Some(Outcome::WriteFailed | Outcome::RolledBack | Outcome::Rejected) | None => in_force,
        Some(_) => bail!("{}", at()),
    };
    let mut after = managed_files(&pbx.asterisk)?;
    // Should tidying up fail, what is left is nothing that Asterisk includes.
    after.retain(|name, _| !is_leftover(name));
    let names: Vec<_> = after.keys().collect();
    ensure!(
        names == [ROUTING_FILE, ENDPOINTS_FILE],
        "left behind: {names:?}: {}",
        at()
    );
    let wanted = Slot::ALL.map(|slot| text(&bundles[now], slot));
    ensure!(live_files(&pbx.asterisk)? == wanted, "{}", at());
    if matches!(
        outcome,
        Some(Outcome::WriteFailed | Outcome::Rejected) | None
    ) {
        ensure!(contents(&after) == contents(before), "{}", at());
        let reloaded = applied.as_ref().is_ok_and(|record| {
            record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Reloading)
        });
        ensure!(!reloaded, "{}", at());
    }
    let numbers = [&[1000_u64][..], &[1000, 1001]][now];
    assert_exactly(&pbx.asterisk, numbers.iter().copied())
        .await
        .with_context(at)?;
    Ok(now)
}

/// Whether a file is one that Asterisk's include does not match.
fn is_leftover(name: &str) -> bool {
    let temporary = Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "tmp");
    name.contains("/.") && temporary
}

/// Names, bytes and times of the last change.
fn contents(files: &BTreeMap<String, File>) -> Vec<(&String, &String, (i64, i64))> {
    files
        .iter()
        .map(|(name, file)| (name, &file.text, file.modified))
        .collect()
}
