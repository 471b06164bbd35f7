//! The `asterisk-agent` binary, beside an [`Asterisk`].

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use api_server::pki::Role;
use nix::sys::signal::Signal;
use shared::tls::TlsFiles;
use tokio::sync::OnceCell;

use crate::asterisk::Asterisk;
use crate::loopback::Loopback;
use crate::pki::{self, DEFAULT_PBX, Pki};
use crate::process::{Account, Process, Program, wait_until};
use crate::scratch::{self, Place, Scratch};

const PORT: u16 = 50_051;
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// A running agent, which ends with this value.
pub struct Agent {
    program: Program,
    address: Loopback,
    process: Option<Process>,
    state: PathBuf,
    tls: TlsFiles,
    place: Place,
}

impl Agent {
    /// Starts one beside `asterisk` with a certificate of `pki`; `env` is added to its environment,
    /// later entries winning.
    pub async fn start(
        asterisk: &Asterisk,
        pki: &Pki,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        Self::start_in(Place::temporary("agent")?, asterisk, pki, env).await
    }

    /// As [`Agent::start`], with the certificate of the PBX `pbx`.
    pub async fn start_of(
        pbx: &str,
        asterisk: &Asterisk,
        pki: &Pki,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        Self::begin(Place::temporary("agent")?, pbx, asterisk, pki, env).await
    }

    /// As [`Agent::start`], with its state, log and certificate in `place`.
    pub async fn start_in(
        place: Place,
        asterisk: &Asterisk,
        pki: &Pki,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        Self::begin(place, DEFAULT_PBX, asterisk, pki, env).await
    }

    async fn begin(
        place: Place,
        pbx: &str,
        asterisk: &Asterisk,
        pki: &Pki,
        env: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let account = asterisk.agent_account();
        let role = Role::Agent {
            pbx: pbx.to_owned(),
        };
        let state = place.path().join("state");
        scratch::directory(place.path(), 0o711)?;
        scratch::directory(&state, 0o700)?;
        account.map(|account| account.own_all(&state)).transpose()?;
        let tls = pki.issue(&role, &place.path().join("tls"), account)?;
        let address = Loopback::take()?;
        let path = within_reach(binary("asterisk-agent")?, account).await?;
        let program = Program::new(path)
            .account(account)
            .env("LISTEN_ADDR", address.port(PORT).to_string())
            .env("STATE_DIR", &state)
            .env("ASTERISK_CONFIG_DIR", asterisk.etc())
            .env("ASTERISK_BINARY", asterisk.binary())
            .env("ASTERISK_CONF", asterisk.conf())
            .env("ASTERISK_CONTROL_SOCKET", asterisk.control_socket())
            // Half a second of every apply; tests of its own turn it on.
            .env("PREFLIGHT", "off");
        let program = add(program, pki::environment(&tls));
        let preload = |(name, _): &&(String, String)| name == "LD_PRELOAD";
        let program = add(
            program,
            env.iter()
                .filter(|variable| !preload(variable))
                .map(|(name, value)| (name, value)),
        );
        // For the agent itself, not for what changes its account first.
        let program = match env.iter().find(preload) {
            Some((name, value)) => program.through("env", [format!("{name}={value}")]),
            None => program,
        };
        let mut agent = Self {
            program,
            address,
            process: None,
            state,
            tls,
            place,
        };
        agent.resume().await?;
        Ok(agent)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address.port(PORT)
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Its certificate, key, CA and, once a test has set one, CRL.
    pub const fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    /// What it has logged, JSON lines.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.log_file());
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Starts it again after [`Agent::stop`] or [`Agent::kill`], and waits until it accepts.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        // What an agent was about to start when it was killed has its socket for a moment longer.
        let gone = async || TcpStream::connect(self.address()).is_err();
        wait_until("nobody listens any more", STOP_DEADLINE, gone).await?;
        let mut process = self.program.start(&self.log_file())?;
        let address = self.address();
        let accepts = async || TcpStream::connect(address).is_ok();
        process
            .wait_until("the agent accepts connections", START_DEADLINE, accepts)
            .await?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts it again with more in its environment.
    pub async fn resume_with(&mut self, env: &[(&str, &str)]) -> anyhow::Result<()> {
        self.program = add(self.program.clone(), env.iter().copied());
        self.resume().await
    }

    /// Starts it by means of another program, and waits for nothing: it may well end at once.
    pub fn start_through(
        &mut self,
        wrapper: &str,
        args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>,
    ) -> anyhow::Result<()> {
        let program = self.program.clone().through(wrapper, args);
        self.process = Some(program.start(&self.log_file())?);
        Ok(())
    }

    /// Stops it in an orderly way (SIGTERM).
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM, STOP_DEADLINE).await?;
        }
        Ok(())
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process.take();
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process
            .as_ref()
            .context("the agent is stopped")?
            .signal(signal)
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        let process = self.process.as_ref().context("the agent is stopped")?;
        Ok(process.pid())
    }

    fn log_file(&self) -> PathBuf {
        self.place.path().join("agent.log")
    }
}

/// Adds variables to a program's environment.
pub(crate) fn add(
    program: Program,
    env: impl IntoIterator<Item = (impl AsRef<std::ffi::OsStr>, impl AsRef<std::ffi::OsStr>)>,
) -> Program {
    env.into_iter()
        .fold(program, |program, (name, value)| program.env(name, value))
}

/// A program of this workspace: cargo puts it beside this one.
pub fn binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let dirs = own.ancestors().skip(1).take(2);
    let mut candidates = dirs.map(|dir| dir.join(name));
    candidates
        .find(|path| path.is_file())
        .with_context(|| format!("there is no `{name}` yet: run `cargo build --workspace` first"))
}

/// `path`, or a copy of it when `account` cannot reach it: a checkout often lies in a home directory
/// that nobody else may enter.
async fn within_reach(path: PathBuf, account: Option<Account>) -> anyhow::Result<PathBuf> {
    static COPIES: OnceCell<Scratch> = OnceCell::const_new();
    let open = |dir: &Path| {
        let mode = std::fs::metadata(dir).map(|metadata| metadata.permissions().mode());
        mode.is_ok_and(|mode| mode & 0o001 != 0)
    };
    if account.is_none() || path.ancestors().all(open) {
        return Ok(path);
    }
    let copies = COPIES.get_or_try_init(async || {
        let copies = Scratch::new("bin")?;
        // By a process of its own: a program that this one holds open for writing, even only in a
        // child that is just being forked, cannot be started.
        let copy = Program::new("cp").arg(&path).arg(copies.path());
        copy.run(START_DEADLINE).await?.success()?;
        anyhow::Ok(copies)
    });
    let name = path.file_name().context("a program has a name")?;
    Ok(copies.await?.path().join(name))
}
