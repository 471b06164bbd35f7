//! Tells Asterisk to read its files (FR-012), and finds out whether it did so. That it did says
//! nothing about what it then holds: see `verify`.

use std::time::{Duration, Instant};

use shared::record::Phase;

use crate::answers::{self, AnswerError, ReloadAnswer};
use crate::asterisk::{Asterisk, AsteriskError, Command};
use crate::steps::{Log, Saying, chain};

/// Pause between two attempts while another reload runs or Asterisk boots: there is nothing that
/// one could wait on.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// A reload was not carried out, or may not have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReloadError {
    /// Nobody listens; the files are read when Asterisk starts.
    #[error("{0}; it reads the new files when it starts")]
    NotRunning(AsteriskError),
    /// It accepts connections and does not answer; nothing was reloaded.
    #[error(
        "Asterisk runs but gave no answer within {} ms; it was not told to read the new files",
        .0.as_millis()
    )]
    Hung(Duration),
    /// It was asked and gave no answer: the reload may still happen.
    #[error("Asterisk gave no answer to {command}: {reason}; it may still carry it out")]
    Unknown {
        /// What was asked.
        command: String,
        /// What came instead.
        reason: String,
    },
    /// It has no such command.
    #[error("Asterisk has no command {command}: {reason}")]
    NoSuchCommand {
        /// What was asked.
        command: String,
        /// What it said.
        reason: String,
    },
    /// It was not carried out.
    #[error("Asterisk did not carry out {command}: {reason}")]
    Failed {
        /// What was asked.
        command: String,
        /// What it said.
        reason: String,
    },
}

impl ReloadError {
    fn unknown(command: &Command, reason: impl Into<String>) -> Self {
        Self::Unknown {
            command: command.to_string(),
            reason: reason.into(),
        }
    }

    fn failed(command: &Command, reason: impl Into<String>) -> Self {
        Self::Failed {
            command: command.to_string(),
            reason: reason.into(),
        }
    }

    /// Whether going on would only make matters worse: nobody listens, or a reload may still run.
    pub(crate) fn ends_the_attempt(&self) -> bool {
        match self {
            Self::NotRunning(_) | Self::Hung(_) | Self::Unknown { .. } => true,
            Self::NoSuchCommand { .. } | Self::Failed { .. } => false,
        }
    }

    /// What an unanswered command means: only before it was sent is it certain that nothing
    /// happens.
    pub(crate) fn unanswered(command: &Command, error: AsteriskError) -> Self {
        match error {
            AsteriskError::NotRunning(_) => Self::NotRunning(error),
            AsteriskError::Unusable(reason) => Self::failed(command, reason),
            AsteriskError::TimedOut(_) | AsteriskError::Broken(_) => {
                Self::unknown(command, error.to_string())
            }
        }
    }
}

/// Whether to wait for an Asterisk that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not running is an answer.
    Running,
    /// It is about to start: after a start of the host, the agent comes first.
    Starting,
}

/// Waits until Asterisk has booted: before that it answers `No such command`, or queues a reload.
pub(crate) fn wait_until_booted(
    asterisk: &dyn Asterisk,
    deadline: Duration,
    patience: Patience,
    log: &Log,
) -> Result<(), ReloadError> {
    let command = Command::WaitFullyBooted;
    let ends = Instant::now() + deadline;
    log.step_saying(Phase::Reloading, command.to_string(), || {
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let error = match asterisk.run(&command, left.max(RETRY_PAUSE)) {
                Ok(answer) if answers::has_booted(&answer) => return (Ok(()), answer),
                // Waiting does not help.
                Ok(answer) if answers::is_not_permitted(&answer) => {
                    return failing(ReloadError::failed(&command, answer.trim()));
                }
                Ok(answer) => ReloadError::failed(&command, answer.trim()),
                Err(AsteriskError::TimedOut(after)) => ReloadError::Hung(after),
                Err(error) => ReloadError::unanswered(&command, error),
            };
            let is_final = match error {
                ReloadError::NotRunning(_) => patience == Patience::Running,
                ReloadError::Hung(_) => true,
                _ => false,
            };
            if is_final || left.is_zero() {
                return failing(error);
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    })
}

/// `pjsip reload`; where that alias does not exist, what it stands for.
pub(crate) fn pjsip(
    asterisk: &dyn Asterisk,
    deadline: Duration,
    log: &Log,
) -> Result<(), ReloadError> {
    let reading = answers::pjsip_reload;
    match reload(asterisk, &Command::PjsipReload, deadline, reading, log) {
        Err(ReloadError::NoSuchCommand { .. }) => {
            log.note(
                "Asterisk has no command `pjsip reload`: cli_aliases.conf or res_clialiases.so is \
                 missing; `module reload res_pjsip.so` was used instead",
            );
            reload(
                asterisk,
                &Command::ModuleReloadPjsip,
                deadline,
                reading,
                log,
            )
        }
        other => other,
    }
}

/// `dialplan reload`.
pub(crate) fn dialplan(
    asterisk: &dyn Asterisk,
    deadline: Duration,
    log: &Log,
) -> Result<(), ReloadError> {
    reload(
        asterisk,
        &Command::DialplanReload,
        deadline,
        answers::dialplan_reload,
        log,
    )
}

fn reload(
    asterisk: &dyn Asterisk,
    command: &Command,
    deadline: Duration,
    reading: fn(&str) -> ReloadAnswer,
    log: &Log,
) -> Result<(), ReloadError> {
    let ends = Instant::now() + deadline;
    log.step_saying(Phase::Reloading, command.to_string(), || {
        loop {
            let left = ends.saturating_duration_since(Instant::now());
            let answer = match asterisk.run(command, left.max(RETRY_PAUSE)) {
                Ok(answer) => answer,
                Err(error) => return failing(ReloadError::unanswered(command, error)),
            };
            let error = match reading(&answer) {
                ReloadAnswer::Done => return (Ok(()), answer),
                ReloadAnswer::Silent => ReloadError::unknown(command, "it said nothing"),
                ReloadAnswer::InProgress if !left.is_zero() => {
                    std::thread::sleep(RETRY_PAUSE);
                    continue;
                }
                ReloadAnswer::InProgress => ReloadError::unknown(command, answer.trim()),
                ReloadAnswer::Refused(AnswerError::NoSuchCommand(reason)) => {
                    ReloadError::NoSuchCommand {
                        command: command.to_string(),
                        reason,
                    }
                }
                ReloadAnswer::Refused(refusal) => ReloadError::failed(command, chain(&refusal)),
            };
            return (Err(error), answer);
        }
    })
}

fn failing<T>(error: ReloadError) -> Saying<T, ReloadError> {
    let said = chain(&error);
    (Err(error), said)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::tests::{Script, log};

    const DEADLINE: Duration = Duration::from_millis(300);

    fn pjsip_with(script: &Script) -> Result<(), ReloadError> {
        pjsip(script, DEADLINE, &log())
    }

    #[test]
    fn a_reload_in_progress_is_waited_for() {
        let busy = "A module reload request is already in progress; please be patient\n";
        let done = "Module 'res_pjsip.so' reloaded successfully.\n";
        let script = Script::answering(&[Ok(busy), Ok(busy), Ok(done)]);
        assert_eq!(pjsip_with(&script), Ok(()));
        assert_eq!(script.asked().len(), 3);
    }

    #[test]
    fn a_reload_that_never_gets_its_turn_is_unknown() {
        let busy = "A module reload request is already in progress; please be patient\n";
        let script = Script::answering(&vec![Ok(busy); 100]);
        assert!(matches!(
            pjsip_with(&script),
            Err(ReloadError::Unknown { .. })
        ));
    }

    #[test]
    fn without_the_alias_the_module_is_reloaded_and_noted() {
        let missing = "No such command 'pjsip reload' (type 'core show help pjsip reload')\n";
        let done = "Module 'res_pjsip.so' reloaded successfully.\n";
        let script = Script::answering(&[Ok(missing), Ok(done)]);
        let log = log();
        assert_eq!(pjsip(&script, DEADLINE, &log), Ok(()));
        assert_eq!(
            script.asked(),
            [Command::PjsipReload, Command::ModuleReloadPjsip]
        );
        assert!(log.snapshot().notes[0].contains("cli_aliases.conf"));
    }

    #[test]
    fn silence_and_lost_answers_are_unknown_and_the_rest_is_told() {
        for (answer, expected) in [
            (Ok(""), "unknown"),
            (Err(AsteriskError::TimedOut(DEADLINE)), "unknown"),
            (Err(AsteriskError::Broken("x".into())), "unknown"),
            (Err(AsteriskError::NotRunning("x".into())), "not running"),
            (Err(AsteriskError::Unusable("x".into())), "failed"),
            (
                Ok("You don't have permissions to run 'pjsip reload' command\n"),
                "failed",
            ),
            (Ok("No such module 'res_pjsip.so'\n"), "failed"),
        ] {
            let script = Script::answering(std::slice::from_ref(&answer));
            let found = match pjsip_with(&script) {
                Ok(()) => "done",
                Err(ReloadError::NotRunning(_)) => "not running",
                Err(ReloadError::Unknown { .. } | ReloadError::Hung(_)) => "unknown",
                Err(ReloadError::Failed { .. } | ReloadError::NoSuchCommand { .. }) => "failed",
            };
            assert_eq!(found, expected, "{answer:?}");
        }
    }

    #[test]
    fn an_asterisk_that_is_about_to_start_is_waited_for() {
        let absent = || Err(AsteriskError::NotRunning("no socket".into()));
        let booted = Ok("Asterisk has fully booted.\n");
        let early = Ok("No such command 'core waitfullybooted'\n");
        let script = Script::answering(&[absent(), early, booted]);
        let waited = wait_until_booted(&script, DEADLINE, Patience::Starting, &log());
        assert_eq!(waited, Ok(()));
        let script = Script::answering(&[Err(AsteriskError::TimedOut(DEADLINE))]);
        let waited = wait_until_booted(&script, DEADLINE, Patience::Starting, &log());
        assert_eq!(waited, Err(ReloadError::Hung(DEADLINE)));
        let script = Script::answering(&[absent()]);
        let waited = wait_until_booted(&script, DEADLINE, Patience::Running, &log());
        assert!(matches!(waited, Err(ReloadError::NotRunning(_))));
    }
}
