//! The lock under which applies of a PBX run one after another, across any number of portals
//! (FR-018).
//!
//! It is a session-level advisory lock on a connection of its own: it may be held for minutes
//! without a transaction being open, and it ends with the connection, so a portal that dies leaves
//! nothing behind. A portal that loses its connection without noticing is stopped by the revision,
//! which the agent takes as a fencing token.

use std::time::Duration;

use sqlx::error::DatabaseError;
use sqlx::{Connection as _, PgConnection};

use super::{Database, DbError};
use crate::domain::PbxId;

/// First key of the advisory locks of applies; the second is `pbx.lock_key`. The pair of integers
/// is a key space apart from the single bigint that migrations lock with.
const LOCK_CLASS: i32 = 0x0061_7079;

/// How long connecting and the round trips may take beside the wait, in seconds.
const GRACE_SECONDS: u64 = 3;

/// The held lock of a PBX. Dropping it closes the connection, which frees the lock as well.
pub struct ApplyLock {
    connection: PgConnection,
}

impl ApplyLock {
    /// Frees the lock. A connection that is already gone has freed it.
    pub async fn release(mut self) {
        let freed = async {
            sqlx::query!("select pg_advisory_unlock_all()")
                .execute(&mut self.connection)
                .await?;
            self.connection.close().await
        };
        let limit = Duration::from_secs(GRACE_SECONDS);
        if !matches!(tokio::time::timeout(limit, freed).await, Ok(Ok(()))) {
            tracing::warn!("the connection that held the apply lock was lost before its release");
        }
    }
}

impl Database {
    /// Waits for the lock of a PBX for at most `wait`; `None` when somebody else still holds it.
    pub async fn lock_pbx(&self, pbx: PbxId, wait: Duration) -> Result<Option<ApplyLock>, DbError> {
        let limit = wait + Duration::from_secs(GRACE_SECONDS);
        tokio::time::timeout(limit, self.wait_for_lock(pbx, wait))
            .await
            .map_err(|_| DbError::Unavailable(None))?
    }

    async fn wait_for_lock(
        &self,
        pbx: PbxId,
        wait: Duration,
    ) -> Result<Option<ApplyLock>, DbError> {
        let mut connection = self.connect_apart().await?;
        // Zero would mean no limit.
        let wait_ms = wait.as_millis().clamp(1, 86_400_000).to_string();
        sqlx::query!("select set_config('lock_timeout', $1, false)", wait_ms)
            .fetch_one(&mut connection)
            .await?;
        let locked = sqlx::query!(
            "select pg_advisory_lock($1, lock_key) from pbx where pbx_id = $2",
            LOCK_CLASS,
            pbx.0,
        )
        .fetch_one(&mut connection)
        .await;
        match locked {
            Ok(_) => Ok(Some(ApplyLock { connection })),
            Err(error) if is_lock_timeout(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the lock of a PBX if nobody holds it.
    pub async fn try_lock_pbx(&self, pbx: PbxId) -> Result<Option<ApplyLock>, DbError> {
        let attempt = async {
            let mut connection = self.connect_apart().await?;
            let locked = sqlx::query_scalar!(
                r#"select pg_try_advisory_lock($1, lock_key) as "locked!"
                   from pbx where pbx_id = $2"#,
                LOCK_CLASS,
                pbx.0,
            )
            .fetch_one(&mut connection)
            .await?;
            Ok(locked.then_some(ApplyLock { connection }))
        };
        let limit = Duration::from_secs(GRACE_SECONDS);
        tokio::time::timeout(limit, attempt)
            .await
            .map_err(|_| DbError::Unavailable(None))?
    }

    async fn connect_apart(&self) -> Result<PgConnection, DbError> {
        // Through the pool once: it is what knows whether the schema is up to date.
        drop(self.acquire().await?);
        let options = self.options.clone().options([("statement_timeout", "0")]);
        Ok(PgConnection::connect_with(&options).await?)
    }
}

pub(super) fn is_lock_timeout(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == "55P03")
}
