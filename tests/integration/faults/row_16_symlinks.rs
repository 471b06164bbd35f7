//! Row 16: symbolic links at the target, at the temporary name, in the place of the directory.
//! Directories are opened once without following links and files are created exclusively; a rename
//! replaces the link, and its victim is untouched.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use nix::fcntl::renameat;
use shared::bundle::Slot;
use shared::record::Outcome;
use tests::scratch::{self, Scratch};

use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle};
use crate::strace::said;

/// How many applies the links are swapped under.
const APPLIES: usize = 30;

const VICTIM: &str = "; the victim\n";

/// What must never change: a file and a directory outside of the managed ones.
struct Victim {
    scratch: Scratch,
    seen: (u64, i64, i64, u32),
}

impl Victim {
    fn new() -> anyhow::Result<Self> {
        let scratch = Scratch::new("victim")?;
        // Anybody may write to both, so that nothing but the agent's own care protects them.
        scratch::directory(scratch.path(), 0o777)?;
        scratch::write(&scratch.path().join("file"), 0o666, VICTIM)?;
        scratch::directory(&scratch.path().join("dir"), 0o777)?;
        let seen = Self::look(&scratch.path().join("file"))?;
        Ok(Self { scratch, seen })
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("file")
    }

    fn dir(&self) -> PathBuf {
        self.scratch.path().join("dir")
    }

    fn look(file: &Path) -> anyhow::Result<(u64, i64, i64, u32)> {
        let found = file.symlink_metadata()?;
        Ok((found.ino(), found.mtime(), found.mtime_nsec(), found.mode()))
    }

    fn assert_untouched(&self) -> anyhow::Result<()> {
        ensure!(
            std::fs::read_to_string(self.file())? == VICTIM,
            "the victim was written to"
        );
        ensure!(
            Self::look(&self.file())? == self.seen,
            "the victim was touched"
        );
        let inside = std::fs::read_dir(self.dir())?.count();
        ensure!(
            inside == 0,
            "{inside} files were made in the victim's directory"
        );
        Ok(())
    }
}

/// Puts a link to the victim in the place of a name, again and again, until it is dropped.
struct Swapper {
    over: Arc<AtomicBool>,
    swaps: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Swapper {
    fn start(swap: impl Fn(u64) + Send + 'static) -> Self {
        let (over, swaps) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (until, count) = (Arc::clone(&over), Arc::clone(&swaps));
        let body = move || {
            while !until.load(Ordering::Relaxed) {
                swap(count.fetch_add(1, Ordering::Relaxed));
                std::thread::yield_now();
            }
        };
        Self {
            over,
            swaps,
            thread: Some(std::thread::spawn(body)),
        }
    }

    fn count(&self) -> u64 {
        self.swaps.load(Ordering::Relaxed)
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Links `to` at `at`, in the place of whatever is there.
fn put_link(to: &Path, at: &Path) {
    let beside = at.with_extension("swap");
    std::fs::remove_file(&beside).ok();
    if symlink(to, &beside).is_ok() {
        rename(&beside, at);
    }
}

fn rename(from: &Path, to: &Path) {
    let here = nix::fcntl::AT_FDCWD;
    renameat(here, from, here, to).ok();
}

/// Applies while links are swapped. Whatever is answered, the victim is untouched; without the
/// swapping the next apply puts everything right.
async fn swapped(
    what: &str,
    swap: impl FnOnce(&Pbx, &Victim) -> anyhow::Result<Swapper>,
) -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let victim = Victim::new()?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let swapper = swap(&pbx, &victim)?;
    let mut ends = std::collections::BTreeMap::<String, usize>::new();
    for number in 0..APPLIES {
        let edition = ["one", "two"][number % 2];
        let applied = pbx.apply(&bundle(&[1000, 1001], edition)).await;
        let end = match applied {
            Ok(record) => format!("{:?}", record.outcome.context("not ended")?),
            Err(_) => "refused".to_owned(),
        };
        *ends.entry(end).or_default() += 1;
        victim.assert_untouched()?;
    }
    let count = swapper.count();
    drop(swapper);
    said(&format!(
        "row 16: {what} swapped {count} times under {APPLIES} applies: {ends:?}"
    ));
    ensure!(count > 100, "{count} swaps only");
    for slot in Slot::ALL {
        let live = pbx.asterisk.slot(slot);
        std::fs::remove_file(live.with_extension("swap")).ok();
    }
    let record = forced(&pbx).await?;
    ensure!(record == Some(Outcome::Applied), "{record:?}");
    victim.assert_untouched()?;
    for slot in Slot::ALL {
        ensure!(
            pbx.asterisk.slot(slot).symlink_metadata()?.is_file(),
            "still a link"
        );
    }
    assert_exactly(&pbx.asterisk, [1000, 1002]).await
}

/// An apply without anybody in the way. Files that could not be put back have left the agent in
/// safe mode, which an explicit order ends.
async fn forced(pbx: &Pbx) -> anyhow::Result<Option<Outcome>> {
    let last = bundle(&[1000, 1002], "three");
    if let Ok(record) = pbx.apply(&last).await {
        return Ok(record.outcome);
    }
    let mut order = pbx.order(&last, shared::record::OnReloadFailure::RollBack);
    order.force = true;
    Ok(pbx.execute(&order, &last).await?.outcome)
}

#[tokio::test]
async fn links_at_the_targets_are_replaced_and_not_followed() -> anyhow::Result<()> {
    let swap = |pbx: &Pbx, victim: &Victim| {
        let (file, lives) = (victim.file(), Slot::ALL.map(|slot| pbx.asterisk.slot(slot)));
        Ok(Swapper::start(move |count| {
            put_link(&file, &lives[usize::from(count % 2 == 1)]);
        }))
    };
    swapped("links at the targets", swap).await
}

#[tokio::test]
async fn links_at_the_temporary_names_are_not_followed() -> anyhow::Result<()> {
    let swap = |pbx: &Pbx, victim: &Victim| {
        let file = victim.file();
        let mut names = Vec::new();
        for slot in Slot::ALL {
            let live = pbx.asterisk.slot(slot);
            let name = live
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            names.push(live.with_file_name(format!(".{name}.old.tmp")));
            for revision in 2..APPLIES + 3 {
                names.push(live.with_file_name(format!(".{name}.{revision}.tmp")));
            }
        }
        Ok(Swapper::start(move |count| {
            let name = &names[usize::try_from(count).unwrap_or(0) % names.len()];
            symlink(&file, name).ok();
        }))
    };
    swapped("links at the temporary names", swap).await
}

#[tokio::test]
async fn links_in_the_place_of_the_directories_are_not_followed() -> anyhow::Result<()> {
    let swap = |pbx: &Pbx, victim: &Victim| {
        let to = victim.dir();
        let dirs = Slot::ALL.map(|slot| pbx.asterisk.slot(slot).with_file_name(""));
        let dirs = dirs.map(|dir| PathBuf::from(dir.to_string_lossy().trim_end_matches('/')));
        Ok(Swapper::start(move |count| {
            let dir = &dirs[usize::from(count % 2 == 1)];
            let aside = dir.with_extension("aside");
            rename(dir, &aside);
            symlink(&to, dir).ok();
            std::fs::remove_file(dir).ok();
            rename(&aside, dir);
        }))
    };
    swapped("links in the place of the directories", swap).await
}
