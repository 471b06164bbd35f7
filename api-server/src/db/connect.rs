//! Connections, and why there is none.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection as _, PgConnection};

use super::data_keys::KeyError;
use super::{DbError, schema};

/// How long to wait for one connection, in seconds.
pub(super) const CONNECT_SECONDS: u64 = 5;

/// What every session of this program asks of the server.
pub(super) fn session(options: PgConnectOptions) -> PgConnectOptions {
    options.application_name("synergycall-portal").options([
        ("statement_timeout", "5s"),
        // Earlier than the other, or that would be first, and be taken for a database that hangs.
        ("lock_timeout", "4500ms"),
        // What a page of a list needs lies in memory or on an SSD. With the default, which is for
        // spinning disks, whole tables are read to join a hundred rows.
        ("random_page_cost", "1.1"),
        ("idle_in_transaction_session_timeout", "30s"),
        // A portal that dies with its host must not keep locks: the server notices within a
        // minute, also while the session waits for a lock.
        ("tcp_keepalives_idle", "20"),
        ("tcp_keepalives_interval", "10"),
        ("tcp_keepalives_count", "3"),
        ("client_connection_check_interval", "5s"),
    ])
}

/// A connection for work that is no request, with the schema up to date.
///
/// # Errors
/// Why not, with everything behind it.
pub async fn connect_apart(options: PgConnectOptions) -> Result<PgConnection, PrepareError> {
    migrated(session(options), None).await
}

/// A connection in whose one transaction everything is read as of one instant, whatever the schema.
///
/// # Errors
/// Why not.
pub async fn connect_to_read(options: PgConnectOptions) -> Result<PgConnection, PrepareError> {
    let mut connection = connected(session(options)).await?;
    sqlx::query!("begin isolation level repeatable read, read only")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// A connection, within the time for it.
pub(super) async fn connected(options: PgConnectOptions) -> Result<PgConnection, PrepareError> {
    let limit = Duration::from_secs(CONNECT_SECONDS);
    tokio::time::timeout(limit, PgConnection::connect_with(&options))
        .await
        .map_err(|_| PrepareError::Silent)?
        .map_err(PrepareError::Connection)
}

/// A connection to the service's database, with the schema up to date.
pub(super) async fn migrated(
    service: PgConnectOptions,
    owner: Option<PgConnectOptions>,
) -> Result<PgConnection, PrepareError> {
    schema::migrated(patient(service), owner.map(patient)).await
}

/// A migration may take longer than any query of a request.
fn patient(options: PgConnectOptions) -> PgConnectOptions {
    options.options([("statement_timeout", "10min")])
}

/// Brings the schema up to date as its owner, for a service that has a role of its own.
///
/// # Errors
/// Why not, with everything behind it.
pub async fn migrate(
    owner: PgConnectOptions,
    service: &PgConnectOptions,
) -> Result<(), PrepareError> {
    schema::migrate(patient(session(owner)), service.get_username()).await
}

/// Why the database cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Within the time for it.
    #[error("no answer")]
    Silent,
    /// It refuses or breaks the connection.
    #[error("cannot be used")]
    Connection(#[from] sqlx::Error),
    /// Its schema is not that of this version.
    #[error("a migration failed")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The row of the PBX.
    #[error("the PBX could not be configured")]
    Settings(#[from] DbError),
    /// Its secrets.
    #[error("cannot be opened")]
    Key(#[from] KeyError),
}

/// What readiness shows: enough to know whom to call, no host, user or query.
pub(super) fn plain_reason(error: &PrepareError) -> &'static str {
    match error {
        PrepareError::Silent => "does not answer",
        PrepareError::Migration(sqlx::migrate::MigrateError::VersionMissing(_)) => {
            "has a schema newer than this portal"
        }
        PrepareError::Migration(_) => "did not take a migration; see the log",
        PrepareError::Settings(_) => "did not take the settings of the PBX; see the log",
        PrepareError::Key(error) if error.is_wrong_key() => {
            "is sealed with another SECRET_KEY; see the log"
        }
        PrepareError::Key(_) => "did not say which key it is sealed with; see the log",
        PrepareError::Connection(sqlx::Error::Database(error)) => match error.code().as_deref() {
            Some(code) if code.starts_with("28") => "refuses the portal's credentials",
            Some("3D000") => "does not exist on its server",
            Some("57P03") => "is starting or stopping",
            Some(_) | None => "refuses the connection; see the log",
        },
        PrepareError::Connection(_) => "cannot be reached",
    }
}
