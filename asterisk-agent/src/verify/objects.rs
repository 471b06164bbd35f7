//! PJSIP objects: which there are, and what their options are.

use std::collections::{BTreeMap, BTreeSet};

use shared::bundle::GENERATION_MARKER;
use shared::model::Options;
use shared::record::{MismatchKind, ObjectKind};

use super::{Depth, Expected, Found, Questions, VerifyError, options};
use crate::answers;
use crate::asterisk::{AsteriskError, Class, Command, Name, PjsipType};
use crate::engine::Earlier;
use crate::validate::objects;

/// Asterisk answers several questions at a time, each type behind a lock of its own.
pub(super) fn found(
    questions: Questions<'_>,
    expected: &Expected<'_>,
) -> Result<Found, VerifyError> {
    let found = std::thread::scope(|scope| {
        let compare = |kind| scope.spawn(move || objects_found(questions, kind, expected));
        PjsipType::ALL.map(compare).map(|thread| {
            let broken = |_| Err(AsteriskError::Broken("reading it failed".to_owned()).into());
            thread.join().unwrap_or_else(broken)
        })
    });
    let mut all = Found::default();
    for found in found {
        all.extend(found?);
    }
    Ok(all)
}

fn objects_found(
    questions: Questions<'_>,
    kind: PjsipType,
    expected: &Expected<'_>,
) -> Result<Found, VerifyError> {
    let mut found = Found::default();
    let held = names(questions, kind, expected)?;
    compare_names(kind, &held, expected, &mut found);
    compare_options(questions, kind, &held, expected, &mut found)?;
    Ok(found)
}

/// The names of all objects of a type that Asterisk holds.
fn names(
    questions: Questions<'_>,
    kind: PjsipType,
    expected: &Expected<'_>,
) -> Result<BTreeSet<String>, VerifyError> {
    let title = match kind {
        PjsipType::Endpoint => "Endpoint",
        PjsipType::Auth => "Auth",
        PjsipType::Aor => "Aor",
    };
    let earlier = expected.before.iter().map(|earlier| &*earlier.model);
    let models = std::iter::once(expected.model).chain(earlier);
    let names = models.flat_map(|model| objects(model, kind).keys());
    let mut likely: Vec<&str> = names.map(String::as_str).collect();
    likely.sort_unstable();
    likely.dedup();
    let mut held = BTreeSet::new();
    for command in Command::list_all(kind, &Class::divide(&likely)) {
        let Command::List(_, classes) = &command else {
            continue;
        };
        let read = |text: &str| answers::list(title, classes.len(), text);
        held.extend(questions.ask(&command, read)?);
    }
    Ok(held)
}

fn compare_names(
    kind: PjsipType,
    held: &BTreeSet<String>,
    expected: &Expected<'_>,
    found: &mut Found,
) {
    let ours = objects(expected.model, kind);
    let object = kind.object_kind();
    for name in ours.keys().filter(|name| !held.contains(*name)) {
        found.add(
            object,
            name,
            MismatchKind::Missing,
            "not in Asterisk's list",
        );
    }
    for name in held.iter().filter(|name| !ours.contains_key(*name)) {
        let has = |earlier: &&Earlier| objects(&earlier.model, kind).contains_key(name);
        if let Some(earlier) = expected.before.iter().find(has) {
            let detail = format!("left from revision {}", earlier.revision);
            found.add(object, name, MismatchKind::Extra, &detail);
        } else if expected.manifest.reserves(name) {
            found.add(object, name, MismatchKind::Extra, "a name of the portal");
        }
    }
}

impl Expected<'_> {
    /// Whether every option of an object is to be compared.
    fn looks_at(&self, kind: PjsipType, name: &str) -> bool {
        let ours = objects(self.model, kind).get(name);
        match self.depth {
            _ if name == GENERATION_MARKER => true,
            Depth::Markers => false,
            Depth::Everything => true,
            Depth::Changed => {
                let same = |earlier: &Earlier| objects(&earlier.model, kind).get(name) == ours;
                self.before.is_empty() || !self.before.iter().all(same)
            }
        }
    }
}

/// Compares every option of the objects that are to be looked at. What is missing from the list is
/// reported already.
fn compare_options(
    questions: Questions<'_>,
    kind: PjsipType,
    held: &BTreeSet<String>,
    expected: &Expected<'_>,
    found: &mut Found,
) -> Result<(), VerifyError> {
    let ours = objects(expected.model, kind);
    let mut asked: Vec<Name> = ours
        .keys()
        .filter(|name| held.contains(*name) && expected.looks_at(kind, name))
        .filter_map(|name| Name::new(name))
        .collect();
    // The marker first: the others are compared with it as well.
    asked.sort_by_key(|name| name.as_str() != GENERATION_MARKER);
    let mut plain: Option<(&Options, BTreeMap<String, String>)> = None;
    for command in Command::show_all(kind, &asked) {
        let Command::Show(_, names) = &command else {
            continue;
        };
        let shown = questions.ask(&command, |text| answers::show(names.len(), text))?;
        for (name, shown) in names.iter().zip(shown) {
            let name = name.as_str();
            let object = match name {
                GENERATION_MARKER => ObjectKind::Marker,
                _ => kind.object_kind(),
            };
            let (Some(shown), Some(options)) = (shown, ours.get(name)) else {
                found.add(object, name, MismatchKind::Missing, kind.word());
                continue;
            };
            found.compared += 1;
            let differing = options::differing(options, &shown);
            if !differing.is_empty() {
                let kept = kept_from(kind, name, &differing, &shown, expected.before);
                let words = options::words(options, &shown, &differing);
                let detail = format!("{}: {words}{kept}", kind.word());
                found.add(object, name, MismatchKind::Different, &detail);
            }
            if let Some((marker, plain)) = &plain {
                let added = options::added(options, &shown, (marker, plain));
                if !added.is_empty() {
                    let (word, added) = (kind.word(), added.join(", "));
                    let detail = format!("{word}: {added} set by another file");
                    found.add(object, name, MismatchKind::Different, &detail);
                }
            } else if object == ObjectKind::Marker {
                plain = Some((options, shown));
            }
        }
    }
    Ok(())
}

/// Asterisk that refuses a new object goes on with the old one: says so, and of which revision.
fn kept_from(
    kind: PjsipType,
    name: &str,
    differing: &[&str],
    shown: &BTreeMap<String, String>,
    before: &[Earlier],
) -> String {
    let is_kept = |earlier: &&Earlier| {
        let old = objects(&earlier.model, kind).get(name);
        old.is_some_and(|old| {
            let same = |option: &&str| {
                let old = old.get(option);
                old.is_some_and(|old| options::same(option, old, shown.get(*option)))
            };
            differing.iter().all(same)
        })
    };
    let earlier = before.iter().find(is_kept);
    earlier.map_or_else(String::new, |earlier| {
        format!("; still as in revision {}", earlier.revision)
    })
}
