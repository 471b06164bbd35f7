//! What need not be done is not done, and the record says so: `pjsip reload` when Asterisk holds the
//! file already, and anything at all when nothing has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::ensure;
use shared::bundle::{Bundle, Slot};
use shared::record::{ApplyRecord, Outcome, Phase};

use crate::held::{Held, managed_files};
use crate::pbx::{Pbx, bundle, text, with_text};
use crate::stand_in::{self, StandIn};

/// A bundle whose PJSIP file is always the same and whose dialplan is not: rings for so long.
fn ringing(seconds: u32) -> Bundle {
    let sound = bundle(&[1000, 1001], "one");
    let dialplan = text(&sound, Slot::DialplanRouting);
    let dialplan = dialplan.replace(",25)", &format!(",{seconds})"));
    let marked = dialplan.replace("NoOp(g-", &format!("NoOp(g-{seconds}"));
    with_text(&sound, Slot::DialplanRouting, marked)
}

/// Applies it, checks that Asterisk holds it, and returns which reloads were sent.
async fn applied(
    pbx: &Pbx,
    stand_in: &StandIn,
    seconds: u32,
) -> anyhow::Result<(ApplyRecord, Vec<String>)> {
    let before = stand_in.commands().len();
    let record = pbx.apply(&ringing(seconds)).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let held = Held::read(&pbx.asterisk).await?;
    let dialled = format!("Dial(PJSIP/1001,{seconds})");
    ensure!(held.internal.get("1001") == Some(&dialled), "{held:?}");
    let sent = stand_in.commands().split_off(before);
    Ok((record, sent))
}

const BOTH: [&str; 2] = ["pjsip reload", "dialplan reload"];

#[tokio::test]
async fn asterisk_is_not_told_to_read_a_pjsip_file_that_it_holds() -> anyhow::Result<()> {
    let (mut pbx, stand_in) = stand_in::pbx(&ringing(25), &[]).await?;
    let (record, sent) = applied(&pbx, &stand_in, 26).await?;
    assert_eq!(sent, ["dialplan reload"]);
    let step = record
        .steps
        .iter()
        .find(|step| step.action.contains("not needed"));
    let step = step.map(|step| (step.phase, step.action.as_str(), step.ok));
    let action = "asterisk -rx 'pjsip reload' not needed";
    assert_eq!(step, Some((Phase::Reloading, action, true)));
    // The sets are read back all the same.
    let read_back = |step: &&shared::record::Step| step.action.starts_with("read back PJSIP");
    assert_eq!(record.steps.iter().filter(read_back).count(), 1);

    // Whatever casts doubt on it makes it necessary: somebody wrote to the file, ...
    let target = pbx.asterisk.slot(Slot::PjsipEndpoints);
    let bytes = std::fs::read(&target)?;
    let mut file = std::fs::File::options().write(true).open(&target)?;
    std::io::Write::write_all(&mut file, &bytes)?;
    assert_eq!(applied(&pbx, &stand_in, 27).await?.1, BOTH);
    assert_eq!(applied(&pbx, &stand_in, 28).await?.1, ["dialplan reload"]);
    // ... put another one beside it and took it away again, or left it there, ...
    let beside = target.with_file_name("zz-trunk.conf");
    tests::scratch::write(&beside, 0o644, "[trunk]\ntype = aor\n")?;
    std::fs::remove_file(&beside)?;
    assert_eq!(applied(&pbx, &stand_in, 29).await?.1, BOTH);
    tests::scratch::write(&beside, 0o644, "[trunk]\ntype = aor\n")?;
    assert_eq!(applied(&pbx, &stand_in, 30).await?.1, BOTH);
    assert_eq!(applied(&pbx, &stand_in, 31).await?.1, BOTH);
    std::fs::remove_file(&beside)?;
    assert_eq!(applied(&pbx, &stand_in, 32).await?.1, BOTH);
    // ... or the agent was not there to see.
    pbx.agent.stop().await?;
    pbx.agent.resume().await?;
    assert_eq!(applied(&pbx, &stand_in, 33).await?.1, BOTH);
    assert_eq!(applied(&pbx, &stand_in, 34).await?.1, ["dialplan reload"]);
    // Asterisk has read the file when it started.
    pbx.asterisk.restart().await?;
    assert_eq!(applied(&pbx, &stand_in, 35).await?.1, ["dialplan reload"]);
    pbx.agent.stop().await?;
    pbx.agent.resume_with(&[("RELOAD", "always")]).await?;
    assert_eq!(applied(&pbx, &stand_in, 36).await?.1, BOTH);
    assert_eq!(applied(&pbx, &stand_in, 37).await?.1, BOTH);
    Ok(())
}

/// Every file below `dir` with its inode and time.
fn stamps(dir: &Path) -> anyhow::Result<BTreeSet<(PathBuf, u64, i64, i64)>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            found.extend(stamps(&path)?);
        } else {
            let (ino, time) = (metadata.ino(), (metadata.mtime(), metadata.mtime_nsec()));
            found.insert((path, ino, time.0, time.1));
        }
    }
    Ok(found)
}

#[tokio::test]
async fn an_apply_that_changes_nothing_touches_no_file() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "required")];
    let (mut pbx, stand_in) = stand_in::pbx(&bundle(&[1000, 1001], "one"), &env).await?;
    // Tidying up after the first apply ends before this.
    pbx.agent.stop().await?;
    pbx.agent.resume().await?;
    let state = pbx.agent.state_dir().to_owned();
    let (live, before) = (managed_files(&pbx.asterisk)?, stamps(&state)?);
    let commands = stand_in.commands();
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    assert_eq!(record.outcome, Some(Outcome::Unchanged), "{record:#?}");
    pbx.agent.stop().await?;
    assert_eq!(managed_files(&pbx.asterisk)?, live);
    assert_eq!(stand_in.commands(), commands, "something was run");
    // The bundle with its manifest, the ledger, and the record: nothing else.
    let written: Vec<_> = stamps(&state)?
        .difference(&before)
        .map(|(path, ..)| path.strip_prefix(&state).map(Path::to_owned))
        .collect::<Result<_, _>>()?;
    let record = format!("applies/{}.json", record.apply_id);
    let expected = [
        "active",
        record.as_str(),
        "gen/2/dialplan_routing",
        "gen/2/manifest.json",
        "gen/2/pjsip_endpoints",
    ];
    assert_eq!(written, expected.map(PathBuf::from));
    Ok(())
}
