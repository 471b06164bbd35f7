//! The devices of users that are there now.

use std::collections::{HashMap, HashSet};

use rand::CryptoRng;

use super::{DeclaredDevice, Entity, Run};
use crate::db;
use crate::domain::bulk::Outcome;
use crate::domain::device::{Device, DeviceId};
use crate::domain::{UserId, Within};
use crate::services::bulk::devices::{self, Which};
use crate::services::bulk::{Done, LOOKED_UP, settle, users};
use crate::services::work::Work;
use crate::services::{self, Error};

/// A user who is there now, with the devices that it should have.
pub(super) struct WithDevices {
    pub(super) id: UserId,
    pub(super) devices: Vec<DeclaredDevice>,
    /// The device that it was created with.
    pub(super) first: Option<DeviceId>,
    pub(super) user: users::Wanted,
}

pub(super) async fn reconcile(
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
        let left = there.remove(&user.id).unwrap_or_default();
        let pairs = pairs(&user.devices, &left, user.first);
        let mut left: Vec<Option<Device>> = left.into_iter().map(Some).collect();
        for (declared, at) in user.devices.into_iter().zip(pairs) {
            let device = at.and_then(|at| left[at].take());
            let first = device
                .as_ref()
                .filter(|device| Some(device.id) == user.first);
            adopted.extend(first.map(|device| device.id));
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
        let left = left.into_iter().flatten().filter(|_| removes);
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
    let results = devices::reconcile(work, within, &wanted, &[], rng).await?;
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

/// Which of the devices that are there each declared one is: one with its label, if it can be one that is so
/// already, so that the same declaration twice changes nothing. The device that a user was created with
/// becomes the first of those that are left.
fn pairs(
    declared: &[DeclaredDevice],
    there: &[Device],
    first: Option<DeviceId>,
) -> Vec<Option<usize>> {
    let mut of_device = vec![None; there.len()];
    for one in 0..declared.len() {
        find_place(one, declared, there, &mut of_device, &mut HashSet::new());
    }
    let mut pairs = vec![None; declared.len()];
    for (at, one) in of_device.iter().enumerate() {
        if let Some(one) = *one {
            pairs[one] = Some(at);
        }
    }
    let mut taken: HashSet<usize> = pairs.iter().flatten().copied().collect();
    for (one, pair) in pairs
        .iter_mut()
        .enumerate()
        .filter(|(_, pair)| pair.is_none())
    {
        let mut left = there
            .iter()
            .enumerate()
            .filter(|(at, _)| !taken.contains(at));
        let same = |(_, device): &(usize, &Device)| device.label == declared[one].label;
        let at = left.clone().find(same);
        let at = at.or_else(|| left.find(|(_, device)| Some(device.id) == first));
        *pair = at.map(|(at, _)| at);
        taken.extend(*pair);
    }
    pairs
}

/// Finds a device that is what this one should be, and moves others to their like for it (an augmenting
/// path of a bipartite graph).
fn find_place(
    one: usize,
    declared: &[DeclaredDevice],
    there: &[Device],
    of_device: &mut [Option<usize>],
    tried: &mut HashSet<usize>,
) -> bool {
    for (at, device) in there.iter().enumerate() {
        if is_so(&declared[one], device) && tried.insert(at) {
            let other = of_device[at];
            let free =
                other.is_none_or(|other| find_place(other, declared, there, of_device, tried));
            if free {
                of_device[at] = Some(one);
                return true;
            }
        }
    }
    false
}

fn is_so(declared: &DeclaredDevice, device: &Device) -> bool {
    let mut settings = device.settings.clone();
    settings.apply(declared.settings.clone());
    device.label == declared.label && settings == device.settings
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
