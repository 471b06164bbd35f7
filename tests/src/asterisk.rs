//! A real Asterisk 22 with directories and a loopback address of its own.
//!
//! As on a PBX host, Asterisk and the agent are different accounts: the agent is in Asterisk's
//! group, owns the two include directories (2750) and reaches the control socket through the group.

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

/// What calls with ulaw and alaw need: boots in half a second.
const MODULES: &[&str] = &[
    "app_dial",
    "app_echo",
    "app_playback",
    "app_stack",
    "app_verbose",
    "bridge_holding",
    "bridge_native_rtp",
    "bridge_simple",
    "bridge_softmix",
    "chan_pjsip",
    "codec_a_mu",
    "codec_alaw",
    "codec_ulaw",
    "format_pcm",
    "func_callerid",
    "func_channel",
    "func_db",
    "func_hangupcause",
    "func_logic",
    "func_pjsip_aor",
    "func_pjsip_contact",
    "func_pjsip_endpoint",
    "func_strings",
    "pbx_config",
    "res_clialiases",
    "res_pjproject",
    "res_pjsip",
    "res_pjsip_authenticator_digest",
    "res_pjsip_caller_id",
    "res_pjsip_diversion",
    "res_pjsip_dlg_options",
    "res_pjsip_endpoint_identifier_ip",
    "res_pjsip_endpoint_identifier_user",
    "res_pjsip_maintenance",
    "res_pjsip_mwi",
    "res_pjsip_nat",
    "res_pjsip_notify",
    "res_pjsip_outbound_authenticator_digest",
    "res_pjsip_outbound_publish",
    "res_pjsip_outbound_registration",
    "res_pjsip_pubsub",
    "res_pjsip_registrar",
    "res_pjsip_rfc3326",
    "res_pjsip_sdp_rtp",
    "res_pjsip_session",
    "res_rtp_asterisk",
    "res_sorcery_astdb",
    "res_sorcery_config",
    "res_sorcery_memory",
    "res_timing_timerfd",
];

/// Files that Asterisk complains about when they are missing. Their content is all defaults, so
/// that what remains in the log is about the files under test.
const EMPTY_FILES: &[&str] = &[
    "acl.conf",
    "ccss.conf",
    "cdr.conf",
    "cel.conf",
    "features.conf",
    "indications.conf",
    "manager.conf",
    "pjproject.conf",
    "pjsip_notify.conf",
    "udptl.conf",
];

const ALIASES: &str = "[general]
template = friendly
[friendly]
hangup request = channel request hangup
originate = channel originate
help = core show help
reload = module reload
pjsip reload = module reload res_pjsip.so res_pjsip_authenticator_digest.so \
res_pjsip_endpoint_identifier_ip.so res_pjsip_mwi.so res_pjsip_notify.so \
res_pjsip_outbound_publish.so res_pjsip_publish_asterisk.so res_pjsip_outbound_registration.so
";

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
    /// Whether only [`MODULES`] are loaded, for a quick start, or everything there is.
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
        for name in EMPTY_FILES {
            scratch::write(&etc.join(name), 0o644, "[general]\n")?;
        }
        for (name, text) in self.files(root, settings) {
            scratch::write(&etc.join(name), 0o644, &text)?;
        }
        for slot in Slot::ALL {
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

    fn files(&self, root: &Path, settings: Settings) -> Vec<(&'static str, String)> {
        let (root, folder) = (root.display(), self.folder.0.display());
        let aliases = if settings.aliases {
            ALIASES
        } else {
            "[general]\n"
        };
        vec![
            (
                "asterisk.conf",
                format!(
                    "[directories]\n\
                     astetcdir => {root}/etc\n\
                     astmoddir => {folder}/modules\n\
                     astdatadir => {folder}/data\n\
                     astvarlibdir => {root}/var\n\
                     astdbdir => {root}/var\n\
                     astkeydir => {root}/var\n\
                     astagidir => {root}/var\n\
                     astspooldir => {root}/spool\n\
                     astrundir => {root}/run\n\
                     astlogdir => {root}/log\n\
                     [options]\n\
                     nocolor = yes\n\
                     entityid = 02:00:00:00:00:01\n\
                     [files]\n\
                     astctlpermissions = 0660\n"
                ),
            ),
            ("modules.conf", modules(settings.few_modules)),
            ("cli_aliases.conf", aliases.to_owned()),
            (
                "logger.conf",
                "[general]\n[logfiles]\nmessages.log => notice,warning,error\n".to_owned(),
            ),
            (
                "rtp.conf",
                "[general]\nrtpstart = 10000\nrtpend = 20000\n".to_owned(),
            ),
            (
                "pjsip.conf",
                format!(
                    "[transport-udp]\n\
                     type = transport\n\
                     protocol = udp\n\
                     bind = {}\n\n\
                     #include pjsip.d/synergycall/*.conf\n",
                    self.sip()
                ),
            ),
            (
                "extensions.conf",
                "[general]\n\
                 static = yes\n\
                 writeprotect = yes\n\n\
                 #include extensions.d/synergycall/*.conf\n\n\
                 ; Configured by hand, not by the portal: calls from outside.\n\
                 [from-gsm]\n\
                 exten => _X.,1,Goto(synergy-internal,${FILTER(0-9,${EXTEN})},1)\n"
                    .to_owned(),
            ),
        ]
    }
}

fn modules(few: bool) -> String {
    if !few {
        // IAX2 would listen on a port of every address, which instances would dispute.
        return "[modules]\nautoload = yes\nnoload = chan_iax2.so\n".to_owned();
    }
    let loads = MODULES.iter().map(|module| format!("load = {module}.so\n"));
    format!("[modules]\nautoload = no\n{}", loads.collect::<String>())
}
