//! Bringing the bundle of an earlier apply back, byte for byte, as a new revision: an ordinary
//! apply of what is stored instead of what the database says.

use std::collections::HashSet;
use std::sync::Arc;

use shared::bundle::{ApplyId, Digest};

use super::compare::{Content, Unrenderable, changes, unseal};
use super::pbxes::{self, Pbx};
use super::{Error, Portal, applies};
use crate::db;
use crate::db::revisions::StoredContent;
use crate::domain::apply::{Attempt, Failure, IncludedUser, RestoredFrom};
use crate::domain::change::{Action, Counts};
use crate::domain::{PbxId, UserId};
use crate::vault::Opener;

/// Most users that one note names.
const NAMES_MAX: usize = 20;

/// The PBX of an attempt, which is the one that its bundle can be brought back to.
///
/// # Errors
/// [`Error::ApplyNotFound`]; [`Error::PbxNotFound`] when it is no longer in service.
pub async fn pbx(portal: &Portal, id: ApplyId) -> Result<Arc<Pbx>, Error> {
    let attempt = applies::find(portal, id).await?;
    pbxes::find(portal, &attempt.pbx_id.into()).await
}

/// Whose bundle would be brought back to a PBX.
///
/// Only a bundle that was proven once: what Asterisk refused, or never answered about, would be
/// put in force with less knowledge than it failed with. Correct the data and apply instead.
///
/// # Errors
/// [`Error::ApplyNotFound`], [`Error::ApplyNotEnded`], [`Error::NeverProven`],
/// [`Error::NothingToRestore`].
pub async fn source(portal: &Portal, pbx: PbxId, id: ApplyId) -> Result<RestoredFrom, Error> {
    let attempt = applies::find(portal, id).await?;
    if attempt.pbx_id != pbx {
        return Err(Error::ApplyNotFound);
    }
    if !attempt.outcome.has_ended() {
        return Err(Error::ApplyNotEnded(id));
    }
    let revision = attempt.revision.ok_or(Error::NothingToRestore)?;
    if !attempt.outcome.is_proven() {
        let outcome = attempt.outcome.name();
        return Err(Error::NeverProven { outcome });
    }
    if !attempt.bundle_kept {
        return Err(Error::NothingToRestore);
    }
    Ok(RestoredFrom { id, revision })
}

/// A stored bundle, still encrypted.
pub(super) struct Stored {
    id: ApplyId,
    digest: Digest,
    content: StoredContent,
    opener: Opener,
}

impl Stored {
    /// Reads it; `None` when it was dropped meanwhile.
    pub(super) async fn read(portal: &Portal, id: ApplyId) -> Result<Option<Self>, Error> {
        let mut instant = db::snapshot::begin(&portal.database).await?;
        let attempt: Option<Attempt> = db::applies::find(&mut instant, id).await?;
        let content = db::revisions::content(&mut instant, id).await?;
        let opener = portal.vault.opener(&mut instant).await?;
        db::commit(instant).await?;
        let digest = attempt.and_then(|attempt| attempt.digest);
        Ok(content.zip(digest).map(|(content, digest)| Self {
            id,
            digest,
            content,
            opener,
        }))
    }

    /// Decrypts and checks it. Not for the threads that serve requests.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) fn open(self) -> Result<Content, Failure> {
        let failure = |reason: String| Failure::new("restore_failed", reason);
        let dropped = || failure("the bundle is no longer kept".to_owned());
        let encrypted = self.content.bundle_encrypted.ok_or_else(dropped)?;
        let bundle = unseal(&self.opener, self.id, &encrypted).map_err(failure)?;
        if bundle.manifest().digest() != self.digest {
            let reason = "the stored bundle does not have the digest that was applied";
            return Err(failure(reason.to_owned()));
        }
        shared::model::read(&bundle).map_err(|findings| {
            let findings = Unrenderable::Text(findings);
            failure(format!(
                "this version of the portal refuses what the bundle says: {findings}"
            ))
        })?;
        let users = self.content.users;
        Ok(Content { bundle, users })
    }
}

/// What an administrator must know once `restored` is in force: how the database differs, who works
/// again although deleted, who does not work.
pub(super) fn notes(
    source: RestoredFrom,
    restored: &Content,
    wanted: &Result<Content, Unrenderable>,
) -> Vec<String> {
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(reason) => {
            return vec![format!(
                "The PBX runs revision {} again, and the database says something else, which cannot \
                 be applied now: {reason}.",
                source.revision
            )];
        }
    };
    if wanted.bundle == restored.bundle {
        return Vec::new();
    }
    let mut notes = vec![difference(source, restored, wanted)];
    let living: HashSet<UserId> = wanted.users.iter().map(|user| user.id).collect();
    let works: HashSet<UserId> = restored.users.iter().map(|user| user.id).collect();
    let returned = restored
        .users
        .iter()
        .filter(|user| !living.contains(&user.id));
    let stopped = wanted.users.iter().filter(|user| !works.contains(&user.id));
    notes.extend(named("Deleted users whose accounts work again", returned));
    notes.extend(named("Users whose accounts do not work now", stopped));
    if let Ok(changes) = changes(Some(restored), wanted) {
        let users = changes.users.iter();
        let other = users.filter(|change| change.action == Action::Changed);
        let other = other.map(|change| &change.user);
        let what = "Users whose accounts work as they were then (number, name or password)";
        notes.extend(named(what, other));
    }
    notes
}

fn difference(source: RestoredFrom, restored: &Content, wanted: &Content) -> String {
    let counts = changes(Some(restored), wanted).map(|changes| changes.user_counts());
    let would = counts.map_or_else(|_| "replace it".to_owned(), would);
    format!(
        "The PBX runs revision {} again, and the database says something else: the next POST /apply \
         would {would}. GET /apply/preview shows it all.",
        source.revision
    )
}

fn would(users: Counts) -> String {
    let Counts {
        added,
        changed,
        removed,
    } = users;
    format!("add {added}, change {changed} and remove {removed} of the users on the PBX")
}

fn named<'a>(what: &str, users: impl Iterator<Item = &'a IncludedUser>) -> Option<String> {
    let name = |user: &IncludedUser| format!("{} ({})", user.name, user.address());
    let names: Vec<String> = users.map(name).collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let more = (more > 0).then(|| format!(" and {more} more"));
    let first = names.get(..names.len().min(NAMES_MAX))?.join(", ");
    let more = more.unwrap_or_default();
    (!first.is_empty()).then(|| format!("{what}: {first}{more}."))
}
