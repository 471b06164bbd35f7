//! What is typed at a terminal and must not be seen there.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use anyhow::ensure;
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::termios::{LocalFlags, tcgetattr};
use tests::agent::binary;
use tests::lab::PortalLab;
use tests::process::{Process, Program, wait_until};

use super::{DEADLINE, Terminal};

/// Whoever runs this has the terminal to themselves: what is typed and signals of keys come from it.
/// A shell between them tells by which signal it ended.
const AT_TERMINAL: &str = r#"
exec setsid --ctty --wait /bin/sh -c '"$0" "$@"; exit $?' "$0" "$@" <"$TTY" >"$TTY" 2>&1"#;

/// A terminal with somebody at it.
struct Screen {
    keyboard: File,
    tty: PathBuf,
    /// Until the last program has closed it, what was shown is kept.
    _open: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Screen {
    fn new() -> anyhow::Result<Self> {
        // No program inherits it: once nobody sits here any more, whoever waits for keys is hung up on.
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let tty = PathBuf::from(ptsname_r(&master)?);
        let keyboard = File::from(OwnedFd::from(master));
        let mut open = File::options();
        open.read(true).write(true).custom_flags(libc::O_NOCTTY);
        let open = open.open(&tty)?;
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut screen, all) = (keyboard.try_clone()?, Arc::clone(&shown));
        // Ends with the last of those who have the terminal open.
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                all.lock().expect("nobody panics").extend(&bytes[..count]);
            }
        });
        Ok(Self {
            keyboard,
            tty,
            _open: open,
            shown,
        })
    }

    fn shown(&self) -> String {
        let shown = self.shown.lock().expect("nobody panics");
        String::from_utf8_lossy(&shown).into_owned()
    }

    /// Whether what is typed is shown, and Ctrl-C is a signal.
    fn is_as_usual(&self) -> bool {
        let usual = LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG;
        tcgetattr(&self.keyboard).is_ok_and(|set| set.local_flags.contains(usual))
    }

    fn hides(&self) -> bool {
        tcgetattr(&self.keyboard).is_ok_and(|set| !set.local_flags.contains(LocalFlags::ECHO))
    }

    fn type_in(&self, keys: &str) -> anyhow::Result<()> {
        Ok((&self.keyboard).write_all(keys.as_bytes())?)
    }

    /// Starts `portalctl login` here and waits until it asks.
    async fn login(&self, terminal: &Terminal) -> anyhow::Result<Process> {
        let ca = terminal.ca.display().to_string();
        let login = ["login", "--url", &terminal.url, "--ca", &ca, "admin"];
        let program = Program::new("/bin/sh").args(["-c", AT_TERMINAL]);
        let program = program.arg(binary("portalctl")?).args(login);
        let program = terminal.set(program.env("TTY", &self.tty));
        let mut process = program.start(&terminal.home.path().join("log"))?;
        let asked = async || self.shown().contains("Password: ") && self.hides();
        process.wait_until("the question", DEADLINE, asked).await?;
        Ok(process)
    }
}

#[tokio::test]
async fn a_password_is_not_shown() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    let screen = Screen::new()?;
    ensure!(screen.is_as_usual());
    let mut login = screen.login(&terminal).await?;
    let password = &terminal.administrator.password;
    screen.type_in(&format!("{password}\n"))?;
    let status = login.exited(DEADLINE).await?;
    let told = async || screen.shown().contains("Signed in at ");
    wait_until("what is told", DEADLINE, told).await?;
    let shown = screen.shown();
    ensure!(status.success() && !shown.contains(password), "{shown}");
    ensure!(screen.is_as_usual());
    ensure!(terminal.session_file().exists());
    Ok(())
}

#[tokio::test]
async fn ctrl_c_leaves_the_terminal_as_it_was() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    let screen = Screen::new()?;
    let mut login = screen.login(&terminal).await?;
    screen.type_in("half of it\u{3}")?;
    let status = login.exited(DEADLINE).await?;
    let by_signal = status.code() == Some(128 + libc::SIGINT);
    ensure!(by_signal, "{status}: {}", screen.shown());
    ensure!(!screen.shown().contains("half of it"), "{}", screen.shown());
    ensure!(screen.is_as_usual(), "it was left hidden");
    ensure!(!terminal.session_file().exists());
    Ok(())
}
