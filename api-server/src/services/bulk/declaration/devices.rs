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
