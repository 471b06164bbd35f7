//! What a bundle says, as objects: the configuration that Asterisk must hold when it is in force.
//!
//! Reading is also the check. Asterisk answers an unknown option, a bad value, a duplicate or a
//! dangling reference with silence: it keeps the old object, or loads one that cannot work, and
//! says "reloaded successfully". So this accepts exactly what the portal renders, a closed list of
//! types, options, values and applications, and refuses everything else. The portal reads what it
//! rendered, the agent what it received, and the agent verifies Asterisk against the result.

mod options;
mod references;
mod vocabulary;

use std::collections::BTreeMap;
use std::fmt;

use crate::bundle::{Bundle, GENERATION_EXTENSION, GENERATION_MARKER, Slot};
use crate::conf::{self, Entry, Section};
use crate::names::is_name;
pub use options::Options;
use options::Texts;
pub use vocabulary::auths;
use vocabulary::{argument, step, vocabulary};

/// The objects of a bundle, by name.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Model {
    /// PJSIP endpoints.
    pub endpoints: BTreeMap<String, Options>,
    /// PJSIP auths. They hold digests, which are secrets: there is no `Debug` of a model.
    pub auths: BTreeMap<String, Options>,
    /// PJSIP AORs.
    pub aors: BTreeMap<String, Options>,
    /// Dialplan contexts; of each, its extensions with their steps (`Dial(PJSIP/1000,25)`) in the
    /// order of their priorities, from 1.
    pub contexts: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// What the generation markers of each file carry: those of the three PJSIP types, and that of
    /// the dialplan.
    pub generations: BTreeMap<Slot, String>,
}

impl Model {
    /// What the generation markers of a file carry.
    pub fn generation(&self, slot: Slot) -> &str {
        self.generations.get(&slot).map_or("", String::as_str)
    }
}

/// Something in a bundle that Asterisk would refuse, ignore or take as something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub slot: Slot,
    /// From 1; 0 where it concerns the file as a whole.
    pub line: usize,
    /// What is wrong; never a secret.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} line {}: {}",
            self.slot.name(),
            self.line,
            self.message
        )
    }
}

/// Reads and checks a whole bundle.
///
/// # Errors
/// Everything that was found, not only the first.
pub fn read(bundle: &Bundle) -> Result<Model, Vec<Finding>> {
    let mut reader = Reader::default();
    for slot in Slot::ALL {
        let Some(bytes) = bundle.files.get(&slot) else {
            reader.find(slot, 0, "the file is missing from the bundle".to_owned());
            continue;
        };
        let read = conf::read_each(bytes, |section| reader.section(slot, &section));
        if let Err(error) = read {
            reader.find(slot, error.line, error.fault.to_string());
        }
    }
    if reader.findings.is_empty() {
        reader.references();
        reader.markers();
    }
    if reader.findings.is_empty() {
        Ok(reader.model)
    } else {
        Err(reader.findings)
    }
}

#[derive(Default)]
struct Reader {
    model: Model,
    texts: Texts,
    findings: Vec<Finding>,
}

impl Reader {
    fn find(&mut self, slot: Slot, line: usize, message: String) {
        self.findings.push(Finding {
            slot,
            line,
            message,
        });
    }

    fn section(&mut self, slot: Slot, section: &Section) {
        if !is_name(section.name) {
            let message = format!("[{}] is no name of ours", section.name);
            return self.find(slot, section.line, message);
        }
        match slot {
            Slot::PjsipEndpoints => self.pjsip_object(section),
            Slot::DialplanRouting => self.context(section),
        }
    }

    fn pjsip_object(&mut self, section: &Section) {
        let slot = Slot::PjsipEndpoints;
        let name = section.name;
        let (kind, rest) = match section.entries.split_first() {
            Some((first, rest)) if first.key == "type" => (&*first.value, rest),
            _ => {
                return self.find(
                    slot,
                    section.line,
                    format!("[{name}] does not begin with a type"),
                );
            }
        };
        let Some(vocabulary) = vocabulary(kind) else {
            return self.find(slot, section.line, format!("[{name}] has an unknown type"));
        };
        let mut options = Options::with_room_for(rest.len());
        for Entry { key, value, line } in rest {
            let known = vocabulary.iter().find(|(option, _)| option == key);
            match known {
                None => self.find(
                    slot,
                    *line,
                    format!("{kind} [{name}]: unknown option {key}"),
                ),
                Some((_, grammar)) if !grammar(value) => {
                    self.find(slot, *line, format!("{kind} [{name}]: bad value of {key}"));
                }
                Some((option, _)) => {
                    if !options.insert(option, self.texts.share(value)) {
                        self.find(slot, *line, format!("{kind} [{name}]: {key} stands twice"));
                    }
                }
            }
        }
        let objects = match kind {
            "endpoint" => &mut self.model.endpoints,
            "auth" => &mut self.model.auths,
            _ => &mut self.model.aors,
        };
        if objects.insert(name.to_owned(), options).is_some() {
            self.find(slot, section.line, format!("{kind} [{name}] stands twice"));
        }
    }

    fn context(&mut self, section: &Section) {
        let slot = Slot::DialplanRouting;
        let name = section.name;
        let mut extensions: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for entry in &section.entries {
            let step = (entry.key == "exten").then(|| step(&entry.value)).flatten();
            let Some((extension, priority, application)) = step else {
                let message = format!("[{name}]: not a step that the portal renders");
                self.find(slot, entry.line, message);
                continue;
            };
            let steps = extensions.entry(extension.to_owned()).or_default();
            if priority != steps.len() + 1 {
                let message = format!("[{name}] {extension}: priority {priority} is out of turn");
                self.find(slot, entry.line, message);
                continue;
            }
            steps.push(application.to_owned());
        }
        extensions.values_mut().for_each(Vec::shrink_to_fit);
        if self
            .model
            .contexts
            .insert(name.to_owned(), extensions)
            .is_some()
        {
            self.find(slot, section.line, format!("context [{name}] stands twice"));
        }
    }

    /// What Asterisk loads without a word and cannot use, or uses for somebody else.
    fn references(&mut self) {
        for (slot, message) in references::faults(&self.model) {
            self.find(slot, 0, message);
        }
    }

    fn markers(&mut self) {
        let model = &self.model;
        let option = |objects: &BTreeMap<String, Options>, key: &str| {
            objects
                .get(GENERATION_MARKER)
                .and_then(|options| options.get(key))
                .map(str::to_owned)
        };
        let context = model.contexts.get(GENERATION_MARKER);
        let step = context.and_then(|extensions| extensions.get(GENERATION_EXTENSION)?.first());
        let pjsip = [
            option(&model.endpoints, "accountcode"),
            option(&model.auths, "username"),
            option(&model.aors, "voicemail_extension"),
        ];
        let step = step.and_then(|step| argument(step, "NoOp"));
        let dialplan = [step.map(str::to_owned)];
        for (slot, marks) in [
            (Slot::PjsipEndpoints, &pjsip[..]),
            (Slot::DialplanRouting, &dialplan[..]),
        ] {
            match &marks[0] {
                Some(mark) if marks.iter().all(|other| other.as_ref() == Some(mark)) => {
                    self.model.generations.insert(slot, mark.clone());
                }
                _ => {
                    let message = "the generation markers are incomplete or differ".to_owned();
                    self.find(slot, 0, message);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
