//! Row 1: the disk is full. It shows before the first rename: live bytes and times are as they
//! were, nothing was reloaded, and no temporary file is left.

use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use api_server::agent::AgentError;
use shared::bundle::{Bundle, Slot};
use shared::record::{ApplyRecord, Outcome, Phase};
use tests::mount::Mount;
use tests::scratch::{self, Scratch};

use super::file_system;
use crate::held::{assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text};
use crate::strace::{said, skipped};

/// Size of the file system, and of its pages.
const BYTES: u64 = 512 << 10;
const PAGE: u64 = 4096;

#[tokio::test]
async fn enospc_at_any_call_leaves_no_lie() -> anyhow::Result<()> {
    let calls = [
        "mkdirat",
        "openat",
        "write",
        "fsync",
        "fdatasync",
        "renameat",
        "linkat",
    ];
    file_system::fails_at_each_call(1, "ENOSPC", &calls).await?;
    file_system::fails_at_each_call(1, "EDQUOT", &["write"]).await
}

/// A file system in memory over a directory of the PBX, with what lay there.
struct Small {
    mount: Mount,
    filler: PathBuf,
}

impl Small {
    /// `None`, said loudly, where that cannot be had.
    async fn over(dir: &Path) -> anyhow::Result<Option<Self>> {
        let (metadata, kept) = (dir.metadata()?, Scratch::new("kept")?);
        let copy = |from: &Path, to: &Path| copy(from, to);
        copy(dir, kept.path())?;
        let mount = match Mount::memory(dir, BYTES).await {
            Ok(mount) => mount,
            Err(error) => {
                skipped(&format!("no small file system: {error:#}"));
                return Ok(None);
            }
        };
        copy(kept.path(), dir)?;
        own(dir, &metadata)?;
        let filler = dir.join("filler");
        Ok(Some(Self { mount, filler }))
    }

    /// Leaves that many pages free.
    fn leave(&self, pages: u64) -> anyhow::Result<()> {
        std::fs::remove_file(&self.filler).ok();
        let stat = nix::sys::statvfs::statvfs(self.mount.dir())?;
        let free = stat.blocks_available() * stat.fragment_size();
        let taken = free.saturating_sub(pages * PAGE);
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .open(&self.filler)?;
        let bytes = vec![0; usize::try_from(taken)?];
        std::io::Write::write_all(&mut file, &bytes)?;
        Ok(())
    }
}

/// Copies files and directories with their owners and permissions.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (metadata, target) = (entry.metadata()?, to.join(entry.file_name()));
        if metadata.is_dir() {
            scratch::directory(&target, 0o700)?;
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)?;
        }
        own(&target, &metadata)?;
    }
    Ok(())
}

fn own(path: &Path, like: &std::fs::Metadata) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    chown(path, Some(like.uid()), Some(like.gid()))?;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(like.mode() & 0o7777),
    )?)
}

/// The outcome; `None` when the upload was refused for want of room.
fn outcome(applied: &anyhow::Result<ApplyRecord>) -> anyhow::Result<Option<Outcome>> {
    match applied {
        Ok(record) => Ok(record.outcome),
        Err(error) => match error.downcast_ref() {
            Some(AgentError::Refused { code, message }) => {
                ensure!(
                    *code == tonic::Code::ResourceExhausted,
                    "{code:?} {message}"
                );
                Ok(None)
            }
            _ => anyhow::bail!("{error:#}"),
        },
    }
}

/// With less and less of the file system taken, until an apply finds room. Returns how often it did
/// not.
async fn until_there_is_room(pbx: &Pbx, small: &Small, next: &Bundle) -> anyhow::Result<u64> {
    let before = managed_files(&pbx.asterisk)?;
    for pages in 0.. {
        small.leave(pages)?;
        let applied = pbx.apply(next).await;
        std::fs::remove_file(&small.filler)?;
        let at = || format!("{pages} pages: {applied:#?}");
        let outcome = outcome(&applied).with_context(at)?;
        if outcome == Some(Outcome::Applied) {
            return Ok(pages);
        }
        ensure!(
            matches!(outcome, None | Some(Outcome::WriteFailed)),
            "{}",
            at()
        );
        if let Ok(record) = &applied {
            ensure!(record.failure.contains("No space left"), "{}", at());
            let reloaded = record
                .steps
                .iter()
                .any(|step| step.phase == Phase::Reloading);
            ensure!(!reloaded, "{}", at());
        }
        let mut after = managed_files(&pbx.asterisk)?;
        after.retain(|name, _| !name.ends_with("/filler"));
        ensure!(after == before, "{}", at());
        assert_exactly(&pbx.asterisk, [1000])
            .await
            .with_context(at)?;
    }
    Ok(0)
}

/// Enough for several pages in each file.
fn large() -> (Vec<u32>, Bundle) {
    let numbers: Vec<u32> = (1000..1060).collect();
    let bundle = bundle(&numbers, "two");
    (numbers, bundle)
}

async fn a_real_full_disk(dir: impl FnOnce(&Pbx) -> PathBuf) -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let dir = dir(&pbx);
    pbx.agent.stop().await?;
    let Some(small) = Small::over(&dir).await? else {
        return Ok(());
    };
    pbx.agent.resume().await?;
    let (numbers, next) = large();
    let full = until_there_is_room(&pbx, &small, &next).await?;
    said(&format!(
        "row 1: {} was full {full} times, no lie",
        dir.display()
    ));
    ensure!(full > 0, "it never was full: {}", dir.display());
    let wanted = Slot::ALL.map(|slot| text(&next, slot));
    ensure!(live_files(&pbx.asterisk)? == wanted);
    ensure!(managed_files(&pbx.asterisk)?.len() == 2, "leftovers");
    assert_exactly(&pbx.asterisk, numbers.iter().copied().map(u64::from)).await?;
    // What was written last is what the next life of the agent finds.
    pbx.agent.kill();
    pbx.agent.resume().await?;
    pbx.idle().await?;
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000]).await?;
    pbx.agent.stop().await
}

#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_full_disk_under_the_pjsip_file_touches_nothing() -> anyhow::Result<()> {
    let dir = |pbx: &Pbx| pbx.asterisk.slot(Slot::PjsipEndpoints).with_file_name("");
    a_real_full_disk(dir).await
}

#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_full_disk_under_the_dialplan_file_touches_nothing() -> anyhow::Result<()> {
    let dir = |pbx: &Pbx| pbx.asterisk.slot(Slot::DialplanRouting).with_file_name("");
    a_real_full_disk(dir).await
}

#[tokio::test]
#[ignore = "needs root and a file system of its own: ./test --faults"]
async fn a_full_disk_under_the_state_directory_touches_nothing() -> anyhow::Result<()> {
    a_real_full_disk(|pbx| pbx.agent.state_dir().to_owned()).await
}
