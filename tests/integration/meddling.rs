//! Somebody makes Asterisk hold something else behind the agent's back. Whatever lies on disk
//! afterwards, neither `applied` nor `unchanged` is said of it.

use anyhow::{Context as _, ensure};
use shared::bundle::Slot;
use shared::record::{Outcome, Step};
use tests::scratch;

use crate::pbx::{Pbx, bundle};

/// Edited by hand, loaded by hand, and the old bytes put back.
#[tokio::test]
async fn an_edit_that_was_loaded_and_taken_back_is_noticed_and_repaired() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let bundle = bundle(&[1000, 1001], "one");
    ensure!(pbx.apply(&bundle).await?.outcome == Some(Outcome::Applied));
    ensure!(pbx.apply(&bundle).await?.outcome == Some(Outcome::Unchanged));
    let path = pbx.asterisk.slot(Slot::PjsipEndpoints);
    let ours = std::fs::read_to_string(&path)?;
    let edited = ours.replace("max_contacts = 1", "max_contacts = 7");
    ensure!(edited != ours);
    scratch::write(&path, 0o644, &edited)?;
    pbx.asterisk.rx("pjsip reload").await?;
    scratch::write(&path, 0o644, &ours)?;

    let record = pbx.apply(&bundle).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let shown = pbx.asterisk.rx("pjsip show aor 1000").await?;
    ensure!(shown.contains("max_contacts         : 1"), "{shown}");
    ensure!(pbx.apply(&bundle).await?.outcome == Some(Outcome::Unchanged));
    Ok(())
}

/// Asterisk's own configuration changes an object of ours that the apply does not touch.
#[tokio::test]
async fn an_object_that_is_overridden_elsewhere_is_named() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let before = bundle(&[1000], "one");
    ensure!(pbx.apply(&before).await?.outcome == Some(Outcome::Applied));
    let path = pbx.asterisk.etc().join("pjsip.conf");
    let own = std::fs::read_to_string(&path)?;
    let overridden = format!(
        "{own}\n[1000](+type=endpoint)\ncallerid = \"Eve\" <999>\nallow_transfer = no\n\
         set_var = SECRET=x\n[1000](+type=aor)\nminimum_expiration = 61\n"
    );
    scratch::write(&path, 0o644, &overridden)?;

    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(
        record.outcome == Some(Outcome::RollbackFailed),
        "{record:#?}"
    );
    let named = record.mismatches.iter().find(|found| found.name == "1000");
    let named = named.context("1000 is not named")?;
    ensure!(named.detail.contains("callerid"), "{named:?}");
    let details: Vec<_> = record
        .mismatches
        .iter()
        .map(|found| &*found.detail)
        .collect();
    let details = details.join("\n");
    for added in [
        "endpoint: SECRET, allow_transfer set by another file",
        "aor: minimum_expiration set by another file",
    ] {
        ensure!(details.contains(added), "{details}");
    }
    let read = |step: &&Step| step.action.starts_with("read back PJSIP");
    let steps: Vec<_> = record.steps.iter().filter(read).collect();
    ensure!(
        steps.len() == 2 && steps.iter().all(|step| !step.ok),
        "{steps:#?}"
    );
    let status = pbx.link.status().await?;
    let told = status
        .warnings
        .iter()
        .any(|text| text.contains("something else"));
    ensure!(told, "{:?}", status.warnings);

    scratch::write(&path, 0o644, &own)?;
    let record = pbx.apply(&bundle(&[1000, 1001], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    Ok(())
}

/// What a comparison on demand has found, the next apply goes by.
#[tokio::test]
async fn what_a_verification_found_is_repaired_by_the_next_apply() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let bundle = bundle(&[1000], "one");
    ensure!(pbx.apply(&bundle).await?.outcome == Some(Outcome::Applied));
    pbx.asterisk
        .rx("dialplan remove extension 1000@synergy-internal")
        .await?;
    let limit = std::time::Duration::from_mins(1);
    let found = pbx.link.verify(limit, &crate::pbx::request_id()).await?;
    ensure!(!found.in_force && found.mismatches.len() == 1, "{found:?}");
    ensure!(pbx.apply(&bundle).await?.outcome == Some(Outcome::Applied));
    let found = pbx.link.verify(limit, &crate::pbx::request_id()).await?;
    ensure!(found.in_force, "{found:?}");
    Ok(())
}
