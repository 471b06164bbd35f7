//! Reads back what Asterisk holds and compares it with what the bundle says: the generation
//! markers of all three PJSIP types and of the dialplan, the sets of names, every extension with
//! its steps, and every option of objects that changed.
//!
//! Names that are neither in the bundle, nor reserved for the portal, nor in a generation that was
//! live before are nobody's business here: trunks that an administrator made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER, Manifest};
use shared::model::{Model, Options};
use shared::record::{Mismatch, MismatchKind, ObjectKind, Phase};

use crate::answers::{self, AnswerError};
use crate::asterisk::{Asterisk, AsteriskError, Command, Name, PjsipType};
use crate::steps::Log;
use crate::validate::objects;

/// Most changed objects of a type whose every option is compared; the others are covered by the
/// markers and the sets. Showing an auth costs Asterisk 0.13 ms, an AOR 0.15 ms, an endpoint with
/// its 140 options 0.3 ms; auths come first, because an old password that stays valid is the worst.
const fn changed_objects_max(kind: PjsipType) -> usize {
    match kind {
        PjsipType::Auth => 100,
        PjsipType::Endpoint | PjsipType::Aor => 50,
    }
}

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

/// What Asterisk must hold.
pub(crate) struct Expected<'a> {
    pub(crate) model: &'a Model,
    pub(crate) manifest: &'a Manifest,
    /// Generations that were live before: of their objects, nothing may be left behind.
    pub(crate) before: &'a [&'a Model],
    /// Of objects that differ from those in here, every option is compared.
    pub(crate) against: &'a Model,
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
    log: &Log,
) -> Result<Vec<Mismatch>, VerifyError> {
    let action = format!("read back PJSIP objects of {}", expected.model.generation);
    log.step_saying(Phase::Verifying, action, || {
        let found = pjsip_mismatches(questions, expected);
        let said = said(found.as_ref());
        (found, said)
    })
}

/// Everything about the dialplan that is not as expected.
pub(crate) fn dialplan(
    questions: Questions<'_>,
    expected: &Expected<'_>,
    log: &Log,
) -> Result<Vec<Mismatch>, VerifyError> {
    let action = format!("read back the dialplan of {}", expected.model.generation);
    log.step_saying(Phase::Verifying, action, || {
        let found = dialplan_mismatches(questions, expected.model);
        let said = said(found.as_ref());
        (found, said)
    })
}

fn said(found: Result<&Vec<Mismatch>, &VerifyError>) -> String {
    match found {
        Ok(mismatches) if mismatches.is_empty() => "everything as expected".to_owned(),
        Ok(mismatches) => summary(mismatches),
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

fn pjsip_mismatches(
    questions: Questions<'_>,
    expected: &Expected<'_>,
) -> Result<Vec<Mismatch>, VerifyError> {
    let mut found = Vec::new();
    for kind in PjsipType::ALL {
        let title = match kind {
            PjsipType::Endpoint => "Endpoint",
            PjsipType::Auth => "Auth",
            PjsipType::Aor => "Aor",
        };
        let held = questions.ask(&Command::List(kind), |text| answers::list(title, text))?;
        compare_names(kind, &held, expected, &mut found);
        compare_options(questions, kind, &held, expected, &mut found)?;
    }
    Ok(found)
}

fn compare_names(
    kind: PjsipType,
    held: &BTreeSet<String>,
    expected: &Expected<'_>,
    found: &mut Vec<Mismatch>,
) {
    let ours = objects(expected.model, kind);
    let object = kind.object_kind();
    for name in ours.keys().filter(|name| !held.contains(*name)) {
        found.push(mismatch(
            object,
            name,
            MismatchKind::Missing,
            "not in Asterisk's list",
        ));
    }
    for name in held.iter().filter(|name| !ours.contains_key(*name)) {
        let left_behind = expected
            .before
            .iter()
            .any(|model| objects(model, kind).contains_key(name));
        if left_behind {
            found.push(mismatch(
                object,
                name,
                MismatchKind::Extra,
                "left from an earlier revision",
            ));
        } else if expected.manifest.reserves(name) {
            found.push(mismatch(
                object,
                name,
                MismatchKind::Extra,
                "a number of the portal",
            ));
        }
    }
}

/// Compares every option of the marker and of objects that are new or changed.
fn compare_options(
    questions: Questions<'_>,
    kind: PjsipType,
    held: &BTreeSet<String>,
    expected: &Expected<'_>,
    found: &mut Vec<Mismatch>,
) -> Result<(), VerifyError> {
    let ours = objects(expected.model, kind);
    let before = objects(expected.against, kind);
    let mut asked: Vec<Name> = ours
        .iter()
        .filter(|(name, options)| before.get(*name) != Some(options))
        .map(|(name, _)| name)
        .filter(|name| held.contains(*name) && *name != GENERATION_MARKER)
        .filter_map(|name| Name::new(name))
        .take(changed_objects_max(kind))
        .collect();
    // A missing marker is reported like any other missing name.
    asked.extend(held.get(GENERATION_MARKER).and_then(|name| Name::new(name)));
    for command in Command::show_all(kind, &asked) {
        let Command::Show(_, names) = &command else {
            continue;
        };
        let shown = questions.ask(&command, |text| answers::show(names.len(), text))?;
        for (name, shown) in names.iter().zip(shown) {
            let name = name.as_str();
            let marker = name == GENERATION_MARKER;
            let object = if marker {
                ObjectKind::Marker
            } else {
                kind.object_kind()
            };
            match (shown, ours.get(name)) {
                (Some(shown), Some(options)) => {
                    let differing = differing_options(options, &shown);
                    if !differing.is_empty() {
                        let detail = format!("{}: {}", kind.word(), differing.join(", "));
                        found.push(mismatch(object, name, MismatchKind::Different, &detail));
                    }
                }
                _ => found.push(mismatch(object, name, MismatchKind::Missing, kind.word())),
            }
        }
    }
    Ok(())
}

/// The names of the options that Asterisk shows otherwise: names alone, because values may be
/// secrets.
fn differing_options<'a>(options: &'a Options, shown: &BTreeMap<String, String>) -> Vec<&'a str> {
    let differs = |(option, value): &(&String, &String)| {
        let shown = shown.get(*option).map(String::as_str);
        match option.as_str() {
            // The list of codecs is what is left after both of them.
            "disallow" => false,
            "allow" => shown != Some(format!("({})", value.replace(',', "|")).as_str()),
            "callerid" => !shown.is_some_and(|shown| same_caller_id(shown, value)),
            _ => match value.as_str() {
                "yes" => !matches!(shown, Some("yes" | "true")),
                "no" => !matches!(shown, Some("no" | "false")),
                _ => shown != Some(value),
            },
        }
    };
    options
        .iter()
        .filter(differs)
        .map(|(option, _)| option.as_str())
        .collect()
}

/// Whether `shown` is the caller id `sent`. Asterisk shows it, with every quote and backslash of the
/// name escaped, in ten bytes more than the bare name and number have (`caller_id_to_str` in
/// `res_pjsip`), so that more than five escapes push the end out.
fn same_caller_id(shown: &str, sent: &str) -> bool {
    let mut escapes = 0;
    let mut chars = sent.chars();
    while let Some(char) = chars.next() {
        if char == '\\' {
            chars.next();
            escapes += 1;
        }
    }
    let room = (sent.len() + 5).saturating_sub(escapes);
    if sent.len() <= room {
        return plain_caller_id(shown) == plain_caller_id(sent);
    }
    // A character that was cut in the middle is shown as U+FFFD.
    let end = |text: &str| text.trim_end_matches([' ', '\u{fffd}']).to_owned();
    end(shown) == end(&sent[..sent.floor_char_boundary(room)])
}

/// A caller id without quotes and backslashes, which Asterisk writes by rules of its own.
fn plain_caller_id(text: &str) -> String {
    text.chars()
        .filter(|char| !matches!(char, '"' | '\\'))
        .collect()
}

fn dialplan_mismatches(
    questions: Questions<'_>,
    model: &Model,
) -> Result<Vec<Mismatch>, VerifyError> {
    let mut found = Vec::new();
    for (context, ours) in &model.contexts {
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
        for (extension, steps) in ours {
            let marker = context == GENERATION_MARKER && extension == GENERATION_EXTENSION;
            let object = if marker {
                ObjectKind::Marker
            } else {
                ObjectKind::Extension
            };
            let name = format!("{extension}@{context}");
            match held.get(extension) {
                None => {
                    found.push(mismatch(
                        object,
                        &name,
                        MismatchKind::Missing,
                        "not in its context",
                    ));
                }
                Some(held) if held != steps => {
                    let detail = format!("{} instead of {}", held.join(", "), steps.join(", "));
                    found.push(mismatch(object, &name, MismatchKind::Different, &detail));
                }
                Some(_) => {}
            }
        }
        for extension in held
            .keys()
            .filter(|extension| !ours.contains_key(*extension))
        {
            let name = format!("{extension}@{context}");
            let detail = "not in the bundle";
            found.push(mismatch(
                ObjectKind::Extension,
                &name,
                MismatchKind::Extra,
                detail,
            ));
        }
    }
    Ok(found)
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
