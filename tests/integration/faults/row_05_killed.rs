//! Row 5: `kill -9` between any two system calls. After the next start all files are old or all are
//! new, Asterisk holds what they say, and the record tells which; nothing is left over, and the next
//! apply works.
//!
//! Which calls an apply makes is recorded first, on the thread that makes them all. Then the agent
//! is killed at each of them, and at each call of the recovery that follows such a kill.

mod audited;
mod controls;
mod judge;
mod recovery;
pub(super) mod victim;

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};

use self::victim::{Killed, Victim};
use crate::strace::{self, said};

/// What an apply was killed at, and how it ended: counted, to be printed.
#[derive(Default)]
struct Tally {
    points: usize,
    ends: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, killed: &Killed) {
        self.points += 1;
        *self.ends.entry(killed.end()).or_default() += 1;
    }

    fn say(&self, what: &str) {
        said(&format!(
            "row 5: {what}: killed at {} points, no mixed state: {:?}",
            self.points, self.ends
        ));
    }
}

/// Calls that change nothing outside of the process that dies: killed there or at the next call is
/// the same.
const WITHOUT_EFFECT: [&str; 20] = [
    "brk",
    "clock_gettime",
    "clock_nanosleep",
    "exit",
    "exit_group",
    "getpid",
    "getrandom",
    "gettid",
    "madvise",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "prctl",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_yield",
    "sigaltstack",
];

/// Calls that change files.
const FILE_CALLS: [&str; 16] = [
    "openat",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "renameat",
    "renameat2",
    "linkat",
    "unlinkat",
    "mkdirat",
    "fchmod",
    "fchmodat",
    "fchown",
    "ftruncate",
    "utimensat",
    "close",
];

/// Kills an apply at the first, second, … call of each kind until it comes through.
async fn kill_at_each(victim: &mut Victim, calls: &[String]) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for call in calls {
        for count in 1.. {
            let fault = format!("{call}:signal=SIGKILL:when={count}");
            let killed = victim.apply_killed_at(&fault).await;
            let killed = killed.with_context(|| fault.clone())?;
            if !killed.struck {
                break;
            }
            tally.add(&killed);
        }
    }
    victim.next_apply_works().await?;
    Ok(tally)
}

/// Whether an apply makes that call at all, by a recorded run.
async fn recorded(victim: &mut Victim) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut calls = victim.recorded_calls().await?;
    calls.retain(|call, _| !WITHOUT_EFFECT.contains(&call.as_str()));
    ensure!(calls.values().sum::<usize>() > 50, "{calls:?}");
    Ok(calls)
}

#[tokio::test]
#[ignore = "kills hundreds of times: ./test --faults"]
async fn killed_at_every_file_call_of_an_apply() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut victim = Victim::start().await?;
    let calls = recorded(&mut victim).await?;
    let files = |call: &&String| FILE_CALLS.contains(&call.as_str());
    let calls: Vec<String> = calls.keys().filter(files).cloned().collect();
    let tally = kill_at_each(&mut victim, &calls).await?;
    tally.say("every call of an apply that works on files");
    assert!(tally.points > 50, "{} points only", tally.points);
    Ok(())
}

#[tokio::test]
#[ignore = "kills hundreds of times: ./test --faults"]
async fn killed_at_every_other_call_of_an_apply() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut victim = Victim::start().await?;
    let calls = recorded(&mut victim).await?;
    let others = |call: &&String| !FILE_CALLS.contains(&call.as_str());
    let calls: Vec<String> = calls.keys().filter(others).cloned().collect();
    let tally = kill_at_each(&mut victim, &calls).await?;
    tally.say("every other call of an apply");
    assert!(tally.points > 20, "{} points only", tally.points);
    Ok(())
}

#[tokio::test]
#[ignore = "kills hundreds of times: ./test --faults"]
async fn killed_at_every_call_of_a_recovery_that_goes_back() -> anyhow::Result<()> {
    recovery::kill_recoveries(0..3).await
}

#[tokio::test]
#[ignore = "kills hundreds of times: ./test --faults"]
async fn killed_at_every_call_of_a_recovery_that_goes_on() -> anyhow::Result<()> {
    recovery::kill_recoveries(3..6).await
}

#[tokio::test]
#[ignore = "kills hundreds of times: ./test --faults"]
async fn killed_at_every_call_of_a_recovery_that_tidies_up() -> anyhow::Result<()> {
    recovery::kill_recoveries(6..9).await
}
