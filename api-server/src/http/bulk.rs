//! Many at once: tables of users and devices, and what became of each line.

pub(super) mod body;
pub(super) mod columns;
mod shape;
pub(super) mod sheet;

use std::time::Duration;

use super::error::ApiError;
use super::fields::{FieldError, Fields, boolean_text};
use crate::services::{Error, Portal};

/// Largest body of an import or a declaration: 16 MiB.
pub(super) const BULK_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Longest time for all of it, in seconds.
const BULK_SECONDS: u64 = 600;

/// How long to wait until another import or declaration of this portal has ended, in seconds.
const TURN_SECONDS: u64 = 10;

/// What is asked of an import or a declaration beside its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// Only to be told what would be done.
    pub(super) preview: bool,
    /// Lines that can be done are done, whatever becomes of the others.
    pub(super) per_line: bool,
}

/// Reads `preview`.
///
/// # Errors
/// Everything that is wrong with the query.
pub(super) fn preview(mut query: Fields) -> Result<bool, ApiError> {
    let preview = query.or_default("preview", boolean_text);
    query.finish(preview).map_err(ApiError::InvalidFields)
}

/// Likewise with `mode`.
pub(super) fn wish(mut query: Fields) -> Result<Wish, ApiError> {
    let preview = query.or_default("preview", boolean_text);
    let per_line = query.or_default("mode", |value| match value.as_str() {
        Some("all_or_nothing") => Ok(false),
        Some("per_line") => Ok(true),
        _ => Err(crate::domain::Invalid {
            code: "unknown_value",
            message: "must be all_or_nothing or per_line",
        }),
    });
    let wish = preview
        .zip(per_line)
        .map(|(preview, per_line)| Wish { preview, per_line });
    query.finish(wish).map_err(ApiError::InvalidFields)
}

/// Carries out `task` when it is its turn, within the time for it. One at a time: each keeps a
/// transaction open, and a core of the database busy.
pub(super) async fn in_turn<T>(
    portal: &Portal,
    task: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let turn = tokio::time::timeout(Duration::from_secs(TURN_SECONDS), portal.bulk.acquire());
    let Ok(Ok(_turn)) = turn.await else {
        return Err(Error::Overloaded("another import runs").into());
    };
    tokio::time::timeout(Duration::from_secs(BULK_SECONDS), task)
        .await
        .map_err(|_| ApiError::RequestTimeout)?
}

/// The errors of something that stands within a larger one.
pub(super) fn within(prefix: &str, errors: Vec<FieldError>) -> impl Iterator<Item = FieldError> {
    errors.into_iter().map(move |error| FieldError {
        field: format!("{prefix}.{}", error.field),
        ..error
    })
}
