//! Puts files in the place of the live ones, all or none.
//!
//! Everything that can fail for want of space or permission happens in [`prepare`]. The file that
//! is replaced keeps a second name until the switch is over, so that taking a rename back needs no
//! space and brings back its bytes, its time and its inode.

use shared::bundle::{Digest, Revision, Slot};

use crate::durable::{Create, Dir, FileError};
use crate::journal::Old;
use crate::live::{Files, Live, Place};

/// Owner and group may read: Asterisk is in the directory's group.
const LIVE_FILE: Create = Create {
    mode: 0o640,
    group_of_directory: true,
};

/// The switch could not be made; everything is as it was, unless the text says otherwise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwitchError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// What lies there now is not what was written.
    #[error("{0} does not hold what was written to it")]
    NotWhatWasWritten(String),
    /// Going back failed as well.
    #[error(
        "{failure}; going back failed as well: {going_back}. The managed files are a mixture of old \
         and new now, and nothing was reloaded"
    )]
    Torn {
        /// Why the switch failed.
        failure: String,
        /// Why the old files could not be put back.
        going_back: String,
    },
}

/// Writes a synced copy of every file beside its target. On failure no copy is left.
pub(crate) fn prepare(live: &Live, revision: Revision, files: &Files) -> Result<(), FileError> {
    let prepared = live.places().try_for_each(|(slot, place)| {
        let Some(bytes) = files.get(&slot) else {
            return Ok(());
        };
        let temporary = place.temporary(revision);
        place.dir.remove(&temporary)?;
        place.dir.write_new(&temporary, LIVE_FILE, bytes)?;
        renew_mtime(place, &temporary)?;
        place.dir.remove(&place.replaced())?;
        place.dir.link(place.name, &place.replaced())
    });
    if prepared.is_err() {
        live.remove_leftovers().ok();
    }
    prepared
}

/// Asterisk tells a changed file by size and time, so that a copy must not have the time of the
/// file that it replaces, whatever the clock did.
fn renew_mtime(place: &Place, temporary: &str) -> Result<(), FileError> {
    let (Some(old), Some(new)) = (place.dir.stat(place.name)?, place.dir.stat(temporary)?) else {
        return Ok(());
    };
    if (old.st_mtime, old.st_mtime_nsec) == (new.st_mtime, new.st_mtime_nsec) {
        place
            .dir
            .set_mtime(temporary, (new.st_mtime + 1, new.st_mtime_nsec))?;
    }
    Ok(())
}

/// Renames every prepared copy into place, syncs the directories and reads the files back. When
/// anything fails, `old` is put back.
pub(crate) fn switch(
    live: &Live,
    revision: Revision,
    files: &Files,
    old: &Files,
) -> Result<(), SwitchError> {
    let mut renamed = Vec::new();
    let Err(failure) = rename_all(live, revision, files, &mut renamed) else {
        return Ok(());
    };
    let going_back = live
        .places()
        .filter(|(slot, _)| renamed.contains(slot))
        .try_for_each(|(slot, place)| put_back(place, revision, old.get(&slot)));
    match going_back {
        Ok(()) => {
            live.remove_leftovers().ok();
            Err(failure)
        }
        // What lies beside the files may be of use to whoever mends them.
        Err(error) => Err(SwitchError::Torn {
            failure: crate::steps::chain(&failure),
            going_back: crate::steps::chain(&error),
        }),
    }
}

fn rename_all(
    live: &Live,
    revision: Revision,
    files: &Files,
    renamed: &mut Vec<Slot>,
) -> Result<(), SwitchError> {
    for (slot, place) in live.places() {
        let Some(bytes) = files.get(&slot) else {
            continue;
        };
        place.dir.rename(&place.temporary(revision), place.name)?;
        renamed.push(slot);
        place.dir.sync()?;
        if place.dir.read(place.name, bytes.len() as u64)?.as_ref() != Some(bytes) {
            let path = place.dir.join(place.name).display().to_string();
            return Err(SwitchError::NotWhatWasWritten(path));
        }
    }
    Ok(())
}

/// Takes back a rename that was made.
fn put_back(place: &Place, revision: Revision, old: Option<&Vec<u8>>) -> Result<(), FileError> {
    let replaced = place.replaced();
    match (place.dir.stat(&replaced)?, old) {
        (Some(_), _) => place.dir.rename(&replaced, place.name)?,
        (None, None) => place.dir.remove(place.name)?,
        (None, Some(bytes)) => overwrite(place, revision, bytes)?,
    }
    place.dir.sync()
}

fn overwrite(place: &Place, revision: Revision, bytes: &[u8]) -> Result<(), FileError> {
    let temporary = place.temporary(revision);
    place.dir.remove(&temporary)?;
    place.dir.write_new(&temporary, LIVE_FILE, bytes)?;
    renew_mtime(place, &temporary)?;
    place.dir.rename(&temporary, place.name)
}

/// After a kill: brings one file back to what it was. Says whether anything had to be done.
pub(crate) fn restore(
    place: &Place,
    slot: Slot,
    old: &Old,
    state: &Dir,
    revision: Revision,
) -> Result<bool, FileError> {
    let (kept_in, digest) = match old {
        Old::Absent => {
            let was_there = place.dir.stat(place.name)?.is_some();
            place.dir.remove(place.name)?;
            place.dir.sync()?;
            return Ok(was_there);
        }
        Old::Generation(revision, digest) => (("gen", revision.to_string()), digest),
        Old::Drift(name, digest) => (("drift", name.clone()), digest),
    };
    if hash(&place.dir, place.name)? == Some(*digest) {
        return Ok(false);
    }
    if hash(&place.dir, &place.replaced())? == Some(*digest) {
        place.dir.rename(&place.replaced(), place.name)?;
    } else {
        let kept = state
            .existing_subdir(kept_in.0)?
            .existing_subdir(&kept_in.1)?;
        // An empty or altered file in its place would take every phone away in silence.
        let bytes = kept.read(slot.name(), u64::MAX - 1)?;
        let sound = bytes.filter(|bytes| Digest::of(bytes) == *digest);
        let bytes = sound.ok_or_else(|| kept.damaged(slot.name()))?;
        overwrite(place, revision, &bytes)?;
    }
    place.dir.sync()?;
    Ok(true)
}

fn hash(dir: &Dir, name: &str) -> Result<Option<Digest>, FileError> {
    Ok(dir
        .read(name, u64::MAX - 1)?
        .map(|bytes| Digest::of(&bytes)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::*;
    use crate::verify::tests::directories;

    fn files(text: &str) -> Files {
        Slot::ALL
            .map(|slot| (slot, text.as_bytes().to_vec()))
            .into()
    }

    fn names(config: &Path) -> Vec<String> {
        let names = |slot: Slot| {
            let path = config.join(slot.relative_path());
            Dir::open(path.parent().unwrap()).unwrap().names().unwrap()
        };
        Slot::ALL.into_iter().flat_map(names).collect()
    }

    #[test]
    fn switches_all_files_with_a_new_time() {
        let dir = directories();
        let live = Live::open(dir.path()).unwrap();
        for (revision, text) in [(1, "one"), (2, "two"), (3, "six")] {
            let path = dir.path().join(Slot::PjsipEndpoints.relative_path());
            let before = path
                .metadata()
                .ok()
                .map(|data| (data.mtime(), data.mtime_nsec()));
            prepare(&live, Revision(revision), &files(text)).unwrap();
            switch(&live, Revision(revision), &files(text), &Files::new()).unwrap();
            live.remove_leftovers().unwrap();
            assert!(live.read().unwrap() == files(text));
            let after = path
                .metadata()
                .ok()
                .map(|data| (data.mtime(), data.mtime_nsec()));
            assert_ne!(before, after);
        }
        assert_eq!(
            names(dir.path()),
            ["generated_endpoints.conf", "generated_routing.conf"]
        );
    }

    /// The second rename fails: the first is taken back, with bytes and time as they were.
    #[test]
    fn a_half_switch_is_taken_back() {
        let dir = directories();
        let live = Live::open(dir.path()).unwrap();
        prepare(&live, Revision(1), &files("old")).unwrap();
        switch(&live, Revision(1), &files("old"), &Files::new()).unwrap();
        live.remove_leftovers().unwrap();
        let path = dir.path().join(Slot::PjsipEndpoints.relative_path());
        let before = path.metadata().unwrap();
        prepare(&live, Revision(2), &files("new")).unwrap();
        let (_, second) = live.places().last().unwrap();
        second.dir.remove(&second.temporary(Revision(2))).unwrap();
        assert!(switch(&live, Revision(2), &files("new"), &files("old")).is_err());
        let after = path.metadata().unwrap();
        assert!(live.read().unwrap() == files("old"));
        assert_eq!(
            (before.ino(), before.mtime_nsec()),
            (after.ino(), after.mtime_nsec())
        );
        assert_eq!(names(dir.path()).len(), 2);
    }

    /// As above, where the old file could not be given a second name.
    #[test]
    fn a_half_switch_is_taken_back_from_bytes() {
        let dir = directories();
        let live = Live::open(dir.path()).unwrap();
        prepare(&live, Revision(1), &files("old")).unwrap();
        switch(&live, Revision(1), &files("old"), &Files::new()).unwrap();
        live.remove_leftovers().unwrap();
        prepare(&live, Revision(2), &files("new")).unwrap();
        for (_, place) in live.places() {
            place.dir.remove(&place.replaced()).unwrap();
        }
        let (_, second) = live.places().last().unwrap();
        second.dir.remove(&second.temporary(Revision(2))).unwrap();
        assert!(switch(&live, Revision(2), &files("new"), &files("old")).is_err());
        assert!(live.read().unwrap() == files("old"));
    }

    #[test]
    fn a_half_first_switch_leaves_no_file() {
        let dir = directories();
        let live = Live::open(dir.path()).unwrap();
        prepare(&live, Revision(2), &files("new")).unwrap();
        let (_, second) = live.places().last().unwrap();
        second.dir.remove(&second.temporary(Revision(2))).unwrap();
        assert!(switch(&live, Revision(2), &files("new"), &Files::new()).is_err());
        assert!(names(dir.path()).is_empty());
    }

    /// The kept copy is gone or altered: better the file that lies there than an empty one.
    #[test]
    fn a_damaged_copy_is_never_put_in_place() {
        let (dir, state) = (directories(), tempfile::tempdir().unwrap());
        let live = Live::open(dir.path()).unwrap();
        prepare(&live, Revision(2), &files("new")).unwrap();
        switch(&live, Revision(2), &files("new"), &Files::new()).unwrap();
        live.remove_leftovers().unwrap();
        let state = Dir::open(state.path()).unwrap();
        let kept = state.subdir("gen").unwrap().subdir("1").unwrap();
        let old = Old::Generation(Revision(1), Digest::of(b"old"));
        let (slot, place) = live.places().next().unwrap();
        for altered in [None, Some(&b""[..]), Some(b"odd")] {
            if let Some(bytes) = altered {
                kept.replace(slot.name(), bytes).unwrap();
            }
            assert!(restore(place, slot, &old, &state, Revision(2)).is_err());
            assert!(live.read().unwrap() == files("new"));
        }
        kept.replace(slot.name(), b"old").unwrap();
        assert!(restore(place, slot, &old, &state, Revision(2)).unwrap());
        assert_eq!(
            place.dir.read(place.name, 10).unwrap().as_deref(),
            Some(&b"old"[..])
        );
    }

    #[test]
    fn a_link_in_the_way_leads_nowhere() {
        let dir = directories();
        let live = Live::open(dir.path()).unwrap();
        let victim = dir.path().join("victim");
        Dir::open(dir.path())
            .unwrap()
            .replace("victim", b"safe")
            .unwrap();
        let target = dir.path().join(Slot::PjsipEndpoints.relative_path());
        std::os::unix::fs::symlink(&victim, &target).unwrap();
        prepare(&live, Revision(2), &files("new")).unwrap();
        switch(&live, Revision(2), &files("new"), &Files::new()).unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"safe");
        assert!(target.symlink_metadata().unwrap().is_file());
    }
}
