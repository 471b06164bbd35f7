//! How many connections to the database the changes of one tenant may hold.
//!
//! Whoever changes very many things of a tenant locks its numbers and those of its users that it changes.
//! Others who want to change the same wait in the database, with a connection each, and all connections of a
//! portal would be theirs. So changes wait here first, where it costs nothing, and other tenants have what
//! is left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Error;
use crate::domain::TenantId;

/// How long to wait for a place: as long as the database waits for a lock, in seconds.
const WAIT_SECONDS: u64 = 5;

/// What is changed. Those who wait for the one are not in the way of the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// Which numbers are taken, or the tenant itself: all such changes of a tenant wait for each other.
    Numbers,
    /// Something else of a user or device.
    Other,
    /// Very many things. These have their turn besides, one at a time of all tenants.
    Bulk,
}

impl Change {
    /// How many of a tenant are carried out at once. With the one whose turn it is, two tenants leave one
    /// connection of the sixteen.
    const fn at_once(self) -> usize {
        match self {
            Self::Numbers => 3,
            Self::Other => 4,
            Self::Bulk => 2,
        }
    }
}

/// The places of each tenant that was ever changed.
#[derive(Debug, Default)]
pub struct Places(Mutex<HashMap<(TenantId, Change), Arc<Semaphore>>>);

/// The place of a change, until it is done.
#[derive(Debug)]
#[must_use]
pub struct Place(#[expect(dead_code, reason = "it is given back")] OwnedSemaphorePermit);

impl Places {
    /// A place for a change of a living tenant, once there is one. To be taken before a connection.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: not within five seconds.
    pub async fn take(&self, tenant: TenantId, change: Change) -> Result<Place, Error> {
        let places = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let places = all
                .entry((tenant, change))
                .or_insert_with(|| Arc::new(Semaphore::new(change.at_once())));
            Arc::clone(places)
        };
        let place = tokio::time::timeout(Duration::from_secs(WAIT_SECONDS), places.acquire_owned());
        match place.await {
            Ok(Ok(place)) => Ok(Place(place)),
            _ => Err(Error::Overloaded(
                "other changes of this tenant are under way",
            )),
        }
    }
}
