//! A bulkhead around each tenant: how many connections to the database its changes may hold.
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

/// How long to wait for a permit: as long as the database waits for a lock, in seconds.
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

/// What keeps each tenant that was ever changed from taking the connections of all.
#[derive(Debug, Default)]
pub struct Bulkhead(Mutex<HashMap<(TenantId, Change), Arc<Semaphore>>>);

/// That a change may be carried out, until it is done.
#[derive(Debug)]
#[must_use]
pub struct Permit(#[expect(dead_code, reason = "it is given back")] OwnedSemaphorePermit);

impl Bulkhead {
    /// Waits until a change of a living tenant may be carried out. To be called before a connection is taken.
    ///
    /// # Errors
    /// [`Error::Overloaded`]: not within five seconds.
    pub async fn enter(&self, tenant: TenantId, change: Change) -> Result<Permit, Error> {
        let permits = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let permits = all
                .entry((tenant, change))
                .or_insert_with(|| Arc::new(Semaphore::new(change.at_once())));
            Arc::clone(permits)
        };
        let wait = Duration::from_secs(WAIT_SECONDS);
        match tokio::time::timeout(wait, permits.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            _ => Err(Error::Overloaded(
                "other changes of this tenant are under way",
            )),
        }
    }
}
