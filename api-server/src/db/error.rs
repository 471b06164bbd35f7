//! Why a query gave no answer.

/// Why a query gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be reached, is starting or stopping: the same may work later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Option<sqlx::Error>),
    /// Every connection was in use for as long as a request waits for one.
    #[error("every connection to the database is in use")]
    Busy,
    /// Another change kept it waiting, or they waited for each other: the same will work later.
    #[error("another change was in the way")]
    InTheWay(#[source] sqlx::Error),
    /// A named constraint refused the change.
    #[error("constraint {name} was violated")]
    Constraint {
        /// The name in the schema.
        name: String,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// A row holds what the portal would never have written.
    #[error("{table} {row}: column {column}: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
        /// What is wrong, without the value.
        reason: String,
    },
    /// `SECRET_KEY` does not open the current data key: it was retired since the start.
    #[error("the database is sealed with another SECRET_KEY")]
    OtherKey,
    /// Anything else: a bug.
    #[error("a query failed")]
    Query(#[source] sqlx::Error),
}

impl DbError {
    pub(super) fn inconsistent(
        table: &'static str,
        column: &'static str,
        row: &impl ToString,
        reason: &impl ToString,
    ) -> Self {
        Self::Inconsistent {
            table,
            column,
            row: row.to_string(),
            reason: reason.to_string(),
        }
    }

    /// Whether a statement waited for others for as long as it may.
    pub fn is_wait_too_long(&self) -> bool {
        let (Self::Unavailable(Some(sqlx::Error::Database(error)))
        | Self::InTheWay(sqlx::Error::Database(error))) = self
        else {
            return false;
        };
        // `lock_timeout`, or `statement_timeout` when that is as short.
        matches!(error.code().as_deref(), Some("55P03" | "57014"))
    }

    /// The name of the violated constraint.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Constraint { name, .. } => Some(name),
            Self::Unavailable(_)
            | Self::Busy
            | Self::InTheWay(_)
            | Self::Inconsistent { .. }
            | Self::OtherKey
            | Self::Query(_) => None,
        }
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        if is_in_the_way(&error) {
            return Self::InTheWay(error);
        }
        if is_unavailable(&error) {
            return Self::Unavailable(Some(error));
        }
        match error.as_database_error().and_then(|e| e.constraint()) {
            Some(name) => Self::Constraint {
                name: name.to_owned(),
                source: error,
            },
            None => Self::Query(error),
        }
    }
}

/// Whether another change kept it waiting for too long (55P03), or they waited for each other and PostgreSQL
/// ended one of them (class 40).
fn is_in_the_way(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    error
        .code()
        .is_some_and(|code| code.starts_with("40") || code == "55P03")
}

/// Whether the same statement may succeed later without anybody changing it.
fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Classes of SQLSTATE: 08 connection, 53 resources, 57 operator intervention (shutdown,
            // starting, timeout), 28 credentials; then: no such database, read-only (a standby).
            let class = code.get(..2).unwrap_or_default();
            ["08", "28", "53", "57"].contains(&class) || ["3D000", "25006"].contains(&code.as_ref())
        }),
        _ => false,
    }
}
