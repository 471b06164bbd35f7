//! The records of applies that ended: `applies/<id>.json`, the last two hundred.

use shared::bundle::ApplyId;
use shared::record::ApplyRecord;

use crate::durable::{Dir, FileError};

const KEPT: usize = 200;
const RECORD_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The `applies` directory.
#[derive(Debug)]
pub(crate) struct Records {
    dir: Dir,
}

impl Records {
    /// In `dir`.
    pub(crate) fn open(dir: Dir) -> Self {
        Self { dir }
    }

    /// Keeps a record, durably.
    pub(crate) fn write(&self, record: &ApplyRecord) -> Result<(), FileError> {
        let name = file_name(record.apply_id);
        let json = self.dir.json(&name, record)?;
        self.dir.replace(&name, &json)
    }

    /// Whether none was ever kept.
    pub(crate) fn is_empty(&self) -> Result<bool, FileError> {
        let names = self.dir.names()?;
        Ok(!names
            .iter()
            .any(|name| name.strip_suffix(".json").is_some()))
    }

    /// The record of an apply; `None` when there is none, or none that can be read.
    pub(crate) fn read(&self, apply_id: ApplyId) -> Result<Option<ApplyRecord>, FileError> {
        let json = self.dir.read(&file_name(apply_id), RECORD_BYTES_MAX)?;
        Ok(json.and_then(|json| serde_json::from_slice(&json).ok()))
    }

    /// Removes all but the newest.
    pub(crate) fn prune(&self) -> Result<(), FileError> {
        let names = self.dir.names()?;
        let Some(surplus) = names.len().checked_sub(KEPT + 1) else {
            return Ok(());
        };
        let mut dated = Vec::with_capacity(names.len());
        for name in names {
            let stat = self.dir.stat(&name)?;
            dated.push((stat.map(|stat| (stat.st_mtime, stat.st_mtime_nsec)), name));
        }
        dated.sort_unstable();
        dated[..=surplus]
            .iter()
            .try_for_each(|(_, name)| self.dir.remove(name))
    }
}

fn file_name(apply_id: ApplyId) -> String {
    format!("{apply_id}.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::log;

    #[test]
    fn the_last_two_hundred_stay() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::open(Dir::open(dir.path()).unwrap());
        let mut record = log().snapshot();
        let ids: Vec<_> = (0..205).map(|_| ApplyId(uuid::Uuid::now_v7())).collect();
        for &id in &ids {
            record.apply_id = id;
            records.write(&record).unwrap();
        }
        records.prune().unwrap();
        assert_eq!(records.dir.names().unwrap().len(), KEPT);
        assert_eq!(records.read(ids[0]).unwrap(), None);
        assert_eq!(records.read(ids[204]).unwrap(), Some(record));
    }
}
