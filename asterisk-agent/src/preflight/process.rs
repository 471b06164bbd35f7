//! Starts a throw-away Asterisk without network, and sees to it that nothing of it stays.
//!
//! Without network, because it would otherwise listen where the live one does, and ask name servers.
//! `unshare` gives it a network namespace of its own with nothing in it. Where the kernel or the
//! unit does not let the agent make namespaces, the agent's own will do if it has no interface but
//! `lo` (`PrivateNetwork=yes`); failing that it is not started.
//!
//! `setpriv --pdeathsig` comes last before Asterisk: the kernel then kills it when the engine's
//! thread ends, also when the agent is killed.

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::CannotRun;

const UNSHARE: &str = "/usr/bin/unshare";
const SETPRIV: &str = "/usr/bin/setpriv";

/// What keeps it off the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// The agent has no network itself.
    AgentHasNone,
    /// A network namespace.
    Network,
    /// A network namespace inside a user namespace, for agents that are not root.
    UserAndNetwork,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AgentHasNone => "without network like the agent",
            Self::Network => "in a network namespace of its own",
            Self::UserAndNetwork => "in user and network namespaces of its own",
        })
    }
}

impl Isolation {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::AgentHasNone => &[],
            Self::Network => &[UNSHARE, "--net", "--"],
            Self::UserAndNetwork => &[UNSHARE, "--user", "--map-current-user", "--net", "--"],
        }
    }

    /// The first that works here.
    fn find() -> Result<Self, CannotRun> {
        let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        if has_only_loopback(&interfaces) {
            return Ok(Self::AgentHasNone);
        }
        let works = |isolation: &Self| {
            let mut probe = command(isolation.arguments(), &["/bin/true"]);
            probe.stdout(Stdio::null()).stderr(Stdio::null());
            probe.status().is_ok_and(|status| status.success())
        };
        let isolation = [Self::Network, Self::UserAndNetwork]
            .into_iter()
            .find(works);
        isolation.ok_or_else(|| {
            CannotRun::Start(
                "this host does not let the agent make a network namespace, and the agent's own \
                 has interfaces (PrivateNetwork=yes in its unit takes them away)"
                    .to_owned(),
            )
        })
    }
}

/// By the text of `/proc/self/net/dev`, which has two lines of headings.
fn has_only_loopback(interfaces: &str) -> bool {
    let mut names = interfaces
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.next() == Some("lo") && names.next().is_none()
}

/// A process without anything of the agent's environment.
fn command(before: &[&str], program: &[&str]) -> Command {
    let words = [before, program].concat();
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that starts the throw-away Asterisk"
    )]
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null());
    command
}

/// A running one, which ends with this value.
pub(super) struct ThrowAway {
    /// `None` once it has been ended.
    child: Option<Child>,
    pub(super) isolation: Isolation,
}

impl ThrowAway {
    /// Starts `binary` with the files of `conf`, in `dir`.
    pub(super) fn start(binary: &Path, conf: &Path, dir: &Path) -> Result<Self, CannotRun> {
        let isolation = Isolation::find()?;
        if !binary.exists() {
            return Err(CannotRun::Start(format!(
                "there is no {}",
                binary.display()
            )));
        }
        let before = [
            isolation.arguments(),
            &[SETPRIV, "--pdeathsig", "KILL", "--"],
        ]
        .concat();
        let (binary, conf) = (binary.to_string_lossy(), conf.to_string_lossy());
        let mut command = command(&before, &[&binary, "-C", &conf, "-f"]);
        command
            .current_dir(dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        let child = command
            .spawn()
            .map_err(|error| CannotRun::Start(format!("{}: {error}", before[0])))?;
        prefer_for_oom(child.id());
        let child = Some(child);
        Ok(Self { child, isolation })
    }

    /// How it ended, if it has. Its number stays taken until [`Self::kill`], so that its group is
    /// nobody else's.
    pub(super) fn ended(&self) -> Option<String> {
        let process = self.child.as_ref().map(process_of)?;
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(process), flags) {
            Ok(WaitStatus::Exited(_, code)) => Some(format!("exit status {code}")),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(format!("signal {signal}")),
            Ok(_) => None,
            Err(errno) => Some(errno.desc().to_owned()),
        }
    }

    /// Ends it with everything that it started. An orderly stop would take a second.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            killpg(process_of(&child), Signal::SIGKILL).ok();
            child.wait().ok();
        }
    }
}

fn process_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        self.kill();
    }
}

/// When memory runs out, it goes and the agent stays.
fn prefer_for_oom(process: u32) {
    use std::io::Write as _;
    let path = format!("/proc/{process}/oom_score_adj");
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|mut file| file.write_all(b"1000")).ok();
}

/// One that the agent did not live to end: it was killed in the instant between the start and
/// `setpriv`. Its number may belong to another process by now, which then has other arguments.
pub(super) fn end_leftover(dir: &Path) {
    let number = std::fs::read_to_string(dir.join("asterisk.pid")).unwrap_or_default();
    let Ok(process) = number.trim().parse::<i32>() else {
        return;
    };
    let arguments = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    let conf = dir.join(super::files::ASTERISK_CONF);
    let conf = conf.as_os_str().as_encoded_bytes();
    if arguments
        .split(|&byte| byte == 0)
        .any(|argument| argument == conf)
    {
        kill(Pid::from_raw(process), Signal::SIGKILL).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_no_network() {
        let head = "Inter-|   Receive\n face |bytes\n";
        let (lo, eth) = ("    lo: 0 0\n", "  eth0: 0 0\n");
        assert!(has_only_loopback(&format!("{head}{lo}")));
        assert!(!has_only_loopback(&format!("{head}{lo}{eth}")));
        assert!(!has_only_loopback(&format!("{head}{eth}")));
        // Unknown is not known to be none.
        assert!(!has_only_loopback(head) && !has_only_loopback(""));
    }
}
