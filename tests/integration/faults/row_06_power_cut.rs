//! Row 6: the power is cut. As with a kill, and beside that nothing is there that was not synced:
//! what was acknowledged must be.
//!
//! The agent's state and the managed files lie on a disk of their own, which is shut down without a
//! flush of its log right after the agent was killed, and mounted again.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tests::asterisk::{Asterisk, Settings};
use tests::mount::{Disk, FileSystem};
use tests::scratch::Place;

use super::row_05_killed::victim::{Killed, Victim};
use crate::pbx::Pbx;
use crate::strace::{self, Attach, said, skipped};

/// Calls between which the disk differs. Before each of them, and after the last, the power is cut.
const CALLS: [&str; 10] = [
    "write",
    "fsync",
    "fdatasync",
    "renameat",
    "linkat",
    "unlinkat",
    "mkdirat",
    "ftruncate",
    "pipe2",
    "sendto",
];

/// A PBX whose agent and managed files lie on a disk.
struct Machine {
    victim: Victim,
    disk: Disk,
}

impl Machine {
    /// `None`, said loudly, where that cannot be had.
    async fn start(what: FileSystem) -> anyhow::Result<Option<Self>> {
        if !strace::available().await? {
            return Ok(None);
        }
        let disk = match Disk::new(what).await {
            Ok(disk) => disk,
            Err(error) => {
                skipped(&format!("no {what:?} disk of one's own: {error:#}"));
                return Ok(None);
            }
        };
        let asterisk = Asterisk::start(Settings::default()).await?;
        asterisk.move_slots(disk.dir())?;
        let place = Place::Kept(disk.dir().join("agent"));
        let victim = Victim::of(Pbx::beside(asterisk, place, &[]).await?).await?;
        disk.sync().await?;
        Ok(Some(Self { victim, disk }))
    }

    /// Applies, and cuts the power at the call that `fault` names, or when all is done.
    async fn cut_at(&mut self, fault: &str) -> anyhow::Result<Killed> {
        let order = self.victim.order();
        let (struck, told) = self.victim.strike(&order, fault).await?;
        self.victim.pbx.agent.kill();
        self.disk.cut_power().await?;
        self.victim.pbx.agent.resume().await?;
        self.victim.judged(&order, struck, told).await
    }

    /// The same, with syncs that do nothing but say that they are done. The power is cut when the
    /// call comes, or else as soon as the apply is acknowledged.
    async fn cut_without_syncs(&mut self, fault: &str) -> anyhow::Result<Killed> {
        let order = self.victim.order();
        let attach = Attach::process(self.victim.pbx.agent.pid()?)
            .inject("fsync,fdatasync:retval=0")
            .inject(fault);
        let strace = attach.now().await?;
        let told = self.victim.pbx.execute(&order, self.victim.next()).await;
        drop(strace);
        self.victim.pbx.agent.kill();
        self.disk.cut_power().await?;
        self.victim.pbx.agent.resume().await?;
        self.victim.judged(&order, told.is_err(), told).await
    }
}

async fn power_cut_at_each_call(what: FileSystem) -> anyhow::Result<()> {
    let Some(mut machine) = Machine::start(what).await? else {
        return Ok(());
    };
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let mut points = 0;
    for call in CALLS {
        for count in 1.. {
            let fault = format!("{call}:signal=SIGKILL:when={count}");
            let cut = machine.cut_at(&fault).await.context(fault)?;
            points += 1;
            *ends.entry(cut.end()).or_default() += 1;
            if !cut.struck {
                break;
            }
        }
    }
    machine.victim.next_apply_works().await?;
    said(&format!(
        "row 6: {what:?}: power cut at {points} points, no mixed state, nothing acknowledged lost: \
         {ends:?}"
    ));
    assert!(points > 50, "{points} points only");
    Ok(())
}

#[tokio::test]
#[ignore = "needs root and a disk of its own: ./test --faults"]
async fn power_cut_at_each_call_on_ext4() -> anyhow::Result<()> {
    power_cut_at_each_call(FileSystem::Ext4).await
}

#[tokio::test]
#[ignore = "needs root and a disk of its own: ./test --faults"]
async fn power_cut_at_each_call_on_xfs() -> anyhow::Result<()> {
    power_cut_at_each_call(FileSystem::Xfs).await
}

/// The control: with fsync taken out, what was acknowledged is gone or the files are a mixture.
async fn without_syncs_the_judge_complains(what: FileSystem) -> anyhow::Result<()> {
    let mut complaints = Vec::new();
    // The renames of the upload, of both files and of the ledger; then one that never comes.
    let counts = [1, 2, 3, 4, 99];
    for count in counts {
        let Some(mut machine) = Machine::start(what).await? else {
            return Ok(());
        };
        let fault = format!("renameat:signal=SIGKILL:when={count}");
        if let Err(error) = machine.cut_without_syncs(&fault).await {
            complaints.push(format!("{fault}: {error:#}"));
        }
    }
    said(&format!(
        "row 6: control, {what:?} without syncs: {} of {} points are bad",
        complaints.len(),
        counts.len()
    ));
    assert!(!complaints.is_empty(), "syncs that are not needed");
    Ok(())
}

#[tokio::test]
#[ignore = "needs root and a disk of its own: ./test --faults"]
async fn without_syncs_the_judge_complains_on_ext4() -> anyhow::Result<()> {
    without_syncs_the_judge_complains(FileSystem::Ext4).await
}

#[tokio::test]
#[ignore = "needs root and a disk of its own: ./test --faults"]
async fn without_syncs_the_judge_complains_on_xfs() -> anyhow::Result<()> {
    without_syncs_the_judge_complains(FileSystem::Xfs).await
}
