//! Row 4: EIO on write or fsync. The apply is aborted, the old files are intact, and the descriptor
//! of a file that failed is not used again: the kernel may call its next sync done although nothing
//! has reached the disk. (Directories are opened once, because of row 16, and synced again.)

use anyhow::ensure;
use shared::record::Outcome;

use super::file_system;
use crate::pbx::{Pbx, bundle};
use crate::strace::{self, Attach, said};

#[tokio::test]
async fn eio_at_any_call_leaves_no_lie() -> anyhow::Result<()> {
    file_system::fails_at_each_call(4, "EIO", &["write", "fsync", "fdatasync"]).await
}

#[tokio::test]
async fn a_descriptor_that_failed_is_never_written_or_synced_again() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let pbx = Pbx::start().await?;
    let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "one")];
    ensure!(pbx.apply(&bundles[0]).await?.outcome == Some(Outcome::Applied));
    let mut failed = 0;
    for call in ["fsync", "fdatasync"] {
        for count in 1.. {
            let fault = format!("{call}:error=EIO:when={count}");
            let strace = Attach::process(pbx.agent.pid()?)
                .trace("write,pwrite64,fsync,fdatasync,close")
                .inject(&fault)
                .descriptors()
                .now()
                .await?;
            // The one that fails, and the next one, which must not rely on what failed.
            for bundle in bundles.iter().rev() {
                pbx.apply(bundle).await.ok();
            }
            let log = strace.log();
            drop(strace);
            let directory = |line: &&str| {
                let path = line.split(['<', '>']).nth(1).unwrap_or_default();
                line.contains("(INJECTED)") && std::path::Path::new(path).is_dir()
            };
            if log.lines().any(|line| directory(&line)) {
                continue;
            }
            if !log.contains("(INJECTED)") {
                ensure!(count > 1, "no fault came to it: {call}");
                break;
            }
            failed += 1;
            let used = used_again(&log);
            ensure!(used.is_empty(), "{fault}: {used:#?}");
        }
    }
    said(&format!(
        "row 4: {failed} descriptors failed, none was used again"
    ));
    ensure!(failed > 5, "{failed} only");
    Ok(())
}

/// Writes and syncs of a descriptor behind its failure and before it is closed.
fn used_again(log: &str) -> Vec<&str> {
    let mut failed: Option<&str> = None;
    let mut used = Vec::new();
    for line in log.lines() {
        let Some((call, descriptor)) = descriptor(line) else {
            continue;
        };
        if line.contains("(INJECTED)") {
            failed = Some(descriptor);
        } else if failed == Some(descriptor) {
            if call == "close" {
                failed = None;
            } else {
                used.push(line);
            }
        }
    }
    used
}

/// The call and the number of the descriptor of `[pid 7] fsync(14</path>) = 0`.
fn descriptor(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line.split_once('(')?;
    let call = before.rsplit(' ').next()?;
    let (number, _) = rest.split_once('<')?;
    Some((call, number))
}

#[test]
fn a_second_sync_is_found_in_a_log() {
    let log = "[pid 7] fsync(14</a>) = -1 EIO (Input/output error) (INJECTED)\n\
               [pid 7] fsync(15</b>) = 0\n\
               [pid 7] fsync(14</a>) = 0\n\
               [pid 7] close(14</a>) = 0\n\
               [pid 7] fsync(14</c>) = 0\n";
    assert_eq!(used_again(log), ["[pid 7] fsync(14</a>) = 0"]);
}
