//! Reads what Asterisk's command line answers. Every sample in the tests was captured from a
//! running Asterisk 22.10.1.

use std::collections::{BTreeMap, BTreeSet};

/// An answer is not what the command answers when it works.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The command is unknown, or its module is not loaded.
    #[error("Asterisk does not know the command: {0}")]
    NoSuchCommand(String),
    /// `cli_permissions.conf` forbids it.
    #[error("Asterisk does not permit the command: {0}")]
    NotPermitted(String),
    /// It ends too early, or is of another form.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// The whole answer, unless it is a refusal.
fn accepted(answer: &str) -> Result<&str, AnswerError> {
    // An answer may have many lines, and is hardly ever a refusal.
    if !answer.contains("No such command") && !answer.contains("You don't have permission") {
        return Ok(answer);
    }
    for line in answer.lines() {
        if line.starts_with("No such command") {
            return Err(AnswerError::NoSuchCommand(line.to_owned()));
        }
        if line.contains("You don't have permission") {
            return Err(AnswerError::NotPermitted(line.to_owned()));
        }
    }
    Ok(answer)
}

/// Whether `cli_permissions.conf` forbids the command.
pub(crate) fn is_not_permitted(answer: &str) -> bool {
    matches!(accepted(answer), Err(AnswerError::NotPermitted(_)))
}

/// What became of a reload, by its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReloadAnswer {
    /// It was carried out; that says nothing about the configuration.
    Done,
    /// Another reload runs, or Asterisk is still booting: this one was not carried out.
    InProgress,
    /// It was not carried out, and trying again will not help.
    Refused(AnswerError),
    /// Nothing was said: `asterisk -rx` answers so after 60 s of silence, and the reload goes on.
    Silent,
}

/// `pjsip reload`, or `module reload res_pjsip.so`. Only the line about `res_pjsip.so` counts:
/// modules that are not loaded say so without harm.
pub(crate) fn pjsip_reload(answer: &str) -> ReloadAnswer {
    reload(answer, "Module 'res_pjsip.so' reloaded successfully")
}

/// `dialplan reload`.
pub(crate) fn dialplan_reload(answer: &str) -> ReloadAnswer {
    reload(answer, "Dialplan reloaded.")
}

fn reload(answer: &str, success: &str) -> ReloadAnswer {
    if let Err(refusal) = accepted(answer) {
        return ReloadAnswer::Refused(refusal);
    }
    if answer.lines().any(|line| line.starts_with(success)) {
        return ReloadAnswer::Done;
    }
    if answer.contains("already in progress") || answer.contains("request queued") {
        return ReloadAnswer::InProgress;
    }
    match answer.lines().map(str::trim).find(|line| !line.is_empty()) {
        None => ReloadAnswer::Silent,
        Some(line) => ReloadAnswer::Refused(AnswerError::Unreadable(line.to_owned())),
    }
}

/// `core waitfullybooted`.
pub(crate) fn has_booted(answer: &str) -> bool {
    answer
        .lines()
        .any(|line| line.starts_with("Asterisk has fully booted"))
}

/// `core show version`: the version alone.
pub(crate) fn version(answer: &str) -> Result<String, AnswerError> {
    let line = accepted(answer)?
        .lines()
        .find_map(|line| line.strip_prefix("Asterisk "));
    let version = line.and_then(|line| line.split(' ').next());
    version
        .map(str::to_owned)
        .ok_or_else(|| AnswerError::Unreadable(answer.trim().to_owned()))
}

/// The names of `pjsip list endpoints|auths|aors`, asked `expected` times in a row; `title` is
/// `Endpoint`, `Auth` or `Aor`. Each answer ends with a count: without it, or with another one,
/// something is missing.
pub(crate) fn list(
    title: &str,
    expected: usize,
    answer: &str,
) -> Result<BTreeSet<String>, AnswerError> {
    let answer = accepted(answer)?;
    let mut names = BTreeSet::new();
    let (mut lines, mut counted) = (0, 0);
    let mut answers = 0;
    for line in answer.lines().map(str::trim) {
        if line.starts_with("No objects found") {
            answers += 1;
        } else if let Some(found) = line.strip_prefix("Objects found:") {
            answers += 1;
            counted += found.trim().parse::<usize>().unwrap_or(0);
        } else if let Some(name) = listed_name(title, line) {
            lines += 1;
            names.insert(name.to_owned());
        }
    }
    if (answers, counted) == (expected, lines) {
        Ok(names)
    } else {
        let text = format!(
            "{lines} names are listed, {counted} are counted, in {answers} answers of {expected}"
        );
        Err(AnswerError::Unreadable(text))
    }
}

/// `Endpoint:  1000/"caller id"      Unavailable ...`: two blanks end the column.
fn listed_name<'a>(title: &str, line: &'a str) -> Option<&'a str> {
    let rest = line.strip_prefix(title)?.strip_prefix(':')?.trim_start();
    let column = rest.split_once("  ").map_or(rest, |(column, _)| column);
    let name = column.split_once('/').map_or(column, |(name, _)| name);
    (!name.starts_with('<') && !name.is_empty()).then_some(name)
}

/// The options of the objects that one connection asked for, in the order of the questions;
/// `None` for one that does not exist.
pub(crate) type Shown = Vec<Option<BTreeMap<String, String>>>;

/// The answers of `pjsip show endpoint|auth|aor NAME`, asked one after another.
pub(crate) fn show(expected: usize, answer: &str) -> Result<Shown, AnswerError> {
    let answer = accepted(answer)?;
    let mut shown = Shown::new();
    let mut in_parameters = false;
    for line in answer.lines() {
        if line.starts_with("Unable to find object") {
            shown.push(None);
            in_parameters = false;
        } else if line.starts_with(" ParameterName ") {
            shown.push(Some(BTreeMap::new()));
            in_parameters = true;
        } else if line.trim().is_empty() {
            in_parameters = false;
        } else if in_parameters
            && let Some((key, value)) = line.split_once(':')
            && let Some(Some(options)) = shown.last_mut()
        {
            options.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    if shown.len() == expected {
        Ok(shown)
    } else {
        let text = format!(
            "{expected} objects were asked for, {} were shown",
            shown.len()
        );
        Err(AnswerError::Unreadable(text))
    }
}

/// The extensions of a context, each with its steps in the order of their priorities.
pub(crate) type Extensions = BTreeMap<String, Vec<String>>;

/// The contexts that one connection asked for, in the order of the questions; `None` for one that
/// does not exist.
pub(crate) type Contexts = Vec<Option<Extensions>>;

/// The answers of `dialplan show CONTEXT`, asked `expected` times in a row. An include, a switch or
/// an ignored pattern counts as an extension of that text, because none of ours has one. Each
/// answer ends with a count: without it, or with another one, something is missing.
pub(crate) fn dialplan(expected: usize, answer: &str) -> Result<Contexts, AnswerError> {
    let answer = accepted(answer)?;
    let mut contexts = Contexts::new();
    let mut extensions = Extensions::new();
    let mut current = String::new();
    let mut listed: usize = 0;
    for line in answer.lines() {
        if line.starts_with("There is no existence of") {
            contexts.push(None);
        } else if let Some(summary) = line.strip_prefix("-= ") {
            let counted = summary.split_once('(');
            let counted = counted.and_then(|(_, rest)| rest.split(' ').next());
            if counted.and_then(|counted| counted.parse().ok()) != Some(listed) {
                let text = format!("{listed} steps are listed, {counted:?} are counted");
                return Err(AnswerError::Unreadable(text));
            }
            contexts.push(Some(std::mem::take(&mut extensions)));
            listed = 0;
        } else if let Some(text) = line.strip_prefix("   ") {
            // A further step of the extension above, perhaps behind a label.
            listed += 1;
            extensions
                .entry(current.clone())
                .or_default()
                .push(step(text));
        } else if let Some((name, text)) = line
            .strip_prefix("  '")
            .and_then(|rest| rest.split_once("' =>"))
        {
            listed += 1;
            name.clone_into(&mut current);
            extensions
                .entry(current.clone())
                .or_default()
                .push(step(text));
        } else if let Some(text) = line.strip_prefix("  ") {
            extensions
                .entry(without_registrar(text).to_owned())
                .or_default();
        }
    }
    if contexts.len() == expected && listed == 0 {
        Ok(contexts)
    } else {
        let text = format!(
            "{expected} contexts were asked for, {} were shown",
            contexts.len()
        );
        Err(AnswerError::Unreadable(text))
    }
}

/// `1. Dial(PJSIP/1000,25)          [generated_routing.conf:5]` without what stands around it.
fn step(text: &str) -> String {
    let text = without_registrar(text.trim());
    match text.split_once(". ") {
        Some((number, application)) if number.bytes().all(|b| b.is_ascii_digit()) => {
            application.to_owned()
        }
        _ => text.to_owned(),
    }
}

/// Cuts `[generated_routing.conf:5]` from the end of a step.
fn without_registrar(step: &str) -> &str {
    match step.rsplit_once(" [") {
        Some((application, registrar)) if registrar.ends_with(']') => application.trim_end(),
        _ => step.trim_end(),
    }
}

/// A registered contact, by its key `/registrar/contact/AOR;@HASH`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Contact {
    pub(crate) aor: String,
    pub(crate) hash: String,
    /// What the phone said of itself: where it is, and what it is.
    pub(crate) phone: Phone,
}

/// A part of the JSON that Asterisk keeps of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Phone {
    pub(crate) uri: String,
    pub(crate) user_agent: String,
}

/// `database show registrar`. The answer ends with a count of its lines.
pub(crate) fn contacts(answer: &str) -> Result<Vec<Contact>, AnswerError> {
    let answer = accepted(answer)?;
    let complete = answer.lines().any(|line| line.ends_with(" results found."));
    if !complete {
        return Err(AnswerError::Unreadable("it has no end".to_owned()));
    }
    let contact = |line: &str| {
        let key = line.strip_prefix("/registrar/contact/")?;
        let (aor, rest) = key.split_once(";@")?;
        let hash: String = rest.chars().take_while(char::is_ascii_hexdigit).collect();
        let json = rest.split_once(": ").map_or("", |(_, json)| json);
        Some(Contact {
            aor: aor.to_owned(),
            hash,
            // Whatever it says, the contact is there.
            phone: serde_json::from_str(json).unwrap_or_default(),
        })
    };
    Ok(answer.lines().filter_map(contact).collect())
}

#[cfg(test)]
mod tests;
