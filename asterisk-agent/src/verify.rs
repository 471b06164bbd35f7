//! Reads back what Asterisk holds and compares it with what the bundle says: the generation
//! markers of all three PJSIP types and of the dialplan, the sets of names, every extension with
//! its steps, and every option of every object that changed, or of all of them.
//!
//! Names that are neither in the bundle, nor reserved for the portal, nor in a generation that was
//! live before are nobody's business here: trunks that an administrator made by hand.

mod options;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER, Manifest, Slot};
use shared::model::Model;
use shared::record::{Mismatch, MismatchKind, ObjectKind, Phase};

use crate::answers::{self, AnswerError};
use crate::asterisk::{Asterisk, AsteriskError, Class, Command, Name, PjsipType};
use crate::engine::Earlier;
use crate::steps::Log;
use crate::validate::objects;

/// What Asterisk holds could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VerifyError {
    /// No answer.
    #[error(transparent)]
    Asterisk(#[from] AsteriskError),
    /// An answer that says nothing about what was asked.
    #[error("{command}: {error}")]
    Answer {
        /// What was asked.
        command: String,
        /// What is wrong with the answer.
        error: AnswerError,
    },
}

/// Of which objects every option is compared. The markers always are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Of none: what Asterisk holds was compared before, and nothing was read since.
    Markers,
    /// Of those that differ in any of the earlier generations, or are new.
    Changed,
    /// Of all.
    Everything,
}

/// What Asterisk must hold.
pub(crate) struct Expected<'a> {
    pub(crate) model: &'a Model,
    pub(crate) manifest: &'a Manifest,
    /// Generations that were live before: of their objects, nothing may be left behind.
    pub(crate) before: &'a [Earlier],
    pub(crate) depth: Depth,
}

/// What a comparison found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) mismatches: Vec<Mismatch>,
    /// Objects and extensions of which every part was compared.
    pub(crate) compared: usize,
}

impl Found {
    fn add(&mut self, object: ObjectKind, name: &str, kind: MismatchKind, detail: &str) {
        self.mismatches.push(mismatch(object, name, kind, detail));
    }

    fn extend(&mut self, other: Self) {
        self.mismatches.extend(other.mismatches);
        self.compared += other.compared;
    }
}

/// Somebody to ask.
#[derive(Clone, Copy)]
pub(crate) struct Questions<'a> {
    pub(crate) asterisk: &'a dyn Asterisk,
    pub(crate) deadline: Duration,
}

impl Questions<'_> {
    /// Asks one question and reads the answer.
    pub(crate) fn ask<T>(
        self,
        command: &Command,
        read: impl FnOnce(&str) -> Result<T, AnswerError>,
    ) -> Result<T, VerifyError> {
        let answer = self.asterisk.run(command, self.deadline)?;
        read(&answer).map_err(|error| VerifyError::Answer {
            command: command.to_string(),
            error,
        })
    }
}

/// Everything about PJSIP that is not as expected.
pub(crate) fn pjsip(
    questions: Questions<'_>,
    expected: &Expected<'_>,
    phase: Phase,
    log: &Log,
) -> Result<Found, VerifyError> {
    let generation = expected.model.generation(Slot::PjsipEndpoints);
    let action = format!("read back PJSIP objects of {generation}");
    log.step_saying(phase, action, || {
        let found = pjsip_found(questions, expected);
        let said = said(found.as_ref());
        (found, said)
    })
}

/// Everything about the dialplan that is not as expected.
pub(crate) fn dialplan(
    questions: Questions<'_>,
    expected: &Expected<'_>,
    phase: Phase,
    log: &Log,
) -> Result<Found, VerifyError> {
    let generation = expected.model.generation(Slot::DialplanRouting);
    let action = format!("read back the dialplan of {generation}");
    log.step_saying(phase, action, || {
        let found = dialplan_found(questions, expected);
        let said = said(found.as_ref());
        (found, said)
    })
}

/// Everything that is not as expected. PJSIP and the dialplan take their time in Asterisk on
/// different locks: side by side they take that of one.
pub(crate) fn both(
    questions: Questions<'_>,
    expected: &Expected<'_>,
    phase: Phase,
    log: &Log,
) -> Result<Found, VerifyError> {
    let span = tracing::Span::current();
    let (in_pjsip, in_dialplan) = std::thread::scope(|scope| {
        let reading = scope.spawn(|| span.in_scope(|| pjsip(questions, expected, phase, log)));
        let in_dialplan = dialplan(questions, expected, phase, log);
        (reading.join(), in_dialplan)
    });
    let broken = |_| Err(AsteriskError::Broken("reading it failed".to_owned()).into());
    let mut found = in_pjsip.unwrap_or_else(broken)?;
    found.extend(in_dialplan?);
    Ok(found)
}

/// The file that says what an object must be.
pub(crate) fn slot(object: ObjectKind, name: &str) -> Slot {
    match object {
        ObjectKind::Extension => Slot::DialplanRouting,
        ObjectKind::Marker if name.contains('@') => Slot::DialplanRouting,
        ObjectKind::Endpoint
        | ObjectKind::Auth
        | ObjectKind::Aor
        | ObjectKind::Marker
        | ObjectKind::Contact => Slot::PjsipEndpoints,
    }
}

/// Whether the markers of all three PJSIP types are those of `model`.
pub(crate) fn holds_pjsip_markers(
    questions: Questions<'_>,
    model: &Model,
) -> Result<bool, VerifyError> {
    for kind in PjsipType::ALL {
        let asked: Vec<Name> = Name::new(GENERATION_MARKER).into_iter().collect();
        let command = Command::Show(kind, asked);
        let shown = questions.ask(&command, |text| answers::show(1, text))?;
        let held = match (&shown[0], objects(model, kind).get(GENERATION_MARKER)) {
            (Some(shown), Some(ours)) => options::differing(ours, shown).is_empty(),
            _ => false,
        };
        if !held {
            return Ok(false);
        }
    }
    Ok(true)
}

fn said(found: Result<&Found, &VerifyError>) -> String {
    match found {
        Ok(found) if found.mismatches.is_empty() => {
            format!(
                "everything as expected, {} compared in depth",
                found.compared
            )
        }
        Ok(found) => summary(&found.mismatches),
        Err(error) => crate::steps::chain(error),
    }
}

/// The first few mismatches in words.
pub(crate) fn summary(mismatches: &[Mismatch]) -> String {
    const NAMED_MAX: usize = 5;
    let word = |mismatch: &Mismatch| {
        let kind = match mismatch.kind {
            MismatchKind::Missing => "is missing",
            MismatchKind::Extra => "should not be there",
            MismatchKind::Different => "differs",
        };
        format!(
            "{} {} {kind} ({})",
            mismatch.object.name(),
            mismatch.name,
            mismatch.detail
        )
    };
    let named: Vec<_> = mismatches.iter().take(NAMED_MAX).map(word).collect();
    let more = mismatches.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    format!("{}{more}", named.join("; "))
}

/// Asterisk answers several questions at a time, each type behind a lock of its own.
fn pjsip_found(questions: Questions<'_>, expected: &Expected<'_>) -> Result<Found, VerifyError> {
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
            found.add(object, name, MismatchKind::Extra, "a number of the portal");
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
    let asked: Vec<Name> = ours
        .keys()
        .filter(|name| held.contains(*name) && expected.looks_at(kind, name))
        .filter_map(|name| Name::new(name))
        .collect();
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
                let old = old.get(*option);
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

fn dialplan_found(questions: Questions<'_>, expected: &Expected<'_>) -> Result<Found, VerifyError> {
    let mut found = Found::default();
    let earlier = expected.before.iter().map(|earlier| &*earlier.model);
    let models = std::iter::once(expected.model).chain(earlier);
    let contexts: BTreeSet<&String> = models.flat_map(|model| model.contexts.keys()).collect();
    let none = BTreeMap::new();
    for context in contexts {
        let Some(name) = Name::new(context) else {
            continue;
        };
        let command = Command::ShowDialplan {
            context: name,
            extension: None,
        };
        let held = questions
            .ask(&command, answers::dialplan)?
            .unwrap_or_default();
        let ours = expected.model.contexts.get(context).unwrap_or(&none);
        compare_context(context, ours, &held, &mut found);
    }
    Ok(found)
}

fn compare_context(
    context: &str,
    ours: &answers::Extensions,
    held: &answers::Extensions,
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
                let detail = format!("{} instead of {}", held.join(", "), steps.join(", "));
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

/// A mismatch from its parts.
pub(crate) fn mismatch(
    object: ObjectKind,
    name: &str,
    kind: MismatchKind,
    detail: &str,
) -> Mismatch {
    Mismatch {
        object,
        name: name.to_owned(),
        kind,
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
