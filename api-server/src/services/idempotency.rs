//! Requests that may be sent twice and are carried out once (`Idempotency-Key`).
//!
//! The key is taken in the transaction that makes the change, and the answer is kept in it as well:
//! whatever happens in the middle leaves both or neither. A second request waits for the first one's
//! commit at the key's row. What failed is not kept: nothing was changed, so it may be tried again.
//! [`claim()`] is for what is not one transaction.

mod claim;

use time::Duration;

use super::work::Work;
use super::{Error, Portal};
use crate::clock::os_rng;
use crate::db::idempotency::SealedAnswer;
use crate::db::{self, DbError};
use crate::domain::idempotency::{AnswerId, KeyedRequest, StoredAnswer};
use crate::domain::{Actor, ActorKey};
use crate::vault::{Opener, Place, Sealer};

pub use claim::{Claim, Claimed, claim};

/// How long an answer is kept.
const KEPT: Duration = Duration::hours(24);

/// An answer, and whether it was given before.
#[derive(Debug)]
pub struct Answered {
    /// The answer.
    pub answer: StoredAnswer,
    /// Whether it is a repetition.
    pub replayed: bool,
}

/// Carries out `task` in a unit of work, or answers what was answered before under the same key.
/// Without a key it is carried out.
///
/// # Errors
/// Those of `task`; [`Error::KeyReused`]; [`Error::KeyInUse`] when the first request of this key
/// takes too long.
pub async fn once<E: From<Error>>(
    portal: &Portal,
    actor: &Actor,
    request: Option<&KeyedRequest>,
    task: impl AsyncFnOnce(&mut Work<'_>) -> Result<StoredAnswer, E>,
) -> Result<Answered, E> {
    let mut work = Work::begin(portal, actor).await?;
    if let Some(request) = request
        && let Some(answer) = before(&mut work, request).await?
    {
        work.stands().await?;
        return Ok(Answered {
            answer,
            replayed: true,
        });
    }
    let answer = task(&mut work).await?;
    if let Some(request) = request {
        keep(&mut work, request, &answer).await?;
    }
    work.commit().await?;
    Ok(Answered {
        answer,
        replayed: false,
    })
}

/// What was answered before under the same key, for whoever would begin with something long. Nothing is taken.
///
/// # Errors
/// As of [`once`].
pub async fn answered(
    portal: &Portal,
    actor: &Actor,
    request: &KeyedRequest,
) -> Result<Option<Answered>, Error> {
    // Never committed.
    let mut work = Work::begin(portal, actor).await?;
    let Some(answer) = before(&mut work, request).await? else {
        return Ok(None);
    };
    work.stands().await?;
    Ok(Some(Answered {
        answer,
        replayed: true,
    }))
}

/// Takes the key; the answer if it was taken before.
async fn before(
    work: &mut Work<'_>,
    request: &KeyedRequest,
) -> Result<Option<StoredAnswer>, Error> {
    let (actor, now, expired) = (&work.actor.key(), work.now, work.now - KEPT);
    let taken = db::idempotency::take(work.connection(), actor, request, now, expired).await;
    if taken.map_err(waited_too_long)? {
        db::idempotency::sweep(work.connection(), expired).await?;
        return Ok(None);
    }
    let answer = answer_to(work, request).await?;
    answer.ok_or(Error::KeyInUse).map(Some)
}

/// The answer to a request whose key was taken before; `None`: there is none yet.
async fn answer_to(
    work: &mut Work<'_>,
    request: &KeyedRequest,
) -> Result<Option<StoredAnswer>, Error> {
    let actor = &work.actor.key();
    let used = db::idempotency::find(work.connection(), actor, &request.key).await?;
    // It was there a moment ago and is locked since.
    let used = used.ok_or(Error::KeyInUse)?;
    if used.fingerprint != request.fingerprint {
        return Err(Error::KeyReused);
    }
    let vault = work.vault;
    let opener = vault.opener(work.connection()).await?;
    let open = |sealed| open(&opener, actor, request, sealed);
    used.answer.map(open).transpose()
}

async fn keep(
    work: &mut Work<'_>,
    request: &KeyedRequest,
    answer: &StoredAnswer,
) -> Result<(), Error> {
    let actor = &work.actor.key();
    let key = work.vault.sealer(work.connection()).await?;
    let sealed = seal(&key, actor, request, answer)?;
    Ok(db::idempotency::keep(work.connection(), actor, &request.key, &sealed).await?)
}

fn seal(
    sealer: &Sealer,
    actor: &ActorKey,
    request: &KeyedRequest,
    answer: &StoredAnswer,
) -> Result<SealedAnswer, Error> {
    let place = Place::Answer(AnswerId::of(actor, &request.key));
    Ok(SealedAnswer {
        status: answer.status,
        location: answer.location.clone(),
        etag: answer.etag.clone(),
        body_encrypted: sealer.seal(place, &answer.body, &mut os_rng())?,
    })
}

fn open(
    opener: &Opener,
    actor: &ActorKey,
    request: &KeyedRequest,
    sealed: SealedAnswer,
) -> Result<StoredAnswer, Error> {
    let place = Place::Answer(AnswerId::of(actor, &request.key));
    Ok(StoredAnswer {
        status: sealed.status,
        location: sealed.location,
        etag: sealed.etag,
        body: opener.open(place, &sealed.body_encrypted)?,
    })
}

fn waited_too_long(error: DbError) -> Error {
    if error.is_wait_too_long() {
        Error::KeyInUse
    } else {
        error.into()
    }
}
