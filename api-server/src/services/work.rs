//! The unit of work: one transaction, with who asks for it and when.
//!
//! What changes something takes `&mut Work`, so that several changes are made together or not at
//! all, and whoever carries a request out decides when they count. [`run`] is the usual way;
//! [`idempotency::once`](super::idempotency::once) the one for requests that may be repeated.

use std::mem;
use std::sync::Arc;

use sqlx::{Connection as _, PgConnection, Postgres, Transaction};
use time::OffsetDateTime;

use super::{Error, Portal};
use crate::db::audit::AuditKey;
use crate::db::{self, DbError};
use crate::domain::Actor;
use crate::domain::audit::{Author, Entry};
use crate::vault::Vault;

/// How many entries of the audit trail wait for the commit at most, once a part is done.
const ENTRIES_KEPT: usize = 500;

/// Where a part of a [`Work`] began that may be undone alone.
#[derive(Debug)]
#[must_use]
pub struct Savepoint {
    entries: usize,
    afterwards: usize,
}

/// Changes that are made together.
pub struct Work<'a> {
    /// Encryption at rest.
    pub vault: &'a Vault,
    /// Who asks.
    pub actor: &'a Actor,
    /// When: one instant for everything in it.
    pub now: OffsetDateTime,
    transaction: Transaction<'a, Postgres>,
    audit_key: Arc<AuditKey>,
    entries: Vec<Entry>,
    afterwards: Vec<Box<dyn FnOnce() + Send + 'a>>,
}

impl<'a> Work<'a> {
    /// Begins one. Dropped before [`Work::commit`], it leaves nothing.
    pub async fn begin(portal: &'a Portal, actor: &'a Actor) -> Result<Self, Error> {
        let (vault, now) = (&portal.vault, portal.clock.now());
        let transaction = portal.database.begin().await?;
        // There is one since the database could be worked with.
        let audit_key = portal.database.audit_key()?;
        Ok(Self::of(transaction, (vault, audit_key), actor, now))
    }

    /// Begins one for a command on the portal's host, which has a connection of its own and serves
    /// nobody.
    pub async fn on(
        connection: &'a mut PgConnection,
        (vault, audit_key): (&'a Vault, AuditKey),
        actor: &'a Actor,
        now: OffsetDateTime,
    ) -> Result<Self, Error> {
        let transaction = connection.begin().await.map_err(DbError::from)?;
        let keys = (vault, Arc::new(audit_key));
        Ok(Self::of(transaction, keys, actor, now))
    }

    fn of(
        transaction: Transaction<'a, Postgres>,
        (vault, audit_key): (&'a Vault, Arc<AuditKey>),
        actor: &'a Actor,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            vault,
            actor,
            now,
            transaction,
            audit_key,
            entries: Vec::new(),
            afterwards: Vec::new(),
        }
    }

    /// The connection that the transaction runs on.
    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// Notes a change for the audit trail, which gets it with the commit.
    pub fn record(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// What is done once the changes count: a line in the log, a signal. Never on a roll-back.
    pub fn afterwards(&mut self, act: impl FnOnce() + Send + 'a) {
        self.afterwards.push(Box::new(act));
    }

    /// Begins a part that can be undone alone. There is one at a time.
    pub async fn savepoint(&mut self) -> Result<Savepoint, Error> {
        db::savepoint(&mut self.transaction).await?;
        Ok(Savepoint {
            entries: self.entries.len(),
            afterwards: self.afterwards.len(),
        })
    }

    /// Keeps what was done since then. Of very many changes the audit trail gets some before the
    /// commit, so that they need not all be in memory.
    pub async fn release(&mut self, _: Savepoint) -> Result<(), Error> {
        db::release(&mut self.transaction).await?;
        if self.entries.len() >= ENTRIES_KEPT {
            self.write_entries().await?;
        }
        Ok(())
    }

    /// Undoes what was done since then.
    pub async fn undo(&mut self, savepoint: Savepoint) -> Result<(), Error> {
        self.entries.truncate(savepoint.entries);
        self.afterwards.truncate(savepoint.afterwards);
        Ok(db::undo(&mut self.transaction).await?)
    }

    async fn write_entries(&mut self) -> Result<(), Error> {
        let entries = mem::take(&mut self.entries);
        let (key, author) = (&self.audit_key, Author::from(self.actor));
        db::audit::append(&mut self.transaction, key, &author, self.now, &entries).await?;
        Ok(())
    }

    /// Makes the changes count.
    pub async fn commit(mut self) -> Result<(), Error> {
        // Last: until the commit, a lane of the trail is this transaction's.
        self.write_entries().await?;
        let afterwards = mem::take(&mut self.afterwards);
        db::commit(self.transaction).await?;
        for act in afterwards {
            act();
        }
        Ok(())
    }
}

/// Carries out `task` in a unit of work of its own, which counts unless it fails.
pub async fn run<T, E: From<Error>>(
    portal: &Portal,
    actor: &Actor,
    task: impl AsyncFnOnce(&mut Work<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let mut work = Work::begin(portal, actor).await?;
    let done = task(&mut work).await?;
    work.commit().await?;
    Ok(done)
}
