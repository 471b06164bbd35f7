//! Bringing what the database says into force. [`run`] reads as the whole story.

mod queue;
mod send;
mod stored;

use std::fmt::Write as _;
use std::sync::Arc;

use shared::bundle::{ApplyId, Bundle, Digest, Revision};
use tracing::Instrument as _;
use tracing::field::Empty;

use self::send::Sent;
use super::{Error, Portal, reconcile};
use crate::agent::Order;
use crate::clock::{os_rng, unix_ms};
use crate::db::{self, DbError};
use crate::domain::apply::{Attempt, AttemptOutcome, Failure, IncludedUser, Wish};
use crate::domain::snapshot::Snapshot;
use crate::domain::{Actor, uuid_v7};
use crate::render;
use crate::vault::{Place, Vault};

pub use queue::{AllEnded, Queue};

/// Most findings that a failure quotes.
const FINDINGS_MAX: usize = 20;

/// Applies, and answers the attempt as the audit trail keeps it, however it ended.
///
/// The caller runs it in a task of its own: a client that goes away must not end it.
///
/// # Errors
/// [`Error::ApplyOutcomeUnknown`] and [`Error::ApplyNotRecorded`] carry the attempt; every other
/// error means that nothing was sent.
pub async fn run(portal: &Portal, actor: &Actor, wish: &Wish) -> Result<Attempt, Error> {
    let mut attempt = new_attempt(portal, actor, wish);
    let Some(turn) = portal.queue.wait(portal).await? else {
        return end_busy(portal, attempt).await;
    };
    let span = tracing::info_span!("apply", apply_id = %attempt.id, revision = Empty);
    let result = run_alone(portal, actor, wish, &mut attempt)
        .instrument(span)
        .await;
    turn.end().await;
    result.map(|()| attempt)
}

/// The part that holds the PBX's lock.
async fn run_alone(
    portal: &Portal,
    actor: &Actor,
    wish: &Wish,
    attempt: &mut Attempt,
) -> Result<(), Error> {
    reconcile::settle(portal).await?;
    let snapshot = match db::snapshot::read(&portal.database, attempt.pbx_id, &portal.vault).await {
        Ok(snapshot) => snapshot,
        Err(error @ DbError::Inconsistent { .. }) => {
            let failure = Failure::new("snapshot_unreadable", error.to_string());
            return end_unsent(portal, attempt, AttemptOutcome::RenderFailed, failure).await;
        }
        Err(error) => return Err(error.into()),
    };
    attempt.users = included(&snapshot);
    attempt.user_count = attempt.users.len();
    let prepared = match prepare(&portal.vault, attempt.id, snapshot).await? {
        Ok(prepared) => prepared,
        Err(failure) => {
            return end_unsent(portal, attempt, AttemptOutcome::RenderFailed, failure).await;
        }
    };
    let revision = open(portal, attempt, &prepared).await?;
    let order = Order {
        id: attempt.id,
        revision,
        digest: prepared.digest,
        on_reload_failure: attempt.on_reload_failure,
        force: wish.force,
    };
    tracing::info!(apply = %order.id, %revision, digest = %order.digest, users = attempt.user_count,
        by = attempt.requested_by, "apply started");
    let sent = send::send(portal, &order, prepared.bundle, &actor.request_id).await;
    close(portal, attempt, sent).await
}

fn new_attempt(portal: &Portal, actor: &Actor, wish: &Wish) -> Attempt {
    let started_at = portal.clock.now();
    Attempt {
        id: ApplyId(uuid_v7(unix_ms(started_at), &mut os_rng())),
        pbx_id: portal.settings.pbx,
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
        user_count: 0,
        users: Vec::new(),
    }
}

fn included(snapshot: &Snapshot) -> Vec<IncludedUser> {
    let user = |user: &crate::domain::snapshot::SnapshotUser| IncludedUser {
        id: user.user_id,
        name: user.name.as_str().to_owned(),
        extension: user.extension.get(),
    };
    snapshot.users.iter().map(user).collect()
}

/// A bundle that may be sent.
struct Prepared {
    bundle: Bundle,
    digest: Digest,
    encrypted: Vec<u8>,
}

/// Renders, checks and encrypts, apart from the threads that serve requests: thousands of users
/// are seconds of work.
async fn prepare(
    vault: &Vault,
    id: ApplyId,
    snapshot: Snapshot,
) -> Result<Result<Prepared, Failure>, Error> {
    let vault = vault.clone();
    let work = move || {
        let bundle = match checked(&snapshot) {
            Ok(bundle) => bundle,
            Err(failure) => return Ok(Err(failure)),
        };
        let text = match stored::encode(&bundle) {
            Ok(text) => text,
            Err(error) => return Ok(Err(Failure::new("render_failed", error.to_string()))),
        };
        let encrypted = vault.seal(Place::Bundle(id), &text, &mut os_rng())?;
        let digest = bundle.manifest().digest();
        Ok(Ok(Prepared {
            bundle,
            digest,
            encrypted,
        }))
    };
    tokio::task::spawn_blocking(work).await?
}

fn checked(snapshot: &Snapshot) -> Result<Bundle, Failure> {
    let bundle = render::render(snapshot)
        .map_err(|error| Failure::new("render_failed", error.to_string()))?;
    shared::model::read(&bundle).map_err(|findings| {
        let mut lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        lines.truncate(FINDINGS_MAX);
        Failure::new("render_failed", lines.join("; "))
    })?;
    Ok(bundle)
}

/// Commits the attempt as `started`, with its bundle and the next revision.
async fn open(
    portal: &Portal,
    attempt: &mut Attempt,
    prepared: &Prepared,
) -> Result<Revision, Error> {
    let mut connection = portal.database.acquire().await?;
    let (digest, encrypted) = (prepared.digest, &prepared.encrypted);
    let revision = db::applies::open(&mut connection, attempt, digest, encrypted).await?;
    attempt.revision = Some(revision);
    tracing::Span::current().record("revision", revision.0);
    attempt.digest = Some(digest);
    Ok(revision)
}

/// Writes what became of it.
async fn close(portal: &Portal, attempt: &mut Attempt, sent: Sent) -> Result<(), Error> {
    let now = portal.clock.now();
    match sent {
        Sent::Ended(record) => attempt.close_with(*record, now),
        Sent::NotStarted(outcome, failure) => attempt.fail(outcome, failure, now),
        Sent::Stale(failure) => {
            let failure = catch_up(portal, failure).await;
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
async fn catch_up(portal: &Portal, mut failure: Failure) -> Failure {
    let raised = async {
        let highest = portal.agent.status().await.ok()?.highest_revision;
        let mut connection = portal.database.acquire().await.ok()?;
        let pbx = portal.settings.pbx;
        db::pbx::raise_last_revision(&mut connection, pbx, highest)
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
    attempt: &mut Attempt,
    outcome: AttemptOutcome,
    failure: Failure,
) -> Result<(), Error> {
    attempt.fail(outcome, failure, portal.clock.now());
    report(attempt);
    let mut connection = portal.database.acquire().await?;
    Ok(db::applies::insert_ended(&mut connection, attempt).await?)
}

async fn end_busy(portal: &Portal, mut attempt: Attempt) -> Result<Attempt, Error> {
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
    end_unsent(portal, &mut attempt, AttemptOutcome::Busy, failure).await?;
    Ok(attempt)
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

/// Starts an apply that nothing but its own end ends, and waits for it.
///
/// # Errors
/// As [`run`].
pub async fn run_to_the_end(
    portal: Arc<Portal>,
    actor: Actor,
    wish: Wish,
) -> Result<Attempt, Error> {
    let running = portal.queue.running();
    let span = tracing::Span::current();
    let task = async move {
        let result = run(&portal, &actor, &wish).await;
        drop(running);
        result
    };
    tokio::spawn(task.instrument(span)).await?
}
