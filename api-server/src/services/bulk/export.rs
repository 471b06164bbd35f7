//! Users and devices of a tenant, page by page: each page is as of its own instant.

use std::collections::HashMap;
use std::sync::Arc;

use crate::db;
use crate::domain::device::Device;
use crate::domain::page::{Page, Position, Slice, SortKey as _};
use crate::domain::user::User;
use crate::domain::{UserId, Within};
use crate::services::devices::{DeviceFilter, DeviceSort};
use crate::services::users::{UserFilter, UserSort};
use crate::services::{Error, Portal};

/// Rows of a page.
const ROWS: u16 = 500;

/// The users that come after a place.
pub async fn users(
    portal: Arc<Portal>,
    within: Within,
    after: Option<Position>,
) -> Result<Slice<User>, Error> {
    let page = Page {
        order: UserSort::DEFAULT,
        after,
        limit: Some(ROWS),
    };
    let mut connection = portal.database.acquire().await?;
    Ok(db::users::list(&mut connection, within, &page, UserFilter::default()).await?)
}

/// A device, and the address of its owner.
#[derive(Clone, Debug)]
pub struct DeviceOfUser {
    /// The device.
    pub device: Device,
    /// The address.
    pub email: String,
}

/// The devices that come after a place.
pub async fn devices(
    portal: Arc<Portal>,
    within: Within,
    after: Option<Position>,
) -> Result<Slice<DeviceOfUser>, Error> {
    let page = Page {
        order: DeviceSort::DEFAULT,
        after,
        limit: Some(ROWS),
    };
    let mut connection = portal.database.acquire().await?;
    let filter = DeviceFilter::default();
    let slice = db::devices::list(&mut connection, within, &page, filter).await?;
    let owners: Vec<UserId> = slice.items.iter().map(|device| device.user).collect();
    let owners = db::users::find_many(&mut connection, within.tenant(), &owners, &[]).await?;
    let emails: HashMap<UserId, String> = owners
        .into_iter()
        .map(|user| (user.id, user.email.as_str().to_owned()))
        .collect();
    // One whose owner was deleted between the two questions is gone as well.
    Ok(Slice {
        items: slice
            .items
            .into_iter()
            .filter_map(|device| {
                let email = emails.get(&device.user)?.clone();
                Some(DeviceOfUser { device, email })
            })
            .collect(),
        next: slice.next,
    })
}

/// All users with their devices, for a declaration.
pub async fn everything(
    portal: &Arc<Portal>,
    within: Within,
) -> Result<(Vec<User>, Vec<Device>), Error> {
    let (mut all_users, mut all_devices) = (Vec::new(), Vec::new());
    let mut after = None;
    loop {
        let slice = users(Arc::clone(portal), within, after).await?;
        let ids: Vec<UserId> = slice.items.iter().map(|user| user.id).collect();
        let mut connection = portal.database.acquire().await?;
        let tenant = within.tenant();
        all_devices.extend(db::devices::find_many(&mut connection, tenant, &[], &ids).await?);
        all_users.extend(slice.items);
        after = slice.next;
        if after.is_none() {
            return Ok((all_users, all_devices));
        }
    }
}
