//! Fault 25, hand edits and foreign files: noticed, told, kept, never deleted.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::time::TimeSpec;
use shared::bundle::Slot;
use shared::record::Outcome;
use shared::status::{AgentStatus, EventKind};
use tests::process::wait_until;
use tests::scratch;

use crate::pbx::{Pbx, bundle};

const DEADLINE: Duration = Duration::from_secs(30);

/// Apart from the harness, which looks whether the agent accepts connections.
fn kinds(status: &AgentStatus) -> Vec<EventKind> {
    let kinds = status.events.iter().map(|event| event.kind);
    kinds
        .filter(|kind| *kind != EventKind::PeerRefused)
        .collect()
}

/// Changes one letter and keeps size and time, as a hand that wants to hide would.
fn edit(path: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let edited = text.replacen("Dial(PJSIP/1000,25)", "Dial(PJSIP/1000,26)", 1);
    ensure!(edited != text, "nothing to edit: {text}");
    let data = path.metadata()?;
    scratch::write(path, 0o640, &edited)?;
    let time = TimeSpec::new(data.mtime(), data.mtime_nsec());
    nix::sys::stat::utimensat(
        nix::fcntl::AT_FDCWD,
        path,
        &time,
        &time,
        nix::sys::stat::UtimensatFlags::FollowSymlink,
    )?;
    Ok(text)
}

fn owned(pbx: &Pbx, path: &Path) -> anyhow::Result<()> {
    let account = pbx.asterisk.agent_account();
    account
        .map(|account| account.own(path))
        .transpose()
        .map(drop)
}

#[tokio::test]
async fn fault_25_hand_edits_are_noticed_kept_and_told() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let first = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(first.outcome == Some(Outcome::Applied), "{first:#?}");
    let status = pbx.link.status().await?;
    ensure!(status.drift.since.is_none() && status.drift.checked_at.is_some());
    ensure!(
        status.files.len() == 2 && kinds(&status).is_empty(),
        "{status:#?}"
    );
    for file in &status.files {
        ensure!(
            file.applied.is_some() && file.on_disk == file.applied,
            "{file:#?}"
        );
        ensure!(file.applied_revision == Some(first.revision), "{file:#?}");
        ensure!(file.loaded_revision == Some(first.revision), "{file:#?}");
    }

    let path = pbx.asterisk.slot(Slot::DialplanRouting);
    let text = edit(&path)?;
    owned(&pbx, &path)?;
    let status = pbx.link.status().await?;
    ensure!(status.drift.since.is_some(), "{status:#?}");
    ensure!(
        kinds(&status) == [EventKind::DriftFound],
        "{:#?}",
        status.events
    );
    let file = status
        .files
        .iter()
        .find(|file| file.slot == Slot::DialplanRouting);
    let file = file.context("no such slot")?;
    ensure!(
        file.on_disk.is_some() && file.on_disk != file.applied,
        "{file:#?}"
    );
    ensure!(
        status
            .warnings
            .join("\n")
            .contains("changed since revision"),
        "{status:#?}"
    );

    scratch::write(&path, 0o640, &text)?;
    owned(&pbx, &path)?;
    let status = pbx.link.status().await?;
    ensure!(status.drift.since.is_none());
    ensure!(kinds(&status) == [EventKind::DriftFound, EventKind::DriftEnded]);

    a_copy_is_kept(&pbx, &path).await
}

/// The second half: edited again, beside a foreign file, and replaced by an apply.
async fn a_copy_is_kept(pbx: &Pbx, path: &Path) -> anyhow::Result<()> {
    edit(path)?;
    owned(pbx, path)?;
    let foreign = path.with_file_name("by_hand.conf");
    scratch::write(&foreign, 0o644, "[by-hand]\n")?;
    let edited = std::fs::read(path)?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let status = pbx.link.status().await?;
    ensure!(status.drift.since.is_none(), "{status:#?}");
    let told = status.events.iter();
    let mut told = told.filter(|event| event.kind == EventKind::DriftOverwritten);
    let told = told
        .next()
        .with_context(|| format!("{:#?}", status.events))?;
    let place = told.detail.split("drift/").nth(1).context("no place")?;
    let kept = pbx
        .agent
        .state_dir()
        .join("drift")
        .join(place)
        .join("dialplan_routing");
    ensure!(std::fs::read(kept)? == edited);
    ensure!(
        kinds(&status).last() == Some(&EventKind::ForeignFileFound),
        "{:#?}",
        status.events
    );
    ensure!(status.foreign_files == [foreign.display().to_string()] && foreign.exists());
    for (counter, least) in [
        ("pbx_agent_drift_checks_total", 4),
        ("pbx_agent_drift_found_total", 1),
        ("pbx_agent_drift_overwritten_total", 1),
        ("pbx_agent_applies_applied_total", 2),
    ] {
        ensure!(
            status.counters[counter] >= least,
            "{counter}: {:#?}",
            status.counters
        );
    }
    std::fs::remove_file(&foreign)?;
    let status = pbx.link.status().await?;
    ensure!(kinds(&status).last() == Some(&EventKind::ForeignFileGone));
    Ok(())
}

/// While nobody asks: at the start.
#[tokio::test]
async fn what_was_edited_while_the_agent_was_away_is_noticed_at_its_start() -> anyhow::Result<()> {
    let mut pbx = Pbx::start().await?;
    pbx.apply(&bundle(&[1000], "one")).await?;
    pbx.agent.stop().await?;
    let path = pbx.asterisk.slot(Slot::DialplanRouting);
    edit(&path)?;
    owned(&pbx, &path)?;
    pbx.agent.resume().await?;
    let noticed = async || pbx.agent.log().contains("drift_found");
    wait_until("the agent has noticed", DEADLINE, noticed).await
}
