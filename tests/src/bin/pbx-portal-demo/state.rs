//! What stays from one demonstration to the next.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Uid;
use serde_json::{Value, json};
use tests::agent::binary;
use tests::lab::NewUser;
use tests::portal::Administrator;
use tests::process::Program;
use tests::scratch::{self, Place};
use uuid::Uuid;

const FOR_ROOT: &str = "/var/lib/pbx-portal-demo";
const FOR_OTHERS: &str = ".local/state/pbx-portal-demo";

/// The login of the first administrator.
pub(crate) const ADMINISTRATOR: &str = "admin";

const KEY_DEADLINE: Duration = Duration::from_secs(20);

/// The state directory, ours alone while this value lives.
pub(crate) struct State {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl State {
    /// Opens it, or creates it. It does not lie in the checkout, which may be below a home
    /// directory that PostgreSQL's account cannot enter.
    pub(crate) fn open() -> anyhow::Result<Self> {
        let dir = match std::env::var_os("PBX_DEMO_STATE_DIR") {
            Some(dir) => std::path::absolute(dir)?,
            None if Uid::effective().is_root() => PathBuf::from(FOR_ROOT),
            None => std::env::home_dir()
                .context("no home directory: set PBX_DEMO_STATE_DIR")?
                .join(FOR_OTHERS),
        };
        scratch::directory(&dir, 0o711)?;
        let mut options = File::options();
        let file = options
            .create(true)
            .append(true)
            .open(dir.join("lock"))
            .with_context(|| format!("write to {}", dir.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { dir, _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => bail!(
                "another ./run is using {}: end it, or set PBX_DEMO_STATE_DIR",
                dir.display()
            ),
            Err((_, error)) => Err(error).with_context(|| format!("lock {}", dir.display())),
        }
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory in it.
    pub(crate) fn place(&self, name: &str) -> anyhow::Result<Place> {
        let dir = self.dir.join(name);
        scratch::directory(&dir, 0o711)?;
        Ok(Place::Kept(dir))
    }

    /// The key that SIP passwords are encrypted with, made by the portal the first time.
    pub(crate) async fn secret_key(&self) -> anyhow::Result<String> {
        let path = self.dir.join("secret-key");
        if let Ok(key) = std::fs::read_to_string(&path) {
            return Ok(key.trim().to_owned());
        }
        let make = Program::new(binary("api-server")?).arg("secret-key");
        let key = make.run(KEY_DEADLINE).await?.success()?.trim().to_owned();
        scratch::write(&path, 0o600, &key)?;
        Ok(key)
    }

    /// The first administrator: the one that an earlier demonstration made, or one that is still to
    /// be made. It is kept as the body of a sign-in.
    pub(crate) fn administrator(&self) -> anyhow::Result<Administrator> {
        let path = self.administrator_file();
        if !path.exists() {
            let password = Uuid::new_v4().to_string();
            let body = json!({ "login": ADMINISTRATOR, "password": password });
            scratch::write(&path, 0o600, &body.to_string())?;
        }
        let text = std::fs::read_to_string(&path);
        let text = text.with_context(|| format!("read {}", path.display()))?;
        let kept: Value = serde_json::from_str(&text)
            .with_context(|| format!("understand {}", path.display()))?;
        let field = |name: &str| {
            let text = kept[name].as_str().map(str::to_owned);
            text.with_context(|| format!("{} names no {name}", path.display()))
        };
        Ok(Administrator {
            login: field("login")?,
            password: field("password")?,
        })
    }

    /// Where it is kept, readable by nobody else.
    pub(crate) fn administrator_file(&self) -> PathBuf {
        self.dir.join("administrator.json")
    }

    /// The users whose SIP passwords are known: those that earlier demonstrations created.
    pub(crate) fn known_users(&self) -> Vec<NewUser> {
        let text = std::fs::read_to_string(self.phones()).unwrap_or_default();
        let users: Vec<Value> = serde_json::from_str(&text).unwrap_or_default();
        users
            .into_iter()
            .filter_map(|body| NewUser::read(body).ok())
            .collect()
    }

    /// Remembers them.
    pub(crate) fn remember(&self, users: &[NewUser]) -> anyhow::Result<()> {
        let users: Vec<&Value> = users.iter().map(|user| &user.body).collect();
        scratch::write(&self.phones(), 0o600, &json!(users).to_string())
    }

    fn phones(&self) -> PathBuf {
        self.dir.join("phones.json")
    }
}
