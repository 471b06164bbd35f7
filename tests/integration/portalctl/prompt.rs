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
        let mut process = self.start(terminal, &["login", "admin"])?;
        self.asks(&mut process, "Password: ").await?;
        Ok(process)
    }

    /// Starts a command here.
    fn start(&self, terminal: &Terminal, command: &[&str]) -> anyhow::Result<Process> {
        let ca = terminal.ca.display().to_string();
        let program = Program::new("/bin/sh").args(["-c", AT_TERMINAL]);
        let program = program.arg(binary("portalctl")?).args(command);
        let program = program.args(["--url", &terminal.url, "--ca", &ca]);
        let program = terminal.set(program.env("TTY", &self.tty));
        program.start(&terminal.home.path().join("log"))
    }

    /// Waits until something is asked whose answer is not shown.
    async fn asks(&self, process: &mut Process, question: &str) -> anyhow::Result<()> {
        let asked = async || self.shown().ends_with(question) && self.hides();
        process.wait_until(question, DEADLINE, asked).await
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

/// Such as sets a password, and nobody was given it.
const TOKEN: &str = "pbxp_Yn2u0yJ3n8w1b5kqv4T7mZc6xR9sD2fGhJkLpQaWeEr";

#[tokio::test]
async fn a_new_password_is_typed_twice() -> anyhow::Result<()> {
    let lab = PortalLab::login().await?;
    let terminal = Terminal::of(&lab)?;
    for (again, status, told) in [
        ("Wiege Ampel 8", 2, "differ"),
        // Only now it is sent, and the portal knows no such token.
        ("Wiege Ampel 7", 3, "reset_refused"),
    ] {
        let screen = Screen::new()?;
        let mut set = screen.start(&terminal, &["account", "set-password"])?;
        for (question, answer) in [
            ("Token: ", TOKEN),
            ("New password: ", "Wiege Ampel 7"),
            ("New password again: ", again),
        ] {
            screen.asks(&mut set, question).await?;
            screen.type_in(&format!("{answer}\n"))?;
        }
        let ended = set.exited(DEADLINE).await?;
        assert_eq!(ended.code(), Some(status), "{}", screen.shown());
        let said = async || screen.shown().contains(told);
        wait_until("what is told", DEADLINE, said).await?;
        let shown = screen.shown();
        ensure!(
            !shown.contains("Ampel") && !shown.contains(TOKEN),
            "{shown}"
        );
        ensure!(screen.is_as_usual());
    }
    Ok(())
}
