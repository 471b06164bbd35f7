//! Bodies that tell what one bundle changes against another.

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::apply::RestoredFrom;
use crate::domain::change::{
    Action, Counts, FieldChange, ObjectChange, ObjectName, Shown, Summary, UserChange,
};

/// Whose bundle was brought back.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RestoredFromBody {
    /// The apply that made it.
    apply_id: Uuid,
    /// Its number then.
    #[schema(example = 3)]
    revision: u64,
}

impl From<RestoredFrom> for RestoredFromBody {
    fn from(source: RestoredFrom) -> Self {
        Self {
            apply_id: source.id.0,
            revision: source.revision.0,
        }
    }
}

/// How many; always all of them.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CountsBody {
    added: usize,
    changed: usize,
    removed: usize,
}

impl From<Counts> for CountsBody {
    fn from(counts: Counts) -> Self {
        Self {
            added: counts.added,
            changed: counts.changed,
            removed: counts.removed,
        }
    }
}

/// What an apply changed against the revision that was proven before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SummaryBody {
    /// The revision that it was compared with; null when nothing was proven before.
    against_revision: Option<u64>,
    /// Endpoints, auths, AORs and dialplan extensions.
    objects: CountsBody,
    /// The first 50 of them.
    object_names: Vec<NamedObjectBody>,
    /// People whose configuration is another one.
    users: CountsBody,
    /// The first 50 of them.
    user_names: Vec<UserChangeBody>,
}

impl From<Summary> for SummaryBody {
    fn from(summary: Summary) -> Self {
        let objects = summary.object_names.into_iter();
        let users = summary.user_names.into_iter();
        Self {
            against_revision: summary.against.map(|revision| revision.0),
            objects: summary.objects.into(),
            object_names: objects.map(NamedObjectBody::from).collect(),
            users: summary.users.into(),
            user_names: users.map(UserChangeBody::from).collect(),
        }
    }
}

/// An object that differs.
#[derive(Debug, Serialize, ToSchema)]
struct NamedObjectBody {
    /// `added`, `changed` or `removed`.
    #[schema(value_type = String, example = "changed")]
    action: &'static str,
    /// `endpoint`, `auth`, `aor` or `extension`.
    #[schema(example = "auth")]
    object: String,
    /// Of a dialplan extension, `extension@context`.
    #[schema(example = "1000")]
    name: String,
}

impl From<(Action, ObjectName)> for NamedObjectBody {
    fn from((action, object): (Action, ObjectName)) -> Self {
        Self {
            action: action.name(),
            object: object.kind,
            name: object.name,
        }
    }
}

/// An object that differs, with what differs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ObjectChangeBody {
    #[serde(flatten)]
    object: NamedObjectBody,
    /// What differs; empty unless it is changed.
    fields: Vec<FieldChangeBody>,
}

impl From<ObjectChange> for ObjectChangeBody {
    fn from(change: ObjectChange) -> Self {
        let fields = change.fields.into_iter().map(FieldChangeBody::from);
        Self {
            object: (change.action, change.object).into(),
            fields: fields.collect(),
        }
    }
}

/// An option that becomes another one.
#[derive(Debug, Serialize, ToSchema)]
struct FieldChangeBody {
    #[schema(example = "callerid")]
    field: String,
    /// Whether its values are hidden: then both are null, and it changes nevertheless.
    secret: bool,
    /// What it was; null when there was none.
    #[schema(example = "\"Ann\" <1000>")]
    old: Option<String>,
    /// What it becomes; null when there is none.
    #[schema(example = "\"Anna\" <1000>")]
    new: Option<String>,
}

impl From<FieldChange> for FieldChangeBody {
    fn from(change: FieldChange) -> Self {
        let secret = [&change.old, &change.new].contains(&&Shown::Secret);
        let text = |shown| match shown {
            Shown::Value(text) => Some(text),
            Shown::Absent | Shown::Secret => None,
        };
        Self {
            field: change.field,
            secret,
            old: text(change.old),
            new: text(change.new),
        }
    }
}

/// A user whose configuration differs.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserChangeBody {
    /// `added`, `changed` or `removed`.
    #[schema(value_type = String, example = "added")]
    action: &'static str,
    id: Uuid,
    name: String,
    #[schema(example = 1000)]
    extension: u32,
    /// The `number` of the user's tenant.
    #[schema(example = 1)]
    tenant_number: u32,
    /// What the user's first device registers as.
    #[schema(example = "1000")]
    sip_username: String,
}

impl From<UserChange> for UserChangeBody {
    fn from(change: UserChange) -> Self {
        let first = change.user.first_device();
        Self {
            action: change.action.name(),
            id: change.user.id.0,
            name: change.user.name,
            extension: change.user.extension,
            tenant_number: change.user.tenant,
            sip_username: first,
        }
    }
}
