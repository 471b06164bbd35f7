//! From what is wanted, the database's word or a stored bundle, to a bundle that may be sent.

use std::sync::Arc;

use shared::bundle::{Bundle, Digest};

use super::stored;
use crate::domain::apply::{
    Attempt, AttemptOutcome, Failure, IncludedUser, RestoredFrom, UserCounts, Wish,
};
use crate::domain::audit::PendingChange;
use crate::domain::change::Summary;
use crate::services::compare::{Content, Instant, Unrenderable};
use crate::services::pbxes::Pbx;
use crate::services::restore::{self, Stored};
use crate::services::{Error, Portal};

/// A bundle that may be sent.
pub(super) struct Prepared {
    pub(super) bundle: Bundle,
    pub(super) digest: Digest,
    /// The bundle as it is kept, to be sealed in the transaction that writes it.
    pub(super) kept: Arc<[u8]>,
    /// What it carries of the audit trail.
    pub(super) carried: Vec<PendingChange>,
    changes: Option<Summary>,
    notes: Vec<String>,
}

/// Why an attempt ends before there is one.
pub(super) type Refusal = (AttemptOutcome, Failure);

/// Reads what is wanted, renders or decrypts it, checks, and compares with what is in
/// force; tells the attempt what it will do.
pub(super) async fn prepare(
    portal: &Portal,
    pbx: &Pbx,
    attempt: &mut Attempt,
    wish: &Wish,
) -> Result<Result<Prepared, Refusal>, Error> {
    let (instant, pending) = Instant::read_to_apply(portal, pbx.id).await?;
    if let Ok(snapshot) = &instant.snapshot
        && attempt.restored_from.is_none()
    {
        // Whoever cannot be rendered is in the audit trail all the same.
        include(attempt, crate::services::compare::included(snapshot));
    }
    let stored = match attempt.restored_from {
        Some(source) => Some((source, Stored::read(portal, source.id).await?)),
        None => None,
    };
    let expected = wish.expected_digest;
    // Apart from the threads that serve requests: thousands of users are seconds of work.
    let work = move || match stored {
        None => rendered(expected, &instant),
        Some((source, stored)) => restored(expected, &instant, source, stored),
    };
    Ok(match tokio::task::spawn_blocking(work).await? {
        Ok((mut prepared, users)) => {
            include(attempt, users);
            // A bundle of earlier knows nothing of what was changed since.
            if attempt.restored_from.is_none() {
                attempt.change_count = Some(pending.len());
                prepared.carried = pending;
            }
            attempt.changes.clone_from(&prepared.changes);
            attempt.notes.clone_from(&prepared.notes);
            Ok(prepared)
        }
        Err(refusal) => Err(refusal),
    })
}

fn include(attempt: &mut Attempt, users: Vec<IncludedUser>) {
    attempt.user_counts = UserCounts::of(&users);
    attempt.users = users;
}

type Outcome = Result<(Prepared, Vec<IncludedUser>), Refusal>;

fn rendered(expected: Option<Digest>, instant: &Instant) -> Outcome {
    let content = match instant.render() {
        Ok(content) => content,
        Err(unrenderable) => {
            let code = match (&unrenderable, &instant.snapshot) {
                (Unrenderable::Data(_), Err(_)) => "snapshot_unreadable",
                (Unrenderable::Data(_) | Unrenderable::Text(_), _) => "render_failed",
            };
            let failure = Failure::new(code, unrenderable.to_string());
            return Err((AttemptOutcome::RenderFailed, failure));
        }
    };
    ready(expected, instant, content, Vec::new())
}

fn restored(
    expected: Option<Digest>,
    instant: &Instant,
    source: RestoredFrom,
    stored: Option<Stored>,
) -> Outcome {
    let dropped = || Failure::new("restore_failed", "the bundle is no longer kept");
    let content = stored.ok_or_else(dropped).and_then(Stored::open);
    match content {
        Ok(content) => {
            let notes = restore::notes(source, &content, &instant.render());
            ready(expected, instant, content, notes)
        }
        Err(failure) => Err((AttemptOutcome::RestoreFailed, failure)),
    }
}

fn ready(
    expected: Option<Digest>,
    instant: &Instant,
    content: Content,
    notes: Vec<String>,
) -> Outcome {
    let digest = content.digest();
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        let message = format!("expected was the digest {expected}, but it is {digest}");
        let failure = Failure::new("preview_outdated", message);
        return Err((AttemptOutcome::PreviewOutdated, failure));
    }
    let text = match stored::encode(&content.bundle) {
        Ok(text) => text,
        Err(error) => {
            let failure = Failure::new("render_failed", error.to_string());
            return Err((AttemptOutcome::RenderFailed, failure));
        }
    };
    let prepared = Prepared {
        kept: text.into(),
        changes: instant.baseline.summary(&instant.opener, &content),
        bundle: content.bundle,
        digest,
        carried: Vec::new(),
        notes,
    };
    Ok((prepared, content.users))
}
