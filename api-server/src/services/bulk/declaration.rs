//! What a tenant should be, said as a whole: [`reconcile`] makes it so. What is not named stays as it is.

mod devices;
mod tenant;

use std::collections::HashSet;

use rand::CryptoRng;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::bundle::Digest;

use self::devices::WithDevices;
use super::{Done, Results, is_refusal, settle, users};
use crate::db;
use crate::domain::bulk::Outcome;
use crate::domain::device::{DeviceLabel, DeviceSettingsPatch};
use crate::domain::page::{Page, SortKey as _};
use crate::domain::user::User;
use crate::domain::{DisplayName, ExtensionNumber, Metadata, UserId, Within};
use crate::services::users::{UserFilter, UserSort};
use crate::services::work::Work;
use crate::services::{self, Error, tenants};

/// What a tenant should be.
#[derive(Clone, Debug, Default)]
pub struct Declaration {
    /// The tenant itself.
    pub tenant: Option<DeclaredTenant>,
    /// Its users, each known by its address.
    pub users: Option<Vec<DeclaredUser>>,
    /// Whether users go that are not listed.
    pub removes_users: bool,
    /// Whether devices go that are not listed, of users whose devices are.
    pub removes_devices: bool,
}

/// What is said of a tenant.
#[derive(Clone, Debug, Default)]
pub struct DeclaredTenant {
    /// As of [`Tenant`](crate::domain::tenant::Tenant).
    pub name: Option<DisplayName>,
    /// As of [`Tenant`](crate::domain::tenant::Tenant).
    pub ext_min: Option<ExtensionNumber>,
    /// As of [`Tenant`](crate::domain::tenant::Tenant).
    pub ext_max: Option<ExtensionNumber>,
    /// The whole.
    pub metadata: Option<Metadata>,
}

/// A user of a tenant.
#[derive(Clone, Debug)]
pub struct DeclaredUser {
    /// The user.
    pub user: users::Wanted,
    /// Its devices, if anything is said of them.
    pub devices: Option<Vec<DeclaredDevice>>,
}

/// A device of a user. Of several with one label the first is the first in the order of their places.
#[derive(Clone, Debug)]
pub struct DeclaredDevice {
    /// What people call it.
    pub label: DeviceLabel,
    /// What is said of how it is served.
    pub settings: DeviceSettingsPatch,
}

/// The kind of something that is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entity {
    /// The tenant itself.
    Tenant,
    /// A user.
    User,
    /// A device.
    Device,
}

impl Entity {
    /// The word that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Device => "device",
        }
    }
}

/// Something that was made what it should be.
#[derive(Debug)]
pub struct Step {
    /// Its kind.
    pub entity: Entity,
    /// What became of it.
    pub done: Done,
}

/// Something that could not be made what it should be.
#[derive(Debug)]
pub struct Refusal {
    /// Its kind.
    pub entity: Entity,
    /// What people know it by.
    pub key: String,
    /// Why.
    pub error: Error,
}

/// What was done, what was left alone among it; or else what was refused: then nothing must count.
pub type Reconciled = Result<Vec<Step>, Vec<Refusal>>;

/// The hash of what is declared and of what is done, without what is only known afterwards: two runs that
/// do the same to the same have the same. What is created follows from both.
pub fn digest(declared: Digest, steps: &[Step]) -> String {
    let mut hash = Sha256::new();
    hash.update(declared.0);
    let changing = steps
        .iter()
        .filter(|step| step.done.outcome != Outcome::Unchanged);
    for Step { entity, done } in changing {
        let changes: Vec<_> = done
            .changes
            .iter()
            .map(|change| json!([change.field, change.before, change.after]))
            .collect();
        let outcome = done.outcome.name();
        let number = done.extension.map(ExtensionNumber::get);
        let told = json!([entity.name(), outcome, done.key, number, changes]);
        hash.update(told.to_string());
        hash.update(b"\n");
    }
    Digest(hash.finalize().into()).to_string()
}

/// Makes a tenant what it should be: first the tenant itself, then what goes, then users, then devices.
pub async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    declaration: Declaration,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Reconciled, Error> {
    let mut run = Run::default();
    let removes = (declaration.removes_users, declaration.removes_devices);
    let moved = match declaration.tenant {
        Some(declared) => tenant::reconcile(work, within, declared, &mut run).await?,
        None => None,
    };
    if let Some(declared) = declaration.users {
        reconcile_users(work, within, declared, removes, &mut run, rng).await?;
    }
    // Numbers may move together with their range, unless they were refused.
    if let Some(tenant) = moved.filter(|_| run.refusals.is_empty()) {
        let held = tenants::holds_its_numbers(work, &tenant).await;
        run.note_refusal(Entity::Tenant, tenant.slug.as_str(), held)?;
    }
    Ok(run.end())
}

async fn reconcile_users(
    work: &mut Work<'_>,
    within: Within,
    declared: Vec<DeclaredUser>,
    (removes_users, removes_devices): (bool, bool),
    run: &mut Run,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(), Error> {
    // As whoever changes users and numbers does, before any user.
    db::extensions::lock_range(work.connection(), within.tenant()).await?;
    if removes_users {
        remove_users(work, within, &declared, run).await?;
    }
    let wanted: Vec<users::Wanted> = declared.iter().map(|one| one.user.clone()).collect();
    let results = users::reconcile(work, within, &wanted, &[], rng).await?;
    let with_devices = note_users(run, declared, results);
    devices::reconcile(work, within, with_devices, removes_devices, run, rng).await
}

/// What was done so far.
#[derive(Default)]
struct Run {
    steps: Vec<Step>,
    refusals: Vec<Refusal>,
}

impl Run {
    fn note(&mut self, entity: Entity, key: impl FnOnce() -> String, result: Result<Done, Error>) {
        match result {
            Ok(done) => self.steps.push(Step { entity, done }),
            Err(error) => {
                let key = key();
                self.refusals.push(Refusal { entity, key, error });
            }
        }
    }

    /// Notes what was refused of something that was noted as done.
    fn note_refusal(
        &mut self,
        entity: Entity,
        key: &str,
        result: Result<(), Error>,
    ) -> Result<(), Error> {
        match result {
            Err(error) if is_refusal(&error) => {
                let key = key.to_owned();
                self.refusals.push(Refusal { entity, key, error });
                Ok(())
            }
            other => other,
        }
    }

    fn end(self) -> Reconciled {
        if self.refusals.is_empty() {
            Ok(self.steps)
        } else {
            Err(self.refusals)
        }
    }
}

/// Users that are not listed go before others come, so that their numbers and addresses are free.
async fn remove_users(
    work: &mut Work<'_>,
    within: Within,
    declared: &[DeclaredUser],
    run: &mut Run,
) -> Result<(), Error> {
    let listed = declared
        .iter()
        .filter_map(|one| one.user.patch.email.as_ref());
    let listed: HashSet<String> = listed
        .map(|email| email.as_str().to_ascii_lowercase())
        .collect();
    for user in all_users(work, within).await? {
        if listed.contains(&user.email.as_str().to_ascii_lowercase()) {
            continue;
        }
        let savepoint = work.savepoint().await?;
        let result = remove_user(work, within, user.id).await;
        let result = settle(work, savepoint, result).await?;
        run.note(Entity::User, || user.email.as_str().to_owned(), result);
    }
    Ok(())
}

async fn remove_user(work: &mut Work<'_>, within: Within, id: UserId) -> Result<Done, Error> {
    let user = services::users::locked(work, within, id).await?;
    services::users::delete(work, &user).await?;
    Ok(Done {
        outcome: Outcome::Deleted,
        id: user.id.0,
        key: user.email.as_str().to_owned(),
        extension: Some(user.extension),
        changes: Vec::new(),
        credentials: None,
    })
}

async fn all_users(work: &mut Work<'_>, within: Within) -> Result<Vec<User>, Error> {
    let mut page = Page {
        order: UserSort::DEFAULT,
        after: None,
        limit: Some(500),
    };
    let mut all = Vec::new();
    loop {
        let filter = UserFilter::default();
        let slice = db::users::list(work.connection(), within, &page, filter).await?;
        all.extend(slice.items);
        match slice.next {
            Some(next) => page.after = Some(next),
            None => return Ok(all),
        }
    }
}

fn note_users(run: &mut Run, declared: Vec<DeclaredUser>, results: Results) -> Vec<WithDevices> {
    let mut with_devices = Vec::new();
    for (one, result) in declared.into_iter().zip(results) {
        if let (Ok(done), Some(devices)) = (&result, one.devices) {
            with_devices.push(WithDevices {
                id: UserId(done.id),
                devices,
                first: done.credentials.as_ref().map(|made| made.device.id),
                user: one.user.clone(),
            });
        }
        let email = one.user.patch.email;
        let key = || email.map_or_else(String::new, |email| email.as_str().to_owned());
        run.note(Entity::User, key, result);
    }
    with_devices
}
