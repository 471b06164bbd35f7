//! Reading objects from files, and comparing them.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use shared::bundle::{Bundle, GENERATION_MARKER, Slot};
use shared::conf::{self, ReadError, Section};
use shared::names::Owner;

use super::{Action, FieldChange, ObjectChange, ObjectName, STEPS, Shown, UserChange, is_secret};
use crate::domain::UserId;
use crate::domain::apply::IncludedUser;

type Options = BTreeMap<String, String>;
pub(super) type Objects = BTreeMap<ObjectName, Options>;

/// The objects of a bundle; none of none.
pub(super) fn read(bundle: Option<&Bundle>) -> Result<Objects, ReadError> {
    let mut objects = Objects::new();
    let files = bundle.into_iter().flat_map(|bundle| &bundle.files);
    for (slot, bytes) in files {
        for section in conf::read(bytes)? {
            if section.name == GENERATION_MARKER {
                continue;
            }
            match slot {
                Slot::PjsipEndpoints => pjsip_object(&mut objects, &section),
                Slot::DialplanRouting => extensions(&mut objects, &section),
            }
        }
    }
    Ok(objects)
}

fn pjsip_object(objects: &mut Objects, section: &Section) {
    let kind = section.value("type").unwrap_or("object").to_owned();
    let name = section.name.to_owned();
    let options = objects.entry(ObjectName { name, kind }).or_default();
    for entry in &section.entries {
        add(options, &entry.key, &entry.value);
    }
}

/// A context's lines, by extension; what is no `exten` belongs to the context as a whole.
fn extensions(objects: &mut Objects, section: &Section) {
    for entry in &section.entries {
        let step = entry.value.split_once(',');
        let (name, kind, field, value) = match step.filter(|_| entry.key == "exten") {
            Some((extension, step)) => {
                let name = format!("{extension}@{}", section.name);
                (name, "extension", STEPS, step)
            }
            None => (
                section.name.to_owned(),
                "context",
                &*entry.key,
                &*entry.value,
            ),
        };
        let kind = kind.to_owned();
        let options = objects.entry(ObjectName { name, kind }).or_default();
        add(options, field, value);
    }
}

/// An option that stands several times is one field with several lines.
fn add(options: &mut Options, key: &str, value: &str) {
    options
        .entry(key.to_owned())
        .and_modify(|lines| {
            lines.push('\n');
            lines.push_str(value);
        })
        .or_insert_with(|| value.to_owned());
}

/// What differs between two bundles' objects.
pub(super) fn compare(old: &Objects, new: &Objects) -> Vec<ObjectChange> {
    let names: BTreeSet<&ObjectName> = old.keys().chain(new.keys()).collect();
    let change = |name: &ObjectName| {
        let (action, fields) = match (old.get(name), new.get(name)) {
            (Some(old), Some(new)) if old == new => return None,
            (Some(old), Some(new)) => (Action::Changed, compare_fields(old, new)),
            (None, _) => (Action::Added, Vec::new()),
            (_, None) => (Action::Removed, Vec::new()),
        };
        Some(ObjectChange {
            object: name.clone(),
            action,
            fields,
        })
    };
    names.into_iter().filter_map(change).collect()
}

fn compare_fields(old: &Options, new: &Options) -> Vec<FieldChange> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let shown = |options: &Options, name: &str| match options.get(name) {
        None => Shown::Absent,
        Some(_) if is_secret(name) => Shown::Secret,
        Some(value) => Shown::Value(value.clone()),
    };
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| FieldChange {
            field: name.clone(),
            old: shown(old, name),
            new: shown(new, name),
        })
        .collect()
}

/// Which users came, went, or are served otherwise.
pub(super) fn compare_users(
    old: &[IncludedUser],
    new: &[IncludedUser],
    objects: &[ObjectChange],
) -> Vec<UserChange> {
    let touched: HashSet<Owner> = objects.iter().filter_map(ObjectChange::owner).collect();
    let is_touched = |user: &IncludedUser| {
        touched.contains(&Owner {
            tenant: user.tenant,
            extension: user.extension,
        })
    };
    let before: HashMap<UserId, &IncludedUser> = old.iter().map(|user| (user.id, user)).collect();
    let living: HashSet<UserId> = new.iter().map(|user| user.id).collect();
    let action = |user: &IncludedUser| match before.get(&user.id) {
        None => Some(Action::Added),
        Some(known) if *known != user || is_touched(user) => Some(Action::Changed),
        Some(_) => None,
    };
    let change = |action, user: &IncludedUser| UserChange {
        action,
        user: user.clone(),
    };
    let gone = old.iter().filter(|user| !living.contains(&user.id));
    let mut changes: Vec<UserChange> = new
        .iter()
        .filter_map(|user| action(user).map(|action| change(action, user)))
        .chain(gone.map(|user| change(Action::Removed, user)))
        .collect();
    changes.sort_by_key(|change| (change.user.tenant, change.user.extension, change.action));
    changes
}
