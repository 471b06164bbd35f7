//! Closing attempts whose outcome got lost, with the truth: that is what makes the audit trail
//! complete (SC-007).

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{Error, Portal, revisions};
use crate::causes::causes;
use crate::db::{self, DbError, State};
use crate::domain::apply::{Attempt, AttemptOutcome, Failure};

/// How often the reconciler looks, in seconds.
const PERIOD_SECONDS: u64 = 30;

/// Runs for ever: whenever the database becomes ready, as after the start, and every 30 s.
pub async fn run(portal: &Portal) {
    let mut ticks = tokio::time::interval(Duration::from_secs(PERIOD_SECONDS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = portal.database.changes();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            // The sender lives as long as the portal.
            _ = changes.changed() => {}
        }
        // A database that is down has said so in the log already.
        if portal.database.state() == State::Ready
            && let Err(error) = sweep(portal).await
        {
            tracing::warn!(
                error = causes(&error),
                "open applies could not be settled; trying again"
            );
        }
    }
}

/// Settles what is open unless somebody holds the PBX's lock: then the open one may be theirs.
async fn sweep(portal: &Portal) -> Result<(), Error> {
    let pbx = portal.settings.pbx;
    let mut connection = portal.database.acquire().await?;
    let nothing_open = db::applies::unsettled(&mut connection, pbx)
        .await?
        .is_empty();
    drop(connection);
    if nothing_open {
        return Ok(());
    }
    let Some(lock) = portal.database.try_lock_pbx(pbx).await? else {
        return Ok(());
    };
    let settled = settle(portal).await;
    lock.release().await;
    settled
}

/// Asks the agent about every open attempt. To be called under the PBX's lock, where nobody is
/// between committing an attempt and sending it. An agent that cannot be reached leaves them open.
pub(super) async fn settle(portal: &Portal) -> Result<(), Error> {
    let mut connection = portal.database.acquire().await?;
    let open = db::applies::unsettled(&mut connection, portal.settings.pbx).await?;
    drop(connection);
    for attempt in open {
        let found = match portal.agent.find_apply(attempt.id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(apply = %attempt.id, %error, "an open apply cannot be settled yet");
                return Ok(());
            }
        };
        let mut attempt = attempt;
        let now = portal.clock.now();
        match found {
            Some(record) if record.outcome.is_some() => attempt.close_with(record, now),
            // It still runs.
            Some(_) => continue,
            None => attempt.fail(AttemptOutcome::NeverStarted, never_started(), now),
        }
        tracing::info!(apply = %attempt.id, outcome = attempt.outcome.name(), "open apply settled");
        write(portal, &attempt).await?;
    }
    Ok(())
}

fn never_started() -> Failure {
    Failure::new(
        "never_started",
        "the agent never received this apply; nothing was changed on the PBX",
    )
}

/// Writes the outcome of an attempt into its row.
pub(super) async fn write(portal: &Portal, attempt: &Attempt) -> Result<(), DbError> {
    let mut connection = portal.database.acquire().await?;
    if !db::applies::close(&mut connection, attempt).await? {
        tracing::warn!(apply = %attempt.id, "the row of this apply was closed by another portal");
    }
    drop(connection);
    revisions::prune(portal).await;
    Ok(())
}
