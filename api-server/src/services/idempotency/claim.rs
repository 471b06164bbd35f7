//! Requests that take longer than a transaction may: applies.
//!
//! The key is claimed first, in a transaction of its own, with what the ids of the attempts are made
//! from and a lease that this process renews while it lives. An attempt is a row before anything is
//! sent, so a claim whose portal died without one has changed nothing and may be carried out again,
//! under the same ids: a portal that only slept finds its place taken. Otherwise the attempts say
//! what became of it.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::super::work::Work;
use super::super::{Error, Portal, applies};
use super::{KEPT, answer_to, seal, waited_too_long};
use crate::causes::causes;
use crate::clock::{os_rng, unix_ms};
use crate::db::{self, Database};
use crate::domain::apply::{Attempt, AttemptOutcome};
use crate::domain::idempotency::{AttemptRoot, KeyedRequest, StoredAnswer};
use crate::domain::{Actor, ActorKey, uuid_v7};

/// How often a lease is renewed, in seconds: several times within it.
const RENEW_SECONDS: u64 = 5;

/// What became of the wish to carry a request out.
pub enum Claimed {
    /// It is to be carried out now.
    Mine(Claim),
    /// It was answered before.
    Before(StoredAnswer),
    /// Its portal died before it answered; this is what had begun.
    Begun(Vec<Attempt>),
}

/// The right to carry a request out. Whoever drops it without a word leaves it to its attempts.
pub struct Claim {
    admin: ActorKey,
    request: KeyedRequest,
    root: AttemptRoot,
    lease: Lease,
}

/// Claims a request.
///
/// # Errors
/// [`Error::KeyReused`]; [`Error::KeyInUse`] while it is carried out.
pub async fn claim(
    portal: &Portal,
    actor: &Actor,
    request: &KeyedRequest,
) -> Result<Claimed, Error> {
    let mut work = Work::begin(portal, actor).await?;
    let (admin, now, expired) = (&actor.key(), work.now, work.now - KEPT);
    let fresh = AttemptRoot(uuid_v7(unix_ms(now), &mut os_rng()));
    let connection = work.connection();
    let taken = db::idempotency::take(connection, admin, request, now, expired).await;
    let root = if taken.map_err(waited_too_long)? {
        db::idempotency::renew(work.connection(), admin, &request.key, fresh).await?;
        db::idempotency::sweep(work.connection(), expired).await?;
        fresh
    } else {
        if let Some(answer) = answer_to(&mut work, request).await? {
            return Ok(Claimed::Before(answer));
        }
        let abandoned = db::idempotency::abandoned(work.connection(), admin, &request.key).await?;
        let abandoned = abandoned.ok_or(Error::KeyInUse)?;
        let begun = attempts(portal, abandoned).await?;
        if begun.iter().any(leaves_traces) {
            return Ok(Claimed::Begun(begun));
        }
        // Ids of attempts that ended without a trace are used up.
        let root = if begun.is_empty() { abandoned } else { fresh };
        let key = &request.key;
        if !db::idempotency::take_over(work.connection(), admin, key, abandoned, root).await? {
            return Err(Error::KeyInUse);
        }
        root
    };
    work.commit().await?;
    let lease = Lease::keep(portal.database.clone(), actor, request, root);
    Ok(Claimed::Mine(Claim {
        admin: actor.key(),
        request: request.clone(),
        root,
        lease,
    }))
}

impl Claim {
    /// What the ids of its attempts are made from.
    pub const fn root(&self) -> AttemptRoot {
        self.root
    }

    /// Keeps the answer, unless nothing was changed: then the request may be sent again. `good`
    /// says whether the answer is a success. What cannot be written now is left to the attempts.
    pub async fn settle(self, portal: &Portal, answer: &StoredAnswer, good: bool) {
        let key = self.request.key.as_str();
        if let Err(error) = self.try_settle(portal, answer, good).await {
            tracing::warn!(key, error = causes(&error), "an answer was not kept");
        }
        drop(self.lease);
    }

    async fn try_settle(
        &self,
        portal: &Portal,
        answer: &StoredAnswer,
        good: bool,
    ) -> Result<(), Error> {
        let Self {
            admin,
            request,
            root,
            ..
        } = self;
        let begun = if good {
            Vec::new()
        } else {
            attempts(portal, *root).await?
        };
        let mut transaction = portal.database.begin().await?;
        let key = portal.vault.sealer(&mut transaction).await?;
        let sealed = seal(&key, admin, request, answer)?;
        if begun.iter().any(|attempt| !attempt.outcome.has_ended()) {
            // The end is not known: the attempts will tell it.
            db::idempotency::leave(&mut transaction, admin, &request.key, *root).await?;
        } else if good || begun.iter().any(leaves_traces) {
            db::idempotency::keep(&mut transaction, admin, &request.key, &sealed).await?;
        } else {
            db::idempotency::release(&mut transaction, admin, &request.key, *root).await?;
        }
        Ok(db::commit(transaction).await?)
    }
}

/// What a request has begun, on whichever PBX.
async fn attempts(portal: &Portal, root: AttemptRoot) -> Result<Vec<Attempt>, Error> {
    let mut connection = portal.database.acquire().await?;
    let pbxes = db::idempotency::pbxes(&mut connection).await?;
    drop(connection);
    let mut attempts = Vec::new();
    for pbx in pbxes {
        match applies::find(portal, root.attempt(pbx)).await {
            Ok(attempt) => attempts.push(attempt),
            Err(Error::ApplyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(attempts)
}

/// Whether an attempt may have changed something, or still can.
fn leaves_traces(attempt: &Attempt) -> bool {
    matches!(attempt.outcome, AttemptOutcome::OnPbx(_)) || !attempt.outcome.has_ended()
}

/// Says that a request is being carried out, until it is dropped.
struct Lease(JoinHandle<()>);

impl Lease {
    fn keep(database: Database, actor: &Actor, request: &KeyedRequest, root: AttemptRoot) -> Self {
        let (admin, key) = (actor.key(), request.key.clone());
        Self(tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(RENEW_SECONDS)).await;
                let renewed = async {
                    let mut connection = database.acquire().await?;
                    db::idempotency::renew(&mut connection, &admin, &key, root).await
                };
                // It is answered. A database that is away is asked again.
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
