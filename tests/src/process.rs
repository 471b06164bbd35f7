//! Children that never outlive the process that started them.
//!
//! Every child is started by one thread that lives as long as the process, through
//! `setpriv --pdeathsig`: the kernel then ends the child when that *thread* ends, which is why no
//! test thread may start one itself. `setpriv` also changes the user, in the order that matters: a
//! change of credentials clears the death signal.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};

use crate::scratch;

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// How long a dropped child may tidy up.
const LAST_SIGNAL_DEADLINE: Duration = Duration::from_secs(6);

/// How much of a log an error shows.
const TAIL_LINES: usize = 30;

/// An account to run a child as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id; there are no supplementary groups.
    pub gid: u32,
}

impl Account {
    /// The account of `name`; `None` when this process is not root and so cannot change accounts,
    /// or when there is no such account.
    pub fn of(name: &str) -> Option<Self> {
        if !Uid::effective().is_root() {
            return None;
        }
        let user = User::from_name(name).ok().flatten()?;
        Some(Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        })
    }

    /// Gives `path` to this account.
    pub fn own(self, path: &Path) -> anyhow::Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .with_context(|| format!("give {} to {self:?}", path.display()))
    }

    /// Gives `path` and everything below it to this account.
    pub fn own_all(self, path: &Path) -> anyhow::Result<()> {
        self.own(path)?;
        if path.is_dir() {
            for entry in std::fs::read_dir(path)? {
                self.own_all(&entry?.path())?;
            }
        }
        Ok(())
    }
}

/// The account that this process runs as.
pub fn own_account() -> Account {
    Account {
        uid: Uid::effective().as_raw(),
        gid: Gid::effective().as_raw(),
    }
}

/// A program to run. It gets `PATH`, `LOG` and what [`Program::env`] adds, nothing else of this
/// process's environment: a `DATABASE_URL` set outside must not reach a test.
#[derive(Clone)]
pub struct Program {
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    account: Option<Account>,
    last_signal: Signal,
    dir: PathBuf,
}

impl Program {
    /// `path` without arguments, as the user of this process.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            account: None,
            last_signal: Signal::SIGKILL,
            dir: PathBuf::from("/"),
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        let (name, value) = (name.as_ref().to_owned(), value.as_ref().to_owned());
        self.env.push((name, value));
        self
    }

    /// Runs it by means of another program, such as `strace -D`, whose arguments come first.
    #[must_use]
    pub fn through(
        mut self,
        wrapper: impl Into<PathBuf>,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> Self {
        let own = std::mem::replace(&mut self.path, wrapper.into());
        let before = args.into_iter().map(|arg| arg.as_ref().to_owned());
        self.args = before
            .chain([own.into_os_string()])
            .chain(self.args)
            .collect();
        self
    }

    /// Runs it as another account; `None` changes nothing.
    #[must_use]
    pub const fn account(mut self, account: Option<Account>) -> Self {
        self.account = account;
        self
    }

    /// What the child gets when this process dies: SIGKILL unless it must tidy up.
    #[must_use]
    pub const fn last_signal(mut self, signal: Signal) -> Self {
        self.last_signal = signal;
        self
    }

    /// Sets the working directory, which is `/` otherwise.
    #[must_use]
    pub fn dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.dir = dir.into();
        self
    }

    fn name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the harness starts anything"
    )]
    fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        let signal = self.last_signal.as_str().trim_start_matches("SIG");
        command.arg("--pdeathsig").arg(signal);
        if let Some(Account { uid, gid }) = self.account {
            command.arg(format!("--reuid={uid}"));
            command.arg(format!("--regid={gid}"));
            command.arg("--clear-groups");
        }
        command.arg("--").arg(&self.path).args(&self.args);
        command.env_clear().env("TERM", "dumb").env("LC_ALL", "C");
        for name in ["PATH", "LOG"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.dir).stdin(Stdio::null());
        // Ctrl-C at the terminal is for this process, which then ends its children in order.
        command.process_group(0);
        command
    }

    /// Starts it with both outputs appended to `log`.
    pub fn start(&self, log: &Path) -> anyhow::Result<Process> {
        let output = File::options().create(true).append(true).open(log);
        let output = output.with_context(|| format!("open the log {}", log.display()))?;
        let mut command = self.command();
        command.stdout(output.try_clone()?).stderr(output);
        let child = spawn(command).with_context(|| format!("start {}", self.path.display()))?;
        Ok(Process {
            name: self.name(),
            log: log.to_owned(),
            last_signal: self.last_signal,
            child,
        })
    }

    /// Runs it to its end. A program that is still running after `within` is killed, which is an
    /// error; a non-zero exit status is not.
    pub async fn run(&self, within: Duration) -> anyhow::Result<Output> {
        let dir = scratch::Scratch::new("run")?;
        let (out, err) = (dir.path().join("out"), dir.path().join("err"));
        let open = |path| File::options().create_new(true).write(true).open(path);
        let mut command = self.command();
        command.stdout(open(&out)?).stderr(open(&err)?);
        let began = Instant::now();
        let child = spawn(command).with_context(|| format!("start {}", self.path.display()))?;
        let mut process = Process {
            name: self.name(),
            log: err.clone(),
            last_signal: self.last_signal,
            child,
        };
        let status = process.exited(within).await?;
        let text = |path| std::fs::read(path).map(|b| String::from_utf8_lossy(&b).into_owned());
        Ok(Output {
            status,
            stdout: text(&out)?,
            stderr: text(&err)?,
            took: began.elapsed(),
        })
    }
}

/// What a program that ended has said.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Output {
    /// Its standard output, if it succeeded.
    pub fn success(self) -> anyhow::Result<String> {
        if !self.status.success() {
            bail!("{}:\n{}{}", self.status, self.stdout, self.stderr);
        }
        Ok(self.stdout)
    }
}

/// A running child. Dropping it sends [`Program::last_signal`] and waits for its end.
pub struct Process {
    name: String,
    log: PathBuf,
    last_signal: Signal,
    child: Child,
}

impl Process {
    /// Its process id, also that of the program itself: `setpriv` and the wrappers `exec`.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has written.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = Pid::from_raw(self.pid().cast_signed());
        kill(pid, signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end; kills it when that does not come within `within`.
    pub async fn exited(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if began.elapsed() > within {
                self.end();
                bail!(
                    "{} did not end within {within:?}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Asks it to end by `signal` and waits; kills it when it does not.
    pub async fn stop(&mut self, signal: Signal, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        self.exited(within).await
    }

    /// Kills it (SIGKILL) and waits for its end.
    pub fn end(&mut self) {
        // Both fail only if it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Waits until `condition` holds; fails at once when the process ends before that.
    pub async fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        mut condition: impl AsyncFnMut() -> bool,
    ) -> anyhow::Result<()> {
        let began = Instant::now();
        while !condition().await {
            if let Some(status) = self.child.try_wait()? {
                let end = describe(status);
                bail!(
                    "{} ended ({end}) before {what}:\n{}",
                    self.name,
                    self.tail()
                );
            }
            if began.elapsed() > within {
                let tail = self.tail();
                bail!("{}: not within {within:?}: {what}\n{tail}", self.name);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn tail(&self) -> String {
        tail(&self.log(), &self.log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.last_signal != Signal::SIGKILL && self.signal(self.last_signal).is_ok() {
            let began = Instant::now();
            while self.is_running() && began.elapsed() < LAST_SIGNAL_DEADLINE {
                std::thread::sleep(POLL_INTERVAL);
            }
        }
        self.end();
    }
}

/// Waits until `condition` holds.
pub async fn wait_until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> bool,
) -> anyhow::Result<()> {
    let began = Instant::now();
    while !condition().await {
        if began.elapsed() > within {
            bail!("not within {within:?}: {what}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn tail(text: &str, log: &Path) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    format!("--- {}\n{}\n---", log.display(), lines[from..].join("\n"))
}

type Order = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Starts `command` from the thread that lives as long as the process.
pub(crate) fn spawn(command: Command) -> anyhow::Result<Child> {
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, reply) in orders {
                // Nobody waits for the reply any more: the child is then dropped, not leaked,
                // because it dies with this thread at the latest.
                reply.send(command.spawn()).ok();
            }
        });
        sender
    });
    let (reply, child) = mpsc::channel();
    starter
        .send((command, reply))
        .map_err(|_| anyhow::anyhow!("the thread that starts children has ended"))?;
    Ok(child.recv()??)
}
