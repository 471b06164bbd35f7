//! Whose turn it is: first in line within this process, then the PBX's lock among all of them.
//!
//! Only the first in line waits on the database, so that 50 waiting requests cost one connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, MutexGuard, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;

use super::super::{Error, Portal};
use crate::db::apply_lock::ApplyLock;
use crate::domain::PbxId;

/// Applies in line on one PBX at a time that nobody waits for. Those that somebody waits for are bounded by
/// the connections of their callers.
const ACCEPTED_MAX: usize = 100;

/// The applies of this process on one PBX. tokio's mutex is fair: first come, first served.
pub struct Queue {
    line: Mutex<()>,
    places: Arc<Semaphore>,
}

/// The applies of this process that run, on whatever PBX.
pub struct Runs(mpsc::Sender<Infallible>);

impl Runs {
    /// None yet, and what tells when none runs any more after this was dropped.
    pub fn new() -> (Self, AllEnded) {
        let (running, ended) = mpsc::channel(1);
        (Self(running), AllEnded(ended))
    }

    /// Says that an apply runs.
    pub fn one_more(&self) -> Running {
        Running(self.0.clone())
    }
}

/// Resolves when no apply runs any more.
pub struct AllEnded(mpsc::Receiver<Infallible>);

impl AllEnded {
    /// Waits for it. To be called when no further apply can begin.
    pub async fn wait(mut self) {
        // Nothing is ever sent: this ends when the last sender is gone.
        self.0.recv().await;
    }
}

/// Kept for as long as an apply runs, so that a shutdown waits for it.
pub struct Running(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<Infallible>);

/// The turn of one apply.
pub struct Turn<'a> {
    lock: ApplyLock,
    place: MutexGuard<'a, ()>,
}

impl Turn<'_> {
    /// Lets the next one in.
    pub async fn end(self) {
        self.lock.release().await;
        drop(self.place);
    }
}

impl Default for Queue {
    /// An empty queue.
    fn default() -> Self {
        Self {
            line: Mutex::default(),
            places: Arc::new(Semaphore::new(ACCEPTED_MAX)),
        }
    }
}

impl Queue {
    /// A place for an apply that nobody waits for; `None` when there are too many.
    pub fn take_place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }

    /// Waits for the turn; `None` when it did not come within the configured time.
    pub async fn wait(&self, portal: &Portal, pbx: PbxId) -> Result<Option<Turn<'_>>, Error> {
        // Without a database nobody's turn comes: say so at once instead of one after another.
        drop(portal.database.acquire().await?);
        let deadline = Instant::now() + portal.settings.apply_lock_wait;
        let Ok(place) = tokio::time::timeout_at(deadline, self.line.lock()).await else {
            return Ok(None);
        };
        let rest = deadline.saturating_duration_since(Instant::now());
        // Whoever comes to the front at the last moment still looks whether the lock is free.
        let wait = rest.max(Duration::from_millis(1));
        let lock = portal.database.lock_pbx(pbx, wait).await?;
        Ok(lock.map(|lock| Turn { lock, place }))
    }
}
