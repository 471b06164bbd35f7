//! Many devices at once.

use std::collections::{HashMap, HashSet};

use rand::CryptoRng;

use super::{Done, LOOKED_UP, Results, differences, missing, repeated, settle};
use crate::db;
use crate::domain::bulk::{Outcome, created_fields};
use crate::domain::device::{
    Device, DeviceId, DeviceLabel, DevicePatch, DeviceSettings, DeviceSettingsPatch, NewDevice,
};
use crate::domain::user::User;
use crate::domain::{Email, Invalid, UserId, Within};
use crate::services::Error;
use crate::services::devices::{self, Reveal};
use crate::services::tenants::refused_field;
use crate::services::work::Work;

/// Which device is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// This one.
    Id(DeviceId),
    /// The one of its owner with its label; a new one when there is none.
    Labelled,
    /// A new one, whatever others are called.
    New,
}

/// A device as it should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which one.
    pub which: Which,
    /// The address of its owner.
    pub owner: Option<Email>,
    /// What people call it.
    pub label: Option<DeviceLabel>,
    /// What is said of how it is served.
    pub settings: DeviceSettingsPatch,
    /// What it registers as, which follows from its owner: said only to be the same.
    pub sip_username: Option<String>,
}

/// Makes devices what is wanted of them. Those that are named by their ids come first: a label that one
/// gives up is free for another one. `unread` are named by what could not be read: they are what they were,
/// and no other one is meant by their labels.
pub async fn reconcile(
    work: &mut Work<'_>,
    within: Within,
    wanted: &[Wanted],
    unread: &[DeviceId],
    rng: &mut (impl CryptoRng + Send),
) -> Result<Results, Error> {
    // One after the other in a tenant: each locks devices in an order of its own.
    db::extensions::lock_range(work.connection(), within.tenant()).await?;
    let mut known = Known::of(work, within, wanted).await?;
    work.vault.sealer(work.connection()).await?;
    let mut seen: HashSet<DeviceId> = unread.iter().copied().collect();
    let mut results = Vec::new();
    results.resize_with(wanted.len(), || None);
    let by_id = |line: &usize| matches!(wanted[*line].which, Which::Id(_));
    let (by_id, others): (Vec<_>, Vec<_>) = (0..wanted.len()).partition(by_id);
    for line in by_id.into_iter().chain(others) {
        let one = &wanted[line];
        let result = match known.find(one) {
            Err(refused) => Err(refused),
            Ok(Some(before)) if !seen.insert(before.id) => {
                let by_id = matches!(one.which, Which::Id(_));
                Err(repeated(if by_id { "id" } else { "label" }))
            }
            Ok(before) => attempt(work, &known, within, before, one, rng).await?,
        };
        results[line] = Some(result.map(|(done, device)| {
            if let Some(device) = device {
                seen.insert(device.id);
                known.put(device);
            }
            done
        }));
    }
    Ok(results.into_iter().flatten().collect())
}

/// What was done, and what the device is then, unless it is as before.
type DoneWith = (Done, Option<Device>);

async fn attempt(
    work: &mut Work<'_>,
    known: &Known,
    within: Within,
    before: Option<&Device>,
    wanted: &Wanted,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Result<DoneWith, Error>, Error> {
    if let Some(done) = before.and_then(|before| unchanged(known, before, wanted)) {
        return Ok(Ok((done, None)));
    }
    let savepoint = work.savepoint().await?;
    let result = match before {
        Some(before) => change(work, known, within, before, wanted, rng).await,
        None => create(work, known, within, wanted, rng).await,
    };
    settle(work, savepoint, result).await
}

/// Without asking the database, because mostly nothing changes.
fn unchanged(known: &Known, before: &Device, wanted: &Wanted) -> Option<Done> {
    check_username(before, wanted).ok()?;
    let patch = patch(known, wanted).ok()?;
    let after = before.patched(patch);
    let (outcome, _) = differences(&before.told(), &after.told());
    (outcome == Outcome::Unchanged).then(|| Done {
        outcome,
        id: before.id.0,
        key: known.key(before),
        extension: Some(before.extension),
        changes: Vec::new(),
        credentials: None,
    })
}

/// A file that says what a device registers as was made of the device as it was.
fn check_username(device: &Device, wanted: &Wanted) -> Result<(), Error> {
    let same = |said: &String| said == device.endpoint_name().as_str();
    if wanted.sip_username.as_ref().is_none_or(same) {
        return Ok(());
    }
    let reason = Invalid {
        code: "read_only",
        message: "is another one now, and follows from number and place of the device",
    };
    Err(refused_field("sip_username", reason))
}

fn patch(known: &Known, wanted: &Wanted) -> Result<DevicePatch, Error> {
    let owner = wanted.owner.as_ref();
    Ok(DevicePatch {
        user: owner.map(|email| known.owner(email)).transpose()?,
        label: wanted.label.clone(),
        ends_overlap: false,
        settings: wanted.settings.clone(),
    })
}

async fn change(
    work: &mut Work<'_>,
    known: &Known,
    within: Within,
    seen: &Device,
    wanted: &Wanted,
    rng: &mut (impl CryptoRng + Send),
) -> Result<DoneWith, Error> {
    let locked = devices::locked(work, within, seen.id).await?;
    let same = (locked.device.user, &locked.device.label) == (seen.user, &seen.label);
    if wanted.which == Which::Labelled && !same {
        let reason = Invalid {
            code: "outdated",
            message: "was given up by its device meanwhile: try again",
        };
        return Err(refused_field("label", reason));
    }
    check_username(&locked.device, wanted)?;
    let before = locked.device.clone();
    let after = devices::change(work, locked, patch(known, wanted)?, rng).await?;
    let (outcome, changes) = differences(&before.told(), &after.told_after(&before));
    let done = Done {
        outcome,
        id: after.id.0,
        key: known.key(&after),
        extension: Some(after.extension),
        changes,
        credentials: None,
    };
    Ok((done, Some(after)))
}

async fn create(
    work: &mut Work<'_>,
    known: &Known,
    within: Within,
    wanted: &Wanted,
    rng: &mut (impl CryptoRng + Send),
) -> Result<DoneWith, Error> {
    if wanted.sip_username.is_some() {
        let reason = Invalid {
            code: "read_only",
            message: "is given by the portal to a new device",
        };
        return Err(refused_field("sip_username", reason));
    }
    let owner = wanted.owner.as_ref().ok_or(missing("user_email"))?;
    let mut settings = DeviceSettings::default();
    settings.apply(wanted.settings.clone());
    let new = NewDevice {
        user: known.owner(owner)?,
        label: wanted.label.clone().ok_or(missing("label"))?,
        settings,
    };
    let made = devices::create(work, within.tenant(), new, Reveal::Now, rng).await?;
    let device = made.device.clone();
    let done = Done {
        outcome: Outcome::Created,
        id: device.id.0,
        key: known.key(&device),
        extension: Some(device.extension),
        changes: created_fields(&device.told()),
        credentials: Some(made),
    };
    Ok((done, Some(device)))
}

/// The devices that are meant and the owners that are named, as they are.
#[derive(Default)]
struct Known {
    devices: HashMap<DeviceId, Device>,
    labelled: HashMap<(UserId, String), Vec<DeviceId>>,
    owners: HashMap<String, UserId>,
    emails: HashMap<UserId, String>,
}

impl Known {
    async fn of(work: &mut Work<'_>, within: Within, wanted: &[Wanted]) -> Result<Self, Error> {
        let tenant = within.tenant();
        let mut known = Self::default();
        for some in wanted.chunks(LOOKED_UP) {
            let emails: Vec<&Email> = some.iter().filter_map(|one| one.owner.as_ref()).collect();
            let users = db::users::find_many(work.connection(), tenant, &[], &emails).await?;
            known.learn(within, users);
            let ids = some.iter().filter_map(|one| match one.which {
                Which::Id(id) => Some(id),
                Which::Labelled | Which::New => None,
            });
            let ids: Vec<DeviceId> = ids.collect();
            let owners = emails.iter().filter_map(|email| known.owner(email).ok());
            let owners: Vec<UserId> = owners.collect();
            let found = db::devices::find_many(work.connection(), tenant, &ids, &owners).await?;
            for device in found.into_iter().filter(|device| within.has(device.user)) {
                known.put(device);
            }
        }
        let nameless = known.devices.values().map(|device| device.user);
        let nameless = nameless.filter(|user| !known.emails.contains_key(user));
        let nameless: Vec<UserId> = nameless.collect();
        for some in nameless.chunks(LOOKED_UP) {
            let users = db::users::find_many(work.connection(), tenant, some, &[]).await?;
            known.learn(within, users);
        }
        Ok(known)
    }

    fn learn(&mut self, within: Within, users: Vec<User>) {
        for user in users.into_iter().filter(|user| within.has(user.id)) {
            let email = user.email.as_str();
            self.owners.insert(email.to_ascii_lowercase(), user.id);
            self.emails.insert(user.id, email.to_owned());
        }
    }

    /// Learns of a device, or of what it is now.
    fn put(&mut self, device: Device) {
        let place = |device: &Device| (device.user, device.label.as_str().to_owned());
        let (id, now) = (device.id, place(&device));
        if let Some(before) = self.devices.insert(id, device)
            && let Some(there) = self.labelled.get_mut(&place(&before))
        {
            there.retain(|other| *other != id);
        }
        self.labelled.entry(now).or_default().push(id);
    }

    fn owner(&self, email: &Email) -> Result<UserId, Error> {
        let owner = self.owners.get(&email.as_str().to_ascii_lowercase());
        owner.copied().ok_or_else(|| {
            let reason = Invalid {
                code: "user_not_found",
                message: "is the address of no user of the tenant",
            };
            refused_field("user_email", reason)
        })
    }

    /// The device that is meant, if there is one.
    fn find(&self, wanted: &Wanted) -> Result<Option<&Device>, Error> {
        let (owner, label) = match (wanted.which, &wanted.owner, &wanted.label) {
            (Which::Id(id), ..) => {
                return self.devices.get(&id).ok_or(Error::DeviceNotFound).map(Some);
            }
            (Which::Labelled, Some(email), Some(label)) => (self.owner(email)?, label),
            (Which::Labelled | Which::New, ..) => return Ok(None),
        };
        let place = (owner, label.as_str().to_owned());
        match self.labelled.get(&place).map_or(&[][..], Vec::as_slice) {
            [] => Ok(None),
            [one] => Ok(self.devices.get(one)),
            [..] => {
                let reason = Invalid {
                    code: "ambiguous",
                    message: "is the label of several devices of this user: say which by its id",
                };
                Err(refused_field("label", reason))
            }
        }
    }

    fn key(&self, device: &Device) -> String {
        let email = self.emails.get(&device.user).map_or("", String::as_str);
        format!("{email} {}", device.label.as_str())
    }
}
