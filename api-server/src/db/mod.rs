//! PostgreSQL: the pool, the schema's life, and bare query functions, a file for each table family.
//!
//! The database may be down when the portal starts and at any time later. [`Database::keep`] brings
//! the schema up to date whenever the database (or another one in its place) appears, and no query
//! is served before that. Each new connection compares the server's start time with the one whose
//! schema was checked, so that a restart or a restored backup cannot go unnoticed.

pub mod accounts;
pub mod api_tokens;
pub mod applies;
pub mod apply_lock;
pub mod audit;
mod changes;
mod connect;
pub mod data_keys;
pub mod deleted_users;
pub mod devices;
mod error;
pub mod events;
pub mod extensions;
pub mod idempotency;
mod nul;
pub mod page;
pub mod password_resets;
pub mod pbxes;
pub mod queued;
pub mod recovery_codes;
pub mod revisions;
mod schema;
pub mod sealed;
pub mod sessions;
pub mod sign_in;
pub mod signing_keys;
pub mod snapshot;
pub mod standing;
pub mod status;
pub mod tenants;
pub mod users;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres, Transaction};
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

use self::audit::AuditKey;
use self::connect::{CONNECT_SECONDS, connected, migrated, plain_reason, session};
use self::data_keys::KeyError;
use self::nul::without_nul;
use self::pbxes::PbxSettings;
use crate::causes::causes;
use crate::clock::{Clock as _, SystemClock, os_rng};
use crate::vault::Vault;

pub use connect::{PrepareError, connect_apart, connect_to_read, migrate};
pub use error::DbError;
pub use schema::MIGRATOR;

/// How long a request waits for a usable connection, in milliseconds.
const ACQUIRE_MS: u64 = 2_000;

/// How long the keeper pauses between two attempts, in milliseconds.
const RETRY_MS: u64 = 500;

/// Largest number of connections; applies hold one more each.
const CONNECTIONS_MAX: u32 = 16;

/// Whether queries may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The schema is up to date.
    Ready,
    /// Not now, and why in words without host or credentials.
    Down(&'static str),
}

/// What tells one life of the server from the next, and one database from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Epoch {
    started_at: OffsetDateTime,
    database_oid: i64,
}

struct Schema {
    state: watch::Sender<State>,
    epoch: Mutex<Option<Epoch>>,
    /// Every connection was in use for too long: because there is much to do, or because the
    /// server hangs. The keeper finds out which.
    suspected: Notify,
}

impl Schema {
    fn down(&self, reason: &'static str) {
        self.state.send_if_modified(|state| {
            std::mem::replace(state, State::Down(reason)) == State::Ready
        });
    }

    fn expects(&self, epoch: Epoch) -> bool {
        *self.epoch.lock().unwrap_or_else(PoisonError::into_inner) == Some(epoch)
    }
}

/// The portal's PostgreSQL. Clones share the pool.
#[derive(Clone)]
pub struct Database {
    pool: PgPool,
    options: PgConnectOptions,
    /// Who brings the schema up to date, if not the same role.
    owner: Option<PgConnectOptions>,
    schema: Arc<Schema>,
    pbx: Arc<PbxSettings>,
    vault: Vault,
    audit_key: Arc<Mutex<Option<Arc<AuditKey>>>>,
}

impl Database {
    /// A pool that connects when it is needed. Nothing is served until [`Database::keep`] runs.
    pub fn new(options: PgConnectOptions, pbx: PbxSettings, vault: Vault) -> Self {
        let options = session(options);
        let schema = Arc::new(Schema {
            state: watch::Sender::new(State::Down("not reached yet")),
            epoch: Mutex::new(None),
            suspected: Notify::new(),
        });
        let checked = Arc::clone(&schema);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(Duration::from_millis(ACQUIRE_MS))
            .after_connect(move |connection, _| {
                let schema = Arc::clone(&checked);
                Box::pin(async move {
                    if schema.expects(epoch(connection).await?) {
                        return Ok(());
                    }
                    schema.down("was restarted");
                    Err(sqlx::Error::Protocol("the schema is being checked".into()))
                })
            })
            .connect_lazy_with(options.clone());
        Self {
            pool,
            options,
            owner: None,
            schema,
            pbx: Arc::new(pbx),
            vault,
            audit_key: Arc::default(),
        }
    }

    /// With a role of its own for whoever brings the schema up to date.
    #[must_use]
    pub fn owned_by(self, owner: Option<PgConnectOptions>) -> Self {
        let owner = owner.map(session);
        Self { owner, ..self }
    }

    /// Brings the schema up to date whenever the database is new or back. Runs for ever, unless the
    /// first attempt finds that the database is sealed with another key: then it returns why.
    pub async fn keep(self) -> KeyError {
        let mut state = self.schema.state.subscribe();
        let mut reported = "";
        let mut is_first = true;
        loop {
            tokio::select! {
                // The sender lives as long as `self`.
                () = async { drop(state.wait_for(|state| *state != State::Ready).await) } => {}
                () = self.schema.suspected.notified() => {
                    if self.probe().await {
                        continue;
                    }
                }
            }
            match self.prepare().await {
                Ok(()) => {
                    tracing::info!("database ready, schema up to date");
                    reported = "";
                    self.schema.state.send_replace(State::Ready);
                }
                Err(PrepareError::Key(error)) if is_first && error.is_wrong_key() => return error,
                Err(error) => {
                    let reason = plain_reason(&error);
                    if reported != reason {
                        tracing::warn!(error = causes(&error), "database {reason}");
                        reported = reason;
                    }
                    self.schema.state.send_replace(State::Down(reason));
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                }
            }
            is_first = false;
        }
    }

    /// Whether the server answers somebody who needs no connection of the pool.
    async fn probe(&self) -> bool {
        let answer = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            connection.ping().await?;
            connection.close().await
        };
        let limit = Duration::from_secs(CONNECT_SECONDS);
        matches!(tokio::time::timeout(limit, answer).await, Ok(Ok(())))
    }

    async fn prepare(&self) -> Result<(), PrepareError> {
        let mut connection = migrated(self.options.clone(), self.owner.clone()).await?;
        data_keys::ensure(&mut connection, &self.vault).await?;
        let now = SystemClock.now();
        signing_keys::ensure(&mut connection, &self.vault, now, &mut os_rng()).await?;
        let key = Arc::new(audit::ensure_key(&mut connection, &self.vault).await?);
        *self
            .audit_key
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&key));
        pbxes::configure(&mut connection, &self.pbx, &key, now).await?;
        let epoch = epoch(&mut connection).await?;
        *self
            .schema
            .epoch
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(epoch);
        connection.close().await?;
        Ok(())
    }

    /// What the entries of its audit trail are sealed with.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] before it was reached for the first time.
    pub fn audit_key(&self) -> Result<Arc<AuditKey>, DbError> {
        let key = self.audit_key.lock();
        let key = key.unwrap_or_else(PoisonError::into_inner).clone();
        key.ok_or(DbError::Unavailable(None))
    }

    /// Whether queries are served now.
    pub fn state(&self) -> State {
        *self.schema.state.borrow()
    }

    /// Tells whenever [`Database::state`] changes.
    pub fn changes(&self) -> watch::Receiver<State> {
        self.schema.state.subscribe()
    }

    /// A connection whose schema is up to date, within two seconds.
    pub async fn acquire(&self) -> Result<PoolConnection<Postgres>, DbError> {
        self.in_time(self.pool.acquire()).await
    }

    /// A transaction, likewise.
    pub async fn begin(&self) -> Result<Transaction<'static, Postgres>, DbError> {
        self.in_time(self.pool.begin()).await
    }

    async fn in_time<T>(
        &self,
        acquire: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, DbError> {
        let limit = Duration::from_millis(ACQUIRE_MS);
        let acquired = tokio::time::timeout(limit, async {
            self.ready().await;
            acquire.await
        });
        match acquired.await {
            Ok(Ok(acquired)) => Ok(acquired),
            // Much to do, or a server that hangs: the keeper finds out which.
            Ok(Err(sqlx::Error::PoolTimedOut)) | Err(_) => {
                self.schema.suspected.notify_one();
                Err(if self.is_exhausted() {
                    DbError::Busy
                } else {
                    DbError::Unavailable(None)
                })
            }
            Ok(Err(error)) => {
                // The keeper says ready again at once if nothing is wrong.
                self.schema.down("cannot be reached");
                Err(error.into())
            }
        }
    }

    /// Whether requests hold every connection: then another one had to wait because of them.
    fn is_exhausted(&self) -> bool {
        self.state() == State::Ready
            && self.pool.size() >= CONNECTIONS_MAX
            && self.pool.num_idle() == 0
    }

    async fn ready(&self) {
        let mut state = self.schema.state.subscribe();
        // The sender lives as long as `self`.
        state.wait_for(|state| *state == State::Ready).await.ok();
    }

    /// Closes every connection.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Ends a transaction.
pub async fn commit(transaction: Transaction<'_, Postgres>) -> Result<(), DbError> {
    Ok(transaction.commit().await?)
}

/// Begins a part of a transaction that can be undone alone. Of several the one that began last is meant by
/// what follows.
pub async fn savepoint(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("savepoint part").execute(connection).await?;
    Ok(())
}

/// Makes that part one with the transaction.
pub async fn release(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("release savepoint part")
        .execute(connection)
        .await?;
    Ok(())
}

/// Undoes it.
pub async fn undo(connection: &mut PgConnection) -> Result<(), DbError> {
    sqlx::query!("rollback to savepoint part")
        .execute(&mut *connection)
        .await?;
    release(connection).await
}

async fn epoch(connection: &mut PgConnection) -> Result<Epoch, sqlx::Error> {
    let row = sqlx::query!(
        r#"select pg_postmaster_start_time() as "started_at!", oid::bigint as "database_oid!"
           from pg_database where datname = current_database()"#
    )
    .fetch_one(connection)
    .await?;
    Ok(Epoch {
        started_at: row.started_at,
        database_oid: row.database_oid,
    })
}
