//! Reads back what Asterisk holds and compares it with what the bundle says: the generation
//! markers of all three PJSIP types and of the dialplan, the sets of names, every extension with
//! its steps, and every option of every object that changed, or of all of them.
//!
//! Names that are neither in the bundle, nor reserved for the portal, nor in a generation that was
//! live before are nobody's business here: trunks that an administrator made by hand.

mod dialplan;
mod objects;
mod options;

use std::time::Duration;

use shared::bundle::{GENERATION_MARKER, Manifest, Slot};
use shared::model::Model;
use shared::record::{Mismatch, MismatchKind, ObjectKind, Phase};

use crate::answers::{self, AnswerError};
use crate::asterisk::{Asterisk, AsteriskError, Command, Name, PjsipType};
use crate::engine::Earlier;
use crate::steps::{Finding, Log};
use crate::validate;

/// How often a question is asked whose answer cannot be read.
const ANSWERS_TRIED_MAX: usize = 6;

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

impl Finding for Found {
    fn is_clean(&self) -> bool {
        self.mismatches.is_empty()
    }
}

impl Finding for Vec<Mismatch> {
    fn is_clean(&self) -> bool {
        self.is_empty()
    }
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
    /// Asks one question and reads the answer. Asterisk drops what a console has not taken within
    /// 100 ms, so that on a busy host a part of an answer may be missing: it is asked for again.
    pub(crate) fn ask<T>(
        self,
        command: &Command,
        read: impl Fn(&str) -> Result<T, AnswerError>,
    ) -> Result<T, VerifyError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let answer = self.asterisk.run(command, self.deadline)?;
            match read(&answer) {
                Ok(read) => return Ok(read),
                Err(AnswerError::Unreadable(_)) if tried < ANSWERS_TRIED_MAX => {}
                Err(error) => {
                    return Err(VerifyError::Answer {
                        command: command.to_string(),
                        error,
                    });
                }
            }
        }
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
    log.step_finding(phase, action, || {
        let found = objects::found(questions, expected);
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
    log.step_finding(phase, action, || {
        let found = dialplan::found(questions, expected);
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
pub(crate) fn slot(object: ObjectKind, name: &str) -> Option<Slot> {
    Some(match object {
        ObjectKind::File => {
            return Slot::ALL
                .into_iter()
                .find(|slot| slot.relative_path() == name);
        }
        ObjectKind::Extension => Slot::DialplanRouting,
        ObjectKind::Marker if name.contains('@') => Slot::DialplanRouting,
        ObjectKind::Endpoint
        | ObjectKind::Auth
        | ObjectKind::Aor
        | ObjectKind::Marker
        | ObjectKind::Contact => Slot::PjsipEndpoints,
    })
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
        let held = match (
            &shown[0],
            validate::objects(model, kind).get(GENERATION_MARKER),
        ) {
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
