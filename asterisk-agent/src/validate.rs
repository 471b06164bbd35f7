//! The check of a staged bundle before anything live is touched.
//!
//! The text itself (grammar, closed vocabulary of types, options, values and applications,
//! duplicates, references, generation markers) is checked by [`shared::model::read`], the same
//! check that the portal runs on what it rendered; its [`Model`] is also what `verify` compares
//! Asterisk with. What is checked here on top: options without which Asterisk refuses an object
//! and keeps its old version, names that could not be read back, and foreign files in the managed
//! directories.

use std::collections::BTreeMap;

use shared::bundle::{Bundle, GENERATION_MARKER};
use shared::model::{self, Model, Options};

use crate::asterisk::{NAME_BYTES_MAX, Name, PjsipType};
use crate::durable::FileError;
use crate::foreign;
use crate::live::Live;
use crate::steps::Log;

/// Most findings that a failure names.
const FINDINGS_MAX: usize = 20;

/// The bundle is refused: nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("the bundle is refused: {0}")]
pub(crate) struct Rejected(String);

/// Checks `bundle` against itself.
pub(crate) fn text(bundle: &Bundle) -> Result<Model, Rejected> {
    let findings = match model::read(bundle) {
        Err(findings) => findings.iter().map(ToString::to_string).collect(),
        Ok(model) => {
            let mut findings = incomplete_objects(&model);
            findings.extend(unreadable_names(&model));
            findings.extend(odd_ranges(bundle));
            if findings.is_empty() {
                return Ok(model);
            }
            findings
        }
    };
    Err(Rejected(summary(&findings)))
}

/// Checks it against what lies beside its files; foreign files that do no harm become notes.
pub(crate) fn surroundings(live: &Live, model: &Model, log: &Log) -> Result<(), Rejected> {
    let findings = match foreign::scan(live, model) {
        Ok(findings) => findings,
        Err(error) => {
            log.note(format!("foreign files: {}", describe(&error)));
            return Ok(());
        }
    };
    findings.notes.into_iter().for_each(|note| log.note(note));
    if findings.conflicts.is_empty() {
        return Ok(());
    }
    let conflicts: Vec<_> = findings.conflicts.iter().map(ToString::to_string).collect();
    Err(Rejected(summary(&conflicts)))
}

fn describe(error: &FileError) -> String {
    crate::steps::chain(error)
}

fn summary(findings: &[String]) -> String {
    let named = findings[..findings.len().min(FINDINGS_MAX)].join("; ");
    match findings.len().saturating_sub(FINDINGS_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

/// The objects of one type.
pub(crate) fn objects(model: &Model, kind: PjsipType) -> &BTreeMap<String, Options> {
    match kind {
        PjsipType::Endpoint => &model.endpoints,
        PjsipType::Auth => &model.auths,
        PjsipType::Aor => &model.aors,
    }
}

/// Asterisk refuses an auth without a secret. It loads an endpoint without auth as an open door,
/// one without AOR as a phone that never rings, and one without codecs as a phone without sound.
fn incomplete_objects(model: &Model) -> Vec<String> {
    let mut findings = Vec::new();
    for kind in PjsipType::ALL {
        for (name, options) in objects(model, kind) {
            let marker = name == GENERATION_MARKER;
            let required: &[&str] = match kind {
                PjsipType::Endpoint if marker => &["context", "disallow", "auth"],
                PjsipType::Endpoint => &["context", "disallow", "allow", "auth", "aors"],
                PjsipType::Auth if marker => &["auth_type", "username", "password_digest"],
                PjsipType::Auth => &["auth_type", "username", "realm", "password_digest"],
                PjsipType::Aor => &["max_contacts"],
            };
            let missing = required
                .iter()
                .filter(|option| !options.contains_key(**option));
            let word = kind.word();
            findings.extend(missing.map(|option| format!("{word} [{name}] has no {option}")));
        }
    }
    findings
}

fn unreadable_names(model: &Model) -> Vec<String> {
    let objects = PjsipType::ALL
        .into_iter()
        .flat_map(|kind| objects(model, kind).keys());
    let names = objects.chain(model.contexts.keys());
    names
        .filter(|name| Name::new(name).is_none())
        .map(|name| format!("[{name}]: Asterisk's lists cut names over {NAME_BYTES_MAX} bytes"))
        .collect()
}

fn odd_ranges(bundle: &Bundle) -> Vec<String> {
    let odd = bundle
        .reserved_numbers
        .iter()
        .filter(|range| range.is_empty());
    odd.map(|range| format!("the reserved numbers {range:?} are no range"))
        .collect()
}

#[cfg(test)]
mod tests {
    use shared::bundle::Slot;

    use super::*;
    use crate::verify::tests::bundle;

    fn refused(change: impl Fn(String) -> String) -> String {
        let mut bundle = bundle(&[1000, 1001]);
        for slot in Slot::ALL {
            let text = String::from_utf8(bundle.files.remove(&slot).unwrap()).unwrap();
            bundle.files.insert(slot, change(text).into_bytes());
        }
        text(&bundle).err().expect("it was accepted").to_string()
    }

    #[test]
    fn what_the_portal_renders_is_accepted() {
        assert!(text(&bundle(&[])).is_ok());
        assert!(text(&bundle(&[1000, 1001])).is_ok());
    }

    #[test]
    fn objects_that_asterisk_would_not_take_are_refused() {
        for (option, message) in [
            ("password_digest", "auth [1001] has no password_digest"),
            ("realm", "auth [1001] has no realm"),
            ("allow", "endpoint [1001] has no allow"),
            ("aors", "endpoint [1001] has no aors"),
            ("auth", "auth"),
            ("max_contacts", "aor [1001] has no max_contacts"),
        ] {
            let without = |text: String| {
                let begins = format!("{option} =");
                let kept = text.split_inclusive('\n');
                kept.filter(|line| !line.starts_with(&begins)).collect()
            };
            let said = refused(without);
            assert!(said.contains(message), "{option}: {said}");
        }
    }

    #[test]
    fn findings_are_named_with_their_place_and_without_secrets() {
        let said = refused(|text| text.replace("password_digest = MD5:", "password_digest = "));
        assert!(said.contains("bad value of password_digest"), "{said}");
        assert!(!said.contains("00000000"), "{said}");
        let said =
            refused(|text| text.replace("1001", "a-name-that-is-longer-than-forty-characters"));
        assert!(
            said.contains("cut names") || said.contains("not a step"),
            "{said}"
        );
    }

    #[test]
    fn many_findings_are_cut_short() {
        let numbers: Vec<_> = (1000..1100).collect();
        let mut bundle = bundle(&numbers);
        bundle
            .files
            .insert(Slot::DialplanRouting, b"[x]\n".to_vec());
        let said = text(&bundle).err().unwrap().to_string();
        assert!(said.contains("more"), "{said}");
    }

    #[test]
    fn an_empty_range_is_refused() {
        let mut bundle = bundle(&[]);
        #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
        bundle.reserved_numbers.push(2000..=1000);
        assert!(text(&bundle).is_err());
    }
}
