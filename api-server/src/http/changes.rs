//! Bodies that tell what one bundle changes against another.

#![expect(
    missing_docs,
    reason = "fields of bodies whose names say all, here as in the document"
)]

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::apply::RestoredFrom;
use crate::domain::change::{
    Action, Counts, FieldChange, ObjectChange, ObjectName, Shown, Summary, UserChange,
};

/// Whose bundle was brought back.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct RestoredFromBody {
    /// The apply that made it.
    pub apply_id: Uuid,
    /// Its number then.
    #[schema(example = 3)]
    pub revision: u64,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct CountsBody {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct SummaryBody {
    /// The revision that it was compared with; null when nothing was proven before.
    pub against_revision: Option<u64>,
    /// Endpoints, auths, AORs and dialplan extensions.
    pub objects: CountsBody,
    /// The first 50 of them.
    pub object_names: Vec<NamedObjectBody>,
    /// People whose configuration is another one.
    pub users: CountsBody,
    /// The first 50 of them.
    pub user_names: Vec<UserChangeBody>,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NamedObjectBody {
    /// `added`, `changed` or `removed`.
    #[schema(value_type = String, example = "changed")]
    pub action: Cow<'static, str>,
    /// `endpoint`, `auth`, `aor` or `extension`.
    #[schema(example = "auth")]
    pub object: String,
    /// Of a dialplan extension, `extension@context`.
    #[schema(example = "1000")]
    pub name: String,
}

impl From<(Action, ObjectName)> for NamedObjectBody {
    fn from((action, object): (Action, ObjectName)) -> Self {
        Self {
            action: action.name().into(),
            object: object.kind,
            name: object.name,
        }
    }
}

/// An object that differs, with what differs.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ObjectChangeBody {
    #[serde(flatten)]
    pub object: NamedObjectBody,
    /// What differs; empty unless it is changed.
    pub fields: Vec<FieldChangeBody>,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FieldChangeBody {
    #[schema(example = "callerid")]
    pub field: String,
    /// Whether its values are hidden: then both are null, and it changes nevertheless.
    pub secret: bool,
    /// What it was; null when there was none.
    #[schema(example = "\"Ann\" <1000>")]
    pub old: Option<String>,
    /// What it becomes; null when there is none.
    #[schema(example = "\"Anna\" <1000>")]
    pub new: Option<String>,
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
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct UserChangeBody {
    /// `added`, `changed` or `removed`.
    #[schema(value_type = String, example = "added")]
    pub action: Cow<'static, str>,
    pub id: Uuid,
    pub name: String,
    #[schema(example = 1000)]
    pub extension: u32,
    /// The `number` of the user's tenant.
    #[schema(example = 1)]
    pub tenant_number: u32,
    /// What the user's first device registers as.
    #[schema(example = "1000")]
    pub sip_username: String,
}

impl From<UserChange> for UserChangeBody {
    fn from(change: UserChange) -> Self {
        let first = change.user.first_device();
        Self {
            action: change.action.name().into(),
            id: change.user.id.0,
            name: change.user.name,
            extension: change.user.extension,
            tenant_number: change.user.tenant,
            sip_username: first,
        }
    }
}
