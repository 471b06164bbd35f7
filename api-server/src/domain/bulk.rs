//! Many users or devices at once: what becomes of each of them.

use serde_json::Value;

/// Most entries of one import or declaration.
pub const ENTRIES_MAX: usize = 20_000;

/// What became of one of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there.
    Created,
    /// It was otherwise.
    Changed,
    /// It was so already.
    Unchanged,
    /// It is not there any more.
    Deleted,
}

impl Outcome {
    /// The word that the API uses.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// A field that becomes something else.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldChange {
    /// The name in the API, that of a nested one like `call_forward.busy`.
    pub field: String,
    /// What it was.
    pub before: Value,
    /// What it is.
    pub after: Value,
}

/// What moves with each change and was asked for by nobody.
const CONSEQUENCES: [&str; 6] = [
    "id",
    "tenant_id",
    "version",
    "created_at",
    "updated_at",
    "password_set_at",
];

/// Likewise of what is new: whose it is says the line, and a secret is shown elsewhere.
const OF_NEW: [&str; 4] = [
    "user_id",
    "sip_password",
    "previous_sip_password",
    "password_revealed_at",
];

/// What something new is, as the audit trail tells it; what is nothing is left out.
pub fn created_fields(after: &Value) -> Vec<FieldChange> {
    let mut fields = changed_fields(&Value::Null, after);
    fields.retain(|field| !field.after.is_null() && !OF_NEW.contains(&field.field.as_str()));
    fields
}

/// Objects whose members are fields of their own; any other one is a value.
const NESTED: [&str; 3] = ["call_forward", "nat", "voicemail"];

/// The fields that differ between what the audit trail tells of something before and after. No secret
/// stands in either.
pub fn changed_fields(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut changes = Vec::new();
    compare("", before, after, &mut changes);
    changes
}

fn compare(prefix: &str, before: &Value, after: &Value, changes: &mut Vec<FieldChange>) {
    for (name, now) in after.as_object().into_iter().flatten() {
        let was = &before[name];
        if was == now || CONSEQUENCES.contains(&name.as_str()) {
            continue;
        }
        let field = format!("{prefix}{name}");
        if NESTED.contains(&name.as_str()) {
            compare(&format!("{field}."), was, now, changes);
        } else {
            changes.push(FieldChange {
                field,
                before: was.clone(),
                after: now.clone(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_differs_is_named_by_its_field() {
        let before = json!({
            "name": "Ann", "version": 1, "metadata": {"a": 1}, "voicemail": {"enabled": false},
        });
        let after = json!({
            "name": "Ann", "version": 2, "metadata": {"a": 2}, "voicemail": {"enabled": true},
        });
        let changes = changed_fields(&before, &after);
        let fields: Vec<_> = changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(fields, ["metadata", "voicemail.enabled"]);
        assert_eq!(changes[0].after, json!({"a": 2}));
        assert!(changed_fields(&after, &after).is_empty());
    }
}
