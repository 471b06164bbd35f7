//! Many at once: tables of users and devices, and what became of each line.

pub(super) mod body;
pub(super) mod columns;
mod shape;
pub(super) mod sheet;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;
use super::extract::InTenant;
use super::fields::{FieldError, Fields, boolean_text};
use crate::services::bulkhead::{Change, Permit};
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

/// The tenant of an import or a declaration, of which no more than a few are under way there. That is asked
/// before a body is read, so that slow bodies of one tenant leave the others their room.
pub(super) struct InBulk {
    pub(super) tenant: InTenant,
    /// Kept until the answer.
    pub(super) permit: Permit,
}

impl FromRequestParts<Arc<Portal>> for InBulk {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, portal: &Arc<Portal>) -> Result<Self, ApiError> {
        let tenant = InTenant::from_request_parts(parts, portal).await?;
        let permit = portal.bulkhead.enter(tenant.id, Change::Bulk).await?;
        Ok(Self { tenant, permit })
    }
}

/// Carries out an import or a declaration within the time for it.
pub(super) async fn in_time<T>(
    task: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout(Duration::from_secs(BULK_SECONDS), task)
        .await
        .map_err(|_| ApiError::RequestTimeout)?
}

/// Carries out `task` when it is its turn. One at a time: each keeps a transaction open, and a core of the
/// database busy. Whoever has `prepared` it for longer than others wait, waits for as long again.
pub(super) async fn in_turn<T>(
    portal: &Portal,
    prepared: Duration,
    task: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let wait = prepared.max(Duration::from_secs(TURN_SECONDS));
    let turn = tokio::time::timeout(wait, portal.bulk.acquire());
    let Ok(Ok(_turn)) = turn.await else {
        return Err(Error::Overloaded("another import runs").into());
    };
    task.await
}

/// Who writes a whole tenant into one answer.
static WRITING: Semaphore = Semaphore::const_new(1);

/// Waits for its turn to write a whole tenant into one answer: all of it is in memory until then.
pub(super) async fn writing() -> Result<SemaphorePermit<'static>, ApiError> {
    let turn = tokio::time::timeout(Duration::from_secs(TURN_SECONDS), WRITING.acquire());
    match turn.await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(Error::Overloaded("another declaration is being written").into()),
    }
}

/// Who reads a large body, which takes many times as much memory as it is long: one at a time.
static READING: Semaphore = Semaphore::const_new(1);

/// Reads a large body, apart from the threads that serve requests. What comes of it is not kept while others
/// have their turn, but read again then.
pub(super) async fn apart<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let reading = READING.acquire().await;
    let read = move || {
        let _held = reading;
        read()
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(Error::from)?
}

/// The errors of something that stands within a larger one.
pub(super) fn within(prefix: &str, errors: Vec<FieldError>) -> impl Iterator<Item = FieldError> {
    errors.into_iter().map(move |error| FieldError {
        field: format!("{prefix}.{}", error.field),
        ..error
    })
}
