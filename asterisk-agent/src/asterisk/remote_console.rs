//! `asterisk -rx COMMAND`, with what it lacks: a deadline of our own, a process group that can be
//! ended as a whole, and a limit on the output.

use std::io::{PipeReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::AsteriskError;
use crate::config::AsteriskConfig;

/// A reload prints some ten lines.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// Asterisk's exit status when it cannot connect; every other failure ends with 0.
const CANNOT_CONNECT: &str = "Unable to connect to remote asterisk";

/// Runs one command and returns all that was printed.
pub(super) fn run(
    config: &AsteriskConfig,
    line: &str,
    deadline: Duration,
) -> Result<String, AsteriskError> {
    let unusable = |error: std::io::Error| {
        AsteriskError::Unusable(format!("{}: {error}", config.binary.display()))
    };
    let (reader, writer) = std::io::pipe().map_err(unusable)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that starts a process"
    )]
    let mut command = Command::new(&config.binary);
    if let Some(conf) = &config.conf {
        command.arg("-C").arg(conf);
    }
    command
        .args(["-rx", line])
        .stdin(Stdio::null())
        .stdout(writer.try_clone().map_err(unusable)?)
        .stderr(writer)
        .process_group(0);
    let child = command.spawn().map_err(unusable)?;
    // The command holds the writing ends of the pipe: end of file comes when they are closed.
    drop(command);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(read_to_end(reader, child)).ok());
    let ended = receiver.recv_timeout(deadline).map_err(|_| {
        // Its client is gone, but Asterisk may carry the command out all the same.
        killpg(group, Signal::SIGKILL).ok();
        AsteriskError::TimedOut(deadline)
    })?;
    let (output, status) = ended.map_err(|error| AsteriskError::Broken(error.to_string()))?;
    classify(&output, status)
}

fn read_to_end(reader: PipeReader, mut child: Child) -> std::io::Result<(Vec<u8>, ExitStatus)> {
    let mut output = Vec::new();
    let read = reader.take(OUTPUT_BYTES_MAX).read_to_end(&mut output);
    let status = child.wait()?;
    read.map(|_| (output, status))
}

fn classify(output: &[u8], status: ExitStatus) -> Result<String, AsteriskError> {
    let text = String::from_utf8_lossy(output).into_owned();
    if let Some(line) = text.lines().find(|line| line.contains(CANNOT_CONNECT)) {
        return Err(AsteriskError::NotRunning(line.to_owned()));
    }
    if status.success() {
        return Ok(text);
    }
    Err(AsteriskError::Unusable(format!(
        "asterisk -rx: {status}: {}",
        text.trim()
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;

    fn stand_in(script: &str) -> (tempfile::TempDir, AsteriskConfig) {
        let dir = tempfile::tempdir().unwrap();
        let binary = dir.path().join("asterisk");
        // Written by another process: a file that this one has open for writing cannot be run.
        let mut file = tempfile::NamedTempFile::new_in(dir.path()).unwrap();
        std::io::Write::write_all(&mut file, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
        let path = file.into_temp_path().keep().unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::hard_link(&path, &binary).unwrap();
        let config = AsteriskConfig {
            binary,
            conf: None,
            control_socket: PathBuf::new(),
            reload_deadline: Duration::from_secs(5),
            query_deadline: Duration::from_secs(5),
        };
        (dir, config)
    }

    #[test]
    fn returns_both_outputs() {
        let (_dir, config) = stand_in("echo \"$1 $2\"; echo noise >&2");
        let output = run(&config, "pjsip reload", Duration::from_secs(5)).unwrap();
        assert!(
            output.contains("-rx pjsip reload\n") && output.contains("noise"),
            "{output}"
        );
    }

    #[test]
    fn a_hung_command_is_ended_with_its_children() {
        let (_dir, config) = stand_in("sleep 60 & sleep 60");
        let began = Instant::now();
        let answer = run(&config, "pjsip reload", Duration::from_millis(300));
        assert_eq!(
            answer,
            Err(AsteriskError::TimedOut(Duration::from_millis(300)))
        );
        assert!(began.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn tells_not_running_from_not_usable() {
        let text = "Unable to connect to remote asterisk (does /x/asterisk.ctl exist?)";
        let (_dir, config) = stand_in(&format!("echo '{text}' >&2; exit 1"));
        let answer = run(&config, "x", Duration::from_secs(5));
        assert_eq!(answer, Err(AsteriskError::NotRunning(text.to_owned())));
        let (_dir, config) = stand_in("exit 127");
        let answer = run(&config, "x", Duration::from_secs(5));
        assert!(
            matches!(answer, Err(AsteriskError::Unusable(_))),
            "{answer:?}"
        );
        let (dir, mut config) = stand_in("");
        config.binary = dir.path().join("missing");
        let answer = run(&config, "x", Duration::from_secs(5));
        assert!(
            matches!(answer, Err(AsteriskError::Unusable(_))),
            "{answer:?}"
        );
    }
}
