//! Files that others put into the managed directories. Asterisk includes every `*.conf` there, so
//! one of them can spoil ours: an object given twice makes it keep the old objects of a whole type
//! in silence. They are reported, never removed.

use shared::bundle::{BUNDLE_BYTES_MAX, Slot};
use shared::model::Model;

use crate::durable::FileError;
use crate::live::Live;

/// A foreign file that would change what the bundle means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} line {line} also defines [{name}], which the portal manages: remove it from there")]
pub(crate) struct Conflict {
    path: String,
    line: usize,
    name: String,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Every foreign file, by its path.
    pub(crate) files: Vec<String>,
    /// What an administrator should know about them.
    pub(crate) notes: Vec<String>,
    /// What makes the bundle unusable.
    pub(crate) conflicts: Vec<Conflict>,
}

/// The paths of all foreign files. Asterisk's pattern does not match names that begin with a dot.
pub(crate) fn list(live: &Live) -> Result<Vec<String>, FileError> {
    let mut paths = Vec::new();
    for (_, place) in live.places() {
        let names = place.dir.names()?;
        let foreign = names.iter().filter(|name| is_foreign(name, place.name));
        paths.extend(foreign.map(|name| place.dir.join(name).display().to_string()));
    }
    Ok(paths)
}

fn is_foreign(name: &str, ours: &str) -> bool {
    let conf = std::path::Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "conf");
    conf && !name.starts_with('.') && name != ours
}

/// Looks through all foreign files for what is ours by `model`.
pub(crate) fn scan(live: &Live, model: &Model) -> Result<Findings, FileError> {
    let mut findings = Findings {
        files: list(live)?,
        ..Findings::default()
    };
    for (slot, place) in live.places() {
        for name in place
            .dir
            .names()?
            .iter()
            .filter(|name| is_foreign(name, place.name))
        {
            let path = place.dir.join(name).display().to_string();
            findings.notes.push(format!(
                "Asterisk also includes {path}, which is not managed"
            ));
            match place.dir.read(name, BUNDLE_BYTES_MAX) {
                Ok(Some(bytes)) => look_through(&mut findings, slot, &path, &bytes, model),
                Ok(None) => {}
                Err(error) => {
                    let said = crate::steps::chain(&error);
                    findings
                        .notes
                        .push(format!("it cannot be looked through: {said}"));
                }
            }
        }
    }
    Ok(findings)
}

fn look_through(findings: &mut Findings, slot: Slot, path: &str, bytes: &[u8], model: &Model) {
    let text = String::from_utf8_lossy(bytes);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        let name = line.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        match name {
            Some((name, _)) if is_ours(slot, name, model) => findings.conflicts.push(Conflict {
                path: path.to_owned(),
                line: index + 1,
                name: name.to_owned(),
            }),
            None if line.starts_with('[') => findings.notes.push(format!(
                "{path} line {}: `[` without `]`: Asterisk stops reading there",
                index + 1
            )),
            _ => {}
        }
    }
}

/// Section names are compared as Asterisk does: case does not count.
fn is_ours(slot: Slot, name: &str, model: &Model) -> bool {
    let name = name.to_ascii_lowercase();
    match slot {
        Slot::PjsipEndpoints => [&model.endpoints, &model.auths, &model.aors]
            .iter()
            .any(|objects| objects.contains_key(&name)),
        Slot::DialplanRouting => model.contexts.contains_key(&name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::{directories, model};

    fn found(slot: Slot, text: &str) -> Findings {
        let dir = directories();
        let target = dir.path().join(slot.relative_path());
        crate::durable::Dir::open(target.parent().unwrap())
            .unwrap()
            .replace("trunk.conf", text.as_bytes())
            .unwrap();
        scan(&Live::open(dir.path()).unwrap(), &model(&[1000])).unwrap()
    }

    #[test]
    fn harmless_files_are_only_reported() {
        for (slot, text) in [
            (Slot::PjsipEndpoints, "[trunk]\ntype=endpoint\n"),
            (
                Slot::DialplanRouting,
                "[from-gsm]\nexten => s,1,NoOp()\n[1000]\n",
            ),
        ] {
            let findings = found(slot, text);
            assert_eq!((findings.files.len(), findings.conflicts.len()), (1, 0));
            assert!(findings.notes[0].contains("trunk.conf"));
        }
    }

    #[test]
    fn whoever_defines_or_extends_what_is_ours_is_named() {
        for (slot, text, name) in [
            (Slot::PjsipEndpoints, "[trunk]\n[1000]\ntype=aor\n", "1000"),
            (Slot::PjsipEndpoints, " [1000](+)\ncontext=evil\n", "1000"),
            (Slot::PjsipEndpoints, "[1000](!)\n", "1000"),
            (
                Slot::PjsipEndpoints,
                "[Synergy-Generation]\n",
                "Synergy-Generation",
            ),
            (
                Slot::DialplanRouting,
                "[synergy-internal](+)\n",
                "synergy-internal",
            ),
        ] {
            let conflicts = found(slot, text).conflicts;
            assert_eq!(conflicts.len(), 1, "{text}");
            assert_eq!(conflicts[0].name, name);
            assert!(conflicts[0].to_string().contains("trunk.conf"));
        }
    }

    #[test]
    fn an_unclosed_bracket_is_pointed_out() {
        let findings = found(Slot::PjsipEndpoints, "[trunk\n");
        assert!(findings.notes[1].contains("line 1"), "{:?}", findings.notes);
    }
}
