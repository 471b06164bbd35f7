//! The session that `portalctl login` keeps, in a file that nobody else can read.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::PathBuf;

use api_server::clock::{Clock as _, SystemClock};
use api_server::http::bodies::OpenedBody;
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::failure::Failure;

/// How long before its end an access token is renewed: as long as a request may be on its way.
const RENEW_BEFORE: Duration = Duration::seconds(30);

/// What is kept of an account.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The tenant that it is confined to, if it is.
    pub(crate) tenant_id: Option<Uuid>,
}

/// A session, with what continues it. It has no `Debug`: its tokens are secrets.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The portal, and nobody else is shown the tokens.
    pub(crate) url: String,
    /// Whose certificates the portal may show, PEM; the system's when absent.
    pub(crate) ca: Option<String>,
    pub(crate) login: String,
    /// Whose session it is; not known of one that an earlier version began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<Kept>,
    pub(crate) access_token: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) access_until: OffsetDateTime,
    pub(crate) refresh_token: String,
}

impl Session {
    /// Whether the access token will be good for a while.
    pub(crate) fn is_fresh(&self) -> bool {
        SystemClock.now() + RENEW_BEFORE < self.access_until
    }

    /// What goes on with `opened`.
    ///
    /// # Errors
    /// It is no session of a program.
    pub(crate) fn of(
        opened: OpenedBody,
        url: String,
        ca: Option<String>,
        login: String,
    ) -> Result<Self, Failure> {
        let tokens = opened.access_token.zip(opened.refresh_token);
        let Some(((access_token, refresh_token), lasts)) = tokens.zip(opened.expires_in) else {
            return Err(Failure::other("the portal gave no tokens"));
        };
        Ok(Self {
            url,
            ca,
            login,
            account: None,
            access_token,
            // By this machine's clock: the portal's may stand elsewhere.
            access_until: SystemClock.now() + Duration::seconds(lasts),
            refresh_token,
        })
    }
}

/// Where the session is kept.
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Below `XDG_CONFIG_HOME`, or else below `HOME`.
    ///
    /// # Errors
    /// Neither is set.
    pub(crate) fn find() -> Result<Self, Failure> {
        // Relative ones are to be ignored, says the XDG Base Directory Specification.
        let absolute = |name| {
            let path = std::env::var_os(name).map(PathBuf::from);
            path.filter(|path| path.is_absolute())
        };
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".config")))
            .ok_or(Failure::other(
                "there is no place for the session: set HOME or XDG_CONFIG_HOME",
            ))?;
        let dir = base.join("portalctl");
        Ok(Self { dir })
    }

    fn file(&self) -> PathBuf {
        self.dir.join("session.json")
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::other(format!("{}: {error}", self.file().display()))
    }

    /// The session; `None` when nobody has signed in.
    ///
    /// # Errors
    /// It cannot be read, or others can read it as well.
    pub(crate) fn read(&self) -> Result<Option<Session>, Failure> {
        let file = match File::open(self.file()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(&error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed(&error))?;
        if metadata.mode() & 0o077 != 0 {
            let (file, mode) = (self.file(), metadata.mode() & 0o777);
            return Err(Failure::other(format!(
                "{} can be read or written by others (mode {mode:03o}), and so can the session in \
                 it: end it with `portalctl login`, or if nobody else had access, run \
                 `chmod 600 {}`",
                file.display(),
                file.display()
            )));
        }
        let session = serde_json::from_reader(io::BufReader::new(file));
        session.map(Some).map_err(|_| {
            let file = self.file();
            Failure::other(format!("{} is damaged: sign in again", file.display()))
        })
    }

    /// The session that is about to be replaced, to be ended: also one that others can read, and not
    /// one that others may have written, which may name another portal than its tokens are of.
    pub(crate) fn replaced(&self) -> Option<Session> {
        let file = File::open(self.file()).ok()?;
        let mode = file.metadata().ok()?.mode();
        if mode & 0o022 != 0 {
            return None;
        }
        serde_json::from_reader(io::BufReader::new(file)).ok()
    }

    /// Keeps a session in place of the one before. Whoever reads meanwhile sees one of the two.
    pub(crate) fn write(&self, session: &Session) -> Result<(), Failure> {
        self.make_dir()?;
        self.replace(session).map_err(|error| self.failed(&error))
    }

    fn replace(&self, session: &Session) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o600))
            .tempfile_in(&self.dir)?;
        serde_json::to_writer(&mut file, session)?;
        file.flush()?;
        // A session whose refresh token was used up and whose next one is lost has ended.
        file.as_file().sync_all()?;
        file.persist(self.file()).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    fn make_dir(&self) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::other(format!("{}: {error}", self.dir.display()));
        if let Some(base) = self.dir.parent() {
            fs::create_dir_all(base).map_err(failed)?;
        }
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let mode = fs::metadata(&self.dir).map_err(failed)?.mode();
                if mode & 0o022 == 0 {
                    return Ok(());
                }
                let dir = self.dir.display();
                Err(Failure::other(format!(
                    "{dir} can be changed by others: run `chmod 700 {dir}`"
                )))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Removes the session.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(self.file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed(&error)),
            _ => Ok(()),
        }
    }

    /// Waits until no other process renews or replaces the session; the file that is returned keeps
    /// them waiting.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        self.make_dir()?;
        let open = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(self.dir.join("lock"));
        let locked = open.and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| self.failed(&error))
    }
}
