//! Many users at once.

mod exchange;
mod known;

use rand::CryptoRng;

use self::exchange::{Aside, Exchange};
use self::known::{Known, Seen, folded};
use super::{Done, Results, differences, missing, repeated, settle};
use crate::db;
use crate::domain::bulk::{Outcome, created_fields};
use crate::domain::user::{NewUser, User, UserPatch};
use crate::domain::{Invalid, Metadata, UserId, Within};
use crate::services::tenants::refused_field;
use crate::services::work::Work;
use crate::services::{Error, users};

/// How often it is tried with some moved aside, before nobody is any more.
const ROUNDS: usize = 4;

/// A user as it should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which one is meant; whoever has the address when `None`, and somebody new when nobody has it.
    pub id: Option<UserId>,
    /// What is said of it. Its metadata are the whole, not what is to be merged.
    pub patch: UserPatch,
}

/// Makes users what is wanted of them, in a tenant whose users all are within reach. Nobody else
/// creates or renumbers users of the tenant meanwhile.
///
/// Numbers and addresses that one gives up another one may have, also in a circle. Who has a number, or
/// names one, comes before those who take the lowest free ones. `unread` are named by what could not be
/// read: they are what they were, and nobody else is meant by their addresses.
pub async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    wanted: &[Wanted],
    unread: &[UserId],
    rng: &mut (impl CryptoRng + Send),
) -> Result<Results, Error> {
    // Locked once, before any savepoint: whoever follows finds the lock in place.
    let range = db::extensions::lock_range(work.connection(), within.tenant())
        .await?
        .ok_or(Error::TenantNotFound)?;
    let known = Known::of(work, within, wanted).await?;
    work.vault.sealer(work.connection()).await?;
    let mut results = Vec::new();
    results.resize_with(wanted.len(), || None);
    let (mut named, mut unnamed) = (Vec::new(), Vec::new());
    let mut seen = Seen::of(unread);
    for (index, one) in wanted.iter().enumerate() {
        let before = known.find(one);
        if before.is_none() && one.id.is_some() {
            results[index] = Some(Err(Error::UserNotFound));
        } else if let Some(field) = seen.has(before, one) {
            results[index] = Some(Err(repeated(field)));
        } else if before.is_some() || one.patch.extension.is_some() {
            named.push(index);
        } else {
            unnamed.push(index);
        }
    }
    let mut exchange = Exchange::of(&named, wanted, &known);
    let named = reconcile_named(work, within, &mut exchange, rng).await?;
    for (index, result) in exchange.lines.iter().zip(named) {
        results[*index] = Some(result);
    }
    let mut free = db::extensions::lowest_free(work.connection(), range, unnamed.len())
        .await?
        .into_iter();
    for index in unnamed {
        let mut one = wanted[index].clone();
        // Without a number left the refusal is that of any creation.
        one.patch.extension = free.next();
        results[index] = Some(attempt(work, within, Before::Nobody, one, rng).await?);
    }
    db::extensions::settle(work.connection(), range).await?;
    Ok(results.into_iter().flatten().collect())
}

/// Who gives up what others get is moved aside first. When one of those is refused it stays what it was,
/// and so do those who counted on it: then it is tried once more without them.
async fn reconcile_named(
    work: &mut Work<'_>,
    within: Within,
    exchange: &mut Exchange<'_>,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Results, Error> {
    for _ in 0..ROUNDS {
        if exchange.givers().next().is_none() {
            break;
        }
        let savepoint = work.savepoint_of_many().await?;
        let aside = exchange.set_aside(work, within).await?;
        let results = attempts(work, within, exchange, &aside, rng).await?;
        let refused = |giver: &usize| results[*giver].is_err();
        let refused: Vec<usize> = exchange.givers().filter(refused).collect();
        if refused.is_empty() {
            work.release(savepoint).await?;
            return Ok(results);
        }
        work.undo(savepoint).await?;
        exchange.keep(refused);
    }
    attempts(work, within, exchange, &Aside::default(), rng).await
}

async fn attempts(
    work: &mut Work<'_>,
    within: Within,
    exchange: &Exchange<'_>,
    aside: &Aside,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Results, Error> {
    let mut results = Vec::with_capacity(exchange.lines.len());
    for (wanted, known) in exchange.each() {
        let before = match known {
            None => Before::Nobody,
            Some(user) => match aside.get(&user.id) {
                Some(user) => Before::Aside(user),
                None => Before::There(user),
            },
        };
        results.push(attempt(work, within, before, wanted.clone(), rng).await?);
    }
    Ok(results)
}

/// Whom a line means.
#[derive(Clone, Copy)]
enum Before<'a> {
    /// Somebody new.
    Nobody,
    /// Somebody who was seen so.
    There(&'a User),
    /// Somebody who is locked and moved aside, as it was before that.
    Aside(&'a User),
}

async fn attempt(
    work: &mut Work<'_>,
    within: Within,
    before: Before<'_>,
    wanted: Wanted,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Result<Done, Error>, Error> {
    if let Before::There(before) = before
        && let Some(done) = unchanged(before, &wanted)
    {
        return Ok(Ok(done));
    }
    let savepoint = work.savepoint().await?;
    let result = match before {
        Before::Nobody => create(work, within, wanted.patch, rng).await,
        Before::There(user) => match locked(work, within, user.id, &wanted).await {
            Ok(user) => change(work, &user, wanted).await,
            Err(gone) => Err(gone),
        },
        Before::Aside(user) => change(work, user, wanted).await,
    };
    settle(work, savepoint, result).await
}

/// Locks a user, who may have got another address since it was found by that.
async fn locked(
    work: &mut Work<'_>,
    within: Within,
    id: UserId,
    wanted: &Wanted,
) -> Result<User, Error> {
    let user = users::locked(work, within, id).await?;
    let meant = wanted.id.is_some()
        || wanted
            .patch
            .email
            .as_ref()
            .is_some_and(|email| folded(email) == folded(&user.email));
    if meant {
        return Ok(user);
    }
    let reason = Invalid {
        code: "outdated",
        message: "was given up by its user meanwhile: try again",
    };
    Err(refused_field("email", reason))
}

/// Without asking the database, because mostly nothing changes.
fn unchanged(before: &User, wanted: &Wanted) -> Option<Done> {
    let patch = differing(before, wanted.patch.clone()).ok()?;
    let after = before.patched(patch).ok()?;
    let (outcome, _) = differences(&before.told(), &after.told_after(before));
    (outcome == Outcome::Unchanged).then(|| Done {
        outcome,
        id: before.id.0,
        key: before.email.as_str().to_owned(),
        extension: Some(before.extension),
        changes: Vec::new(),
        credentials: None,
    })
}

/// What a table says as a whole, as a change: metadata are merged into what is there, and what is so
/// already needs no permission.
fn differing(before: &User, mut patch: UserPatch) -> Result<UserPatch, Error> {
    patch.calls = patch.calls.differing(&before.calls);
    patch.role = patch.role.filter(|role| *role != before.role);
    if let Some(metadata) = patch.metadata.take() {
        let wanted = metadata_of(metadata)?;
        patch.metadata = Some(before.metadata.difference(&wanted));
    }
    Ok(patch)
}

fn metadata_of(map: serde_json::Map<String, serde_json::Value>) -> Result<Metadata, Error> {
    Metadata::try_from(serde_json::Value::Object(map))
        .map_err(|reason| refused_field("metadata", reason))
}

async fn change(work: &mut Work<'_>, before: &User, wanted: Wanted) -> Result<Done, Error> {
    let patch = differing(before, wanted.patch)?;
    let after = users::change(work, before.clone(), patch).await?;
    let (outcome, changes) = differences(&before.told(), &after.told_after(before));
    Ok(Done {
        outcome,
        id: after.id.0,
        key: after.email.as_str().to_owned(),
        extension: Some(after.extension),
        changes,
        credentials: None,
    })
}

async fn create(
    work: &mut Work<'_>,
    within: Within,
    patch: UserPatch,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Done, Error> {
    let new = new_user(patch)?;
    let created = users::create(work, within.tenant(), new, rng).await?;
    let user = created.user;
    Ok(Done {
        outcome: Outcome::Created,
        id: user.id.0,
        key: user.email.as_str().to_owned(),
        extension: Some(user.extension),
        changes: created_fields(&user.told()),
        credentials: Some(created.device),
    })
}

fn new_user(patch: UserPatch) -> Result<NewUser, Error> {
    Ok(NewUser {
        name: patch.name.ok_or(missing("name"))?,
        email: patch.email.ok_or(missing("email"))?,
        extension: patch.extension,
        status: patch.status.unwrap_or_default(),
        role: patch.role.unwrap_or_default(),
        calls: patch.calls,
        metadata: metadata_of(patch.metadata.unwrap_or_default())?,
    })
}
