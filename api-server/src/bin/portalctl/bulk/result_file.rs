//! The file with the passwords of what was created: for its owner alone, and never in place of another.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use api_server::http::bodies::CreatedAccountBody;

use crate::failure::Failure;
use crate::output::Output;

/// What phones register with, each with what it was created for.
pub(super) type Accounts<'a> = [(&'a str, &'a CreatedAccountBody)];

/// The names of the columns.
const HEAD: [&str; 5] = [
    "key",
    "device_id",
    "sip_username",
    "sip_password",
    "sip_realm",
];

/// The file with the passwords of what was created.
pub(super) struct ResultFile {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl ResultFile {
    /// Makes it before anything is created: a password that cannot be written down is lost. Its head
    /// is on the disk after this, so that a full one is found before and not after.
    ///
    /// # Errors
    /// There is a file of that name, or it cannot be made.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed(path, &error))?;
        let mut this = Self::of(path, file);
        if let Err(error) = this.write(&[HEAD]) {
            this.discard();
            return Err(failed(path, &error));
        }
        Ok(this)
    }

    fn of(path: &Path, file: File) -> Self {
        Self {
            path: path.to_owned(),
            writer: csv::Writer::from_writer(file),
        }
    }

    /// Writes lines to the disk.
    fn write(&mut self, lines: &[[&str; 5]]) -> io::Result<()> {
        for line in lines {
            self.writer.write_record(line)?;
        }
        self.writer.flush()?;
        self.writer.get_ref().sync_all()
    }

    /// Adds what phones register with, on the disk.
    fn finish(mut self, accounts: &Accounts) -> Result<(), Failure> {
        let devices = accounts.iter().map(|(_, sip)| sip.device_id.to_string());
        let devices: Vec<_> = devices.collect();
        let lines = accounts.iter().zip(&devices).map(|((key, sip), device)| {
            let (username, password) = (sip.username.as_str(), sip.password.as_str());
            [*key, device.as_str(), username, password, &sip.realm]
        });
        let lines: Vec<_> = lines.collect();
        self.write(&lines)
            .map_err(|error| failed(&self.path, &error))
    }

    /// Removes it when nothing was created.
    pub(super) fn discard(self) {
        drop(self.writer);
        std::fs::remove_file(&self.path).ok();
    }
}

/// Hands over passwords that nobody shows again: in the file, or where there is none or it takes no
/// more, on standard output. With `--json` the answer is printed there anyway, and has them.
///
/// # Errors
/// They are not in the file that was to have them.
pub(super) fn hand_over(
    out: &Output,
    accounts: &Accounts,
    file: Option<ResultFile>,
) -> Result<(), Failure> {
    let written = file.map(|file| file.finish(accounts));
    let in_file = matches!(written, Some(Ok(())));
    if !in_file && !accounts.is_empty() && !out.json() {
        let rows = accounts.iter().map(|(key, sip)| {
            let key = (*key).to_owned();
            vec![key, sip.username.clone(), sip.password.clone()]
        });
        out.table(&["KEY", "SIP USERNAME", "SIP PASSWORD"], rows.collect());
    }
    match written {
        Some(Err(Failure::Other(said))) if !accounts.is_empty() => Err(Failure::Other(format!(
            "{said}: it does not hold all that was created, standard output does"
        ))),
        Some(written) => written,
        None => Ok(()),
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!("--result {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn sip() -> CreatedAccountBody {
        CreatedAccountBody {
            device_id: uuid::Uuid::nil(),
            username: "1000".to_owned(),
            password: "a\"b,c".to_owned(),
            realm: "r".to_owned(),
        }
    }

    #[test]
    fn it_is_for_its_owner_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.csv");
        let file = ResultFile::create(&path).unwrap();
        let head = "key,device_id,sip_username,sip_password,sip_realm\n";
        assert_eq!(std::fs::read_to_string(&path).unwrap(), head);
        file.finish(&[("ann@example.com", &sip())]).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let line = "ann@example.com,00000000-0000-0000-0000-000000000000,1000,\"a\"\"b,c\",r\n";
        assert_eq!(text, format!("{head}{line}"));
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(ResultFile::create(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_full_disk_is_told() {
        let path = Path::new("/dev/full");
        let full = || ResultFile::of(path, OpenOptions::new().write(true).open(path).unwrap());
        assert!(full().write(&[HEAD]).is_err());
        let out = Output::new(clap::ColorChoice::Never, true);
        let failure = hand_over(&out, &[("ann@example.com", &sip())], Some(full())).unwrap_err();
        assert_eq!(failure.exit_code(), 1);
        let said = format!("{failure:?}");
        assert!(said.contains("standard output does"), "{said}");
    }
}
