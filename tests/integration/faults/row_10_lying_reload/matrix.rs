//! Asterisk answers "reloaded successfully" to nearly everything. Here are the configurations that
//! it silently takes in part, keeps in part or loses, on the real Asterisk: none ends as `applied`
//! that is not, and each failure names its cause.
//!
//! Each damage is done twice. Sent by a portal gone wrong, it is refused before a file is touched.
//! Done to the live file after the switch, right before Asterisk reads it, it is found by reading
//! back, and the last proven configuration is in force again.

use std::path::Path;

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::{ApplyRecord, OnReloadFailure, Outcome, Phase};

use crate::damages::{after, before, damaged, other, unsound};
use crate::held::{Held, MARKER, assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, bundle, text, with_text};
use crate::stand_in::{self, Reload};
use crate::strace::skipped;

/// Fails unless the record tells that the apply did not succeed, and why.
fn assert_named(record: &ApplyRecord, outcome: Outcome, words: &str) -> anyhow::Result<()> {
    ensure!(
        record.outcome == Some(outcome),
        "{:?}: {}",
        record.outcome,
        record.failure
    );
    ensure!(
        record.failure.contains(words),
        "not named ({words}): {}",
        record.failure
    );
    Ok(())
}

#[tokio::test]
async fn a_damaged_bundle_is_refused_before_anything_is_touched() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(pbx.apply(&before()).await?.outcome == Some(Outcome::Applied));
    let files = managed_files(&pbx.asterisk)?;
    let mut last = None;
    for slot in Slot::ALL {
        for (damage, text) in damaged(slot, unsound(slot)) {
            let bundle = with_text(&after(), slot, text);
            let record = pbx.apply(&bundle).await.with_context(|| damage.name)?;
            // It names the file or the object that is to blame.
            let mut words = ["[1001]", MARKER].into_iter().chain([slot.name()]);
            let words = words
                .find(|words| record.failure.contains(words))
                .unwrap_or("a cause");
            assert_named(&record, Outcome::Rejected, words).with_context(|| damage.name)?;
            ensure!(
                record.live_revision.map(|r| r.0) == Some(1),
                "{}",
                damage.name
            );
            last = Some(record);
        }
    }
    assert_eq!(managed_files(&pbx.asterisk)?, files);
    assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    // What was refused is kept apart from what was done.
    assert!(last.context("no damage")?.files.is_empty());

    // The control: the same bundle without damage.
    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}

async fn damage_is_found_by_reading_back(slot: Slot) -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&before(), &[]).await?;
    let reload = match slot {
        Slot::PjsipEndpoints => Reload::Pjsip,
        Slot::DialplanRouting => Reload::Dialplan,
    };
    let files = live_files(&pbx.asterisk)?;
    let damages = [unsound(slot), other(slot)].map(|damages| damaged(slot, damages));
    for (damage, text) in damages.into_iter().flatten() {
        stand_in.overwrite(reload, &pbx.asterisk.slot(slot), text.as_bytes())?;
        let record = pbx.apply(&after()).await.with_context(|| damage.name)?;
        let at = || format!("{}: {record:#?}", damage.name);
        assert_named(&record, Outcome::RolledBack, damage.noticed).with_context(at)?;
        ensure!(live_files(&pbx.asterisk)? == files, "{}", at());
        assert_exactly(&pbx.asterisk, [1000, 1001])
            .await
            .with_context(at)?;
    }
    // The control: with nothing in the way the same bundle goes through.
    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}

#[tokio::test]
async fn damage_to_the_live_pjsip_file_is_found_by_reading_back() -> anyhow::Result<()> {
    damage_is_found_by_reading_back(Slot::PjsipEndpoints).await
}

#[tokio::test]
async fn damage_to_the_live_dialplan_file_is_found_by_reading_back() -> anyhow::Result<()> {
    damage_is_found_by_reading_back(Slot::DialplanRouting).await
}

/// The options of objects that the apply does not change are not asked for one by one. A file that
/// somebody has changed under the reload is noticed all the same.
#[tokio::test]
async fn damage_to_what_the_apply_does_not_change_is_found_as_well() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&before(), &[]).await?;
    let more = bundle(&[1000, 1001, 1002], "one");
    for (slot, reload, from, to) in [
        (
            Slot::PjsipEndpoints,
            Reload::Pjsip,
            "max_contacts = 1",
            "max_contacts = 9",
        ),
        (
            Slot::DialplanRouting,
            Reload::Dialplan,
            "1000,1,Dial(PJSIP/1000",
            "1000,1,Dial(PJSIP/1001",
        ),
    ] {
        let sound = text(&more, slot);
        let (head, tail) = sound.split_at(sound.rfind(from).context("not there")?);
        let damaged = format!("{head}{}", tail.replacen(from, to, 1));
        stand_in.overwrite(reload, &pbx.asterisk.slot(slot), damaged.as_bytes())?;
        let record = pbx.apply(&more).await?;
        assert_eq!(
            record.outcome,
            Some(Outcome::RolledBack),
            "{slot:?}: {record:#?}"
        );
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    }
    Ok(())
}

/// A live file that the agent can read and Asterisk cannot, or that is gone.
#[tokio::test]
async fn an_unreadable_or_missing_live_file_is_found_by_reading_back() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&before(), &[]).await?;
    let trunk = "[trunk]\ntype = endpoint\ndisallow = all\nallow = ulaw\n";
    let others = pbx.asterisk.agent_account().is_some();
    if !others {
        skipped("unreadable files: without root, agent and Asterisk are the same account");
    }
    for slot in Slot::ALL {
        let target = pbx.asterisk.slot(slot);
        let beside = target.with_file_name("zzz-trunk.conf");
        let foreign = if slot == Slot::PjsipEndpoints {
            trunk
        } else {
            "[trunk]\n"
        };
        for (alone, action) in [
            (true, "chmod 0600"),
            (true, "rm"),
            (false, "chmod 0600"),
            (false, "rm"),
        ] {
            if action == "chmod 0600" && !others {
                continue;
            }
            // Alone, the old configuration stays; beside a readable file, all of ours is gone.
            if alone {
                std::fs::remove_file(&beside).ok();
            } else {
                tests::scratch::write(&beside, 0o644, foreign)?;
            }
            let reload = [Reload::Pjsip, Reload::Dialplan][usize::from(slot != Slot::ALL[0])];
            stand_in.once(reload, &format!("{action} '{}'\n", target.display()))?;
            let record = pbx.apply(&after()).await?;
            let at = || format!("{slot:?} {action}, alone: {alone}: {record:#?}");
            assert_named(&record, Outcome::RolledBack, MARKER).with_context(at)?;
            let held = Held::read(&pbx.asterisk).await?;
            let wanted = Held::exactly([1000, 1001]);
            ensure!(
                held.auths == wanted.auths && held.internal == wanted.internal,
                "{}",
                at()
            );
        }
        std::fs::remove_file(&beside)?;
    }
    Ok(())
}

/// Faults in the file that includes ours make Asterisk keep all it had.
#[tokio::test]
async fn a_main_file_that_cannot_be_read_is_found_by_reading_back() -> anyhow::Result<()> {
    let (pbx, _stand_in) = stand_in::pbx(&before(), &[]).await?;
    let main = pbx.asterisk.etc().join("pjsip.conf");
    let sound = std::fs::read_to_string(&main)?;
    for broken in ["[trunk\n", "#include nowhere.conf\n"] {
        tests::scratch::write(&main, 0o644, &format!("{broken}{sound}"))?;
        let record = pbx.apply(&after()).await?;
        assert_named(&record, Outcome::RolledBack, "1002 is missing").with_context(|| broken)?;
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
    }
    tests::scratch::write(&main, 0o644, &sound)?;
    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    Ok(())
}

/// Somebody has put a file in the place of the live one that the agent may not even read: it is told,
/// and nothing is replaced whose content could not be kept.
#[tokio::test]
async fn a_live_file_of_somebody_else_is_told_and_stays() -> anyhow::Result<()> {
    let (pbx, _stand_in) = stand_in::pbx(&before(), &[]).await?;
    if pbx.asterisk.agent_account().is_none() {
        skipped("files of other accounts: this needs root");
        return Ok(());
    }
    for slot in Slot::ALL {
        let target = pbx.asterisk.slot(slot);
        tests::scratch::write(&target, 0o600, "; of somebody else\n")?;
        let record = pbx.apply(&after()).await?;
        let path = target.display().to_string();
        assert_named(&record, Outcome::WriteFailed, &path)?;
        let reloaded = record
            .steps
            .iter()
            .any(|step| step.phase == Phase::Reloading);
        assert!(!reloaded, "{record:#?}");
        assert_eq!(std::fs::read_to_string(&target)?, "; of somebody else\n");
        assert_exactly(&pbx.asterisk, [1000, 1001]).await?;
        std::fs::remove_file(&target)?;
        let record = pbx.apply(&before()).await?;
        assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    }
    Ok(())
}

/// The same damage, with new files to be kept: what Asterisk holds is told, the files stay.
#[tokio::test]
async fn with_new_files_kept_the_damage_stays_for_investigation() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&before(), &[]).await?;
    let sound = text(&after(), Slot::PjsipEndpoints);
    let cut = sound[..sound.find("[1001]").context("no 1001")?].to_owned();
    let target = pbx.asterisk.slot(Slot::PjsipEndpoints);
    stand_in.overwrite(Reload::Pjsip, &target, cut.as_bytes())?;
    let record = pbx
        .apply_with(&after(), OnReloadFailure::KeepNewFiles)
        .await?;
    assert_named(&record, Outcome::ReloadFailedFilesKept, "1001")?;
    assert_eq!(std::fs::read_to_string(&target)?, cut);
    // Every object that is lost is named: three types of two extensions and of the marker.
    assert_eq!(record.mismatches.len(), 9, "{:#?}", record.mismatches);
    assert!(
        Path::new(&pbx.agent.state_dir().join("failed"))
            .read_dir()?
            .next()
            .is_some()
    );

    let record = pbx.apply(&after()).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{}", record.failure);
    assert_exactly(&pbx.asterisk, [1000, 1001, 1002]).await
}
