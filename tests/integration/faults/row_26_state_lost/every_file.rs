//! Every file of the state directory, deleted, cut short, emptied and with a bit turned over: with
//! nothing going on, and in the middle of an apply.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::{OnReloadFailure, Outcome};
use tests::process::wait_until;

use crate::held::{assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text};
use crate::strace::{self, Attach, engine_thread, said};

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// What happens to a file.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Deleted,
    Emptied,
    CutShort,
    /// A bit, at so many parts of a thousand.
    BitAt(u64),
}

const HARMS: [Harm; 6] = [
    Harm::Deleted,
    Harm::Emptied,
    Harm::CutShort,
    Harm::BitAt(0),
    Harm::BitAt(500),
    Harm::BitAt(990),
];

impl Harm {
    fn to(self, path: &Path) -> anyhow::Result<()> {
        if matches!(self, Self::Deleted) {
            return Ok(std::fs::remove_file(path)?);
        }
        let file = File::options().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        match self {
            Self::Deleted => {}
            Self::Emptied => file.set_len(0)?,
            Self::CutShort => file.set_len(length / 2)?,
            Self::BitAt(part) => {
                let at = length * part / 1000;
                let mut byte = [0];
                if file.read_at(&mut byte, at)? == 1 {
                    byte[0] ^= 1;
                    file.write_all_at(&byte, at)?;
                }
            }
        }
        Ok(())
    }
}

/// Every file of the state directory, by its name in there.
fn files(state: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![state.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(state)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A PBX with a rich state: two generations, records, a copy of a hand edit.
async fn rich() -> anyhow::Result<Pbx> {
    let pbx = Pbx::start().await?;
    for edition in ["one", "two"] {
        let record = pbx.apply(&bundle(&[1000], edition)).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        let live = pbx.asterisk.slot(Slot::DialplanRouting);
        let edited = format!("{}; by hand\n", std::fs::read_to_string(&live)?);
        tests::scratch::write(&live, 0o644, &edited)?;
    }
    let record = pbx.apply(&bundle(&[1000], "three")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    Ok(pbx)
}

/// Fails unless the agent, started on what is left, lies about nothing, and comes back to work by at
/// most one forced apply. Says how.
async fn comes_back(pbx: &mut Pbx) -> anyhow::Result<&'static str> {
    pbx.agent.resume().await?;
    let warnings = pbx.link.status().await?.warnings;
    let safe = warnings
        .iter()
        .any(|warning| warning.contains("Nothing is touched"));
    let before = managed_files(&pbx.asterisk)?;
    let last = bundle(&[1000, 1001], "four");
    let mut how = "an ordinary apply";
    if safe {
        let refused = pbx
            .apply(&last)
            .await
            .err()
            .context("safe mode let it in")?;
        ensure!(format!("{refused:#}").contains("SAFE_MODE"), "{refused:#}");
        ensure!(
            managed_files(&pbx.asterisk)? == before,
            "safe mode touched something"
        );
        let mut order = pbx.order(&last, OnReloadFailure::RollBack);
        order.force = true;
        let record = pbx.execute(&order, &last).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        how = "a forced apply";
    } else {
        // What was under way comes to its end first.
        pbx.idle().await?;
        let record = pbx.apply(&last).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    }
    ensure!(live_files(&pbx.asterisk)? == Slot::ALL.map(|slot| text(&last, slot)));
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    // And it stays so.
    pbx.agent.stop().await?;
    pbx.agent.resume().await?;
    let warnings = pbx.link.status().await?.warnings;
    ensure!(warnings.is_empty(), "{warnings:?}");
    let record = pbx.apply(&bundle(&[1000], "five")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    Ok(how)
}

#[tokio::test]
#[ignore = "damages every file in every way: ./test --faults"]
async fn any_file_that_is_harmed_while_nothing_runs() -> anyhow::Result<()> {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let mut pbx = rich().await?;
    let names = files(pbx.agent.state_dir())?;
    for name in &names {
        for harm in HARMS {
            let at = || format!("{}: {harm:?}", name.display());
            pbx.agent.stop().await?;
            if !pbx.agent.state_dir().join(name).exists() {
                // Pruned or set aside by now: begin again.
                pbx = rich().await?;
                pbx.agent.stop().await?;
            }
            let path = pbx.agent.state_dir().join(name_in(&pbx, name)?);
            let live = live_files(&pbx.asterisk)?;
            harm.to(&path).with_context(at)?;
            pbx.agent.resume().await.with_context(at)?;
            ensure!(
                live_files(&pbx.asterisk)? == live,
                "{}: touched at the start",
                at()
            );
            pbx.agent.stop().await?;
            *ends
                .entry(comes_back(&mut pbx).await.with_context(at)?)
                .or_default() += 1;
        }
    }
    said(&format!(
        "row 26: {} files harmed in {} ways: {ends:?}",
        names.len(),
        HARMS.len()
    ));
    ensure!(ends.contains_key("a forced apply"), "{ends:?}");
    Ok(())
}

/// The file of the same kind in another PBX: ids and times differ, directories do not.
fn name_in(pbx: &Pbx, name: &Path) -> anyhow::Result<PathBuf> {
    let state = pbx.agent.state_dir();
    if state.join(name).exists() {
        return Ok(name.to_owned());
    }
    let top = name.components().next().context("no name")?;
    let same = |other: &&PathBuf| {
        other.components().next() == Some(top)
            && (top.as_os_str() == "applies" || other.file_name() == name.file_name())
    };
    let all = files(state)?;
    all.iter()
        .find(same)
        .cloned()
        .with_context(|| format!("no {} in {all:?}", name.display()))
}

/// The files of the journal and of the bundle in question, when the agent was killed in the middle.
#[tokio::test]
#[ignore = "damages every file in every way: ./test --faults"]
async fn any_file_that_is_harmed_in_the_middle_of_an_apply() -> anyhow::Result<()> {
    if !strace::available().await? {
        return Ok(());
    }
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    // Before the first rename, between both, and behind them.
    for fault in [
        "renameat:signal=SIGKILL:when=2",
        "renameat:signal=SIGKILL:when=3",
        "pipe2:signal=SIGKILL:when=1",
    ] {
        for name in [
            "intent",
            "active",
            "gen/1/manifest.json",
            "gen/2/manifest.json",
            "gen/1/pjsip_endpoints",
            "gen/2/pjsip_endpoints",
        ] {
            for harm in HARMS {
                let at = || format!("{fault}, {name}: {harm:?}");
                let mut pbx = Pbx::start().await?;
                let first = pbx.apply(&bundle(&[1000], "one")).await?;
                ensure!(first.outcome == Some(Outcome::Applied), "{first:#?}");
                // What it writes down afterwards does not count.
                pbx.idle().await?;
                let next = bundle(&[1000, 1001], "two");
                let engine = engine_thread(pbx.agent.pid()?)?;
                let strace = Attach::thread(engine).inject(fault).now().await?;
                ensure!(pbx.apply(&next).await.is_err(), "{}: not killed", at());
                wait_until("it is killed", DEADLINE, async || strace.has_struck()).await?;
                drop(strace);
                pbx.agent.kill();
                harm.to(&pbx.agent.state_dir().join(name))
                    .with_context(at)?;
                *ends
                    .entry(comes_back(&mut pbx).await.with_context(at)?)
                    .or_default() += 1;
            }
        }
    }
    said(&format!(
        "row 26: harmed in the middle of an apply: {ends:?}"
    ));
    Ok(())
}

/// Everything is gone, and the live files are those of a portal: somebody has to say what to do.
#[tokio::test]
async fn a_state_directory_that_is_lost_as_a_whole_waits_for_a_forced_apply() -> anyhow::Result<()>
{
    let mut pbx = rich().await?;
    pbx.agent.stop().await?;
    super::empty(pbx.agent.state_dir())?;
    let how = comes_back(&mut pbx).await?;
    assert_eq!(how, "a forced apply");
    Ok(())
}
