//! A file system that fails: at each system call of an apply that the fault can come to, one after
//! the other. Whatever is answered must be true.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use api_server::agent::AgentError;
use shared::bundle::{Bundle, Slot};
use shared::record::{ApplyRecord, Outcome, Phase};

use crate::held::{ENDPOINTS_FILE, File, ROUTING_FILE, assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text};
use crate::strace::{self, Strace, said};

/// Lets each of `calls` fail with `error` the first, second, … time, until an apply comes through.
pub(super) async fn fails_at_each_call(row: u8, error: &str, calls: &[&str]) -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let pbx = Pbx::start().await?;
    let bundles = [bundle(&[1000], "one"), bundle(&[1000, 1001], "one")];
    ensure!(pbx.apply(&bundles[0]).await?.outcome == Some(Outcome::Applied));
    let (mut in_force, mut failed) = (0, 0);
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for call in calls {
        for count in 1.. {
            let fault = format!("{call}:error={error}:when={count}");
            let paths = touched_by(&pbx, call);
            let strace = Strace::attach(pbx.agent.pid()?, &fault, &paths).await?;
            let mut before = managed_files(&pbx.asterisk)?;
            before.retain(|name, _| !is_leftover(name));
            let applied = pbx.apply(&bundles[1 - in_force]).await;
            let struck = strace.has_struck();
            drop(strace);
            let outcome = applied.as_ref().ok().and_then(|record| record.outcome);
            in_force = judge(&pbx, &bundles, in_force, &before, applied)
                .await
                .context(fault)?;
            if !struck {
                // An apply has no such call any more.
                ensure!(count > 1, "no fault came to it: {call}");
                break;
            }
            failed += 1;
            let end = outcome.map_or("refused".to_owned(), |outcome| format!("{outcome:?}"));
            *ends.entry(end).or_default() += 1;
        }
    }
    said(&format!(
        "row {row}: {error} at {failed} calls, no lie: {ends:?}"
    ));
    let record = pbx.apply(&bundles[1 - in_force]).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_eq!(
        managed_files(&pbx.asterisk)?.len(),
        2,
        "leftovers stay for ever"
    );
    Ok(())
}

/// What the calls that count touch: opening in the managed directories, writing to the copies there
/// and to the journal, and every other call wherever it is.
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
    let journal = ["intent", ".active.tmp"].map(|name| pbx.agent.state_dir().join(name));
    let journal = journal.into_iter().filter(|_| call == "write");
    Slot::ALL
        .into_iter()
        .filter_map(path)
        .chain(journal)
        .collect()
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
