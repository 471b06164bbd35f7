//! The dialplan: which extensions a context has, and what their steps are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER, Revision};
use shared::record::{MismatchKind, ObjectKind};

use super::{Expected, Found, Questions, VerifyError};
use crate::answers;
use crate::asterisk::{Command, Name};

pub(super) fn found(
    questions: Questions<'_>,
    expected: &Expected<'_>,
) -> Result<Found, VerifyError> {
    let mut found = Found::default();
    let earlier = expected.before.iter().map(|earlier| &*earlier.model);
    let models = std::iter::once(expected.model).chain(earlier);
    let contexts: BTreeSet<&String> = models.flat_map(|model| model.contexts.keys()).collect();
    let contexts: Vec<Name> = contexts
        .into_iter()
        .filter_map(|context| Name::new(context))
        .collect();
    let none = BTreeMap::new();
    for command in Command::show_contexts(&contexts) {
        let Command::ShowContexts(asked) = &command else {
            continue;
        };
        let read = |text: &str| answers::dialplan(asked.len(), text);
        for (context, held) in asked.iter().zip(questions.ask(&command, read)?) {
            let context = context.as_str();
            let held = held.unwrap_or_default();
            let ours = expected.model.contexts.get(context).unwrap_or(&none);
            let known = expected.before.iter().filter_map(|earlier| {
                let extensions = earlier.model.contexts.get(context)?;
                Some((earlier.revision, extensions))
            });
            compare_context(context, ours, &held, &known.collect::<Vec<_>>(), &mut found);
        }
    }
    Ok(found)
}

fn compare_context(
    context: &str,
    ours: &answers::Extensions,
    held: &answers::Extensions,
    before: &[(Revision, &answers::Extensions)],
    found: &mut Found,
) {
    for (extension, steps) in ours {
        let marker = context == GENERATION_MARKER && extension == GENERATION_EXTENSION;
        let object = if marker {
            ObjectKind::Marker
        } else {
            ObjectKind::Extension
        };
        let held = held.get(extension);
        if held == Some(steps) {
            found.compared += 1;
            continue;
        }
        let name = format!("{extension}@{context}");
        match held {
            None => found.add(object, &name, MismatchKind::Missing, "not in its context"),
            Some(held) => {
                let mut detail = format!("{} instead of {}", held.join(", "), steps.join(", "));
                let kept = |(_, old): &&(_, &answers::Extensions)| old.get(extension) == Some(held);
                if let Some((revision, _)) = before.iter().find(kept) {
                    write!(detail, "; still as in revision {revision}").ok();
                }
                found.compared += 1;
                found.add(object, &name, MismatchKind::Different, &detail);
            }
        }
    }
    for extension in held
        .keys()
        .filter(|extension| !ours.contains_key(*extension))
    {
        let name = format!("{extension}@{context}");
        found.add(
            ObjectKind::Extension,
            &name,
            MismatchKind::Extra,
            "not in the bundle",
        );
    }
}
