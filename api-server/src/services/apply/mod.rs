//! Bringing what the database says, or an earlier bundle, into force. [`run`] reads as the whole story.

mod background;
mod prepare;
mod queue;
mod send;
mod several;
pub(super) mod stored;

use std::fmt::Write as _;
use std::sync::Arc;

use shared::bundle::{ApplyId, Revision};
use shared::record::OnReloadFailure;
use tracing::Instrument as _;
use tracing::field::Empty;

use self::prepare::Prepared;
use self::send::Sent;
use super::denied::{self, Denied};
use super::live::State;
use super::pbxes::Pbx;
use super::work::Work;
use super::{Error, Portal, audit, reconcile, restore};
use crate::agent::Order;
use crate::clock::{os_rng, unix_ms};
use crate::db;
use crate::domain::apply::{Attempt, AttemptOutcome, Failure, UserCounts, Wish};
use crate::domain::{Actor, Permission, uuid_v7};
use crate::vault::Place;

pub use background::{accept, run_to_the_end};
pub use queue::{AllEnded, Queue, Runs};
pub use several::{OfPbx, Until, run_several};

/// Whether somebody may have what a wish asks for beyond an apply: what concerns every tenant of the
/// PBX.
///
/// # Errors
/// [`Denied::Forbidden`].
pub fn permit(actor: &Actor, wish: &Wish) -> Result<(), Denied> {
    if wish.force || wish.on_reload_failure == Some(OnReloadFailure::KeepNewFiles) {
        denied::must(actor, Permission::AppliesForce)?;
    }
    Ok(())
}

/// Applies, and answers the attempt as the audit trail keeps it, however it ended.
///
/// The caller runs it in a task of its own: a client that goes away must not end it.
///
/// # Errors
/// [`Error::ApplyOutcomeUnknown`] and [`Error::ApplyNotRecorded`] carry the attempt; every other
/// error means that nothing was sent. Of a restore, those of [`restore::source`] come before there
/// is an attempt.
pub async fn run(portal: &Portal, pbx: &Pbx, actor: &Actor, wish: &Wish) -> Result<Attempt, Error> {
    let mut attempt = begin(portal, pbx, actor, wish).await?;
    run_attempt(portal, pbx, actor, wish, &mut attempt).await?;
    Ok(attempt)
}

/// Tells whoever follows how it stands and how it ended.
async fn run_attempt(
    portal: &Portal,
    pbx: &Pbx,
    actor: &Actor,
    wish: &Wish,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    let live = portal.live.begin(attempt.id, pbx.id);
    let result = run_in_turn(portal, pbx, actor, wish, attempt).await;
    if attempt.outcome.has_ended() {
        portal.counters.count_ended(attempt.outcome);
        live.end(attempt);
    } else {
        drop(live);
    }
    if result.is_err() {
        pbx.signals.settle();
    }
    pbx.signals.look();
    result
}

async fn run_in_turn(
    portal: &Portal,
    pbx: &Pbx,
    actor: &Actor,
    wish: &Wish,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    tell(portal, attempt, State::Waiting);
    let Some(turn) = pbx.queue.wait(portal, pbx.id).await? else {
        return end_busy(portal, actor, attempt).await;
    };
    let span = tracing::info_span!("apply", apply_id = %attempt.id, revision = Empty);
    let result = run_alone(portal, pbx, actor, wish, attempt)
        .instrument(span)
        .await;
    turn.end().await;
    result
}

fn tell(portal: &Portal, attempt: &Attempt, state: State) {
    portal.live.tell(attempt.id, state, portal.clock.now());
}

/// The part that holds the PBX's lock.
async fn run_alone(
    portal: &Portal,
    pbx: &Pbx,
    actor: &Actor,
    wish: &Wish,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    tell(portal, attempt, State::Rendering);
    reconcile::settle(portal, pbx).await?;
    let prepared = match prepare::prepare(portal, pbx, attempt, wish).await? {
        Ok(prepared) => prepared,
        Err((outcome, failure)) => {
            return end_unsent(portal, actor, attempt, outcome, failure).await;
        }
    };
    let revision = match open(portal, actor, attempt, &prepared).await? {
        Opened::As(revision) => revision,
        Opened::LeftTheLine => {
            let outcome = AttemptOutcome::NeverStarted;
            attempt.fail(outcome, reconcile::abandoned(), portal.clock.now());
            return Ok(());
        }
        Opened::OutOfService => {
            let outcome = AttemptOutcome::NeverStarted;
            return end_unsent(portal, actor, attempt, outcome, out_of_service()).await;
        }
    };
    tell(portal, attempt, State::Sending);
    let order = Order {
        id: attempt.id,
        revision,
        digest: prepared.digest,
        on_reload_failure: attempt.on_reload_failure,
        force: wish.force,
    };
    tracing::info!(apply = %order.id, %revision, digest = %order.digest, users = attempt.user_counts.total(),
        by = attempt.requested_by, "apply started");
    let sent = send::send(
        portal,
        &pbx.agent(),
        &order,
        prepared.bundle,
        &actor.request_id,
    )
    .await;
    close(portal, pbx, attempt, sent).await
}

/// An attempt that nobody knows of yet.
async fn begin(portal: &Portal, pbx: &Pbx, actor: &Actor, wish: &Wish) -> Result<Attempt, Error> {
    let restored_from = match wish.restore {
        Some(id) => Some(restore::source(portal, pbx.id, id).await?),
        None => None,
    };
    let started_at = portal.clock.now();
    Ok(Attempt {
        id: wish.root.map_or_else(
            || ApplyId(uuid_v7(unix_ms(started_at), &mut os_rng())),
            |root| root.attempt(pbx.id),
        ),
        pbx_id: pbx.id,
        pbx_name: pbx.name(),
        revision: None,
        digest: None,
        on_reload_failure: wish
            .on_reload_failure
            .unwrap_or(portal.settings.on_reload_failure),
        outcome: AttemptOutcome::Started,
        requested_by: actor.admin.as_str().to_owned(),
        request_id: actor.request_id.as_str().to_owned(),
        source_address: actor.source.to_string(),
        started_at,
        ended_at: None,
        failure: None,
        record: None,
        requested_tenant: actor.reach().tenant(),
        user_counts: UserCounts::default(),
        users: Vec::new(),
        changes: None,
        restored_from,
        notes: Vec::new(),
        bundle_kept: false,
        change_count: Some(0),
    })
}

/// What became of the attempt to begin one.
enum Opened {
    /// It has this revision, and may be sent.
    As(Revision),
    /// It stood in line for so long without a sign of life that it was ended there.
    LeftTheLine,
    /// Its PBX was taken out of service meanwhile.
    OutOfService,
}

fn out_of_service() -> Failure {
    Failure::new("pbx_deleted", "the PBX was taken out of service meanwhile")
}

/// Commits the attempt as `started`, with its bundle and the next revision.
async fn open(
    portal: &Portal,
    actor: &Actor,
    attempt: &mut Attempt,
    prepared: &Prepared,
) -> Result<Opened, Error> {
    // It was accepted of whoever asked for it, whatever became of that in the line.
    let mut work = Work::of_record(portal, actor).await?;
    if !leaves_the_line(work.connection(), attempt).await? {
        return Ok(Opened::LeftTheLine);
    }
    let seal = portal.vault.sealer(work.connection()).await?;
    let (id, kept, digest) = (attempt.id, Arc::clone(&prepared.kept), prepared.digest);
    // Of thousands of users, too much for the threads that serve requests.
    let encrypt = move || seal.seal(Place::Bundle(id), &kept, &mut os_rng());
    let encrypted = tokio::task::spawn_blocking(encrypt).await??;
    let carried = &prepared.carried;
    let opened = db::applies::open(work.connection(), attempt, digest, &encrypted, carried).await?;
    let Some(revision) = opened else {
        return Ok(Opened::OutOfService);
    };
    if attempt.outcome != AttemptOutcome::Queued {
        work.record(audit::requested(attempt, actor));
    }
    work.commit().await?;
    attempt.outcome = AttemptOutcome::Started;
    attempt.revision = Some(revision);
    tracing::Span::current().record("revision", revision.0);
    attempt.digest = Some(digest);
    attempt.bundle_kept = true;
    Ok(Opened::As(revision))
}

/// Whether an attempt may become a row of `apply`: one that stood in line must still be there.
async fn leaves_the_line(
    connection: &mut sqlx::PgConnection,
    attempt: &Attempt,
) -> Result<bool, db::DbError> {
    Ok(attempt.outcome != AttemptOutcome::Queued
        || db::queued::take(connection, attempt.id).await?)
}

/// Writes what became of it.
async fn close(portal: &Portal, pbx: &Pbx, attempt: &mut Attempt, sent: Sent) -> Result<(), Error> {
    let now = portal.clock.now();
    match sent {
        Sent::Ended(record) => attempt.close_with(*record, now),
        Sent::NotStarted(outcome, failure) => attempt.fail(outcome, failure, now),
        Sent::Stale(failure) => {
            let failure = catch_up(portal, pbx, failure).await;
            attempt.fail(AttemptOutcome::AgentRefused, failure, now);
        }
        Sent::Unknown(fault) => {
            tracing::error!(apply = %attempt.id, %fault, "the outcome of the apply is not known");
            return Err(Error::ApplyOutcomeUnknown {
                attempt: Box::new(attempt.clone()),
                reason: fault.to_string(),
            });
        }
    }
    report(attempt);
    reconcile::write(portal, attempt)
        .await
        .map_err(|source| Error::ApplyNotRecorded {
            attempt: Box::new(attempt.clone()),
            source,
        })
}

/// The agent has seen higher revisions than this database has given out. Either this portal woke up
/// after another one had taken over, and the database knows those revisions; or the database was
/// restored from a backup, and must count on from where the agent is, or no apply would ever be
/// accepted again.
async fn catch_up(portal: &Portal, pbx: &Pbx, mut failure: Failure) -> Failure {
    let raised = async {
        let highest = pbx.agent().status().await.ok()?.highest_revision;
        let mut connection = portal.database.acquire().await.ok()?;
        db::pbxes::raise_last_revision(&mut connection, pbx.id, highest)
            .await
            .ok()?;
        Some(highest)
    };
    if let Some(highest) = raised.await {
        write!(
            failure.message,
            ". If the database was restored from a backup, that is why; revisions now go on after \
             {highest}: apply again"
        )
        .ok();
    }
    failure
}

/// Ends an attempt before there was a bundle.
async fn end_unsent(
    portal: &Portal,
    actor: &Actor,
    attempt: &mut Attempt,
    outcome: AttemptOutcome,
    failure: Failure,
) -> Result<(), Error> {
    let mut work = Work::of_record(portal, actor).await?;
    let there = leaves_the_line(work.connection(), attempt).await?;
    if attempt.outcome != AttemptOutcome::Queued {
        work.record(audit::requested(attempt, actor));
    }
    attempt.fail(outcome, failure, portal.clock.now());
    report(attempt);
    if there {
        db::applies::insert_ended(work.connection(), attempt).await?;
        work.record(audit::ended(attempt));
        work.commit().await?;
    }
    Ok(())
}

async fn end_busy(portal: &Portal, actor: &Actor, attempt: &mut Attempt) -> Result<(), Error> {
    let mut connection = portal.database.acquire().await?;
    let running = db::applies::unsettled(&mut connection, attempt.pbx_id).await?;
    drop(connection);
    let message = running.last().map_or_else(
        || "another apply is being prepared".to_owned(),
        |running| {
            format!(
                "apply {}, asked for by {} at {}, still runs",
                running.id, running.requested_by, running.started_at
            )
        },
    );
    let failure = Failure::new("apply_busy", message);
    end_unsent(portal, actor, attempt, AttemptOutcome::Busy, failure).await
}

/// One line in the log for each ended attempt.
fn report(attempt: &Attempt) {
    let (apply, outcome) = (attempt.id, attempt.outcome.name());
    let revision = attempt.revision.map(|revision| revision.0);
    match &attempt.failure {
        None => tracing::info!(%apply, revision, outcome, "apply ended"),
        Some(failure) => tracing::warn!(%apply, revision, outcome, reason = failure.message,
            "apply ended"),
    }
}
