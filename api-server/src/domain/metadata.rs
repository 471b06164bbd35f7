//! What an administrator keeps with an entity.

use serde_json::{Map, Value};

use super::Invalid;

/// Largest metadata, written as JSON without blanks: 4 KiB.
const METADATA_BYTES_MAX: usize = 4096;

/// Most values in metadata, each member and item being one: small ones need far more memory than text, and
/// there are very many users.
const METADATA_VALUES_MAX: usize = 128;

/// Deepest metadata; the object itself is level 1.
const METADATA_DEPTH_MAX: usize = 8;

/// What an administrator keeps with a user or a tenant: a JSON object. The portal does not read it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// The object.
    pub const fn as_object(&self) -> &Map<String, Value> {
        &self.0
    }

    /// The object as a JSON value.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// This, changed as RFC 7396 says: null removes, objects merge, everything else replaces.
    ///
    /// # Errors
    /// The result is larger or deeper than metadata may be.
    pub fn merged(&self, patch: Map<String, Value>) -> Result<Self, Invalid> {
        let mut merged = self.0.clone();
        merge(&mut merged, patch);
        Self::try_from(Value::Object(merged))
    }

    /// The patch that [`Metadata::merged`] makes `wanted` of this with. A null in `wanted` that is not
    /// here yet goes, because a patch cannot say it.
    pub fn difference(&self, wanted: &Self) -> Map<String, Value> {
        difference(&self.0, &wanted.0)
    }

    /// What the database holds. Only its type is looked at: PostgreSQL writes numbers in a way of
    /// its own (`1e16` in 17 digits), and a limit for what comes in must not make whoever is stored
    /// unreadable.
    pub fn from_stored(value: Value) -> Result<Self, Invalid> {
        match value {
            Value::Object(object) => Ok(Self(object)),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_) => Err(Invalid::new("wrong_type", "must be a JSON object")),
        }
    }
}

impl TryFrom<Value> for Metadata {
    type Error = Invalid;

    fn try_from(value: Value) -> Result<Self, Invalid> {
        let Value::Object(object) = value else {
            return Err(Invalid::new("wrong_type", "must be a JSON object"));
        };
        if object
            .values()
            .any(|inner| deeper_than(inner, METADATA_DEPTH_MAX - 1))
        {
            return Err(Invalid::new(
                "too_deep",
                "must be nested at most 8 levels deep",
            ));
        }
        if object
            .iter()
            .any(|(key, inner)| key.contains('\0') || holds_nul(inner))
        {
            // PostgreSQL's jsonb refuses U+0000.
            return Err(Invalid::new(
                "control_character",
                "must not hold the character U+0000",
            ));
        }
        if object.values().map(values).sum::<usize>() > METADATA_VALUES_MAX {
            return Err(Invalid::new("too_many", "must hold at most 128 values"));
        }
        let metadata = Self(object);
        let written = serde_json::to_vec(&metadata.0).map_or(usize::MAX, |bytes| bytes.len());
        if written > METADATA_BYTES_MAX {
            return Err(Invalid::new(
                "too_long",
                "must be at most 4096 bytes of JSON",
            ));
        }
        Ok(metadata)
    }
}

fn deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|v| deeper_than(v, levels - 1)),
        Value::Object(map) => levels == 0 || map.values().any(|v| deeper_than(v, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// How many values there are, with those within.
fn values(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(values).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(values).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 1,
    }
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(map) => map
            .iter()
            .any(|(key, inner)| key.contains('\0') || holds_nul(inner)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn difference(from: &Map<String, Value>, to: &Map<String, Value>) -> Map<String, Value> {
    let gone = from.keys().filter(|key| !to.contains_key(*key));
    let mut patch: Map<_, _> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in to {
        match (from.get(key), value) {
            (Some(before), after) if before == after => {}
            (Some(Value::Object(before)), Value::Object(after)) => {
                patch.insert(key.clone(), Value::Object(difference(before, after)));
            }
            (_, after) => {
                patch.insert(key.clone(), after.clone());
            }
        }
    }
    patch
}

fn merge(object: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                object.remove(&key);
            }
            Value::Object(inner) => {
                let target = object.entry(key).or_insert(Value::Null);
                if !target.is_object() {
                    *target = Value::Object(Map::new());
                }
                if let Value::Object(target) = target {
                    merge(target, inner);
                }
            }
            other => {
                object.insert(key, other);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(target: Value, patch: &Value) -> Result<Value, Invalid> {
        let patch = patch.as_object().cloned().unwrap_or_default();
        Metadata::from_stored(target)?
            .merged(patch)
            .map(Metadata::into_value)
    }

    /// The cases of RFC 7396, appendix A, whose targets are objects.
    #[test]
    fn merging_follows_the_standard() {
        for (target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            assert_eq!(merged(target, &patch).unwrap(), result, "{patch}");
        }
    }

    #[test]
    fn a_difference_is_the_patch_that_makes_it() {
        for (from, to) in [
            (json!({}), json!({"a": {"b": [1]}})),
            (json!({"a": 1, "b": 2}), json!({"b": 2})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"c": 3, "d": {}}}),
            ),
            (json!({"a": {"b": 1}}), json!({"a": "text"})),
            (json!({"a": null, "b": 1}), json!({"a": null})),
        ] {
            let read = |value: &Value| Metadata::from_stored(value.clone()).unwrap();
            let patch = read(&from).difference(&read(&to));
            assert_eq!(merged(from, &Value::Object(patch)).unwrap(), to);
        }
        let same = Metadata::from_stored(json!({"a": null, "b": {"c": 1}})).unwrap();
        assert!(same.difference(&same).is_empty());
    }

    #[test]
    fn the_result_has_the_limits_of_metadata() {
        let half = "x".repeat(3000);
        let error = merged(json!({"a": half}), &json!({"b": half})).unwrap_err();
        assert_eq!(error.code, "too_long");
        assert!(merged(json!({"a": half}), &json!({"a": half})).is_ok());
        // The list is a value as well.
        let many = |count: usize| json!({ "a": vec![1; count] });
        assert!(merged(json!({}), &many(127)).is_ok());
        assert_eq!(merged(json!({}), &many(128)).unwrap_err().code, "too_many");
    }
}
