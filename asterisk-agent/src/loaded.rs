//! Which generation Asterisk has loaded, by the markers that it holds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shared::bundle::{GENERATION_EXTENSION, GENERATION_MARKER, Revision, Slot};

use crate::agent::{Agent, Standing};
use crate::answers;
use crate::asterisk::{Asterisk, Command, Name, PjsipType};
use crate::durable::Dir;
use crate::steps::chain;

/// Largest file that is searched for its marker.
const SEARCHED_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The generation ids of what Asterisk holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) ids: BTreeMap<Slot, String>,
    pub(crate) warnings: Vec<String>,
}

/// The option of each type that carries the generation id.
const CARRIERS: [(PjsipType, &str); 3] = [
    (PjsipType::Endpoint, "accountcode"),
    (PjsipType::Auth, "username"),
    (PjsipType::Aor, "voicemail_extension"),
];

/// Asks Asterisk; ends after `limit` at the latest, give or take one answer.
pub(crate) fn ask(asterisk: &dyn Asterisk, limit: Duration) -> Loaded {
    let mut loaded = Loaded::default();
    let began = Instant::now();
    let run = |command: &Command| -> Option<String> {
        let left = limit.checked_sub(began.elapsed())?;
        asterisk.run(command, left).ok()
    };
    let Some(marker) = Name::new(GENERATION_MARKER) else {
        return loaded;
    };
    let mut ids = Vec::new();
    for (kind, option) in CARRIERS {
        let command = Command::Show(kind, vec![marker.clone()]);
        let Some(answer) = run(&command) else {
            return loaded;
        };
        let shown = answers::show(1, &answer).ok();
        let shown = shown.and_then(|shown| shown.into_iter().next().flatten());
        ids.push((kind, shown.and_then(|shown| shown.get(option).cloned())));
    }
    if let Some(id) = &ids[0].1 {
        loaded.ids.insert(Slot::PjsipEndpoints, id.clone());
    }
    if ids.iter().any(|(_, id)| *id != ids[0].1) {
        let text: Vec<_> = ids
            .iter()
            .map(|(kind, id)| format!("{} {}", kind.word(), id.as_deref().unwrap_or("none")))
            .collect();
        loaded.warnings.push(format!(
            "Asterisk holds PJSIP objects of different generations: {}",
            text.join(", ")
        ));
    }
    let command = Name::new(GENERATION_EXTENSION).map(|extension| Command::ShowExtension {
        extension,
        context: marker,
    });
    let step = command
        .and_then(|command| run(&command))
        .and_then(|answer| answers::dialplan(1, &answer).ok()?.pop()?)
        .and_then(|extensions| extensions.get(GENERATION_EXTENSION)?.first().cloned());
    let id = step.as_deref().and_then(argument).map(str::to_owned);
    if let Some(id) = id {
        loaded.ids.insert(Slot::DialplanRouting, id);
    }
    loaded
}

/// What stands in the brackets of `NoOp(…)`.
fn argument(step: &str) -> Option<&str> {
    let (_, rest) = step.split_once("NoOp(")?;
    rest.split_once(')').map(|(id, _)| id)
}

/// The revisions with the generation ids that are wanted: of the live one, the proven one and the
/// others that are still stored, in this order.
pub(crate) fn revisions(
    agent: &Agent,
    standing: &Standing,
    loaded: &Loaded,
) -> Vec<(String, Revision)> {
    let Ok(generations) =
        Dir::open(&agent.config.state_dir).and_then(|state| state.existing_subdir("gen"))
    else {
        return Vec::new();
    };
    let ledger = standing.ledger.as_ref();
    let live = ledger
        .and_then(|ledger| ledger.live)
        .map(|live| live.revision);
    let proven = ledger
        .and_then(|ledger| ledger.proven)
        .map(|proven| proven.generation.revision);
    let others = standing.staged.iter().rev().copied();
    let mut found: Vec<(String, Revision)> = Vec::new();
    for revision in live.into_iter().chain(proven).chain(others) {
        let all_found = loaded
            .ids
            .values()
            .all(|id| found.iter().any(|(known, _)| known == id));
        if all_found {
            break;
        }
        // Each file has an id of its own.
        for slot in Slot::ALL {
            let text = generations
                .existing_subdir(&revision.to_string())
                .and_then(|dir| dir.read(slot.name(), SEARCHED_BYTES_MAX));
            match text {
                Ok(Some(text)) => found.extend(generation_id(&text).map(|id| (id, revision))),
                Ok(None) => {}
                Err(error) => tracing::debug!(error = chain(&error), "cannot read a generation"),
            }
        }
    }
    found
}

/// The generation id in the text of a file: its marker stands at its end, in a PJSIP file that of
/// the endpoints.
fn generation_id(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let id = text.lines().rev().find_map(|line| {
        let pjsip = line.strip_prefix("accountcode = ");
        let dialplan = line.contains("generation").then(|| argument(line));
        pjsip.or(dialplan.flatten())
    });
    id.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_marker_of_a_file() {
        let text = b"[default]\nexten => 1000,1,NoOp(x)\n[synergy-generation]\nexten => \
                     generation,1,NoOp(g-4bec415d2a4ff6af)\n";
        assert_eq!(generation_id(text).as_deref(), Some("g-4bec415d2a4ff6af"));
        assert_eq!(generation_id(b"[default]\n"), None);
        let text =
            b"[1000]\naccountcode = 1\n[synergy-generation]\ntype = endpoint\naccountcode = \
                     g-ffffffffffffffff\n";
        assert_eq!(generation_id(text).as_deref(), Some("g-ffffffffffffffff"));
    }
}
