//! PBXes, and the registry of those that this portal works on.

mod registry;

use std::collections::BTreeSet;

use rand::CryptoRng;
use shared::record::Outcome;

use super::{Error, Portal};
use crate::causes::causes;
use crate::clock::unix_ms;
use crate::db::apply_lock::ApplyLock;
use crate::db::{self, DbError};
use crate::domain::apply::{AttemptOutcome, Failure};
use crate::domain::pbx::{self, DEFAULT_PBX, NewPbx, PbxPatch, PbxRef, Transport};
use crate::domain::{Actor, PbxId, uuid_v7};

pub use registry::{DefaultPbx, Pbx, Pbxes, find, keep, named_or_default, refresh};

/// Every PBX in service, by name.
pub async fn list(portal: &Portal) -> Result<Vec<pbx::Pbx>, Error> {
    let mut connection = portal.database.acquire().await?;
    let pbxes = db::pbxes::list(&mut connection).await?;
    Ok(pbxes.into_iter().collect::<Result<_, _>>()?)
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

/// Takes a PBX into service. Nothing is asked of its agent, which need not be there yet.
///
/// # Errors
/// [`Error::PbxNameTaken`], [`Error::AgentTaken`].
pub async fn create(
    portal: &Portal,
    actor: &Actor,
    new: NewPbx,
    rng: &mut (impl CryptoRng + Send),
) -> Result<pbx::Pbx, Error> {
    let now = portal.clock.now();
    let id = PbxId(uuid_v7(unix_ms(now), rng));
    let mut connection = portal.database.acquire().await?;
    let inserted = db::pbxes::insert(&mut connection, id, &new, now).await;
    drop(connection);
    inserted.map_err(taken)?;
    tracing::info!(pbx = %id, name = %new.name, by = actor.admin.as_str(), "PBX taken into service");
    learn(portal).await;
    get(portal, &id.into()).await
}

/// Changes a PBX. Its agent can only be changed while no apply runs.
///
/// # Errors
/// [`Error::PbxNotFound`], [`Error::Outdated`], [`Error::SetByEnvironment`],
/// [`Error::TransportsInUse`], [`Error::PbxNameTaken`], [`Error::AgentTaken`],
/// [`Error::ApplyRuns`].
pub async fn change(
    portal: &Portal,
    actor: &Actor,
    named: &PbxRef,
    patch: &PbxPatch,
    expected: Option<&[i64]>,
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
    let changed = change_row(portal, seen.id, patch, expected).await;
    release(lock).await;
    let changed = changed?;
    tracing::info!(pbx = %changed.id, by = actor.admin.as_str(), "PBX changed");
    learn(portal).await;
    Ok(changed)
}

async fn change_row(
    portal: &Portal,
    id: PbxId,
    patch: &PbxPatch,
    expected: Option<&[i64]>,
) -> Result<pbx::Pbx, Error> {
    let mut transaction = portal.database.begin().await?;
    let held = db::pbxes::hold(&mut transaction, &id.into()).await?;
    let before = held.ok_or(Error::PbxNotFound)?;
    is_expected(&before, expected)?;
    let mut after = patch.of(&before);
    if before.id == DEFAULT_PBX {
        let fields = before.agent_differs(&after);
        if !fields.is_empty() {
            return Err(Error::SetByEnvironment { fields });
        }
    }
    let gone = before.transports.missing_in(&after.transports);
    if !gone.is_empty() {
        let used = db::pbxes::transports_in_use(&mut transaction, id).await?;
        let transports: BTreeSet<Transport> = used.intersection(&gone).copied().collect();
        if !transports.is_empty() {
            return Err(Error::TransportsInUse { transports });
        }
    }
    if after != before {
        after.version = db::pbxes::update(&mut transaction, &after)
            .await
            .map_err(taken)?;
        db::commit(transaction).await?;
    }
    Ok(after)
}

/// Takes a PBX out of service; what was applied there stays in the audit trail, and as it is on the
/// PBX host.
///
/// # Errors
/// [`Error::PbxNotFound`], [`Error::Outdated`], [`Error::DefaultPbxStays`], [`Error::PbxInUse`],
/// [`Error::ApplyRuns`].
pub async fn delete(
    portal: &Portal,
    actor: &Actor,
    named: &PbxRef,
    expected: Option<&[i64]>,
) -> Result<(), Error> {
    let seen = get(portal, named).await?;
    is_expected(&seen, expected)?;
    if seen.id == DEFAULT_PBX {
        return Err(Error::DefaultPbxStays);
    }
    let lock = idle(portal, seen.id).await?;
    let deleted = delete_row(portal, seen.id, expected).await;
    release(Some(lock)).await;
    deleted?;
    tracing::info!(pbx = %seen.id, name = %seen.name, by = actor.admin.as_str(),
        "PBX taken out of service");
    learn(portal).await;
    Ok(())
}

async fn delete_row(portal: &Portal, id: PbxId, expected: Option<&[i64]>) -> Result<(), Error> {
    let mut transaction = portal.database.begin().await?;
    let held = db::pbxes::hold(&mut transaction, &id.into()).await?;
    is_expected(&held.ok_or(Error::PbxNotFound)?, expected)?;
    if db::pbxes::has_tenants(&mut transaction, id).await? {
        return Err(Error::PbxInUse);
    }
    if db::pbxes::has_queued(&mut transaction, id).await? {
        return Err(Error::ApplyRuns(None));
    }
    // Nobody will ask its agent any more.
    for mut attempt in db::applies::unsettled(&mut transaction, id).await? {
        let outcome = AttemptOutcome::OnPbx(Outcome::Interrupted);
        attempt.fail(outcome, never_known(), portal.clock.now());
        db::applies::close(&mut transaction, &attempt).await?;
    }
    db::pbxes::delete(&mut transaction, id, portal.clock.now()).await?;
    Ok(db::commit(transaction).await?)
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

fn is_expected(pbx: &pbx::Pbx, expected: Option<&[i64]>) -> Result<(), Error> {
    let expects = expected.is_none_or(|versions| versions.contains(&pbx.version));
    expects.then_some(()).ok_or(Error::Outdated)
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

/// What was committed counts, also when it cannot be read now: it is read again soon.
async fn learn(portal: &Portal) {
    if let Err(error) = refresh(portal).await {
        tracing::warn!(error = causes(&error), "the PBXes could not be read yet");
    }
}
