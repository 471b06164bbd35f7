//! Applies that nothing but their own end ends: their caller waits for them, or has been told where
//! to look.
//!
//! Whoever does not wait has been promised that the attempt can be looked up. So it is a row before
//! the promise is made, in `queued_apply`, under a lease that this process renews while it lives:
//! the reconciler ends what a dead portal left there.

use std::sync::Arc;
use std::time::Duration;

use shared::bundle::ApplyId;
use tokio::task::JoinHandle;
use tracing::Instrument as _;

use super::{Error, Portal, begin, end_unsent, run, run_attempt};
use crate::causes::causes;
use crate::db::{self, Database};
use crate::domain::Actor;
use crate::domain::apply::{Attempt, AttemptOutcome, Failure, Wish};
use crate::services::counters::ACCEPTED;
use crate::services::pbxes::Pbx;
use crate::services::{audit, work};

/// How often a lease is renewed, in seconds: several times within it.
const RENEW_SECONDS: u64 = 5;

/// Starts an apply, and waits for it.
///
/// # Errors
/// As [`run`].
pub async fn run_to_the_end(
    portal: Arc<Portal>,
    pbx: Arc<Pbx>,
    actor: Actor,
    wish: Wish,
) -> Result<Attempt, Error> {
    let running = portal.runs.one_more();
    let task = async move {
        let result = run(&portal, &pbx, &actor, &wish).await;
        drop(running);
        result
    };
    tokio::spawn(task.in_current_span()).await?
}

/// Accepts an apply and answers the attempt as it stands in line; it runs on its own.
///
/// # Errors
/// [`Error::Overloaded`] when too many wait already, and of a restore those of
/// [`restore::source`](crate::services::restore::source). Nothing was accepted then.
pub async fn accept(
    portal: Arc<Portal>,
    pbx: Arc<Pbx>,
    actor: Actor,
    wish: Wish,
) -> Result<Attempt, Error> {
    // A caller that goes away in the middle must leave all of it or nothing.
    tokio::spawn(put_in_line(portal, pbx, actor, wish).in_current_span()).await?
}

async fn put_in_line(
    portal: Arc<Portal>,
    pbx: Arc<Pbx>,
    actor: Actor,
    wish: Wish,
) -> Result<Attempt, Error> {
    let running = portal.runs.one_more();
    let place = pbx
        .queue
        .take_place()
        .ok_or(Error::Overloaded("too many applies wait for their turn"))?;
    let mut attempt = begin(&portal, &pbx, &actor, &wish).await?;
    attempt.outcome = AttemptOutcome::Queued;
    work::run(&portal, &actor, async |work| {
        db::queued::insert(work.connection(), &attempt).await?;
        work.record(audit::requested(&attempt, &actor));
        Ok::<(), Error>(())
    })
    .await?;
    portal.counters.count(ACCEPTED);
    let accepted = attempt.clone();
    let task = async move {
        let lease = Lease::keep(portal.database.clone(), attempt.id);
        if let Err(error) = run_attempt(&portal, &pbx, &actor, &wish, &mut attempt).await {
            give_up(&portal, &actor, &mut attempt, &error).await;
        }
        drop((lease, place));
        // Last: a shutdown waits for it.
        drop((portal, running));
    };
    tokio::spawn(task.in_current_span());
    Ok(accepted)
}

/// Ends an attempt that failed before it was sent. The others have an outcome, or a row that the
/// reconciler closes.
async fn give_up(portal: &Portal, actor: &Actor, attempt: &mut Attempt, error: &Error) {
    tracing::error!(apply = %attempt.id, error = causes(error), "an accepted apply failed");
    if attempt.outcome != AttemptOutcome::Queued {
        return;
    }
    let failure = Failure::new("portal_failed", format!("nothing was sent: {error}"));
    let outcome = AttemptOutcome::NeverStarted;
    if let Err(error) = end_unsent(portal, actor, attempt, outcome, failure).await {
        tracing::warn!(apply = %attempt.id, error = causes(&error),
            "its row is left to the reconciler");
    }
}

/// Says that an attempt in line has somebody who will see to it, until it is dropped.
struct Lease(JoinHandle<()>);

impl Lease {
    fn keep(database: Database, id: ApplyId) -> Self {
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(RENEW_SECONDS)).await;
                let renewed = async {
                    let mut connection = database.acquire().await?;
                    db::queued::renew(&mut connection, id).await
                };
                // It has left the line. A database that is away is asked again.
                if matches!(renewed.await, Ok(false)) {
                    return;
                }
            }
        }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.abort();
    }
}
