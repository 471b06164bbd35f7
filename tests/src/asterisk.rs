//! A real Asterisk 22 with directories and a loopback address of its own.
//!
//! As on a PBX host, Asterisk and the agent are different accounts: the agent is in Asterisk's
//! group, owns the two include directories (2750) and reaches the control socket through the group.

mod files;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use shared::bundle::Slot;

use crate::loopback::Loopback;
use crate::process::{Account, Process, Program, own_account};
use crate::scratch::{self, Place};

/// Where the set-up scripts put Asterisk unless `PBX_ASTERISK_DIR` says otherwise.
const DEFAULT_FOLDER: &str = "/var/cache/pbx-portal/asterisk-22";

const SIP_PORT: u16 = 5060;
const BOOT_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(20);
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);

/// An account that no machine has: the agent's. It need not exist to run a process.
const AGENT_UID: u32 = 49_990;

/// What stands in a slot before the first apply. It must not be missing: with an include that
/// matches nothing Asterisk starts without SIP and without a dialplan.
const NOTHING_YET: &str = "; nothing has been applied yet\n";

/// The programs and modules of Asterisk, as the set-up scripts lay them out: `bin/asterisk`,
/// `bin/sipp`, `modules` and `data`.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The folder that `PBX_ASTERISK_DIR` names, or the default one.
    pub fn find() -> anyhow::Result<Self> {
        let dir = std::env::var_os("PBX_ASTERISK_DIR").unwrap_or_else(|| DEFAULT_FOLDER.into());
        let folder = Self(PathBuf::from(dir));
        if !folder.asterisk().exists() {
            bail!(
                "no Asterisk in {}: ./run and ./test set it up",
                folder.0.display()
            );
        }
        Ok(folder)
    }

    /// The program.
    pub fn asterisk(&self) -> PathBuf {
        self.0.join("bin/asterisk")
    }

    /// `SIPp`.
    pub fn sipp(&self) -> PathBuf {
        self.0.join("bin/sipp")
    }
}

/// How an Asterisk is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether `cli_aliases.conf` has the aliases that a fresh installation has, among them
    /// `pjsip reload`.
    pub aliases: bool,
    /// Whether only the modules that calls need are loaded, for a quick start, or everything there is.
    pub few_modules: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            aliases: true,
            few_modules: true,
        }
    }
}

/// A running Asterisk, which ends with this value.
pub struct Asterisk {
    folder: Folder,
    address: Loopback,
    account: Option<Account>,
    process: Option<Process>,
    place: Place,
}

impl Asterisk {
    /// Starts one and waits until it has fully booted.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        Self::start_in(Place::temporary("ast")?, Loopback::take()?, settings).await
    }

    /// As [`Asterisk::start`], with its files kept in `place`. What lies in the slots stays.
    pub async fn start_in(
        place: Place,
        address: Loopback,
        settings: Settings,
    ) -> anyhow::Result<Self> {
        let mut asterisk = Self {
            folder: Folder::find()?,
            address,
            account: Account::of("nobody"),
            process: None,
            place,
        };
        asterisk.configure(settings)?;
        asterisk.resume().await?;
        Ok(asterisk)
    }

    /// The account that the agent beside it runs as: another one than Asterisk's, in its group.
    pub fn agent_account(&self) -> Option<Account> {
        self.account.map(|Account { gid, .. }| Account {
            uid: AGENT_UID,
            gid,
        })
    }

    /// Its configuration directory.
    pub fn etc(&self) -> PathBuf {
        self.place.path().join("etc")
    }

    /// Its `asterisk.conf`.
    pub fn conf(&self) -> PathBuf {
        self.etc().join("asterisk.conf")
    }

    /// The program.
    pub fn binary(&self) -> PathBuf {
        self.folder.asterisk()
    }

    /// Its control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.place.path().join("run/asterisk.ctl")
    }

    /// The live file of a slot.
    pub fn slot(&self, slot: Slot) -> PathBuf {
        self.etc().join(slot.relative_path())
    }

    /// Where phones send their requests.
    pub const fn sip(&self) -> SocketAddr {
        self.address.port(SIP_PORT)
    }

    /// Its programs.
    pub const fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs one command on its console and returns what it printed. Fails when it cannot be
    /// reached; that it printed an error is no failure.
    pub async fn rx(&self, command: &str) -> anyhow::Result<String> {
        self.rx_within(command, COMMAND_DEADLINE).await
    }

    async fn rx_within(&self, command: &str, within: Duration) -> anyhow::Result<String> {
        let output = self
            .program()
            .args(["-rx", command])
            .run(within)
            .await?
            .success();
        output.with_context(|| format!("asterisk -rx '{command}'"))
    }

    /// Its log of notices, warnings and errors, from its first start on.
    pub fn log(&self) -> String {
        let log = std::fs::read(self.place.path().join("log/messages.log"));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// Starts it again after [`Asterisk::stop`] or [`Asterisk::kill`], in the same directories.
    pub async fn resume(&mut self) -> anyhow::Result<()> {
        let output = self.place.path().join("output");
        let mut process = self.program().arg("-f").start(&output)?;
        let booted = async || {
            let said = self.rx("core waitfullybooted").await.unwrap_or_default();
            said.contains("fully booted")
        };
        let what = "Asterisk has fully booted";
        let booted = process.wait_until(what, BOOT_DEADLINE, booted).await;
        booted.with_context(|| format!("messages.log:\n{}", self.log()))?;
        self.process = Some(process);
        Ok(())
    }

    /// Stops it in an orderly way.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.stop(Signal::SIGTERM, STOP_DEADLINE).await?;
        }
        Ok(())
    }

    /// Kills it; its control socket stays behind, with nobody listening.
    pub fn kill(&mut self) {
        self.process.take();
    }

    /// Stops and starts it.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        self.stop().await?;
        self.resume().await
    }

    /// Lets it hang: it accepts connections and says nothing.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::SIGSTOP)
    }

    /// Ends [`Asterisk::freeze`].
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.process()?.signal(Signal::SIGCONT)
    }

    /// Whether it is running.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(Process::is_running)
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.process()?.pid())
    }

    fn process(&self) -> anyhow::Result<&Process> {
        self.process.as_ref().context("Asterisk is stopped")
    }

    fn program(&self) -> Program {
        Program::new(self.folder.asterisk())
            .account(self.account)
            .arg("-C")
            .arg(self.conf())
    }

    fn configure(&self, settings: Settings) -> anyhow::Result<()> {
        let root = self.place.path();
        scratch::directory(root, 0o711)?;
        for dir in ["run", "log", "var", "spool"] {
            let dir = root.join(dir);
            scratch::directory(&dir, 0o750)?;
            self.account.map(|a| a.own_all(&dir)).transpose()?;
        }
        let etc = self.etc();
        scratch::directory(&etc, 0o755)?;
        for name in files::EMPTY {
            scratch::write(&etc.join(name), 0o644, "[general]\n")?;
        }
        for (name, text) in files::all(root, &self.folder.0, self.sip(), settings) {
            scratch::write(&etc.join(name), 0o644, &text)?;
        }
        for slot in Slot::ALL {
            self.prepare_slot(&self.slot(slot))?;
        }
        Ok(())
    }

    /// Moves the directories of the managed files to another file system. A symbolic link leads
    /// there; the agent itself may not be asked to follow one at the last directory.
    pub fn move_slots(&self, to: &Path) -> anyhow::Result<()> {
        for slot in Slot::ALL {
            let top = slot.relative_path().split('/').next().unwrap_or_default();
            let (from, to) = (self.etc().join(top), to.join(top));
            std::fs::remove_dir_all(&from)?;
            scratch::directory(&to, 0o755)?;
            std::os::unix::fs::symlink(&to, &from)?;
            self.prepare_slot(&self.slot(slot))?;
        }
        Ok(())
    }

    /// The include directory of a slot belongs to the agent and to Asterisk's group, which its
    /// files inherit (2750).
    fn prepare_slot(&self, path: &Path) -> anyhow::Result<()> {
        let dir = path.parent().context("a slot lies in a directory")?;
        scratch::directory(dir, 0o755)?;
        if !path.exists() {
            scratch::write(path, 0o640, NOTHING_YET)?;
        }
        let account = self.agent_account().unwrap_or_else(own_account);
        account.own_all(dir)?;
        // Last, because a change of owner clears the set-group-ID bit.
        scratch::directory(dir, 0o2750)
    }
}
