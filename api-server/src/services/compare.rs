//! What is in force, what a bundle changes against it: for whoever applies, previews or restores.

use shared::bundle::{ApplyId, Bundle, Digest, Revision};
use sqlx::{PgConnection, Postgres, Transaction};

use super::apply::stored;
use crate::db::revisions::{self, StoredContent};
use crate::db::{self, DbError};
use crate::domain::PbxId;
use crate::domain::apply::IncludedUser;
use crate::domain::audit::PendingChange;
use crate::domain::change::{Changes, Side, Summary};
use crate::domain::revision::InForce;
use crate::domain::snapshot::Snapshot;
use crate::render;
use crate::vault::{Opener, Place};

/// A bundle with the users that it was made of.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) bundle: Bundle,
    pub(super) users: Vec<IncludedUser>,
}

impl Content {
    pub(super) fn digest(&self) -> Digest {
        self.bundle.manifest().digest()
    }
}

/// Why what the database says can be no bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unrenderable {
    /// A row cannot be read, or a value can be no Asterisk text.
    Data(String),
    /// What was rendered is not what Asterisk would take.
    Text(Vec<shared::model::Finding>),
}

/// Renders and checks what the database says. Seconds of work for thousands of users: not for the
/// threads that serve requests.
pub(super) fn render(snapshot: &Snapshot) -> Result<Content, Unrenderable> {
    let bundle = render::render(snapshot).map_err(|error| Unrenderable::Data(error.to_string()))?;
    shared::model::read(&bundle).map_err(Unrenderable::Text)?;
    Ok(Content {
        bundle,
        users: included(snapshot),
    })
}

/// The users of a snapshot as the audit trail keeps them.
pub(super) fn included(snapshot: &Snapshot) -> Vec<IncludedUser> {
    let tenants = snapshot.tenants.iter();
    let users = tenants.flat_map(|tenant| tenant.users.iter().map(move |user| (tenant, user)));
    users
        .map(|(tenant, user)| IncludedUser {
            id: user.user_id,
            name: user.name.as_str().to_owned(),
            tenant: tenant.number.get(),
            extension: user.extension.get(),
        })
        .collect()
}

/// Decrypts the bundle of an attempt.
///
/// # Errors
/// In words for an administrator, without any of the bundle.
pub(super) fn unseal(opener: &Opener, id: ApplyId, encrypted: &[u8]) -> Result<Bundle, String> {
    let text = opener
        .open(Place::Bundle(id), encrypted)
        .map_err(|error| error.to_string())?;
    stored::decode(&text).map_err(|error| error.to_string())
}

/// The revision in force with its stored content, not yet decrypted.
pub(super) struct Baseline {
    pub(super) in_force: Option<InForce>,
    stored: Option<StoredContent>,
}

impl Baseline {
    /// Reads it.
    pub(super) async fn read(connection: &mut PgConnection, pbx: PbxId) -> Result<Self, DbError> {
        let in_force = revisions::in_force(connection, pbx).await?;
        let stored = match &in_force {
            None => None,
            Some(in_force) => revisions::content(connection, in_force.apply_id).await?,
        };
        Ok(Self { in_force, stored })
    }

    /// Its number.
    pub(super) fn revision(&self) -> Option<Revision> {
        self.in_force.as_ref().map(|in_force| in_force.revision)
    }

    /// Its content; `None` when nothing was ever in force.
    ///
    /// # Errors
    /// Why the stored bundle cannot be used.
    pub(super) fn open(&self, opener: &Opener) -> Result<Option<Content>, String> {
        let Some(in_force) = &self.in_force else {
            return Ok(None);
        };
        let encrypted = |stored: &StoredContent| stored.bundle_encrypted.clone();
        let Some((stored, encrypted)) = self
            .stored
            .as_ref()
            .and_then(|stored| Some((stored, encrypted(stored)?)))
        else {
            return Err("its bundle is no longer kept".to_owned());
        };
        let bundle = unseal(opener, in_force.apply_id, &encrypted)?;
        let users = stored.users.clone();
        Ok(Some(Content { bundle, users }))
    }

    /// What `content` changes against it.
    ///
    /// # Errors
    /// Why the two cannot be compared.
    pub(super) fn changes(&self, opener: &Opener, content: &Content) -> Result<Changes, String> {
        if self.is(content) {
            return Ok(Changes::default());
        }
        let known = self.open(opener)?;
        changes(known.as_ref(), content)
    }

    /// Whether `content` is what is in force.
    pub(super) fn is(&self, content: &Content) -> bool {
        self.in_force
            .as_ref()
            .is_some_and(|in_force| in_force.digest == content.digest())
    }

    /// What the audit trail keeps of `content` against it.
    pub(super) fn summary(&self, opener: &Opener, content: &Content) -> Option<Summary> {
        match self.changes(opener, content) {
            Ok(changes) => Some(changes.summary(self.revision())),
            Err(reason) => {
                tracing::warn!(reason, "what changes cannot be told: the bundle in force");
                None
            }
        }
    }
}

/// What `new` changes against `old`.
///
/// # Errors
/// Why the two cannot be compared.
pub(super) fn changes(old: Option<&Content>, new: &Content) -> Result<Changes, String> {
    let old = Side {
        bundle: old.map(|old| &old.bundle),
        users: old.map_or(&[], |old| &old.users),
    };
    let new = Side {
        bundle: Some(&new.bundle),
        users: &new.users,
    };
    Changes::between(old, new).map_err(|error| format!("its text cannot be read: {error}"))
}

/// What the database says and what is in force, as of one instant.
pub(super) struct Instant {
    pub(super) baseline: Baseline,
    /// The error is a finding: a row that cannot be read.
    pub(super) snapshot: Result<Snapshot, String>,
    /// Opens what was sealed until then.
    pub(super) opener: Opener,
}

impl Instant {
    /// Reads both in one transaction.
    pub(super) async fn read(portal: &super::Portal, pbx: PbxId) -> Result<Self, DbError> {
        let transaction = db::snapshot::begin(&portal.database).await?;
        Self::read_within(portal, transaction, pbx).await
    }

    /// Likewise, with the changes that an apply of it carries: those that it shows and that no apply
    /// has brought into force.
    pub(super) async fn read_to_apply(
        portal: &super::Portal,
        pbx: PbxId,
    ) -> Result<(Self, Vec<PendingChange>), DbError> {
        let mut transaction = db::snapshot::begin(&portal.database).await?;
        let pending = db::audit::pending(&mut transaction, pbx).await?;
        let instant = Self::read_within(portal, transaction, pbx).await?;
        Ok((instant, pending))
    }

    async fn read_within(
        portal: &super::Portal,
        mut transaction: Transaction<'static, Postgres>,
        pbx: PbxId,
    ) -> Result<Self, DbError> {
        let baseline = Baseline::read(&mut transaction, pbx).await?;
        let now = portal.clock.now();
        let opener = portal.vault.opener(&mut transaction).await?;
        let snapshot = db::snapshot::read_within(&mut transaction, pbx, &opener, now).await;
        db::commit(transaction).await?;
        let snapshot = match snapshot {
            Ok(snapshot) => Ok(snapshot),
            Err(error @ DbError::Inconsistent { .. }) => Err(error.to_string()),
            Err(error) => return Err(error),
        };
        Ok(Self {
            baseline,
            snapshot,
            opener,
        })
    }

    /// What the database says, as a bundle.
    pub(super) fn render(&self) -> Result<Content, Unrenderable> {
        match &self.snapshot {
            Ok(snapshot) => render(snapshot),
            Err(reason) => Err(Unrenderable::Data(reason.clone())),
        }
    }
}

/// Most findings that a failure quotes.
const FINDINGS_MAX: usize = 20;

impl std::fmt::Display for Unrenderable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Data(reason) => f.write_str(reason),
            Self::Text(findings) => {
                let lines = findings.iter().take(FINDINGS_MAX).map(ToString::to_string);
                f.write_str(&lines.collect::<Vec<_>>().join("; "))
            }
        }
    }
}
