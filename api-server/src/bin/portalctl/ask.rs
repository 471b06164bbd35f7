//! Questions to whoever sits at the terminal.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use nix::sys::signal::{SigSet, Signal};
use secrecy::SecretString;

use crate::failure::Failure;
use crate::output::clean;

/// Longest line that is read as a password, in bytes: 128 characters of UTF-8, and a line end.
const SECRET_BYTES_MAX: u64 = 4 * 128 + 2;

/// Whether somebody can be asked.
pub(crate) struct Ask {
    /// Everything was said yes to before.
    pub(crate) yes: bool,
}

impl Ask {
    /// Asks whether to go on.
    ///
    /// # Errors
    /// [`Failure::Declined`], or [`Failure::Usage`] when nobody can be asked.
    pub(crate) fn confirm(&self, question: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            let said = format!("{question} Nobody can be asked without a terminal: say --yes");
            return Err(Failure::Usage(said));
        }
        let answer = prompt(&format!("{} [y/N] ", clean(question)))?;
        if ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
            Ok(())
        } else {
            Err(Failure::Declined)
        }
    }
}

/// Asks for a line that may be seen.
pub(crate) fn prompt(text: &str) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::other(format!("standard input: {error}"));
    let mut stderr = io::stderr().lock();
    write!(stderr, "{text}").ok();
    stderr.flush().ok();
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok(without_end(&line).to_owned())
}

/// Asks at the terminal for something that is not shown while it is typed. Ctrl-C ends the process, with
/// the terminal as it was.
pub(crate) fn secret(text: &str, otherwise: &str) -> Result<SecretString, Failure> {
    // On Ctrl-C the signal is raised while what is typed is still hidden: it has to wait until that is
    // over, or the shell afterwards shows nothing.
    let interrupt = SigSet::from(Signal::SIGINT);
    let failed = |error| Failure::other(format!("the terminal: {error}"));
    interrupt.thread_block().map_err(failed)?;
    let typed = rpassword::prompt_password(text);
    interrupt.thread_unblock().map_err(failed)?;
    let nobody = |error| format!("nobody can be asked for it ({error}): {otherwise}");
    typed
        .map(SecretString::from)
        .map_err(|error| Failure::Usage(nobody(error)))
}

/// The next line of standard input, for scripts; `None` at its end.
pub(crate) fn secret_line() -> Result<Option<SecretString>, Failure> {
    let mut line = String::new();
    let read = io::stdin()
        .lock()
        .take(SECRET_BYTES_MAX)
        .read_line(&mut line)
        .map_err(|error| Failure::other(format!("standard input: {error}")))?;
    if read as u64 == SECRET_BYTES_MAX {
        return Err(Failure::Usage(
            "standard input: the line is too long".to_owned(),
        ));
    }
    Ok((read > 0).then(|| SecretString::from(without_end(&line).to_owned())))
}

fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}
