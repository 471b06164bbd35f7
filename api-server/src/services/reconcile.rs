//! Closing attempts whose outcome got lost, with the truth: that is what makes the audit trail
//! complete (SC-007).

use std::collections::HashMap;
use std::time::Duration;

use shared::bundle::ApplyId;
use shared::record::Outcome;
use shared::status::AgentStatus;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::counters::RECONCILED;
use super::pbxes::Pbx;
use super::{Error, Portal, audit, revisions};
use crate::causes::causes;
use crate::db::{self, DbError, State};
use crate::domain::PbxId;
use crate::domain::apply::{Attempt, AttemptOutcome, Failure};

/// How often the reconciler looks, in seconds.
const PERIOD_SECONDS: u64 = 30;

/// How often it looks while an attempt runs that is not this portal's, in seconds.
const OPEN_SECONDS: u64 = 5;

/// How long the portal of an attempt that has ended on the PBX is given to close its row, in
/// seconds. After that it hangs.
const OWNER_SECONDS: u64 = 15;

/// What a sweep left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    /// Nothing that another look would close soon.
    Nothing,
    /// Attempts that run, or whose portal is about to close them.
    Running,
}

/// When an attempt was first found to have ended on the PBX although its row is open.
type Ended = HashMap<ApplyId, Instant>;

/// Runs for ever: whenever the database becomes ready, as after the start, whenever the agent is
/// back, and every 30 s; every 5 s while another portal's attempt is open.
pub async fn run(portal: &Portal, pbx: &Pbx) {
    let mut changes = portal.database.changes();
    let mut ended = Ended::new();
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // The sender lives as long as the portal.
            _ = changes.changed() => {}
            () = pbx.signals.settling() => {}
        }
        pause = Duration::from_secs(PERIOD_SECONDS);
        // A database that is down has said so in the log already.
        if portal.database.state() != State::Ready {
            continue;
        }
        match sweep(portal, pbx, &mut ended).await {
            Ok(Left::Nothing) => {}
            Ok(Left::Running) => pause = Duration::from_secs(OPEN_SECONDS),
            Err(error) => tracing::warn!(
                error = causes(&error),
                pbx = %pbx.id,
                "open applies could not be settled; trying again"
            ),
        }
    }
}

/// Settles what is open. Whoever holds the PBX's lock may have an attempt that was not sent yet, so
/// under somebody else's lock only what the agent says to have ended is closed.
async fn sweep(portal: &Portal, pbx: &Pbx, ended: &mut Ended) -> Result<Left, Error> {
    end_abandoned(portal, pbx.id).await?;
    let mut connection = portal.database.acquire().await?;
    let mut open = db::applies::unsettled(&mut connection, pbx.id).await?;
    drop(connection);
    // What this portal runs, it closes itself.
    open.retain(|attempt| portal.live.find(attempt.id).is_none());
    ended.retain(|id, _| open.iter().any(|attempt| attempt.id == *id));
    if open.is_empty() {
        return Ok(Left::Nothing);
    }
    let Some(lock) = portal.database.try_lock_pbx(pbx.id).await? else {
        return close_ended(portal, pbx, open, ended).await;
    };
    let settled = settle_all(portal, pbx).await;
    lock.release().await;
    settled
}

/// Closes attempts that ended on the PBX some time ago, although their portal holds the lock: it
/// hangs. The record is the truth whoever writes it down.
async fn close_ended(
    portal: &Portal,
    pbx: &Pbx,
    open: Vec<Attempt>,
    ended: &mut Ended,
) -> Result<Left, Error> {
    let agent = pbx.agent();
    for mut attempt in open {
        let Ok(found) = agent.find_apply(attempt.id).await else {
            // The monitor tells when the agent is back.
            return Ok(Left::Nothing);
        };
        let Some(record) = found.filter(|record| record.outcome.is_some()) else {
            continue;
        };
        let since = *ended.entry(attempt.id).or_insert_with(Instant::now);
        if since.elapsed() >= Duration::from_secs(OWNER_SECONDS) {
            attempt.close_with(record, portal.clock.now());
            settled(portal, &attempt).await?;
        }
    }
    Ok(Left::Running)
}

/// Asks the agent about every open attempt. To be called under the PBX's lock, where nobody is
/// between committing an attempt and sending it. An agent that cannot be reached leaves them open.
pub(super) async fn settle(portal: &Portal, pbx: &Pbx) -> Result<(), Error> {
    settle_all(portal, pbx).await.map(drop)
}

async fn settle_all(portal: &Portal, pbx: &Pbx) -> Result<Left, Error> {
    let mut connection = portal.database.acquire().await?;
    let open = db::applies::unsettled(&mut connection, pbx.id).await?;
    drop(connection);
    let (mut left, agent) = (Left::Nothing, pbx.agent());
    for mut attempt in open {
        let found = match agent.find_apply(attempt.id).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(apply = %attempt.id, %error, "an open apply cannot be settled yet");
                return Ok(Left::Nothing);
            }
        };
        let now = portal.clock.now();
        match found {
            Some(record) if record.outcome.is_some() => attempt.close_with(record, now),
            // It still runs.
            Some(_) => {
                left = Left::Running;
                continue;
            }
            None => match agent.status().await {
                Ok(status) => unknown(&status, &mut attempt, now),
                Err(error) => {
                    tracing::warn!(apply = %attempt.id, %error, "an open apply cannot be settled yet");
                    return Ok(Left::Nothing);
                }
            },
        }
        settled(portal, &attempt).await?;
    }
    Ok(left)
}

/// The agent knows nothing of an attempt: it never received it, or has lost its books since.
fn unknown(status: &AgentStatus, attempt: &mut Attempt, now: OffsetDateTime) {
    let forgotten = status.forgotten_before.zip(attempt.revision);
    if forgotten.is_some_and(|(before, revision)| revision < before) {
        let outcome = AttemptOutcome::OnPbx(Outcome::Interrupted);
        attempt.fail(outcome, forgotten_apply(), now);
    } else {
        attempt.fail(AttemptOutcome::NeverStarted, never_started(), now);
    }
}

async fn settled(portal: &Portal, attempt: &Attempt) -> Result<(), DbError> {
    tracing::info!(apply = %attempt.id, outcome = attempt.outcome.name(), "open apply settled");
    portal.counters.count(RECONCILED);
    write(portal, attempt).await
}

/// Ends attempts that stand in line although their portal gives no sign of life.
async fn end_abandoned(portal: &Portal, pbx: PbxId) -> Result<(), DbError> {
    loop {
        let mut transaction = portal.database.begin().await?;
        let Some(mut attempt) = db::queued::take_abandoned(&mut transaction, pbx).await? else {
            return Ok(());
        };
        let now = portal.clock.now();
        attempt.fail(AttemptOutcome::NeverStarted, abandoned(), now);
        db::applies::insert_ended(&mut transaction, &attempt).await?;
        audit::append(portal, &mut transaction, &[audit::ended(&attempt)]).await?;
        db::commit(transaction).await?;
        portal.counters.count(RECONCILED);
        tracing::warn!(apply = %attempt.id, "an apply in line was left by its portal");
    }
}

fn forgotten_apply() -> Failure {
    Failure::new(
        "interrupted",
        "the agent's state was lost since: it is not known whether and how far this apply came; a \
         forced apply has followed",
    )
}

fn never_started() -> Failure {
    Failure::new(
        "never_started",
        "the agent never received this apply; nothing was changed on the PBX",
    )
}

/// Why an attempt in line came to nothing.
pub(super) fn abandoned() -> Failure {
    Failure::new(
        "never_started",
        "the portal that had accepted this apply was stopped before its turn came; nothing was \
         changed on the PBX",
    )
}

/// Writes the outcome of an attempt into its row.
pub(super) async fn write(portal: &Portal, attempt: &Attempt) -> Result<(), DbError> {
    let mut transaction = portal.database.begin().await?;
    if db::applies::close(&mut transaction, attempt).await? {
        audit::append(portal, &mut transaction, &[audit::ended(attempt)]).await?;
    } else {
        tracing::warn!(apply = %attempt.id, "the row of this apply was closed by another portal");
    }
    db::commit(transaction).await?;
    revisions::prune(portal, attempt.pbx_id).await;
    Ok(())
}
