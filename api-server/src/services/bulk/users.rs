//! Many users at once.

use std::collections::{HashMap, HashSet};

use rand::CryptoRng;

use super::{Done, LOOKED_UP, Results, differences, missing, repeated, settle};
use crate::db;
use crate::domain::bulk::{Outcome, created_fields};
use crate::domain::user::{NewUser, User, UserPatch};
use crate::domain::{Email, Metadata, UserId, Within};
use crate::services::tenants::refused_field;
use crate::services::work::Work;
use crate::services::{Error, users};

/// How often what was refused because of a number or an address that is taken is tried once more: the
/// one who has it may give it up further down.
const PASSES: usize = 4;

/// A user as it should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which one is meant; whoever has the address when `None`, and somebody new when nobody has it.
    pub id: Option<UserId>,
    /// What is said of it. Its metadata are the whole, not what is to be merged.
    pub patch: UserPatch,
}

/// Makes users what is wanted of them, in a tenant whose users all are within reach. Nobody else
/// creates users of the tenant meanwhile.
///
/// Who has a number, or names one, comes before those who take the lowest free ones.
pub async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    wanted: &[Wanted],
    rng: &mut (impl CryptoRng + Send),
) -> Result<Results, Error> {
    let known = Known::of(work, within, wanted).await?;
    // Locked once, before any savepoint: whoever follows finds the lock in place.
    let range = db::extensions::lock_range(work.connection(), within.tenant())
        .await?
        .ok_or(Error::TenantNotFound)?;
    work.vault.sealer(work.connection()).await?;
    let mut results = Vec::new();
    results.resize_with(wanted.len(), || None);
    let (mut named, mut unnamed) = (Vec::new(), Vec::new());
    let mut seen = Seen::default();
    for (index, one) in wanted.iter().enumerate() {
        let before = known.find(one);
        if before.is_none() && one.id.is_some() {
            results[index] = Some(Err(Error::UserNotFound));
        } else if seen.has(before, one) {
            results[index] = Some(Err(repeated(if one.id.is_some() { "id" } else { "email" })));
        } else if before.is_some() || one.patch.extension.is_some() {
            named.push(index);
        } else {
            unnamed.push(index);
        }
    }
    let mut named = those_who_give_way_first(&named, wanted, &known);
    for pass in 1..=PASSES {
        let last = pass == PASSES;
        let mut again = Vec::new();
        let before = named.len();
        for index in std::mem::take(&mut named) {
            let one = &wanted[index];
            let result = attempt(work, within, known.find(one), one.clone(), rng).await?;
            if is_taken(&result) && !last {
                again.push(index);
            }
            results[index] = Some(result);
        }
        if again.is_empty() || again.len() == before {
            break;
        }
        // Numbers are in order by now; addresses may be given up from the end.
        again.reverse();
        named = again;
    }
    let mut free = db::extensions::lowest_free(work.connection(), range, unnamed.len())
        .await?
        .into_iter();
    for index in unnamed {
        let mut one = wanted[index].clone();
        // Without a number left the refusal is that of any creation.
        one.patch.extension = free.next();
        results[index] = Some(attempt(work, within, None, one, rng).await?);
    }
    db::extensions::settle(work.connection(), range).await?;
    Ok(results.into_iter().flatten().collect())
}

/// In such an order that whoever has a number that another one wants gives it up before. Who want each
/// other's stay where they are.
fn those_who_give_way_first(named: &[usize], wanted: &[Wanted], known: &Known) -> Vec<usize> {
    let number = |index: &usize| known.find(&wanted[*index]).map(|user| user.extension);
    let holders: HashMap<_, usize> = named
        .iter()
        .filter_map(|index| Some((number(index)?, *index)))
        .collect();
    let (mut order, mut seen) = (Vec::with_capacity(named.len()), HashSet::new());
    for index in named {
        let mut chain = Vec::new();
        let mut next = Some(*index);
        while let Some(one) = next.filter(|one| seen.insert(*one)) {
            chain.push(one);
            let wants = wanted[one].patch.extension;
            next = wants.and_then(|number| holders.get(&number)).copied();
        }
        order.extend(chain.into_iter().rev());
    }
    order
}

fn is_taken(result: &Result<Done, Error>) -> bool {
    matches!(result, Err(Error::ExtensionTaken | Error::EmailTaken))
}

async fn attempt(
    work: &mut Work<'_>,
    within: Within,
    before: Option<&User>,
    wanted: Wanted,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Result<Done, Error>, Error> {
    if let Some(before) = before
        && let Some(done) = unchanged(before, &wanted)
    {
        return Ok(Ok(done));
    }
    let savepoint = work.savepoint().await?;
    let result = match before {
        Some(before) => change(work, within, before.id, wanted).await,
        None => create(work, within, wanted.patch, rng).await,
    };
    settle(work, savepoint, result).await
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

async fn change(
    work: &mut Work<'_>,
    within: Within,
    id: UserId,
    wanted: Wanted,
) -> Result<Done, Error> {
    let before = users::locked(work, within, id).await?;
    let patch = differing(&before, wanted.patch)?;
    let told = before.told();
    let after = users::change(work, before.clone(), patch).await?;
    let (outcome, changes) = differences(&told, &after.told_after(&before));
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

/// The users that are meant, as they are.
struct Known {
    by_id: HashMap<UserId, User>,
    by_email: HashMap<String, UserId>,
}

impl Known {
    async fn of(work: &mut Work<'_>, within: Within, wanted: &[Wanted]) -> Result<Self, Error> {
        let mut known = Self {
            by_id: HashMap::new(),
            by_email: HashMap::new(),
        };
        for some in wanted.chunks(LOOKED_UP) {
            let ids: Vec<UserId> = some.iter().filter_map(|one| one.id).collect();
            let emails: Vec<&Email> = some
                .iter()
                .filter(|one| one.id.is_none())
                .filter_map(|one| one.patch.email.as_ref())
                .collect();
            let tenant = within.tenant();
            let found = db::users::find_many(work.connection(), tenant, &ids, &emails).await?;
            for user in found.into_iter().filter(|user| within.has(user.id)) {
                known.by_email.insert(folded(&user.email), user.id);
                known.by_id.insert(user.id, user);
            }
        }
        Ok(known)
    }

    fn find(&self, wanted: &Wanted) -> Option<&User> {
        let by_email = || {
            self.by_email
                .get(&folded(wanted.patch.email.as_ref()?))
                .copied()
        };
        let id = wanted.id.or_else(by_email)?;
        self.by_id.get(&id)
    }
}

/// Who stood in what was sent already.
#[derive(Default)]
struct Seen {
    users: HashSet<UserId>,
    emails: HashSet<String>,
}

impl Seen {
    fn has(&mut self, before: Option<&User>, wanted: &Wanted) -> bool {
        let user = before.is_some_and(|user| !self.users.insert(user.id));
        let email = wanted.patch.email.as_ref();
        let email = email.is_some_and(|email| !self.emails.insert(folded(email)));
        user || email
    }
}

/// Addresses are compared whatever their case.
fn folded(email: &Email) -> String {
    email.as_str().to_ascii_lowercase()
}
