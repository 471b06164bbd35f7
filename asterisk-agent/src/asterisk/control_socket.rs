//! Questions over Asterisk's control socket, as its own remote console asks them
//! (`ast_remotecontrol` in `main/asterisk.c`): a greeting line comes, `cli quit after COMMAND\0`
//! goes, the answer comes, the connection ends. Unlike the console, with a deadline: a hung
//! Asterisk accepts connections and never greets.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use super::{ANSWER_BYTES_MAX, AsteriskError};

/// Asks one or more questions over one connection and returns all that was answered.
pub(super) fn ask(
    path: &Path,
    lines: &[String],
    deadline: Duration,
) -> Result<String, AsteriskError> {
    let mut conversation = Conversation {
        ends: Instant::now() + deadline,
        deadline,
    };
    let mut stream = conversation.connect(path)?;
    conversation.greeting(&mut stream)?;
    let sent = stream.write_all(&message(lines));
    sent.map_err(|error| conversation.broken(&error))?;
    let answer = conversation.rest(&mut stream)?;
    Ok(without_log_lines(&String::from_utf8_lossy(&answer)))
}

/// Makes Asterisk close the connection behind the last answer.
pub(super) const PREFIX: &[u8] = b"cli quit after ";

/// Asterisk splits what follows the prefix at each NUL and runs the parts one after another.
pub(super) fn message(lines: &[String]) -> Vec<u8> {
    let mut message = PREFIX.to_vec();
    for line in lines {
        message.extend_from_slice(line.as_bytes());
        message.push(0);
    }
    message
}

/// The console may be sent verbose messages between the lines of an answer; they begin with a
/// byte that has its highest bit set (`VERBOSE_HASMAGIC`), as no line of an answer does: lossy
/// decoding has made that byte a replacement character.
fn without_log_lines(answer: &str) -> String {
    let kept = |line: &&str| line.is_empty() || line.as_bytes()[0] < 0x80;
    answer.split_inclusive('\n').filter(kept).collect()
}

/// Asterisk writes `dialplan show` line by line. To be woken for each costs both sides more than
/// the line itself, so that in an answer that has proved long, reads shorter than this are spaced.
const LINES_BYTES: usize = 4096;

/// Some 30 lines' time: far less than what the socket holds (200 lines and more), and than the
/// 100 ms after which Asterisk drops what nobody takes.
const GATHERING: Duration = Duration::from_micros(100);

struct Conversation {
    ends: Instant,
    deadline: Duration,
}

impl Conversation {
    fn connect(&mut self, path: &Path) -> Result<UnixStream, AsteriskError> {
        let fault = |errno: Errno| {
            let text = format!("{}: {}", path.display(), errno.desc());
            match errno {
                Errno::ENOENT | Errno::ECONNREFUSED => AsteriskError::NotRunning(text),
                // Its queue of connections stayed full: it does not accept any.
                Errno::EAGAIN => AsteriskError::TimedOut(self.deadline),
                _ => AsteriskError::Unusable(text),
            }
        };
        let address = UnixAddr::new(path).map_err(fault)?;
        let fd: OwnedFd = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )
        .map_err(fault)?;
        let stream = UnixStream::from(fd);
        // Linux bounds a connect to a local socket by the sending timeout.
        let bounded = stream.set_write_timeout(Some(self.deadline));
        bounded.map_err(|error| AsteriskError::Unusable(error.to_string()))?;
        connect(stream.as_raw_fd(), &address).map_err(fault)?;
        Ok(stream)
    }

    fn greeting(&self, stream: &mut UnixStream) -> Result<(), AsteriskError> {
        let mut byte = [0];
        for _ in 0..1024 {
            if self.read(stream, &mut byte)? == 0 {
                return Err(AsteriskError::Unusable(
                    "it closed the connection at once".to_owned(),
                ));
            }
            if byte[0] == b'\n' {
                return Ok(());
            }
        }
        Err(AsteriskError::Unusable(
            "its greeting has no end".to_owned(),
        ))
    }

    fn rest(&self, stream: &mut UnixStream) -> Result<Vec<u8>, AsteriskError> {
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.read(stream, &mut buffer)? {
                0 => return Ok(answer),
                length if answer.len() + length > ANSWER_BYTES_MAX => {
                    return Err(AsteriskError::Broken("it is too large".to_owned()));
                }
                length => {
                    answer.extend_from_slice(&buffer[..length]);
                    if length < LINES_BYTES && answer.len() > LINES_BYTES {
                        std::thread::sleep(GATHERING);
                    }
                }
            }
        }
    }

    fn read(&self, stream: &mut UnixStream, buffer: &mut [u8]) -> Result<usize, AsteriskError> {
        loop {
            let left = self.ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(AsteriskError::TimedOut(self.deadline));
            }
            let bounded = stream.set_read_timeout(Some(left));
            match bounded.and_then(|()| stream.read(buffer)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => return other.map_err(|error| self.broken(&error)),
            }
        }
    }

    fn broken(&self, error: &std::io::Error) -> AsteriskError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => AsteriskError::TimedOut(self.deadline),
            _ => AsteriskError::Broken(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Serves one connection with a greeting and an answer, and returns what was asked.
    fn serve(listener: UnixListener, answer: &'static [u8]) -> std::thread::JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"host/1/22.10.1\n").unwrap();
            let mut asked = vec![0; 512];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer).unwrap();
            asked.truncate(length);
            asked
        })
    }

    #[test]
    fn asks_as_the_remote_console_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let server = serve(
            UnixListener::bind(&path).unwrap(),
            b"one\n\x85 verbose\ntwo\n",
        );
        let answer = ask(
            &path,
            &["core show version".to_owned()],
            Duration::from_secs(5),
        );
        assert_eq!(answer.unwrap(), "one\ntwo\n");
        assert_eq!(
            server.join().unwrap(),
            b"cli quit after core show version\0"
        );
    }

    #[test]
    fn a_silent_asterisk_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        let _listener = UnixListener::bind(&path).unwrap();
        let deadline = Duration::from_millis(100);
        let answer = ask(&path, &["x".to_owned()], deadline);
        assert_eq!(answer, Err(AsteriskError::TimedOut(deadline)));
    }

    #[test]
    fn an_absent_asterisk_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ctl");
        for _ in 0..2 {
            let answer = ask(&path, &["x".to_owned()], Duration::from_secs(5));
            assert!(
                matches!(answer, Err(AsteriskError::NotRunning(_))),
                "{answer:?}"
            );
            // The second time round a stale socket lies there.
            drop(UnixListener::bind(&path));
        }
    }
}
