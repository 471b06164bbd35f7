//! The audit trail: reading it, and what is written there beside the changes themselves.

mod anchor;
mod refusals;

use sqlx::PgConnection;

use super::work::Work;
use super::{Error, Portal};
use crate::db::{self, DbError};
use crate::domain::apply::Attempt;
use crate::domain::audit::{
    AuditEntryId, AuditFilter, AuditSort, Author, CarriedChange, Entry, Written,
};
use crate::domain::page::{Page, Slice};
use crate::domain::{Actor, TenantId};
use shared::bundle::ApplyId;

pub use anchor::keep as keep_anchored;
pub use refusals::{Refusals, is_told_of_failure, is_told_of_locked, refused};

/// Most changes of an apply that are told with it.
const CARRIED_MAX: u16 = 500;

/// Writes down what is no change of anything: a refusal, somebody who fails to sign in.
pub async fn note(portal: &Portal, actor: &Actor, entry: Entry) -> Result<(), Error> {
    let mut work = Work::of_record(portal, actor).await?;
    work.record(entry);
    work.commit().await
}

/// Writes down what the portal does of its own accord, in the transaction of that.
pub(super) async fn append(
    portal: &Portal,
    transaction: &mut PgConnection,
    entries: &[Entry],
) -> Result<(), DbError> {
    let (key, now) = (portal.database.audit_key()?, portal.clock.now());
    db::audit::append(transaction, &key, &Author::portal(), now, entries).await
}

/// That somebody asked for an apply: to be written with its first row.
pub(super) fn requested(attempt: &Attempt, actor: &Actor) -> Entry {
    of_apply("apply.requested", attempt)
        .of(actor.reach().tenant())
        .changing(None, Some(attempt.told()))
}

/// How an apply ended, by whichever portal knows: to be written when its row is closed.
pub(super) fn ended(attempt: &Attempt) -> Entry {
    of_apply("apply.ended", attempt)
        .by(Author::portal().for_request(&attempt.request_id))
        .changing(None, Some(attempt.told()))
}

fn of_apply(action: &'static str, attempt: &Attempt) -> Entry {
    Entry::new(action, "apply", &attempt.id).called(attempt.pbx_name.as_str())
}

/// A part of the entries, as far as whoever asks sees.
///
/// # Errors
/// [`Error::AuditEntryNotFound`] is none of them: what is not there is not listed.
pub async fn list(
    portal: &Portal,
    actor: &Actor,
    filter: AuditFilter,
    page: &Page<AuditSort>,
) -> Result<Slice<Written>, Error> {
    let filter = match (actor.reach().tenant(), filter.tenant) {
        (Some(own), Some(other)) if own != other => return Ok(Slice::default()),
        (own, asked) => AuditFilter {
            tenant: own.or(asked),
            ..filter
        },
    };
    let mut connection = portal.database.acquire().await?;
    Ok(db::audit::list(&mut connection, &filter, page).await?)
}

/// One entry.
///
/// # Errors
/// [`Error::AuditEntryNotFound`], also when it is beyond what whoever asks sees.
pub async fn get(portal: &Portal, actor: &Actor, id: AuditEntryId) -> Result<Written, Error> {
    let mut connection = portal.database.acquire().await?;
    let tenant: Option<TenantId> = actor.reach().tenant();
    let found = db::audit::find(&mut connection, id, tenant).await?;
    found.ok_or(Error::AuditEntryNotFound)
}

/// The first changes that an apply carried, as far as whoever asks sees.
pub async fn carried(
    portal: &Portal,
    actor: &Actor,
    apply: ApplyId,
) -> Result<Vec<CarriedChange>, Error> {
    let mut connection = portal.database.acquire().await?;
    let tenant = actor.reach().tenant();
    Ok(db::audit::carried(&mut connection, apply, tenant, CARRIED_MAX).await?)
}
