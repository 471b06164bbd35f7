//! Live files that are not what this agent put there: a hand edit, a restore from a backup, files
//! of the time before the agent. A copy is kept before they are replaced.

use std::collections::BTreeMap;

use shared::bundle::{Digest, Manifest, Slot};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::durable::{Dir, FileError, PRIVATE};
use crate::journal::{Generation, Old};
use crate::live::Files;

/// How many copies stay.
const KEPT: usize = 20;

/// The slots whose live file is not that of the generation; all of them without one, as far as
/// there is a file.
pub(crate) fn drifted(live: &Files, expected: Option<&Manifest>) -> Vec<Slot> {
    let expected_hash = |slot: Slot| {
        let files = &expected?.files;
        files
            .iter()
            .find(|file| file.slot == slot)
            .map(|file| file.sha256)
    };
    Slot::ALL
        .into_iter()
        .filter(|slot| live.get(slot).map(|bytes| Digest::of(bytes)) != expected_hash(*slot))
        .collect()
}

/// Where the bytes of every live file can be had again once it is replaced. Drifted ones are
/// copied to `drift/<time>-<digest>/`, durably; says so in the second value.
pub(crate) fn keep(
    drift: &Dir,
    live: &Files,
    expected: Option<(&Generation, &Manifest)>,
    now: OffsetDateTime,
) -> Result<(BTreeMap<Slot, Old>, Option<String>), FileError> {
    let drifted = drifted(live, expected.map(|(_, manifest)| manifest));
    let copied: Files = drifted
        .iter()
        .filter_map(|slot| Some((*slot, live.get(slot)?.clone())))
        .collect();
    let name = if copied.is_empty() {
        String::new()
    } else {
        copy(drift, &copied, now)?
    };
    let mut old = BTreeMap::new();
    for slot in Slot::ALL {
        let kept = match (live.get(&slot), expected) {
            (None, _) => Old::Absent,
            (Some(bytes), Some((generation, _))) if !drifted.contains(&slot) => {
                Old::Generation(generation.revision, Digest::of(bytes))
            }
            (Some(bytes), _) => Old::Drift(name.clone(), Digest::of(bytes)),
        };
        old.insert(slot, kept);
    }
    let slots: Vec<_> = drifted.iter().map(|slot| slot.relative_path()).collect();
    let note = (!slots.is_empty()).then(|| {
        let copy = if copied.is_empty() {
            "there was nothing to keep"
        } else {
            "a copy is kept"
        };
        let place = if name.is_empty() {
            name
        } else {
            format!(" in drift/{name}")
        };
        format!(
            "not what was applied last: {}; {copy}{place}",
            slots.join(", ")
        )
    });
    Ok((old, note))
}

fn copy(drift: &Dir, files: &Files, now: OffsetDateTime) -> Result<String, FileError> {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    let time = now.format(format).unwrap_or_default();
    let all: Vec<u8> = files.values().flatten().copied().collect();
    let name = format!("{time}-{}", &Digest::of(&all).to_string()[..16]);
    if drift.stat(&name)?.is_some() {
        // The same bytes in the same second, from an attempt that came no further.
        drift.remove_dir(&name)?;
    }
    let dir = drift.make_dir(&name)?;
    for (slot, bytes) in files {
        dir.write_new(slot.name(), PRIVATE, bytes)?;
    }
    dir.sync()?;
    drift.sync()?;
    Ok(name)
}

/// Removes all but the newest copies: their names begin with the time.
pub(crate) fn prune(drift: &Dir) -> Result<(), FileError> {
    let names = drift.names()?;
    for name in &names[..names.len().saturating_sub(KEPT)] {
        drift.remove_dir(name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::bundle::{ApplyId, Revision};

    use super::*;
    use crate::verify::tests::bundle;

    #[test]
    fn what_was_applied_is_no_drift() {
        let dir = tempfile::tempdir().unwrap();
        let drift = Dir::open(dir.path()).unwrap();
        let bundle = bundle(&[1000]);
        let manifest = bundle.manifest();
        let apply_id = ApplyId(uuid::Uuid::nil());
        let digest = manifest.digest();
        let generation = Generation {
            revision: Revision(3),
            digest,
            apply_id,
        };
        let expected = Some((&generation, &manifest));
        let now = OffsetDateTime::UNIX_EPOCH;
        let (old, note) = keep(&drift, &bundle.files, expected, now).unwrap();
        assert_eq!(note, None);
        assert!(
            old.values()
                .all(|old| matches!(old, Old::Generation(Revision(3), _)))
        );
        assert!(drift.names().unwrap().is_empty());

        let mut edited = bundle.files.clone();
        edited
            .get_mut(&Slot::DialplanRouting)
            .unwrap()
            .extend_from_slice(b"; by hand\n");
        let (old, note) = keep(&drift, &edited, expected, now).unwrap();
        let note = note.unwrap();
        assert!(
            note.contains("generated_routing.conf") && note.contains("drift/1970"),
            "{note}"
        );
        let Old::Drift(name, _) = &old[&Slot::DialplanRouting] else {
            panic!("not kept")
        };
        let copy = drift
            .existing_subdir(name)
            .unwrap()
            .read("dialplan_routing", 10_000)
            .unwrap();
        assert_eq!(copy.as_ref(), edited.get(&Slot::DialplanRouting));
        assert!(matches!(old[&Slot::PjsipEndpoints], Old::Generation(..)));

        let (old, note) = keep(&drift, &Files::new(), None, now).unwrap();
        assert_eq!(note, None);
        assert!(old.values().all(|old| *old == Old::Absent));
    }
}
