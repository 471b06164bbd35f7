//! In the background: how far the audit trail is goes to the log, which lies elsewhere, so that the
//! end of the trail cannot be cut off unnoticed; and what was counted of refusals goes to the trail.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::refusals;
use crate::causes::causes;
use crate::db::{self, State};
use crate::services::{Error, Portal};

/// How often is looked, in seconds.
const PERIOD_SECONDS: u64 = 60;

/// How often the heads are logged, in seconds: once a day.
const ANCHOR_SECONDS: u64 = 24 * 3600;

/// Likewise after so many entries.
const ANCHOR_ENTRIES: i64 = 10_000;

/// What was logged last.
struct Anchored {
    at: Instant,
    entries: i64,
}

/// Runs for ever.
pub async fn keep(portal: Arc<Portal>) {
    let mut last = None;
    loop {
        if portal.database.state() == State::Ready {
            for done in [
                anchor(&portal, &mut last).await,
                refusals::write_counts(&portal).await,
            ] {
                if let Err(error) = done {
                    tracing::warn!(error = causes(&error), "the audit trail could not be kept");
                }
            }
            tokio::time::sleep(Duration::from_secs(PERIOD_SECONDS)).await;
        } else {
            let mut changes = portal.database.changes();
            // The sender lives as long as the portal.
            changes.wait_for(|state| *state == State::Ready).await.ok();
        }
    }
}

/// Logs the heads when that is due, in the form that `audit verify` reads.
async fn anchor(portal: &Portal, last: &mut Option<Anchored>) -> Result<(), Error> {
    let mut connection = portal.database.acquire().await?;
    let heads = db::audit::heads(&mut connection).await?;
    drop(connection);
    let entries = heads.iter().map(|head| head.position).sum();
    let due = last.as_ref().is_none_or(|last| {
        last.at.elapsed() >= Duration::from_secs(ANCHOR_SECONDS)
            || entries - last.entries >= ANCHOR_ENTRIES
    });
    if due {
        for head in heads.iter().filter(|head| head.position > 0) {
            tracing::info!("audit {head}");
        }
        let at = Instant::now();
        *last = Some(Anchored { at, entries });
    }
    Ok(())
}
