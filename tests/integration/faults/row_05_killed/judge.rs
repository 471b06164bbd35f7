//! Whether files, record and Asterisk agree after a kill.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use api_server::agent::Order;
use shared::bundle::{ApplyId, Bundle, Slot};
use shared::record::{ApplyRecord, Outcome};
use tests::process::wait_until;

use crate::held::{assert_exactly, live_files, managed_files};
use crate::pbx::{Pbx, text};

const RECOVERY_DEADLINE: Duration = Duration::from_mins(1);

/// What was done.
pub(super) struct Case<'a> {
    pub(super) pbx: &'a Pbx,
    /// What is applied in turn.
    pub(super) bundles: &'a [Bundle; 2],
    /// Which of them was in force.
    pub(super) in_force: usize,
    /// What was ordered.
    pub(super) order: &'a Order,
    /// What was answered.
    pub(super) told: Option<&'a ApplyRecord>,
}

/// The numbers in each of the bundles.
const NUMBERS: [&[u64]; 2] = [&[1000], &[1000, 1001]];

/// Fails unless everything agrees. Returns which bundle is in force, and what the record says.
pub(super) async fn judge(case: &Case<'_>) -> anyhow::Result<(usize, Option<Outcome>)> {
    let pbx = case.pbx;
    let record = closed(pbx, case.order.id).await?;
    let outcome = record.as_ref().and_then(|record| record.outcome);
    let now = match outcome {
        Some(Outcome::Applied) => 1 - case.in_force,
        Some(Outcome::Interrupted) | None => case.in_force,
        other => bail!("{other:?}: {record:#?}"),
    };
    if let Some(told) = case.told {
        // What was told before the kill stays true.
        ensure!(
            told.outcome == outcome,
            "told {:?}, then {outcome:?}",
            told.outcome
        );
    }
    let wanted = Slot::ALL.map(|slot| text(&case.bundles[now], slot));
    ensure!(
        live_files(&pbx.asterisk)? == wanted,
        "the files are not those of bundle {now}: {outcome:?}"
    );
    let names: Vec<String> = managed_files(&pbx.asterisk)?.into_keys().collect();
    ensure!(names.len() == 2, "left over: {names:?}");
    let left = leftovers(pbx.agent.state_dir())?;
    ensure!(
        left.is_empty(),
        "left over in the state directory: {left:?}"
    );
    assert_exactly(&pbx.asterisk, NUMBERS[now].iter().copied()).await?;
    let status = pbx.link.status().await?;
    ensure!(status.warnings.is_empty(), "{:?}", status.warnings);
    Ok((now, outcome))
}

/// The closed record of an order; `None` when the agent has never heard of it.
async fn closed(pbx: &Pbx, id: ApplyId) -> anyhow::Result<Option<ApplyRecord>> {
    let mut found = Ok(None);
    let ended = async || {
        found = pbx.link.find_apply(id).await;
        match &found {
            Ok(Some(record)) => record.outcome.is_some(),
            Ok(None) => true,
            Err(_) => false,
        }
    };
    wait_until("the apply is closed", RECOVERY_DEADLINE, ended).await?;
    let record = found?;
    if let Some(record) = &record {
        // On disk as well, and the journal is empty.
        pbx.idle().await?;
        let state = pbx.agent.state_dir();
        let kept = state.join(format!("applies/{id}.json"));
        ensure!(state.join("intent").metadata()?.len() == 0);
        let kept: ApplyRecord = serde_json::from_str(&std::fs::read_to_string(&kept)?)?;
        let said = |record: &ApplyRecord| {
            let steps = record.steps.len();
            (
                record.outcome,
                record.failure.clone(),
                steps,
                record.live_revision,
            )
        };
        ensure!(said(&kept) == said(record), "{kept:#?}\n{record:#?}");
    }
    Ok(record)
}

/// Names of temporary files and directories below `dir`.
fn leftovers(dir: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            found.push(path.display().to_string());
        } else if path.is_dir() {
            found.extend(leftovers(&path)?);
        }
    }
    Ok(found)
}
