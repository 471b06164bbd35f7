//! What a tenant should be, said as a whole: [`reconcile`] makes it so. What is not named stays as it is.

use std::collections::{HashMap, HashSet};

use rand::CryptoRng;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use shared::bundle::Digest;

use super::devices::Which;
use super::{Done, LOOKED_UP, Results, devices, differences, settle, users};
use crate::db;
use crate::domain::bulk::Outcome;
use crate::domain::device::{Device, DeviceId, DeviceLabel, DeviceSettingsPatch};
use crate::domain::page::{Page, SortKey as _};
use crate::domain::tenant::{Tenant, TenantPatch};
use crate::domain::user::User;
use crate::domain::{DisplayName, ExtensionNumber, Metadata, Permission, UserId, Within};
use crate::services::users::{UserFilter, UserSort};
use crate::services::work::Work;
use crate::services::{self, Error, denied, tenants};

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
    /// As of [`Tenant`].
    pub name: Option<DisplayName>,
    /// As of [`Tenant`].
    pub ext_min: Option<ExtensionNumber>,
    /// As of [`Tenant`].
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

/// Makes a tenant what it should be: first what goes, then users, then devices.
pub async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    declaration: Declaration,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Reconciled, Error> {
    let mut run = Run::default();
    if let Some(declared) = declaration.tenant {
        let key = declared
            .name
            .as_ref()
            .map_or("", DisplayName::as_str)
            .to_owned();
        let savepoint = work.savepoint().await?;
        let result = tenant(work, within, declared).await;
        let result = settle(work, savepoint, result).await?;
        run.note(Entity::Tenant, || key, result);
    }
    let Some(declared) = declaration.users else {
        return Ok(run.end());
    };
    // As whoever changes users and numbers does, before any user.
    db::extensions::lock_range(work.connection(), within.tenant()).await?;
    if declaration.removes_users {
        remove_users(work, within, &declared, &mut run).await?;
    }
    let wanted: Vec<users::Wanted> = declared.iter().map(|one| one.user.clone()).collect();
    let results = users::reconcile(work, within, &wanted, rng).await?;
    let with_devices = note_users(&mut run, declared, results);
    reconcile_devices(
        work,
        within,
        with_devices,
        declaration.removes_devices,
        &mut run,
        rng,
    )
    .await?;
    Ok(run.end())
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

    fn end(self) -> Reconciled {
        if self.refusals.is_empty() {
            Ok(self.steps)
        } else {
            Err(self.refusals)
        }
    }
}

/// Only what differs is asked for: a tenant's administrator may say what the tenant is, and not what else
/// it should be.
async fn tenant(
    work: &mut Work<'_>,
    within: Within,
    declared: DeclaredTenant,
) -> Result<Done, Error> {
    let before = tenants::locked(work, within.tenant()).await?;
    let other = |wanted: Option<ExtensionNumber>, now| wanted.filter(|wanted| *wanted != now);
    let metadata = declared
        .metadata
        .map(|all| before.metadata.difference(&all));
    let patch = TenantPatch {
        name: declared.name.filter(|name| *name != before.name),
        ext_min: other(declared.ext_min, before.extensions.min),
        ext_max: other(declared.ext_max, before.extensions.max),
        metadata: metadata.filter(|patch| !patch.is_empty()),
        ..TenantPatch::default()
    };
    let differs = patch.name.is_some()
        || patch.ext_min.is_some()
        || patch.ext_max.is_some()
        || patch.metadata.is_some();
    if !differs {
        return Ok(done_tenant(&before, &before));
    }
    denied::must(work.actor, Permission::TenantsWrite)?;
    let after = tenants::change(work, before.clone(), patch).await?;
    Ok(done_tenant(&before, &after))
}

fn done_tenant(before: &Tenant, after: &Tenant) -> Done {
    let (outcome, changes) = differences(&before.told(), &after.told());
    Done {
        outcome,
        id: after.id.0,
        key: after.slug.as_str().to_owned(),
        extension: None,
        changes,
        credentials: None,
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

/// A user who is there now, with the devices that it should have.
struct WithDevices {
    id: UserId,
    devices: Vec<DeclaredDevice>,
    /// The device that it was created with.
    first: Option<DeviceId>,
    user: users::Wanted,
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

async fn reconcile_devices(
    work: &mut Work<'_>,
    within: Within,
    users: Vec<WithDevices>,
    removes: bool,
    run: &mut Run,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(), Error> {
    let mut there: HashMap<UserId, Vec<Device>> = HashMap::new();
    let ids: Vec<UserId> = users.iter().map(|user| user.id).collect();
    for some in ids.chunks(LOOKED_UP) {
        let tenant = within.tenant();
        for device in db::devices::find_many(work.connection(), tenant, &[], some).await? {
            there.entry(device.user).or_default().push(device);
        }
    }
    let (mut wanted, mut surplus, mut adopted) = (Vec::new(), Vec::new(), HashSet::new());
    for user in users {
        let mut left = there.remove(&user.id).unwrap_or_default();
        for declared in user.devices {
            let same = |device: &Device| device.label == declared.label;
            let first = |device: &Device| Some(device.id) == user.first;
            // The device that a user is created with becomes the first one that should be there.
            let at = left
                .iter()
                .position(same)
                .or_else(|| left.iter().position(first));
            let device = at.map(|at| left.remove(at));
            adopted.extend(device.as_ref().filter(|device| first(device)).map(|d| d.id));
            wanted.push(devices::Wanted {
                which: device.map_or(Which::New, |device| Which::Id(device.id)),
                owner: user.user.patch.email.clone(),
                label: Some(declared.label),
                settings: declared.settings,
                sip_username: None,
            });
        }
        let owner = user.user.patch.email.as_ref();
        let owner = owner.map_or_else(String::new, |email| email.as_str().to_owned());
        let left = left.into_iter().filter(|_| removes);
        surplus.extend(left.map(|device| (owner.clone(), device)));
    }
    // What goes first leaves its place to what comes.
    for (owner, device) in surplus {
        let key = format!("{owner} {}", device.label.as_str());
        let savepoint = work.savepoint().await?;
        let result = remove_device(work, within, device.id, key.clone()).await;
        let result = settle(work, savepoint, result).await?;
        run.note(Entity::Device, || key, result);
    }
    let results = devices::reconcile(work, within, &wanted, rng).await?;
    for (one, result) in wanted.into_iter().zip(results) {
        // That a new user's first device got its name is no news beside the user.
        if result
            .as_ref()
            .is_ok_and(|done| adopted.contains(&DeviceId(done.id)))
        {
            continue;
        }
        let label = one
            .label
            .map_or_else(String::new, |label| label.as_str().to_owned());
        run.note(Entity::Device, || label, result);
    }
    Ok(())
}

async fn remove_device(
    work: &mut Work<'_>,
    within: Within,
    id: DeviceId,
    key: String,
) -> Result<Done, Error> {
    let locked = services::devices::locked(work, within, id).await?;
    services::devices::delete(work, &locked).await?;
    let device = locked.device;
    Ok(Done {
        outcome: Outcome::Deleted,
        id: device.id.0,
        key,
        extension: Some(device.extension),
        changes: Vec::new(),
        credentials: None,
    })
}
