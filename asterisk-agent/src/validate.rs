//! The check of a staged bundle before anything live is touched.
//!
//! The text itself (grammar, closed vocabulary of types, options, values and applications,
//! duplicates, references, generation markers) is checked by [`shared::model::read`], the same
//! check that the portal runs on what it rendered; its [`Model`] is also what `verify` compares
//! Asterisk with. What is checked here on top: options without which Asterisk refuses an object
//! and keeps its old version, names that could not be read back, and foreign files in the managed
//! directories.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use shared::bundle::{Bundle, GENERATION_MARKER, Slot};
use shared::model::{self, Model, Options};
use shared::status::{CheckFinding, FindingSource};

use crate::answers;
use crate::asterisk::{Asterisk, Command, NAME_BYTES_MAX, Name, PjsipType};
use crate::durable::FileError;
use crate::foreign::{self, Conflict};
use crate::live::Live;
use crate::steps::Log;
use crate::verify::Questions;

/// Most findings that a failure names.
const FINDINGS_MAX: usize = 20;

/// The bundle is refused: nothing was touched.
#[derive(Debug, thiserror::Error)]
#[error("the bundle is refused: {}", summary(.0))]
pub(crate) struct Rejected(pub(crate) Vec<CheckFinding>);

/// Checks `bundle` against itself.
pub(crate) fn text(bundle: &Bundle) -> Result<Model, Rejected> {
    let model = model::read(bundle).map_err(|findings| {
        let findings = findings.into_iter().map(|finding| CheckFinding {
            source: FindingSource::Text,
            slot: Some(finding.slot),
            line: u32::try_from(finding.line).unwrap_or(u32::MAX),
            message: finding.message,
        });
        Rejected(findings.collect())
    })?;
    let mut findings = incomplete_objects(&model);
    findings.extend(unreadable_names(&model));
    findings.extend(odd_ranges(bundle));
    if findings.is_empty() {
        return Ok(model);
    }
    Err(Rejected(findings))
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
    let conflict = |conflict: &Conflict| CheckFinding {
        source: FindingSource::Surroundings,
        slot: None,
        line: 0,
        message: conflict.to_string(),
    };
    Err(Rejected(findings.conflicts.iter().map(conflict).collect()))
}

/// Checks that Asterisk has every transport that an endpoint names: it loads an endpoint without one
/// in silence, lets its phone register, and can send it nothing. An Asterisk that cannot be asked
/// keeps nobody from writing.
pub(crate) fn transports(
    questions: Questions<'_>,
    model: &Model,
    log: &Log,
) -> Result<(), Rejected> {
    let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, options) in &model.endpoints {
        if let Some(transport) = options.get("transport") {
            named.entry(transport).or_default().push(name);
        }
    }
    if named.is_empty() {
        return Ok(());
    }
    let read = |text: &str| answers::list("Transport", 1, text);
    let held = match questions.ask(&Command::ListTransports, read) {
        Ok(held) => held,
        Err(error) => {
            log.note(format!("transports: {}", crate::steps::chain(&error)));
            return Ok(());
        }
    };
    let missing = named
        .iter()
        .filter(|(transport, _)| !held.contains(**transport));
    let finding = |(transport, endpoints): (&&str, &Vec<&str>)| CheckFinding {
        source: FindingSource::Surroundings,
        slot: None,
        line: 0,
        message: format!(
            "Asterisk has no transport [{transport}], which {} endpoints use, [{}] first: define it \
             in pjsip.conf and reload, or choose another one",
            endpoints.len(),
            endpoints[0]
        ),
    };
    let findings: Vec<_> = missing.map(finding).collect();
    if findings.is_empty() {
        return Ok(());
    }
    Err(Rejected(findings))
}

/// Without Asterisk's program nothing could be reloaded, and nothing be taken back either.
pub(crate) fn program(asterisk: &dyn Asterisk) -> Result<(), Rejected> {
    asterisk.usable().map_err(|error| {
        Rejected(vec![CheckFinding {
            source: FindingSource::Surroundings,
            slot: None,
            line: 0,
            message: error.to_string(),
        }])
    })
}

/// The directories of the managed files cannot be used.
pub(crate) fn unusable_directories(error: &FileError) -> Rejected {
    Rejected(vec![CheckFinding {
        source: FindingSource::Surroundings,
        slot: None,
        line: 0,
        message: describe(error),
    }])
}

fn describe(error: &FileError) -> String {
    crate::steps::chain(error)
}

/// The first of the findings, in words.
pub(crate) fn summary(findings: &[CheckFinding]) -> String {
    let word = |finding: &CheckFinding| match (finding.slot, finding.line) {
        (Some(slot), 0) => format!("{}: {}", slot.name(), finding.message),
        (Some(slot), line) => format!("{} line {line}: {}", slot.name(), finding.message),
        (None, _) => finding.message.clone(),
    };
    let named: Vec<_> = findings.iter().take(FINDINGS_MAX).map(word).collect();
    let named = named.join("; ");
    match findings.len().saturating_sub(FINDINGS_MAX) {
        0 => named,
        more => format!("{named}; and {more} more"),
    }
}

fn found(slot: Slot, message: String) -> CheckFinding {
    CheckFinding {
        source: FindingSource::Text,
        slot: Some(slot),
        line: 0,
        message,
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
fn incomplete_objects(model: &Model) -> Vec<CheckFinding> {
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
                .filter(|option| !options.contains_key(option));
            let word = kind.word();
            findings.extend(missing.map(|option| {
                let message = format!("{word} [{name}] has no {option}");
                found(Slot::PjsipEndpoints, message)
            }));
        }
    }
    findings
}

fn unreadable_names(model: &Model) -> Vec<CheckFinding> {
    let unreadable = |slot| {
        move |name: &String| {
            let message =
                format!("[{name}]: Asterisk's lists cut names over {NAME_BYTES_MAX} bytes");
            Name::new(name).is_none().then(|| found(slot, message))
        }
    };
    let objects = PjsipType::ALL
        .into_iter()
        .flat_map(|kind| objects(model, kind).keys());
    let contexts = model.contexts.keys();
    objects
        .filter_map(unreadable(Slot::PjsipEndpoints))
        .chain(contexts.filter_map(unreadable(Slot::DialplanRouting)))
        .collect()
}

fn odd_ranges(bundle: &Bundle) -> Vec<CheckFinding> {
    let odd = bundle
        .reserved_numbers
        .iter()
        .filter(|range| range.is_empty());
    let finding = |range: &RangeInclusive<u32>| CheckFinding {
        source: FindingSource::Text,
        slot: None,
        line: 0,
        message: format!("the reserved numbers {range:?} are no range"),
    };
    odd.map(finding).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verify::tests::{Script, bundle};

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

    /// The answer of Asterisk 22.10.1, with a name that is longer than its column.
    const TRANSPORTS: &str = "
Transport:  <TransportId........>  <Type>  <cos>  <tos>  <BindAddress....................>
==========================================================================================

Transport:  a_TCP                     tcp      0      0  127.116.80.221:5062
Transport:  transport-udp             udp      0      0  127.116.80.221:5060
Transport:  transport_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx     tcp      0      0  127.116.80.221:5061

Objects found: 3

";

    fn with_transport(transport: &str, answers: &[&'static str]) -> (Result<(), Rejected>, usize) {
        let mut model = text(&bundle(&[1000, 1001])).unwrap();
        if !transport.is_empty() {
            for endpoint in ["1000", "1001"] {
                let options = model.endpoints.get_mut(endpoint).unwrap();
                options.insert("transport", transport);
            }
        }
        let answers: Vec<_> = answers.iter().map(|answer| Ok(*answer)).collect();
        let asterisk = Script::answering(&answers);
        let questions = Questions {
            asterisk: &asterisk,
            deadline: Duration::from_secs(1),
        };
        let checked = transports(questions, &model, &Log::nowhere());
        (checked, asterisk.asked().len())
    }

    #[test]
    fn an_endpoint_whose_transport_asterisk_lacks_is_refused() {
        let longest = format!("transport_{}", "x".repeat(53));
        for known in ["transport-udp", "a_TCP", &longest] {
            let (checked, _) = with_transport(known, &[TRANSPORTS]);
            assert!(checked.is_ok(), "{known}");
        }
        for unknown in ["nowhere", "a_tcp", "transport", "transport_xxx"] {
            let (checked, _) = with_transport(unknown, &[TRANSPORTS]);
            let said = checked.unwrap_err().to_string();
            let expected = format!("no transport [{unknown}], which 2 endpoints use, [1000] first");
            assert!(said.contains(&expected), "{said}");
        }
        let (checked, _) = with_transport("transport-udp", &["No objects found.\n\n"]);
        assert!(checked.is_err(), "there is none");
    }

    #[test]
    fn an_asterisk_that_cannot_be_asked_for_transports_refuses_nothing() {
        let (checked, asked) = with_transport("", &[]);
        assert!(checked.is_ok() && asked == 0, "nobody names one");
        let refusal = "You don't have permissions to run 'pjsip list transports' command\n";
        assert!(with_transport("nowhere", &[refusal]).0.is_ok());
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
