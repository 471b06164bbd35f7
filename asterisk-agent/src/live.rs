//! The managed files where Asterisk reads them: `pjsip.d/synergycall/generated_endpoints.conf`
//! (FR-007) and `extensions.d/synergycall/generated_routing.conf` (FR-008).

use std::collections::BTreeMap;
use std::path::Path;

use shared::bundle::{BUNDLE_BYTES_MAX, Revision, Slot};

use crate::durable::{Dir, FileError};
use crate::steps::chain;

/// One managed file in its open directory.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) dir: Dir,
    /// Its name in there.
    pub(crate) name: &'static str,
}

impl Place {
    /// The name of the copy that is written beside it: no `*.conf`, so that Asterisk's include
    /// never matches it, and in the same directory, because a rename does not cross a mount.
    pub(crate) fn temporary(&self, revision: Revision) -> String {
        format!(".{}.{revision}.tmp", self.name)
    }

    /// The name under which the file that is replaced is kept until the switch is over.
    pub(crate) fn replaced(&self) -> String {
        format!(".{}.old.tmp", self.name)
    }

    fn is_leftover(&self, name: &str) -> bool {
        name.starts_with(&format!(".{}.", self.name))
            && Path::new(name)
                .extension()
                .is_some_and(|extension| extension == "tmp")
    }
}

/// All managed files.
#[derive(Debug)]
pub(crate) struct Live {
    places: BTreeMap<Slot, Place>,
    config: Dir,
}

/// What tells whether somebody wrote to a file: inode, times of the last changes of content and of
/// anything else.
type Stamp = Option<[i64; 5]>;

/// What tells whether somebody wrote to what Asterisk reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps {
    /// Of the managed files, and of their directories, which change when one is put beside them.
    pub(crate) managed: Vec<Stamp>,
    /// Of Asterisk's own `*.conf`, which may change objects of ours: `[1000](+)`.
    pub(crate) own: BTreeMap<String, Stamp>,
}

/// The bytes of every managed file that is there.
pub(crate) type Files = BTreeMap<Slot, Vec<u8>>;

impl Live {
    /// Opens every directory below `config_dir`.
    pub(crate) fn open(config_dir: &Path) -> Result<Self, FileError> {
        let mut places = BTreeMap::new();
        for slot in Slot::ALL {
            let (dir, name) = slot.relative_path().rsplit_once('/').unwrap_or((".", ""));
            let dir = Dir::open(&config_dir.join(dir))?;
            places.insert(slot, Place { dir, name });
        }
        let config = Dir::open(config_dir)?;
        Ok(Self { places, config })
    }

    /// Every place, in the order in which files are switched.
    pub(crate) fn places(&self) -> impl Iterator<Item = (Slot, &Place)> {
        self.places.iter().map(|(&slot, place)| (slot, place))
    }

    /// The files as they are now. A symbolic link counts as no file: what it leads to is not ours
    /// to read, and a switch replaces the link itself.
    pub(crate) fn read(&self) -> Result<Files, FileError> {
        let mut files = Files::new();
        for (slot, place) in self.places() {
            files.extend(Self::read_one(place)?.map(|bytes| (slot, bytes)));
        }
        Ok(files)
    }

    /// The files as they are now, with those of `otherwise` in the place of what cannot be read, and
    /// why it cannot.
    pub(crate) fn read_or(&self, otherwise: &Files) -> (Files, Vec<String>) {
        let (mut files, mut unreadable) = (Files::new(), Vec::new());
        for (slot, place) in self.places() {
            match Self::read_one(place) {
                Ok(bytes) => files.extend(bytes.map(|bytes| (slot, bytes))),
                Err(error) => {
                    unreadable.push(chain(&error));
                    files.extend(otherwise.get(&slot).map(|bytes| (slot, bytes.clone())));
                }
            }
        }
        (files, unreadable)
    }

    fn read_one(place: &Place) -> Result<Option<Vec<u8>>, FileError> {
        if place.dir.is_link(place.name)? {
            return Ok(None);
        }
        place.dir.read(place.name, BUNDLE_BYTES_MAX)
    }

    /// Changes whenever somebody writes to one of the files, puts one beside them, or writes to
    /// Asterisk's own configuration.
    pub(crate) fn stamps(&self) -> Result<Stamps, FileError> {
        let mut managed = Vec::new();
        for (_, place) in self.places() {
            for name in [place.name, "."] {
                managed.push(stamp(&place.dir, name)?);
            }
        }
        let names = self.config.names()?.into_iter();
        let own = names
            .filter(|name| name.strip_suffix(".conf").is_some())
            .map(|name| stamp(&self.config, &name).map(|stamp| (name, stamp)))
            .collect::<Result<_, _>>()?;
        Ok(Stamps { managed, own })
    }

    /// Removes whatever an interrupted switch left beside the files.
    pub(crate) fn remove_leftovers(&self) -> Result<(), FileError> {
        for (_, place) in self.places() {
            for name in place
                .dir
                .names()?
                .iter()
                .filter(|name| place.is_leftover(name))
            {
                place.dir.remove(name)?;
            }
        }
        Ok(())
    }
}

/// `None`: there is no such file.
fn stamp(dir: &Dir, name: &str) -> Result<Stamp, FileError> {
    Ok(dir.stat(name)?.map(|stat| {
        [
            stat.st_ino.cast_signed(),
            stat.st_mtime,
            stat.st_mtime_nsec,
            stat.st_ctime,
            stat.st_ctime_nsec,
        ]
    }))
}
