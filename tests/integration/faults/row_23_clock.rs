//! Row 23: the clock jumps. Deadlines are monotonic, revisions do not come from the time, and a file
//! that is replaced never keeps the time of the old one.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use shared::bundle::Slot;
use shared::record::{OnReloadFailure, Outcome};
use tests::asterisk::{Asterisk, Settings};
use tests::mount::{Disk, FileSystem};
use tests::process::wait_until;
use tests::scratch::{self, Place, Scratch};

use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle};
use crate::stand_in::{Reload, StandIn};
use crate::strace::skipped;

/// Where distributions put the library.
const LIBRARIES: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that a test sets.
struct Clock {
    scratch: Scratch,
    library: &'static str,
}

impl Clock {
    /// `None`, said loudly, where the library is not installed.
    fn new() -> anyhow::Result<Option<Self>> {
        let there = |library: &&&str| std::path::Path::new(library).exists();
        let Some(library) = LIBRARIES.iter().find(there).copied() else {
            skipped("no libfaketime (package faketime): clocks cannot jump");
            return Ok(None);
        };
        let scratch = Scratch::new("clock")?;
        let clock = Self { scratch, library };
        clock.jump(0)?;
        Ok(Some(clock))
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("offset")
    }

    /// Sets it to so many seconds beside the true time.
    fn jump(&self, seconds: i64) -> anyhow::Result<()> {
        scratch::write(&self.file(), 0o644, &format!("{seconds:+}\n"))
    }

    /// What a process needs to go by it. Its monotonic clock is the true one.
    fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.to_owned()),
            ("FAKETIME_TIMESTAMP_FILE", self.file().display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

impl Drop for Clock {
    /// What the library shares between processes stays behind when they are killed.
    fn drop(&mut self) {
        let Ok(entries) = std::fs::read_dir("/dev/shm") else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name.rsplit('_').next().unwrap_or_default();
            let gone = !std::path::Path::new("/proc").join(pid).exists();
            if name.contains("faketime_s") && gone {
                std::fs::remove_file(entry.path()).ok();
            }
        }
    }
}

/// Offsets in seconds. Certificates begin five minutes before they were made: going back further
/// would rightly end the link.
const JUMPS: [i64; 8] = [0, -240, 3600, -120, 86_400, 0, -240, 7_200];

#[tokio::test]
async fn jumps_between_applies_change_nothing() -> anyhow::Result<()> {
    let Some(clock) = Clock::new()? else {
        return Ok(());
    };
    let asterisk = Asterisk::start(Settings::default()).await?;
    let mut pbx = Pbx::beside(asterisk, Place::temporary("agent")?, &clock.environment()).await?;
    let mut seen = BTreeSet::new();
    let mut last = None;
    for (round, jump) in JUMPS.into_iter().enumerate() {
        clock.jump(jump)?;
        let edition = ["one", "two"][round % 2];
        let record = pbx.apply(&bundle(&[1000, 1001], edition)).await?;
        ensure!(
            record.outcome == Some(Outcome::Applied),
            "{jump}: {record:#?}"
        );
        // Its steps go by the jumping clock: this is no test of the true one.
        let began = record
            .steps
            .first()
            .map(|step| step.started_at.unix_timestamp());
        let offset = began.unwrap_or_default() - tests::pki::now().unix_timestamp();
        ensure!(
            (offset - jump).abs() < 60,
            "the clock did not jump: {offset} for {jump}"
        );
        ensure!(record.live_revision > last, "{record:#?}");
        last = record.live_revision;
        let time = pbx.asterisk.slot(Slot::PjsipEndpoints).metadata()?;
        ensure!(
            seen.insert((time.mtime(), time.mtime_nsec())),
            "the same time again"
        );
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
        if round % 3 == 2 {
            pbx.agent.kill();
            pbx.agent.resume().await?;
            ensure!(pbx.link.status().await?.highest_revision.0 == round as u64 + 1);
        }
    }
    Ok(())
}

/// Deadlines of the agent that a test can wait for.
const DEADLINE_MS: &str = "4000";

async fn jumps_during_a_reload(jump: i64, hangs: bool) -> anyhow::Result<()> {
    let Some(clock) = Clock::new()? else {
        return Ok(());
    };
    let stand_in = StandIn::new()?;
    let mut env = clock.environment();
    env.push(("ASTERISK_BINARY".to_owned(), stand_in.program()));
    env.push(("RELOAD_DEADLINE_MS".to_owned(), DEADLINE_MS.to_owned()));
    let asterisk = Asterisk::start(Settings::default()).await?;
    let pbx = Pbx::beside(asterisk, Place::temporary("agent")?, &env).await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    let hold = stand_in.hold(Reload::Pjsip)?;
    let jump = async {
        hold.reached().await?;
        clock.jump(jump)?;
        if hangs {
            // Released only after it was given up.
            let over = async || {
                let found = pbx.link.find_apply(order.id).await;
                found.is_ok_and(|found| found.is_some_and(|record| record.outcome.is_some()))
            };
            wait_until("the reload is given up", Duration::from_secs(30), over).await?;
        }
        drop(hold);
        anyhow::Ok(())
    };
    let (record, jumped) = tokio::join!(pbx.execute(&order, &next), jump);
    jumped?;
    let wanted = if hangs {
        Outcome::ReloadUnknown
    } else {
        Outcome::Applied
    };
    let record = record?;
    ensure!(record.outcome == Some(wanted), "{record:#?}");
    // The next one comes through by whatever clock.
    let record = pbx.apply(&next).await?;
    ensure!(
        record.outcome.is_some_and(Outcome::is_proven),
        "{record:#?}"
    );
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn a_jump_forward_ends_no_deadline() -> anyhow::Result<()> {
    jumps_during_a_reload(86_400, false).await
}

#[tokio::test]
async fn a_jump_back_prolongs_no_deadline() -> anyhow::Result<()> {
    jumps_during_a_reload(-240, true).await
}

/// Times of whole seconds, files of the same size, several applies in a second: Asterisk tells a
/// changed file by size and time, so that the time must differ all the same.
#[tokio::test]
#[ignore = "needs root and a disk of its own: ./test --faults"]
async fn files_replaced_within_a_second_have_different_times() -> anyhow::Result<()> {
    let disk = match Disk::new(FileSystem::WholeSeconds).await {
        Ok(disk) => disk,
        Err(error) => {
            skipped(&format!("no disk with times of whole seconds: {error:#}"));
            return Ok(());
        }
    };
    let asterisk = Asterisk::start(Settings::default()).await?;
    asterisk.move_slots(disk.dir())?;
    let pbx = Pbx::beside(asterisk, Place::temporary("agent")?, &[]).await?;
    let mut times: Vec<i64> = Vec::new();
    for round in 0..12 {
        let record = pbx
            .apply(&bundle(&[1000], ["one", "two"][round % 2]))
            .await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        let file = pbx.asterisk.slot(Slot::PjsipEndpoints).metadata()?;
        ensure!(
            file.mtime_nsec() == 0,
            "times of this file system are no whole seconds"
        );
        ensure!(
            times.last() != Some(&file.mtime()),
            "the same time as before"
        );
        times.push(file.mtime());
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}
