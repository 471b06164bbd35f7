//! The file with the passwords of what was created: for its owner alone, and never in place of another.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use api_server::http::bodies::{CreatedAccountBody, guarded};

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

/// More bytes than the head has, by which a longer file is told from it.
const HEAD_BYTES_MAX: u64 = 256;

/// The file with the passwords of what was created.
pub(super) struct ResultFile {
    path: PathBuf,
    writer: csv::Writer<File>,
}

impl ResultFile {
    /// Makes it, if one is wanted, before anything is created: a password that cannot be written down is
    /// lost. Its head is on the disk after this, so that a full one is found before and not after. What
    /// is asked about again by its `key` finds the file that the first time left, and takes it.
    ///
    /// # Errors
    /// There is a file of that name, or it cannot be made.
    pub(super) fn create(path: Option<&Path>, key: Option<&str>) -> Result<Option<Self>, Failure> {
        let Some(path) = path else {
            return Ok(None);
        };
        if key.is_some()
            && let Some(file) = left(path).map_err(|error| failed(path, &error))?
        {
            return Ok(Some(Self::of(path, file)));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| failed(path, &error))?;
        let mut this = Self::of(path, file);
        let made = lock(this.writer.get_ref()).and_then(|()| this.write(&[HEAD]));
        if let Err(error) = made {
            this.discard();
            return Err(failed(path, &error));
        }
        Ok(Some(this))
    }

    /// What becomes of it after a failure: it stays for whoever asks again while it is not known
    /// whether something was created.
    pub(super) fn after(file: Option<Self>, failure: &Failure) {
        if let Some(file) = file.filter(|_| !matches!(failure, Failure::Unknown(_))) {
            file.discard();
        }
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
        // Whoever was imported chose the key, and a spreadsheet may open the file: as exports have it.
        let texts = accounts.iter();
        let texts = texts.map(|(key, sip)| (guarded(key), sip.device_id.to_string()));
        let texts: Vec<_> = texts.collect();
        let lines = accounts
            .iter()
            .zip(&texts)
            .map(|((_, sip), (key, device))| {
                let (username, password) = (sip.username.as_str(), sip.password.as_str());
                [
                    key.as_str(),
                    device.as_str(),
                    username,
                    password,
                    &sip.realm,
                ]
            });
        let lines: Vec<_> = lines.collect();
        self.write(&lines)
            .map_err(|error| failed(&self.path, &error))
    }

    /// Removes it when nothing was created.
    fn discard(self) {
        drop(self.writer);
        fs::remove_file(&self.path).ok();
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

/// A file that holds the head alone and nobody else can read, for who asks again.
fn left(path: &Path) -> io::Result<Option<File>> {
    // Of a link or a pipe nothing is known.
    if !fs::symlink_metadata(path).is_ok_and(|there| there.is_file()) {
        return Ok(None);
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let for_others = file.metadata()?.mode() & 0o077 != 0;
    let mut head = Vec::new();
    file.by_ref().take(HEAD_BYTES_MAX).read_to_end(&mut head)?;
    if for_others || head != format!("{}\n", HEAD.join(",")).into_bytes() {
        return Ok(None);
    }
    lock(&file)?;
    Ok(Some(file))
}

/// For as long as this process has it: of two who ask about the same at once, one writes.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another portalctl writes it"),
        TryLockError::Error(error) => error,
    })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    Failure::other(match error.kind() {
        io::ErrorKind::AlreadyExists => {
            format!("--result {path}: is there already: choose another name, or remove it")
        }
        _ => format!("--result {path}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sip() -> CreatedAccountBody {
        CreatedAccountBody {
            device_id: uuid::Uuid::nil(),
            username: "1000".to_owned(),
            password: "a\"b,c".to_owned(),
            realm: "r".to_owned(),
        }
    }

    const HEAD_LINE: &str = "key,device_id,sip_username,sip_password,sip_realm\n";

    fn create(path: &Path, key: Option<&str>) -> Result<ResultFile, Failure> {
        ResultFile::create(Some(path), key).map(Option::unwrap)
    }

    #[test]
    fn it_is_for_its_owner_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.csv");
        let file = create(&path, None).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), HEAD_LINE);
        file.finish(&[("ann@example.com", &sip()), ("=1+1@example.com", &sip())])
            .unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let rest = "00000000-0000-0000-0000-000000000000,1000,\"a\"\"b,c\",r\n";
        let lines = format!("ann@example.com,{rest}'=1+1@example.com,{rest}");
        assert_eq!(text, format!("{HEAD_LINE}{lines}"));
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        for key in [None, Some("k")] {
            assert!(create(&path, key).is_err());
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn who_asks_again_takes_what_was_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result.csv");
        let first = create(&path, None).unwrap();
        assert!(create(&path, Some("k")).is_err(), "it is being written");
        drop(first);
        assert!(create(&path, None).is_err());
        let again = create(&path, Some("k")).unwrap();
        again.finish(&[("ann@example.com", &sip())]).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with(HEAD_LINE) && text.lines().count() == 2,
            "{text}"
        );

        let theirs = dir.path().join("theirs.csv");
        drop(create(&theirs, None).unwrap());
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(create(&theirs, Some("k")).is_err());
        let link = dir.path().join("link.csv");
        std::os::unix::fs::symlink(&theirs, &link).unwrap();
        assert!(create(&link, Some("k")).is_err());
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
