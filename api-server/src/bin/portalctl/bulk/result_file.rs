//! The file with the passwords of what was created: for its owner alone, and never in place of another.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api_server::http::bodies::CreatedAccountBody;

use crate::failure::Failure;

/// The file with the passwords of what was created.
pub(super) struct ResultFile {
    path: PathBuf,
    writer: csv::Writer<std::fs::File>,
}

impl ResultFile {
    /// Makes it before anything is created: a password that cannot be written down is lost.
    ///
    /// # Errors
    /// There is a file of that name, or it cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Failure::other(format!("--result {}: {error}", path.display())))?;
        let mut this = Self {
            path: path.to_owned(),
            writer: csv::Writer::from_writer(file),
        };
        this.record(&[
            "key",
            "device_id",
            "sip_username",
            "sip_password",
            "sip_realm",
        ])?;
        Ok(this)
    }

    /// Adds what a phone registers with.
    pub(super) fn add(&mut self, key: &str, sip: &CreatedAccountBody) -> Result<(), Failure> {
        let device = sip.device_id.to_string();
        self.record(&[key, &device, &sip.username, &sip.password, &sip.realm])
    }

    fn record(&mut self, fields: &[&str]) -> Result<(), Failure> {
        let written = self.writer.write_record(fields);
        written
            .map_err(|error| Failure::other(format!("--result {}: {error}", self.path.display())))
    }

    /// Writes it to the disk.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| {
            Failure::other(format!("--result {}: {error}", self.path.display()))
        };
        let file = self.writer.into_inner();
        let file = file.map_err(|error| failed(error.into_error()))?;
        file.sync_all().map_err(failed)
    }

    /// Removes it when nothing was created.
    pub(super) fn discard(self) {
        drop(self.writer);
        std::fs::remove_file(&self.path).ok();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn it_is_for_its_owner_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.csv");
        let mut file = ResultFile::create(&path).unwrap();
        let sip = CreatedAccountBody {
            device_id: uuid::Uuid::nil(),
            username: "1000".to_owned(),
            password: "a\"b,c".to_owned(),
            realm: "r".to_owned(),
        };
        file.add("ann@example.com", &sip).unwrap();
        file.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "key,device_id,sip_username,sip_password,sip_realm\n\
             ann@example.com,00000000-0000-0000-0000-000000000000,1000,\"a\"\"b,c\",r\n"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(ResultFile::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
