//! Row 25: somebody edits a managed file by hand, or puts a `*.conf` beside it. It is reported, and
//! a copy of what was edited is kept before it is replaced. What foreign files may do: `surroundings`.

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::Outcome;
use tests::scratch;

use crate::held::assert_exactly;
use crate::pbx::{Pbx, bundle};

/// Every copy below `drift/`, newest last.
fn copies(pbx: &Pbx, slot: Slot) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(pbx.agent.state_dir().join("drift"))? {
        let file = entry?.path().join(slot.name());
        if file.exists() {
            found.push(std::fs::read_to_string(file)?);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_hand_edit_is_reported_and_a_copy_is_kept() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let next = bundle(&[1000, 1001], "one");
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    for slot in Slot::ALL {
        let live = pbx.asterisk.slot(slot);
        let edited = format!("{}; by hand: {slot:?}\n", std::fs::read_to_string(&live)?);
        scratch::write(&live, 0o644, &edited)?;
        let warnings = pbx.link.status().await?.warnings.join("\n");
        ensure!(
            warnings.contains(slot.relative_path()),
            "not reported: {warnings}"
        );
        let record = pbx.apply(&next).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        let notes = record.notes.join("\n");
        ensure!(notes.contains(slot.relative_path()), "not told: {notes}");
        ensure!(notes.contains("drift/"), "the copy is not named: {notes}");
        ensure!(copies(&pbx, slot)?.contains(&edited), "no copy was kept");
        ensure!(!std::fs::read_to_string(&live)?.contains("by hand: "));
        let warnings = pbx.link.status().await?.warnings;
        ensure!(warnings.is_empty(), "{warnings:?}");
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_managed_file_that_was_removed_is_reported_and_comes_back() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let next = bundle(&[1000], "one");
    ensure!(pbx.apply(&next).await?.outcome == Some(Outcome::Applied));
    for slot in Slot::ALL {
        std::fs::remove_file(pbx.asterisk.slot(slot))?;
        let warnings = pbx.link.status().await?.warnings.join("\n");
        ensure!(
            warnings.contains(slot.relative_path()),
            "not reported: {warnings}"
        );
        // The very bundle that is in force: it is written all the same.
        let record = pbx.apply(&next).await?;
        ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
        ensure!(pbx.asterisk.slot(slot).exists());
        assert_exactly(&pbx.asterisk, [1000]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_foreign_file_is_reported_and_never_touched() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let text = "[trunk]\ntype = endpoint\ndisallow = all\nallow = ulaw\n";
    let beside = pbx
        .asterisk
        .slot(Slot::PjsipEndpoints)
        .with_file_name("trunk.conf");
    scratch::write(&beside, 0o644, text)?;
    let inode = std::os::unix::fs::MetadataExt::ino(&beside.metadata()?);
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let notes = record.notes.join("\n");
    ensure!(notes.contains("trunk.conf"), "not told: {notes}");
    let now = beside.metadata().context("it was removed")?;
    ensure!(std::os::unix::fs::MetadataExt::ino(&now) == inode);
    ensure!(std::fs::read_to_string(&beside)? == text);
    Ok(())
}
