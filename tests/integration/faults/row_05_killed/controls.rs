//! The tests of this row must fail when the journal does not do its work.

use std::fs::File;

use super::victim::Victim;
use crate::strace::{self, said};

/// A journal whose lines come only after the renames: killed in between, nothing tells of them.
#[tokio::test]
#[ignore = "kills many times: ./test --faults"]
async fn with_a_journal_that_is_written_too_late_the_judge_complains() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut complaints = Vec::new();
    let mut points = 0;
    // The first rename is that of the upload; the second and third are those of the live files.
    for call in ["renameat", "fsync"] {
        let mut victim = Victim::start().await?;
        for count in 1.. {
            let order = victim.order();
            let fault = format!("{call}:signal=SIGKILL:when={count}");
            let (struck, told) = victim.strike(&order, &fault).await?;
            if !struck {
                break;
            }
            points += 1;
            victim.pbx.agent.kill();
            // What would have been noted is not there yet.
            let intent = victim.pbx.agent.state_dir().join("intent");
            File::options().write(true).open(intent)?.set_len(0)?;
            victim.pbx.agent.resume().await?;
            if let Err(complaint) = victim.judged(&order, struck, told).await {
                complaints.push(format!("{fault}: {complaint:#}"));
                victim = Victim::start().await?;
            }
        }
    }
    said(&format!(
        "row 5: control, a journal that is written too late: {} of {points} points are bad",
        complaints.len()
    ));
    assert!(!complaints.is_empty(), "a journal that is not needed");
    let mixed = |complaint: &&String| complaint.contains("the files are not those of bundle");
    assert!(complaints.iter().any(|c| mixed(&c)), "{complaints:#?}");
    Ok(())
}
