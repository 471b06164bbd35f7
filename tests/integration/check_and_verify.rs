//! What the agent is asked beside applies: whether a bundle would come into force, whether Asterisk
//! holds all that was applied, and who is registered.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use api_server::agent::AgentError;
use shared::bundle::{Bundle, Slot};
use shared::record::{MismatchKind, ObjectKind, OnReloadFailure, Outcome};
use shared::status::{CheckReport, FindingSource, VerifyReport};
use tests::asterisk::Settings;
use tests::phones::Phone;
use tests::scratch;

use crate::held::{assert_exactly, managed_files};
use crate::pbx::{Pbx, bundle, order_of, password, request_id, text, with_text};
use crate::preflight::refused_by_asterisk;
use crate::stand_in::{self, Reload};

const LIMIT: Duration = Duration::from_secs(30);

pub(crate) async fn check(pbx: &Pbx, bundle: &Bundle) -> anyhow::Result<CheckReport> {
    // No order is given by it, so that the next one has the same revision.
    let order = order_of(pbx.next_revision(), bundle, OnReloadFailure::RollBack);
    Ok(pbx
        .link
        .check(&order, bundle.clone(), &request_id())
        .await?)
}

pub(crate) async fn verify(pbx: &Pbx) -> anyhow::Result<VerifyReport> {
    Ok(pbx.link.verify(LIMIT, &request_id()).await?)
}

/// Every file below `dir`, with what tells whether it was written to.
fn files(dir: &Path) -> anyhow::Result<BTreeMap<String, (u64, i64, i64)>> {
    use std::os::unix::fs::MetadataExt as _;
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        if metadata.is_dir() {
            found.extend(files(&path)?);
        } else {
            let stamp = (metadata.ino(), metadata.mtime(), metadata.mtime_nsec());
            found.insert(path.display().to_string(), stamp);
        }
    }
    Ok(found)
}

#[tokio::test]
async fn a_check_finds_what_an_apply_would_and_keeps_nothing() -> anyhow::Result<()> {
    let env = [("PREFLIGHT", "on")];
    let pbx = Pbx::start_with(Settings::default(), &env).await?;
    ensure!(pbx.apply(&bundle(&[1000], "one")).await?.outcome == Some(Outcome::Applied));
    let sound = bundle(&[1000, 1001], "one");
    let report = check(&pbx, &sound).await?;
    // Tidying up after the apply has ended before that.
    let state = files(pbx.agent.state_dir())?;
    let live = managed_files(&pbx.asterisk)?;
    assert_eq!(report.findings, []);
    assert!(
        report.preflight_ran && report.preflight.contains("12 objects"),
        "{report:?}"
    );

    let broken = text(&sound, Slot::PjsipEndpoints).replacen("direct_media", "indirect_media", 1);
    let number = broken
        .lines()
        .position(|line| line.starts_with("indirect"))
        .context("no line")?;
    let report = check(&pbx, &with_text(&sound, Slot::PjsipEndpoints, broken)).await?;
    let found = &report.findings[0];
    assert_eq!(
        (found.source, found.slot),
        (FindingSource::Text, Some(Slot::PjsipEndpoints))
    );
    assert_eq!(found.line as usize, number + 1);
    assert!(
        found.message.contains("unknown option indirect_media"),
        "{report:?}"
    );
    assert!(!report.preflight_ran, "{report:?}");

    let report = check(&pbx, &refused_by_asterisk()).await?;
    let found = report
        .findings
        .iter()
        .find(|finding| finding.line > 0)
        .context("no line")?;
    assert_eq!(found.source, FindingSource::Preflight, "{report:?}");
    assert!(found.message.contains("qualify_frequency"), "{report:?}");
    assert!(report.preflight_ran, "{report:?}");

    let beside = pbx
        .asterisk
        .slot(Slot::PjsipEndpoints)
        .with_file_name("trunk.conf");
    scratch::write(&beside, 0o644, "[1001]\ntype = aor\n")?;
    let report = check(&pbx, &sound).await?;
    assert_eq!(report.findings.len(), 1, "{report:?}");
    assert_eq!(report.findings[0].source, FindingSource::Surroundings);
    assert!(
        report.findings[0].message.contains("trunk.conf line 1"),
        "{report:?}"
    );
    std::fs::remove_file(&beside)?;

    assert_eq!(files(pbx.agent.state_dir())?, state);
    assert_eq!(managed_files(&pbx.asterisk)?, live);
    // The fence has not moved: the revision that was checked can be applied.
    let record = pbx.apply(&sound).await?;
    assert_eq!(record.outcome, Some(Outcome::Applied), "{record:#?}");
    Ok(())
}

#[tokio::test]
async fn a_verification_compares_everything_and_changes_nothing() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let refused = pbx.link.verify(LIMIT, &request_id()).await;
    ensure!(
        matches!(&refused, Err(AgentError::Refused { message: said, .. }) if said.contains("NOTHING_APPLIED")),
        "{refused:?}"
    );
    let numbers: Vec<u32> = (1000..1300).collect();
    ensure!(pbx.apply(&bundle(&numbers, "one")).await?.outcome == Some(Outcome::Applied));
    let report = verify(&pbx).await?;
    // Tidying up after the apply has ended before that.
    let (state, live) = (files(pbx.agent.state_dir())?, managed_files(&pbx.asterisk)?);
    assert!(
        report.in_force && report.mismatches.is_empty(),
        "{report:?}"
    );
    // Three objects and an extension of each number and of the marker.
    assert_eq!(report.compared, 4 * 301);
    assert_eq!(report.revision.0, 1);

    // A hand edit of one of three hundred that leaves every name and every marker as it was.
    let target = pbx.asterisk.slot(Slot::PjsipEndpoints);
    let sound = std::fs::read_to_string(&target)?;
    let at = sound.find("[1123]\ntype = endpoint").context("no 1123")?;
    let edited = sound[at..].replacen("context = synergy-internal", "context = from-gsm", 1);
    write_in_place(&target, &format!("{}{edited}", &sound[..at]))?;
    pbx.asterisk.rx("pjsip reload").await?;
    let report = verify(&pbx).await?;
    assert!(!report.in_force);
    let found: Vec<_> = report
        .mismatches
        .iter()
        .map(|m| (m.object, m.name.as_str(), m.kind, m.detail.as_str()))
        .collect();
    let path = Slot::PjsipEndpoints.relative_path();
    let context = "endpoint: context (from-gsm instead of synergy-internal)";
    assert_eq!(
        found,
        [
            (
                ObjectKind::File,
                path,
                MismatchKind::Different,
                "the live file has other bytes"
            ),
            (
                ObjectKind::Endpoint,
                "1123",
                MismatchKind::Different,
                context
            ),
        ]
    );

    // The file is as it was again, Asterisk is not: only the comparison in depth tells.
    write_in_place(&target, &sound)?;
    let report = verify(&pbx).await?;
    assert_eq!(report.mismatches.len(), 1, "{report:?}");
    assert_eq!(report.mismatches[0].name, "1123");
    pbx.asterisk.rx("pjsip reload").await?;
    assert!(verify(&pbx).await?.in_force);
    assert_eq!(files(pbx.agent.state_dir())?, state);
    assert_eq!(managed_files(&pbx.asterisk)?.len(), live.len());

    // Asterisk that is not there is told, not taken for a difference.
    let mut pbx = pbx;
    pbx.asterisk.stop().await?;
    let report = verify(&pbx).await?;
    assert!(
        !report.in_force && report.failure.contains("not running"),
        "{report:?}"
    );
    Ok(())
}

/// As a hand would: the file stays the same file.
fn write_in_place(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut file = std::fs::File::options()
        .write(true)
        .truncate(true)
        .open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}

/// They run on the engine's thread: while an apply runs they are refused with its id.
#[tokio::test]
async fn neither_overlaps_an_apply() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &[]).await?;
    let next = bundle(&[1000, 1001], "one");
    let order = pbx.order(&next, OnReloadFailure::RollBack);
    let hold = stand_in.hold(Reload::Pjsip)?;
    let (record, refusals) = tokio::join!(pbx.execute(&order, &next), async {
        hold.reached().await?;
        let verified = pbx.link.verify(LIMIT, &request_id()).await;
        let checked = pbx.link.check(&order, next.clone(), &request_id()).await;
        drop(hold);
        anyhow::Ok((verified.err(), checked.err()))
    });
    assert_eq!(record?.outcome, Some(Outcome::Applied));
    let (verified, checked) = refusals?;
    for refusal in [verified, checked] {
        let busy = matches!(&refusal, Some(AgentError::Busy(id)) if *id == Some(order.id));
        ensure!(busy, "{refusal:?}");
    }
    assert!(verify(&pbx).await?.in_force);
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}

#[tokio::test]
async fn registered_phones_are_listed() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    ensure!(
        pbx.apply(&bundle(&[1000, 1001, 1002], "one"))
            .await?
            .outcome
            == Some(Outcome::Applied)
    );
    assert_eq!(pbx.link.registered(Vec::new()).await?, []);
    for number in [1000, 1001] {
        let phone = Phone::new(&pbx.asterisk, &number.to_string(), &password(number, "one"))?;
        let registered = phone.register().await?;
        ensure!(!registered.is_refused(), "{registered:?}");
    }
    let all = pbx.link.registered(Vec::new()).await?;
    let aors: Vec<_> = all.iter().map(|phone| phone.aor.as_str()).collect();
    assert_eq!(aors, ["1000", "1001"]);
    assert!(
        all.iter().all(|phone| phone.uri.starts_with("sip:")),
        "{all:?}"
    );
    let some = pbx
        .link
        .registered(vec!["1001".to_owned(), "1002".to_owned()])
        .await?;
    assert_eq!(some, all[1..]);
    Ok(())
}
