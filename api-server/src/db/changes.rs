//! Column `apply.changes`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::bundle::Revision;
use uuid::Uuid;

use super::applies::default_tenant;
use crate::domain::UserId;
use crate::domain::apply::IncludedUser;
use crate::domain::change::{Action, Counts, ObjectName, Summary, TenantCounts, UserChange};

#[derive(Serialize, Deserialize)]
struct SummaryJson {
    against: Option<u64>,
    objects: CountsJson,
    object_names: Vec<ObjectJson>,
    users: CountsJson,
    user_names: Vec<UserJson>,
    /// By the number of the tenant; not in rows from before it was counted.
    #[serde(default)]
    tenants: BTreeMap<u32, TenantJson>,
}

#[derive(Serialize, Deserialize)]
struct TenantJson {
    objects: CountsJson,
    users: CountsJson,
}

#[derive(Serialize, Deserialize)]
struct CountsJson {
    added: usize,
    changed: usize,
    removed: usize,
}

#[derive(Serialize, Deserialize)]
struct ObjectJson {
    action: String,
    kind: String,
    name: String,
}

#[derive(Serialize, Deserialize)]
struct UserJson {
    action: String,
    id: Uuid,
    name: String,
    #[serde(default = "default_tenant")]
    tenant: u32,
    extension: u32,
}

/// Writes it.
pub(super) fn to_json(summary: &Summary) -> Value {
    let object = |(action, object): &(Action, ObjectName)| ObjectJson {
        action: action.name().to_owned(),
        kind: object.kind.clone(),
        name: object.name.clone(),
    };
    let user = |change: &UserChange| UserJson {
        action: change.action.name().to_owned(),
        id: change.user.id.0,
        name: change.user.name.clone(),
        tenant: change.user.tenant,
        extension: change.user.extension,
    };
    let tenant = |(number, of): (&u32, &TenantCounts)| {
        let (objects, users) = (counts(of.objects), counts(of.users));
        (*number, TenantJson { objects, users })
    };
    let json = SummaryJson {
        against: summary.against.map(|revision| revision.0),
        objects: counts(summary.objects),
        object_names: summary.object_names.iter().map(object).collect(),
        users: counts(summary.users),
        user_names: summary.user_names.iter().map(user).collect(),
        tenants: summary.tenants.iter().map(tenant).collect(),
    };
    // Numbers and strings always make JSON.
    serde_json::to_value(json).unwrap_or_default()
}

const fn counts(counts: Counts) -> CountsJson {
    CountsJson {
        added: counts.added,
        changed: counts.changed,
        removed: counts.removed,
    }
}

/// Reads it.
///
/// # Errors
/// What is wrong with it, without any value.
pub(super) fn from_json(json: Value) -> Result<Summary, &'static str> {
    let json: SummaryJson = serde_json::from_value(json).map_err(|_| "of another shape")?;
    let action = |name: &str| Action::from_name(name).ok_or("an unknown action");
    let object = |object: ObjectJson| -> Result<_, &'static str> {
        let ObjectJson { action: name, .. } = &object;
        let action = action(name)?;
        let ObjectJson { kind, name, .. } = object;
        Ok((action, ObjectName { name, kind }))
    };
    let user = |user: UserJson| -> Result<_, &'static str> {
        Ok(UserChange {
            action: action(&user.action)?,
            user: IncludedUser {
                id: UserId(user.id),
                name: user.name,
                tenant: user.tenant,
                extension: user.extension,
            },
        })
    };
    let counts = |json: CountsJson| Counts {
        added: json.added,
        changed: json.changed,
        removed: json.removed,
    };
    let tenant = |(number, of): (u32, TenantJson)| {
        let (objects, users) = (counts(of.objects), counts(of.users));
        (number, TenantCounts { objects, users })
    };
    Ok(Summary {
        against: json.against.map(Revision),
        objects: counts(json.objects),
        object_names: json
            .object_names
            .into_iter()
            .map(object)
            .collect::<Result<_, _>>()?,
        users: counts(json.users),
        user_names: json
            .user_names
            .into_iter()
            .map(user)
            .collect::<Result<_, _>>()?,
        tenants: json.tenants.into_iter().map(tenant).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let summary = Summary {
            against: Some(Revision(7)),
            objects: Counts {
                added: 1,
                changed: 2,
                removed: 3,
            },
            object_names: vec![(
                Action::Changed,
                ObjectName {
                    name: "1000".to_owned(),
                    kind: "auth".to_owned(),
                },
            )],
            users: Counts::default(),
            user_names: vec![UserChange {
                action: Action::Removed,
                user: IncludedUser {
                    id: UserId(Uuid::from_u128(1)),
                    name: "A".to_owned(),
                    tenant: 2,
                    extension: 1000,
                },
            }],
            tenants: BTreeMap::from([(2, TenantCounts::default())]),
        };
        assert_eq!(from_json(to_json(&summary)), Ok(summary));
        assert!(from_json(Value::Null).is_err());
    }
}
