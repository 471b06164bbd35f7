//! PBXes, and the registry of those that this portal works on.

mod registry;

use std::collections::BTreeSet;

use rand::CryptoRng;
use shared::record::Outcome;

use super::work::{self, Work};
use super::{Error, Portal, audit};
use crate::causes::causes;
use crate::clock::unix_ms;
use crate::db::apply_lock::ApplyLock;
use crate::db::{self, DbError};
use crate::domain::apply::{AttemptOutcome, Failure};
use crate::domain::audit::Entry;
use crate::domain::device::Transport;
use crate::domain::page::{Page, Slice};
use crate::domain::pbx::{self, DEFAULT_PBX, NewPbx, PbxPatch, PbxRef};
use crate::domain::{Actor, Expected, PbxId, Version, uuid_v7};

pub use crate::db::pbxes::PbxSort;
pub use registry::{DefaultPbx, Pbx, Pbxes, find, keep, named_or_default, refresh};

/// PBXes in service.
pub async fn list(
    portal: &Portal,
    page: &Page<PbxSort>,
    search: Option<&str>,
) -> Result<Slice<pbx::Pbx>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::pbxes::page(&mut connection, page, search).await?)
}

/// One PBX in service.
///
/// # Errors
/// [`Error::PbxNotFound`].
pub async fn get(portal: &Portal, named: &PbxRef) -> Result<pbx::Pbx, Error> {
    let mut connection = portal.database.acquire().await?;
    let found = db::pbxes::find(&mut connection, named).await?;
    found.ok_or(Error::PbxNotFound)
}

/// The id of a PBX that somebody names, in service or not: for what is kept of it.
///
/// # Errors
/// [`Error::PbxNotFound`].
pub async fn id_of(portal: &Portal, named: &PbxRef) -> Result<PbxId, Error> {
    match (find(portal, named).await, named) {
        (Ok(pbx), _) => Ok(pbx.id),
        (Err(Error::PbxNotFound), PbxRef::Id(id)) => {
            let mut connection = portal.database.acquire().await?;
            let was = db::pbxes::was(&mut connection, *id).await?;
            was.then_some(*id).ok_or(Error::PbxNotFound)
        }
        (Err(error), _) => Err(error),
    }
}

/// Takes a PBX into service. Nothing is asked of its agent, which need not be there yet. Once it is
/// committed, [`learn`] lets this portal work on it.
///
/// # Errors
/// [`Error::PbxNameTaken`], [`Error::AgentTaken`].
pub async fn create(
    work: &mut Work<'_>,
    new: NewPbx,
    rng: &mut (impl CryptoRng + Send),
) -> Result<pbx::Pbx, Error> {
    let now = work.now;
    let id = PbxId(uuid_v7(unix_ms(now), rng));
    db::pbxes::insert(work.connection(), id, &new, now)
        .await
        .map_err(taken)?;
    let pbx = pbx::Pbx {
        id,
        name: new.name,
        agent_address: new.agent_address,
        agent_identity: new.agent_identity,
        sip_realm: new.sip_realm,
        transports: new.transports,
        version: Version::FIRST,
        created_at: now,
    };
    let entry = told("pbx.created", &pbx).on(id);
    work.record(entry.changing(None, Some(pbx.told())));
    let (name, by) = (pbx.name.clone(), work.actor.admin.clone());
    work.afterwards(
        move || tracing::info!(pbx = %id, %name, by = by.as_str(), "PBX taken into service"),
    );
    Ok(pbx)
}

/// An entry of the audit trail about a PBX.
fn told(action: &'static str, pbx: &pbx::Pbx) -> Entry {
    Entry::new(action, "pbx", &pbx.id).called(pbx.name.as_str())
}

/// Changes a PBX. Its agent can only be changed while no apply runs.
///
/// # Errors
/// [`Error::PbxNotFound`], [`Error::PreconditionFailed`], [`Error::SetByEnvironment`],
/// [`Error::TransportsInUse`], [`Error::PbxNameTaken`], [`Error::AgentTaken`],
/// [`Error::ApplyRuns`].
pub async fn change(
    portal: &Portal,
    actor: &Actor,
    named: &PbxRef,
    patch: &PbxPatch,
    expected: &Expected,
) -> Result<pbx::Pbx, Error> {
    let seen = get(portal, named).await?;
    let shall = patch.of(&seen);
    let moves =
        shall.agent_address != seen.agent_address || shall.agent_identity != seen.agent_identity;
    // Otherwise another agent would be asked about an apply that it knows nothing of.
    let lock = if moves && seen.id != DEFAULT_PBX {
        Some(idle(portal, seen.id).await?)
    } else {
        None
    };
    let changed = work::run(portal, actor, async |work| {
        change_row(work, seen.id, patch, expected).await
    })
    .await;
    release(lock).await;
    let changed = changed?;
    learn(portal).await;
    Ok(changed)
}

async fn change_row(
    work: &mut Work<'_>,
    id: PbxId,
    patch: &PbxPatch,
    expected: &Expected,
) -> Result<pbx::Pbx, Error> {
    let held = db::pbxes::hold(work.connection(), &id.into()).await?;
    let before = held.ok_or(Error::PbxNotFound)?;
    expected.check(before.version)?;
    let mut after = patch.of(&before);
    if before.id == DEFAULT_PBX {
        let fields = before.agent_differs(&after);
        if !fields.is_empty() {
            return Err(Error::SetByEnvironment { fields });
        }
    }
    let gone = before.transports.missing_in(&after.transports);
    if !gone.is_empty() {
        let used = db::pbxes::transports_in_use(work.connection(), id).await?;
        let transports: BTreeSet<Transport> = used.intersection(&gone).copied().collect();
        if !transports.is_empty() {
            return Err(Error::TransportsInUse { transports });
        }
    }
    if after != before {
        after.version = db::pbxes::update(work.connection(), &after)
            .await
            .map_err(taken)?;
        let entry = told("pbx.changed", &after).on(id);
        work.record(entry.changing(Some(before.told()), Some(after.told())));
        let by = work.actor.admin.clone();
        work.afterwards(move || tracing::info!(pbx = %id, by = by.as_str(), "PBX changed"));
    }
    Ok(after)
}

/// Takes a PBX out of service; what was applied there stays in the audit trail, and as it is on the
/// PBX host.
///
/// # Errors
/// [`Error::PbxNotFound`], [`Error::PreconditionFailed`], [`Error::DefaultPbxStays`], [`Error::PbxInUse`],
/// [`Error::ApplyRuns`].
pub async fn delete(
    portal: &Portal,
    actor: &Actor,
    named: &PbxRef,
    expected: &Expected,
) -> Result<(), Error> {
    let seen = get(portal, named).await?;
    expected.check(seen.version)?;
    if seen.id == DEFAULT_PBX {
        return Err(Error::DefaultPbxStays);
    }
    let lock = idle(portal, seen.id).await?;
    let deleted = work::run(portal, actor, async |work| {
        delete_row(work, seen.id, expected).await
    })
    .await;
    release(Some(lock)).await;
    deleted?;
    tracing::info!(pbx = %seen.id, name = %seen.name, by = actor.admin.as_str(),
        "PBX taken out of service");
    learn(portal).await;
    Ok(())
}

async fn delete_row(work: &mut Work<'_>, id: PbxId, expected: &Expected) -> Result<(), Error> {
    let held = db::pbxes::hold(work.connection(), &id.into()).await?;
    let pbx = held.ok_or(Error::PbxNotFound)?;
    expected.check(pbx.version)?;
    if db::pbxes::has_tenants(work.connection(), id).await? {
        return Err(Error::PbxInUse);
    }
    if db::pbxes::has_queued(work.connection(), id).await? {
        return Err(Error::ApplyRuns(None));
    }
    let now = work.now;
    // Nobody will ask its agent any more.
    for mut attempt in db::applies::unsettled(work.connection(), id).await? {
        let outcome = AttemptOutcome::OnPbx(Outcome::Interrupted);
        attempt.fail(outcome, never_known(), now);
        db::applies::close(work.connection(), &attempt).await?;
        work.record(audit::ended(&attempt));
    }
    db::audit::forget(work.connection(), id).await?;
    db::pbxes::delete(work.connection(), id, now).await?;
    work.record(told("pbx.deleted", &pbx).changing(Some(pbx.told()), None));
    Ok(())
}

fn never_known() -> Failure {
    Failure::new(
        "interrupted",
        "the PBX was taken out of service before it was known whether and how far this apply came",
    )
}

/// The PBX's lock, which keeps applies away, if none runs.
async fn idle(portal: &Portal, id: PbxId) -> Result<ApplyLock, Error> {
    let lock = portal.database.try_lock_pbx(id).await?;
    lock.ok_or(Error::ApplyRuns(None))
}

async fn release(lock: Option<ApplyLock>) {
    if let Some(lock) = lock {
        lock.release().await;
    }
}

fn taken(error: DbError) -> Error {
    match error.constraint() {
        Some(db::pbxes::NAME_KEY) => Error::PbxNameTaken,
        Some(db::pbxes::AGENT_ADDRESS_KEY) => Error::AgentTaken {
            field: "agent_address",
        },
        Some(db::pbxes::AGENT_IDENTITY_KEY) => Error::AgentTaken {
            field: "agent_identity",
        },
        Some(_) | None => error.into(),
    }
}

/// Lets this portal work on what the database says by now. What was committed counts, also when it
/// cannot be read now: it is read again soon.
pub async fn learn(portal: &Portal) {
    if let Err(error) = refresh(portal).await {
        tracing::warn!(error = causes(&error), "the PBXes could not be read yet");
    }
}
