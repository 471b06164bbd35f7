//! Devices: sets of SIP credentials of users.

use std::time::Duration;

use rand::CryptoRng;
use secrecy::SecretString;
use time::OffsetDateTime;

use super::tenants::refused_field;
use super::work::Work;
use super::{Error, Portal};
use crate::clock::unix_ms;
use crate::db;
use crate::db::devices::{NewRow, SealedPasswords};
use crate::domain::audit::Entry;
use crate::domain::device::{
    Device, DeviceId, DeviceLabel, DevicePatch, DeviceSettings, NewDevice, Transport,
};
use crate::domain::page::{Page, Slice, SortKey as _};
use crate::domain::patch::set;
use crate::domain::user::User;
use crate::domain::{
    DeviceSlot, ExtensionNumber, Invalid, SipPassword, SipRealm, TenantId, TenantNumber, UserId,
    Version, Within, uuid_v7,
};
use crate::vault::{OpenError, Place};

pub use crate::db::devices::{DeviceFilter, DeviceSort};

/// When a fresh password is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reveal {
    /// In the answer that made it.
    Now,
    /// In the answer to [`reveal`].
    Later,
}

/// A device with what it registers with.
#[derive(Debug)]
pub struct Credentials {
    /// The device.
    pub device: Device,
    /// The password; `None` when it is to be shown later.
    pub password: Option<SipPassword>,
    /// The realm.
    pub realm: SipRealm,
}

/// Creates a device of a living user with a fresh password.
///
/// # Errors
/// [`Error::UserNotFound`], [`Error::TooManyDevices`], [`Error::InvalidField`].
pub async fn create(
    work: &mut Work<'_>,
    tenant: TenantId,
    new: NewDevice,
    show: Reveal,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Credentials, Error> {
    check_transport(work, tenant, new.settings.transport).await?;
    let (extension, slot) = place(work, tenant, new.user).await?;
    let made = made(work, (tenant, slot), new, show, rng).await?;
    let credentials = made.of(extension);
    record_created(work, &credentials.device);
    Ok(credentials)
}

/// An entry of the audit trail about a device.
fn told(action: &'static str, device: &Device) -> Entry {
    Entry::new(action, "device", &device.id)
        .called(device.label.as_str())
        .of(device.tenant)
}

/// Notes for the audit trail that a device was created.
pub(super) fn record_created(work: &mut Work<'_>, device: &Device) {
    let entry = told("device.created", device).on_pbx_of_tenant();
    work.record(entry.changing(None, Some(device.told())));
}

/// Likewise that it was deleted, by itself or with its user.
pub(super) fn record_deleted(work: &mut Work<'_>, device: &Device) {
    let entry = told("device.deleted", device).on_pbx_of_tenant();
    work.record(entry.changing(Some(device.told()), None));
}

/// Every device of a user.
pub(super) async fn all_of(work: &mut Work<'_>, user: &User) -> Result<Vec<Device>, Error> {
    let page = Page {
        order: DeviceSort::DEFAULT,
        after: None,
        limit: None,
    };
    let filter = DeviceFilter {
        user: Some(user.id),
        enabled: None,
        search: None,
    };
    let all = db::devices::list(
        work.connection(),
        Within::all_of(user.tenant),
        &page,
        filter,
    )
    .await?;
    Ok(all.items)
}

/// Creates the first device of a user who has no number yet.
pub(super) async fn create_first(
    work: &mut Work<'_>,
    tenant: TenantId,
    user: UserId,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Made, Error> {
    let new = NewDevice {
        user,
        label: DeviceLabel::first(),
        settings: DeviceSettings::default(),
    };
    made(work, (tenant, DeviceSlot::FIRST), new, Reveal::Now, rng).await
}

/// A device that was created for somebody whose number is not known yet.
pub(super) struct Made {
    id: DeviceId,
    tenant: TenantId,
    tenant_number: TenantNumber,
    slot: DeviceSlot,
    new: NewDevice,
    at: OffsetDateTime,
    show: Reveal,
    password: SipPassword,
    realm: SipRealm,
}

impl Made {
    /// With the number of its user.
    pub(super) fn of(self, extension: ExtensionNumber) -> Credentials {
        let shown = self.show == Reveal::Now;
        Credentials {
            device: Device {
                id: self.id,
                tenant: self.tenant,
                tenant_number: self.tenant_number,
                user: self.new.user,
                extension,
                slot: self.slot,
                label: self.new.label,
                settings: self.new.settings,
                password_set_at: self.at,
                password_revealed_at: shown.then_some(self.at),
                overlap_until: None,
                version: Version::FIRST,
                created_at: self.at,
                updated_at: self.at,
            },
            password: shown.then_some(self.password),
            realm: self.realm,
        }
    }
}

async fn made(
    work: &mut Work<'_>,
    (tenant, slot): (TenantId, DeviceSlot),
    new: NewDevice,
    show: Reveal,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Made, Error> {
    let at = work.now;
    let id = DeviceId(uuid_v7(unix_ms(at), rng));
    let (tenant_number, realm) = db::devices::naming(work.connection(), tenant).await?;
    let (password, sealed) = fresh_password(work, id, rng).await?;
    let by = work.actor.admin.clone();
    let row = NewRow {
        id,
        tenant,
        slot,
        new: &new,
        sip_password_encrypted: &sealed,
        revealed_at: (show == Reveal::Now).then_some(at),
    };
    db::devices::insert(work.connection(), row, &by, at).await?;
    let user = new.user;
    work.afterwards(
        move || tracing::info!(device = %id, %user, by = by.as_str(), "device created"),
    );
    Ok(Made {
        id,
        tenant,
        tenant_number,
        slot,
        new,
        at,
        show,
        password,
        realm,
    })
}

/// Locks a living user: its number, and the lowest place that is free among its devices.
async fn place(
    work: &mut Work<'_>,
    tenant: TenantId,
    user: UserId,
) -> Result<(ExtensionNumber, DeviceSlot), Error> {
    if !db::users::lock(work.connection(), tenant, user).await? {
        return Err(Error::UserNotFound);
    }
    let extension = db::devices::extension(work.connection(), tenant, user).await?;
    let slot = db::devices::lowest_free_slot(work.connection(), tenant, user).await?;
    Ok((
        extension.ok_or(Error::UserNotFound)?,
        slot.ok_or(Error::TooManyDevices)?,
    ))
}

async fn check_transport(
    work: &mut Work<'_>,
    tenant: TenantId,
    transport: Option<Transport>,
) -> Result<(), Error> {
    let Some(transport) = transport else {
        return Ok(());
    };
    let offered = db::devices::transports(work.connection(), tenant).await?;
    if offered.iter().any(|kind| kind == transport.name()) {
        return Ok(());
    }
    let reason = Invalid {
        code: "not_offered",
        message: "the PBX offers no such transport: name it in the PBX's `transports` first",
    };
    Err(refused_field("transport", reason))
}

async fn fresh_password(
    work: &mut Work<'_>,
    id: DeviceId,
    rng: &mut (impl CryptoRng + Send),
) -> Result<(SipPassword, Vec<u8>), Error> {
    let seal = work.vault.sealer(work.connection()).await?;
    let password = SipPassword::generate(rng);
    let sealed = seal.seal(Place::SipPassword(id), password.expose().as_bytes(), rng)?;
    Ok((password, sealed))
}

/// One device.
///
/// # Errors
/// [`Error::DeviceNotFound`].
pub async fn get(portal: &Portal, within: Within, id: DeviceId) -> Result<Device, Error> {
    let mut connection = portal.database.acquire().await?;
    db::devices::find(&mut connection, within.tenant(), id)
        .await?
        .filter(|device| within.has(device.user))
        .ok_or(Error::DeviceNotFound)
}

/// A device that nobody else changes until the work is done.
#[derive(Debug)]
pub struct Locked {
    /// The device.
    pub device: Device,
    sealed: SealedPasswords,
}

/// Locks a device.
///
/// # Errors
/// [`Error::DeviceNotFound`].
pub async fn locked(work: &mut Work<'_>, within: Within, id: DeviceId) -> Result<Locked, Error> {
    let tenant = within.tenant();
    let sealed = db::devices::lock(work.connection(), tenant, id)
        .await?
        .ok_or(Error::DeviceNotFound)?;
    let device = db::devices::find(work.connection(), tenant, id)
        .await?
        .filter(|device| within.has(device.user))
        .ok_or(Error::DeviceNotFound)?;
    Ok(Locked { device, sealed })
}

/// Changes what `patch` names. A new owner gets a password of its own, to be shown by [`reveal`]:
/// the former one knows the old.
///
/// # Errors
/// [`Error::UserNotFound`], [`Error::TooManyDevices`], [`Error::InvalidField`].
pub async fn change(
    work: &mut Work<'_>,
    locked: Locked,
    patch: DevicePatch,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Device, Error> {
    let Locked {
        mut device,
        mut sealed,
    } = locked;
    let before = device.clone();
    set(&mut device.label, patch.label);
    let transport = device.settings.transport;
    device.settings.apply(patch.settings);
    if device.settings.transport != transport {
        check_transport(work, device.tenant, device.settings.transport).await?;
    }
    if patch.ends_overlap {
        end_overlap(&mut device, &mut sealed);
    }
    if let Some(user) = patch.user.filter(|user| *user != device.user) {
        (device.extension, device.slot) = place(work, device.tenant, user).await?;
        device.user = user;
        end_overlap(&mut device, &mut sealed);
        (_, sealed.current) = fresh_password(work, device.id, rng).await?;
        device.password_set_at = work.now;
        device.password_revealed_at = None;
    }
    if device == before {
        return Ok(device);
    }
    store(work, &mut device, &sealed, "device changed").await?;
    let entry = told("device.changed", &device).on_pbx_of_tenant();
    work.record(entry.changing(Some(before.told()), Some(device.told_after(&before))));
    Ok(device)
}

fn end_overlap(device: &mut Device, sealed: &mut SealedPasswords) {
    device.overlap_until = None;
    sealed.previous = None;
}

/// Gives a device a new password. With an `overlap` the one before it works as well until that time
/// has passed, and then until the next apply.
pub async fn rotate(
    work: &mut Work<'_>,
    locked: Locked,
    overlap: Duration,
    show: Reveal,
    rng: &mut (impl CryptoRng + Send),
) -> Result<Credentials, Error> {
    let Locked {
        mut device,
        mut sealed,
    } = locked;
    let (id, before) = (device.id, device.clone());
    if overlap.is_zero() {
        end_overlap(&mut device, &mut sealed);
    } else {
        let clear = open(work, Place::SipPassword(id), &sealed.current).await?;
        let seal = work.vault.sealer(work.connection()).await?;
        let place = Place::PreviousSipPassword(id);
        sealed.previous = Some(seal.seal(place, clear.expose().as_bytes(), rng)?);
        device.overlap_until = Some(work.now + overlap);
    }
    let password;
    (password, sealed.current) = fresh_password(work, id, rng).await?;
    device.password_set_at = work.now;
    device.password_revealed_at = (show == Reveal::Now).then_some(work.now);
    store(work, &mut device, &sealed, "SIP password rotated").await?;
    let entry = told("device.rotated", &device).on_pbx_of_tenant();
    work.record(entry.changing(Some(before.told()), Some(device.told_after(&before))));
    let (_, realm) = db::devices::naming(work.connection(), device.tenant).await?;
    Ok(Credentials {
        device,
        password: (show == Reveal::Now).then_some(password),
        realm,
    })
}

/// Shows a password that was not shown yet.
///
/// # Errors
/// [`Error::PasswordRevealed`].
pub async fn reveal(work: &mut Work<'_>, locked: Locked) -> Result<Credentials, Error> {
    let Locked { mut device, sealed } = locked;
    if device.password_revealed_at.is_some() {
        return Err(Error::PasswordRevealed);
    }
    let before = device.told();
    let password = open(work, Place::SipPassword(device.id), &sealed.current).await?;
    device.password_revealed_at = Some(work.now);
    store(work, &mut device, &sealed, "SIP password shown").await?;
    // Nothing for an apply to carry.
    let entry = told("device.revealed", &device);
    work.record(entry.changing(Some(before), Some(device.told())));
    let (_, realm) = db::devices::naming(work.connection(), device.tenant).await?;
    Ok(Credentials {
        device,
        password: Some(password),
        realm,
    })
}

async fn open(work: &mut Work<'_>, place: Place, sealed: &[u8]) -> Result<SipPassword, Error> {
    let opener = work.vault.opener(work.connection()).await?;
    let clear = opener.open(place, sealed)?;
    // What is authentic was written by a portal, and those write passwords.
    let text = String::from_utf8(clear).map_err(|_| OpenError::Malformed)?;
    Ok(SipPassword::try_from(SecretString::from(text)).map_err(|_| OpenError::Malformed)?)
}

async fn store(
    work: &mut Work<'_>,
    device: &mut Device,
    sealed: &SealedPasswords,
    what: &'static str,
) -> Result<(), Error> {
    device.version = device.version.next();
    device.updated_at = work.now;
    db::devices::update(work.connection(), device, sealed).await?;
    let (id, by) = (device.id, work.actor.admin.clone());
    work.afterwards(move || tracing::info!(device = %id, by = by.as_str(), "{what}"));
    Ok(())
}

/// Removes a device. Its phone stays registered until the next apply.
pub async fn delete(work: &mut Work<'_>, locked: &Locked) -> Result<(), Error> {
    let Device { id, tenant, .. } = locked.device;
    db::devices::delete(work.connection(), tenant, id).await?;
    record_deleted(work, &locked.device);
    let by = work.actor.admin.clone();
    work.afterwards(move || tracing::info!(device = %id, by = by.as_str(), "device deleted"));
    Ok(())
}

/// Devices of a tenant.
pub async fn list(
    portal: &Portal,
    within: Within,
    page: &Page<DeviceSort>,
    filter: DeviceFilter,
) -> Result<Slice<Device>, Error> {
    let mut connection = portal.database.acquire().await?;
    Ok(db::devices::list(&mut connection, within, page, filter).await?)
}
