//! Row 11: PJSIP is reloaded and the dialplan is not. Both results are told, and so is what runs in
//! each of the two modules; then the policy decides. See also the edge case of the specification.

use anyhow::ensure;
use shared::record::{OnReloadFailure, Outcome, Phase};

use crate::held::{Held, assert_exactly, live_files};
use crate::pbx::{Pbx, bundle};
use crate::reloads::{SHORT, told};
use crate::stand_in::{self, Reload};

/// The SIP part is reloaded, the dialplan is not: both are told, and what runs is what is told.
#[tokio::test]
async fn half_a_reload_is_told_as_two_halves() -> anyhow::Result<()> {
    let (pbx, stand_in) = stand_in::pbx(&bundle(&[1000], "one"), &SHORT).await?;
    stand_in.once(Reload::Dialplan, "echo 42; exit 0\n")?;
    let policy = OnReloadFailure::KeepNewFiles;
    let record = pbx
        .apply_with(&bundle(&[1000, 1001], "one"), policy)
        .await?;
    assert_eq!(
        record.outcome,
        Some(Outcome::ReloadFailedFilesKept),
        "{record:#?}"
    );
    let failure = &record.failure;
    assert!(
        failure.contains("PJSIP: was reloaded. Dialplan: "),
        "{failure}"
    );
    let held = Held::read(&pbx.asterisk).await?;
    let (new, old) = (Held::exactly([1000, 1001]), Held::exactly([1000]));
    assert_eq!(
        (held.endpoints, held.internal),
        (new.endpoints, old.internal)
    );
    Ok(())
}

/// The same on a real Asterisk whose dialplan cannot be read: a broken line of the administrator's
/// own, which it takes in silence. With the policy to go back, PJSIP goes back as well.
#[tokio::test]
async fn a_dialplan_that_cannot_be_read_takes_pjsip_back_by_policy() -> anyhow::Result<()> {
    let pbx = Pbx::start().await?;
    let record = pbx.apply(&bundle(&[1000], "one")).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    let old = live_files(&pbx.asterisk)?;
    let path = pbx.asterisk.etc().join("extensions.conf");
    let sound = std::fs::read_to_string(&path)?;
    tests::scratch::write(&path, 0o644, &format!("{sound}\n[broken\n"))?;
    let next = bundle(&[1000, 1001], "one");

    let keep = OnReloadFailure::KeepNewFiles;
    let record = pbx.apply_with(&next, keep).await?;
    let kept = Some(Outcome::ReloadFailedFilesKept);
    ensure!(record.outcome == kept, "{record:#?}");
    ensure!(
        told(&record, Phase::Reloading, "pjsip reload"),
        "{record:#?}"
    );
    ensure!(
        told(&record, Phase::Reloading, "dialplan reload"),
        "{record:#?}"
    );
    // What is missing is in the dialplan, and only there.
    let objects: Vec<_> = record
        .mismatches
        .iter()
        .map(|found| &found.object)
        .collect();
    ensure!(!objects.is_empty(), "{record:#?}");
    let held = Held::read(&pbx.asterisk).await?;
    let (new, old_held) = (Held::exactly([1000, 1001]), Held::exactly([1000]));
    ensure!(held.endpoints == new.endpoints, "{held:?}");
    ensure!(held.internal == old_held.internal, "{held:?}");
    ensure!(live_files(&pbx.asterisk)? != old, "the new files stay");

    let record = pbx.apply(&next).await?;
    // Asterisk still holds the old dialplan, so that going back is proven.
    ensure!(record.outcome == Some(Outcome::RolledBack), "{record:#?}");
    ensure!(live_files(&pbx.asterisk)? == old);
    let held = Held::read(&pbx.asterisk).await?;
    ensure!(held.endpoints == old_held.endpoints, "{held:?}");

    tests::scratch::write(&path, 0o644, &sound)?;
    let record = pbx.apply(&next).await?;
    ensure!(record.outcome == Some(Outcome::Applied), "{record:#?}");
    assert_exactly(&pbx.asterisk, [1000, 1001]).await
}
