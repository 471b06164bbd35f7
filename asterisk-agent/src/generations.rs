//! Bundles in the state directory: `gen/<revision>/` with one file per slot and the manifest. The
//! highest revision among them is the highest that this agent has ever seen: it is never pruned,
//! so the fence against stale portals is durable as soon as a bundle is staged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::bundle::{ApplyId, BUNDLE_BYTES_MAX, Bundle, Digest, Manifest, Revision, Slot};

use crate::durable::{Dir, FileError, PRIVATE};
use crate::journal::Generation;

const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 64 * 1024;
/// How many generations stay, besides those that are in use.
const KEPT: usize = 10;

/// A stored bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GenerationError {
    /// The file system refused.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not there.
    #[error("revision {0} is not in the state directory")]
    Missing(Revision),
    /// Its files are not what was staged.
    #[error("revision {0} in the state directory is damaged")]
    Damaged(Revision),
}

/// What `manifest.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    apply_id: ApplyId,
    revision: Revision,
    manifest: Manifest,
}

/// The `gen` directory.
#[derive(Debug)]
pub(crate) struct Generations {
    dir: Dir,
    /// What lies in it, so that nobody has to look; one whose manifest cannot be read only fences.
    known: BTreeMap<Revision, Option<Generation>>,
}

impl Generations {
    /// In `dir`; what an interrupted upload left is removed.
    pub(crate) fn open(dir: Dir) -> Result<Self, FileError> {
        let mut generations = Self::looking(dir);
        for name in generations.dir.names()? {
            if name.strip_suffix(".tmp").is_some() {
                generations.dir.remove_dir(&name)?;
            } else if let Ok(number) = name.parse() {
                generations.learn(Revision(number));
            }
        }
        Ok(generations)
    }

    /// In `dir`, to read single generations only.
    pub(crate) fn looking(dir: Dir) -> Self {
        let known = BTreeMap::new();
        Self { dir, known }
    }

    /// What lies in `dir`, with everything left as it is.
    pub(crate) fn list(dir: Dir) -> Result<BTreeMap<Revision, Option<Generation>>, FileError> {
        let mut generations = Self::looking(dir);
        for name in generations.dir.names()? {
            if let Ok(number) = name.parse() {
                generations.learn(Revision(number));
            }
        }
        Ok(generations.known)
    }

    /// Every stored generation, by revision.
    pub(crate) fn all(&self) -> &BTreeMap<Revision, Option<Generation>> {
        &self.known
    }

    fn learn(&mut self, revision: Revision) {
        let generation = self.generation(revision);
        self.known.insert(revision, generation);
    }

    fn generation(&self, revision: Revision) -> Option<Generation> {
        let stored = self.stored(revision).ok()?;
        let digest = stored.manifest.digest();
        Some(Generation {
            revision,
            digest,
            apply_id: stored.apply_id,
        })
    }

    /// Stores a bundle, durably, under a revision that is not there yet, or holds the very same: an
    /// upload whose caller was lost may be stored while it is being sent again.
    pub(crate) fn store(
        &mut self,
        apply_id: ApplyId,
        revision: Revision,
        bundle: &Bundle,
    ) -> Result<(), FileError> {
        let same = Generation {
            revision,
            digest: bundle.manifest().digest(),
            apply_id,
        };
        if self.known.get(&revision) == Some(&Some(same)) {
            return Ok(());
        }
        let temporary = format!("{revision}.tmp");
        let stored = self.fill(&temporary, apply_id, revision, bundle);
        if stored.is_err() {
            self.dir.remove_dir(&temporary).ok();
        }
        // Also after a failure: if only the last sync failed, it is there and fences.
        if stored.is_ok() || self.dir.stat(&revision.to_string())?.is_some() {
            self.learn(revision);
        }
        stored
    }

    fn fill(
        &self,
        temporary: &str,
        apply_id: ApplyId,
        revision: Revision,
        bundle: &Bundle,
    ) -> Result<(), FileError> {
        self.dir.remove_dir(temporary)?;
        let dir = self.dir.make_dir(temporary)?;
        for (slot, bytes) in &bundle.files {
            dir.write_new(slot.name(), PRIVATE, bytes)?;
        }
        let stored = Stored {
            apply_id,
            revision,
            manifest: bundle.manifest(),
        };
        let json = dir.json(MANIFEST, &stored)?;
        dir.write_new(MANIFEST, PRIVATE, &json)?;
        dir.sync()?;
        self.dir.rename(temporary, &revision.to_string())?;
        self.dir.sync()
    }

    /// Size and hash of the files of a generation.
    pub(crate) fn manifest(&self, revision: Revision) -> Result<Manifest, GenerationError> {
        Ok(self.stored(revision)?.manifest)
    }

    fn stored(&self, revision: Revision) -> Result<Stored, GenerationError> {
        let dir = self.existing(revision)?;
        let json = dir.read(MANIFEST, MANIFEST_BYTES_MAX)?;
        let stored: Option<Stored> = json.and_then(|json| serde_json::from_slice(&json).ok());
        let stored = stored.filter(|stored| stored.revision == revision);
        stored.ok_or(GenerationError::Damaged(revision))
    }

    fn existing(&self, revision: Revision) -> Result<Dir, GenerationError> {
        let name = revision.to_string();
        match self.dir.stat(&name)? {
            None => Err(GenerationError::Missing(revision)),
            Some(_) => Ok(self.dir.existing_subdir(&name)?),
        }
    }

    /// The bundle of a generation, if it still is what was staged.
    pub(crate) fn load(
        &self,
        revision: Revision,
        digest: Digest,
    ) -> Result<(Bundle, Manifest), GenerationError> {
        let stored = self.stored(revision)?;
        let dir = self.existing(revision)?;
        let mut files = BTreeMap::new();
        for slot in Slot::ALL {
            if let Some(bytes) = dir.read(slot.name(), BUNDLE_BYTES_MAX)? {
                files.insert(slot, bytes);
            }
        }
        let bundle = Bundle {
            files,
            reserved_numbers: stored.manifest.reserved_numbers.clone(),
        };
        let manifest = bundle.manifest();
        let sound = manifest == stored.manifest && manifest.digest() == digest;
        if sound {
            Ok((bundle, manifest))
        } else {
            Err(GenerationError::Damaged(revision))
        }
    }

    /// Removes all but the last ten and those in `used`.
    pub(crate) fn prune(&mut self, used: &[Revision]) -> Result<(), FileError> {
        let surplus = self.known.len().saturating_sub(KEPT);
        let oldest: Vec<_> = self.known.keys().take(surplus).copied().collect();
        for revision in oldest.iter().filter(|revision| !used.contains(revision)) {
            self.dir.remove_dir(&revision.to_string())?;
            self.known.remove(revision);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(text: &str) -> Bundle {
        let files = Slot::ALL
            .map(|slot| (slot, text.as_bytes().to_vec()))
            .into();
        Bundle {
            files,
            reserved_numbers: vec![1000..=1999],
        }
    }

    fn generations(dir: &tempfile::TempDir) -> Generations {
        Generations::open(Dir::open(dir.path()).unwrap()).unwrap()
    }

    #[test]
    fn what_is_stored_is_loaded_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let mut generations = generations(&dir);
        let bundle = bundle("x");
        let digest = bundle.manifest().digest();
        generations
            .store(ApplyId(uuid::Uuid::nil()), Revision(3), &bundle)
            .unwrap();
        assert!(generations.load(Revision(3), digest).unwrap().0 == bundle);
        assert!(matches!(
            generations.load(Revision(4), digest),
            Err(GenerationError::Missing(Revision(4)))
        ));
        let inner = generations.existing(Revision(3)).unwrap();
        inner.replace("pjsip_endpoints", b"y").unwrap();
        assert!(matches!(
            generations.load(Revision(3), digest),
            Err(GenerationError::Damaged(Revision(3)))
        ));
    }

    #[test]
    fn the_same_upload_twice_is_stored_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = generations(&dir);
        let (id, other) = (ApplyId(uuid::Uuid::nil()), ApplyId(uuid::Uuid::max()));
        store.store(id, Revision(1), &bundle("x")).unwrap();
        store.store(id, Revision(1), &bundle("x")).unwrap();
        assert!(store.store(id, Revision(1), &bundle("y")).is_err());
        assert!(store.store(other, Revision(1), &bundle("x")).is_err());
    }

    #[test]
    fn the_highest_and_the_used_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = generations(&dir);
        for revision in 1..=15 {
            store
                .store(ApplyId(uuid::Uuid::nil()), Revision(revision), &bundle("x"))
                .unwrap();
        }
        store.prune(&[Revision(2)]).unwrap();
        let kept: Vec<_> = store.all().keys().map(|revision| revision.0).collect();
        assert_eq!(kept, [2, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn an_interrupted_upload_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("7.tmp");
        std::fs::create_dir(&inner).unwrap();
        Dir::open(&inner)
            .unwrap()
            .replace("pjsip_endpoints", b"half")
            .unwrap();
        assert!(generations(&dir).all().is_empty());
        assert!(!inner.exists());
    }
}
