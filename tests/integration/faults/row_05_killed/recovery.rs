//! Killed again, at each call of the recovery.

use std::path::PathBuf;

use anyhow::Context as _;
use shared::bundle::Slot;

use super::Tally;
use super::victim::Victim;
use crate::strace;

/// Kills of an apply after which recovery finds different things. The renames are: the upload, one
/// per live file, the ledger, the record.
const FIRST: [(&str, &str); 9] = [
    (
        "copies lie beside the files",
        "linkat:signal=SIGKILL:when=2",
    ),
    ("the intent is noted", "fdatasync:signal=SIGKILL:when=1"),
    ("one file is switched", "renameat:signal=SIGKILL:when=3"),
    ("both files are switched", "fdatasync:signal=SIGKILL:when=2"),
    (
        "Asterisk is told of the first",
        "pipe2:signal=SIGKILL:when=1",
    ),
    (
        "Asterisk is told of the second",
        "pipe2:signal=SIGKILL:when=2",
    ),
    ("Asterisk holds it", "renameat:signal=SIGKILL:when=4"),
    ("the ledger tells the end", "renameat:signal=SIGKILL:when=5"),
    ("the record is kept", "ftruncate:signal=SIGKILL:when=1"),
];

/// Calls of the recovery that change something. Only the engine's thread makes them, or makes them
/// on these files.
const CALLS: [&str; 12] = [
    "fsync",
    "fdatasync",
    "renameat",
    "linkat",
    "unlinkat",
    "ftruncate",
    "fchmod",
    "fchown",
    "utimensat",
    "mkdirat",
    "openat",
    "write",
];

/// Calls of the recovery by which it reaches Asterisk.
const ASTERISK_CALLS: [&str; 3] = ["connect", "sendto", "pipe2"];

/// Which of the kills of an apply a test begins with.
pub(super) async fn kill_recoveries(which: std::ops::Range<usize>) -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut victim = Victim::start().await?;
    for (stage, first) in &FIRST[which] {
        let mut tally = Tally::default();
        for call in CALLS.into_iter().chain(ASTERISK_CALLS) {
            for count in 1.. {
                let second = format!("{call}:signal=SIGKILL:when={count}");
                let paths = paths(&victim, call);
                let killed = victim.killed_twice(first, &second, &paths).await;
                let killed = killed.with_context(|| format!("{stage}: {first}, {second}"))?;
                if !killed.struck {
                    break;
                }
                tally.add(&killed);
            }
        }
        tally.say(&format!("every call of the recovery when {stage}"));
        assert!(tally.points > 5, "{} points only", tally.points);
    }
    victim.next_apply_works().await
}

/// On which files a call counts: those that other threads do not touch. Empty: on all.
fn paths(victim: &Victim, call: &str) -> Vec<PathBuf> {
    if !["openat", "write", "mkdirat"].contains(&call) {
        return Vec::new();
    }
    let state = victim.pbx.agent.state_dir();
    let mut paths: Vec<_> = ["intent", ".active.tmp", "gen", "drift", "failed"]
        .map(|name| state.join(name))
        .into();
    for slot in Slot::ALL {
        let live = victim.pbx.asterisk.slot(slot);
        let name = live.file_name().unwrap_or_default().to_string_lossy();
        let revision = victim.pbx.next_revision();
        paths.push(live.with_file_name(format!(".{name}.{revision}.tmp")));
        paths.extend(live.parent().map(PathBuf::from));
    }
    paths
}
