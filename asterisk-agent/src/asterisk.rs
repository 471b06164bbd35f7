//! Asterisk, as a seam: a closed list of commands, and the two ways in which they reach it.
//!
//! Reloads go by `asterisk -rx` (FR-012). Questions go straight over the control socket, which is
//! what `asterisk -rx` does itself after some 10 ms of process start. Neither proves anything by
//! having worked: an unknown command, a refused permission and a failed reload all look the same
//! (asterisk/asterisk#2116), so every answer is read.

mod classes;
mod control_socket;
mod remote_console;

use std::fmt;
use std::time::Duration;

use nix::unistd::{AccessFlags, access};
use shared::record::ObjectKind;

use crate::config::AsteriskConfig;

pub use classes::Class;

/// Most bytes of an answer that are kept: 64 MiB, far above the lists of 100,000 endpoints.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A name that is safe inside a command: lower-case letters, digits and `-`, as the portal makes
/// them. `pjsip list aors` cuts names at 42 bytes, so a longer one could not be read back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(String);

/// Longest [`Name`].
pub(crate) const NAME_BYTES_MAX: usize = 40;

impl Name {
    /// `text`, if it is such a name.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fits = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.starts_with('-');
        (fits && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kinds of PJSIP objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PjsipType {
    /// `type = endpoint`.
    Endpoint,
    /// `type = auth`.
    Auth,
    /// `type = aor`.
    Aor,
}

impl PjsipType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Endpoint, Self::Auth, Self::Aor];

    /// The word in `pjsip show <word> NAME`, and in the configuration.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Auth => "auth",
            Self::Aor => "aor",
        }
    }

    /// What a record calls it.
    pub const fn object_kind(self) -> ObjectKind {
        match self {
            Self::Endpoint => ObjectKind::Endpoint,
            Self::Auth => ObjectKind::Auth,
            Self::Aor => ObjectKind::Aor,
        }
    }
}

/// Everything that the agent ever says to Asterisk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Answers when Asterisk has booted.
    WaitFullyBooted,
    /// The version.
    Version,
    /// FR-012.
    PjsipReload,
    /// What `pjsip reload` mainly is, for hosts without `cli_aliases.conf`.
    ModuleReloadPjsip,
    /// FR-012.
    DialplanReload,
    /// The names of the objects of a type that belong to some classes, asked in one go.
    List(PjsipType, Vec<Class>),
    /// The names of the transports, which are the administrator's.
    ListTransports,
    /// Every option of some objects of one type, asked in one go.
    Show(PjsipType, Vec<Name>),
    /// Some dialplan contexts, asked in one go.
    ShowContexts(Vec<Name>),
    /// One extension of a dialplan context.
    ShowExtension {
        /// Which extension.
        extension: Name,
        /// Of which context.
        context: Name,
    },
    /// Every registered contact.
    ShowContacts,
    /// Removes one registered contact.
    DeleteContact {
        /// Of which AOR.
        aor: Name,
        /// The part of the key that tells the contacts of an AOR apart: hexadecimal.
        hash: Name,
    },
}

/// Asterisk reads at most 511 bytes of a console's message at a time; the rest would become a
/// command of its own.
const MESSAGE_BYTES_MAX: usize = 511;

impl Command {
    /// As few questions as possible for every option of all `names`.
    pub(crate) fn show_all(kind: PjsipType, names: &[Name]) -> Vec<Self> {
        batches(names, |name| show_line(kind, name).len())
            .map(|batch| Self::Show(kind, batch.to_vec()))
            .collect()
    }

    /// As few questions as possible for the names in all `classes`.
    pub(crate) fn list_all(kind: PjsipType, classes: &[Class]) -> Vec<Self> {
        batches(classes, |class| list_line(kind, class).len())
            .map(|batch| Self::List(kind, batch.to_vec()))
            .collect()
    }

    /// As few questions as possible for all `contexts`.
    pub(crate) fn show_contexts(contexts: &[Name]) -> Vec<Self> {
        batches(contexts, |context| context_line(context).len())
            .map(|batch| Self::ShowContexts(batch.to_vec()))
            .collect()
    }

    /// Whether it changes what Asterisk holds, so that it goes by `asterisk -rx`.
    const fn is_reload(&self) -> bool {
        matches!(
            self,
            Self::PjsipReload | Self::ModuleReloadPjsip | Self::DialplanReload
        )
    }

    /// The command lines: one, except for what is asked in one go.
    fn lines(&self) -> Vec<String> {
        let line = match self {
            Self::WaitFullyBooted => "core waitfullybooted".to_owned(),
            Self::Version => "core show version".to_owned(),
            Self::PjsipReload => "pjsip reload".to_owned(),
            Self::ModuleReloadPjsip => "module reload res_pjsip.so".to_owned(),
            Self::DialplanReload => "dialplan reload".to_owned(),
            Self::List(kind, classes) => {
                return classes
                    .iter()
                    .map(|class| list_line(*kind, class))
                    .collect();
            }
            Self::ListTransports => "pjsip list transports".to_owned(),
            Self::Show(kind, names) => {
                return names.iter().map(|name| show_line(*kind, name)).collect();
            }
            Self::ShowContexts(contexts) => return contexts.iter().map(context_line).collect(),
            Self::ShowExtension { extension, context } => {
                format!("dialplan show {}@{}", extension.0, context.0)
            }
            Self::ShowContacts => "database show registrar".to_owned(),
            Self::DeleteContact { aor, hash } => {
                format!("database del registrar \"contact/{};@{}\"", aor.0, hash.0)
            }
        };
        vec![line]
    }
}

fn show_line(kind: PjsipType, name: &Name) -> String {
    format!("pjsip show {} {}", kind.word(), name.0)
}

fn context_line(context: &Name) -> String {
    format!("dialplan show {}", context.0)
}

fn list_line(kind: PjsipType, class: &Class) -> String {
    let word = kind.word();
    match class.regex() {
        None => format!("pjsip list {word}s"),
        Some(regex) => format!("pjsip list {word}s like {regex}"),
    }
}

/// Divides what is asked about into messages that Asterisk reads at once; `length` is that of a
/// command line.
fn batches<T>(items: &[T], length: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = control_socket::PREFIX.len();
        let fits = rest.iter().take_while(|item| {
            bytes += length(item) + 1;
            bytes <= MESSAGE_BYTES_MAX
        });
        let count = fits.count();
        let (batch, others) = rest.split_at_checked(count.max(1))?;
        rest = others;
        Some(batch)
    })
}

impl fmt::Display for Command {
    /// As an administrator would type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.lines().join("; ");
        if self.is_reload() {
            write!(f, "asterisk -rx '{text}'")
        } else {
            f.write_str(&text)
        }
    }
}

/// Asterisk did not answer a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AsteriskError {
    /// Nobody listens on its control socket.
    #[error("Asterisk is not running: {0}")]
    NotRunning(String),
    /// The connection is not allowed, or `asterisk -rx` could not be started.
    #[error("Asterisk cannot be asked: {0}")]
    Unusable(String),
    /// It was asked, and the deadline passed: the command may still be carried out.
    #[error("no answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
    /// The connection broke after the command had been sent, or the answer was too large.
    #[error("the answer is incomplete: {0}")]
    Broken(String),
}

/// Somebody who answers commands: the real Asterisk, or a stand-in for faults that a real one
/// cannot be made to show.
pub trait Asterisk: Send + Sync {
    /// Carries out one command. Blocks, at most until the deadline has passed.
    ///
    /// # Errors
    /// When there is no complete answer. That there is one says nothing about success.
    fn run(&self, command: &Command, deadline: Duration) -> Result<String, AsteriskError>;

    /// Whether commands can be given at all, also when Asterisk is not running.
    ///
    /// # Errors
    /// When there is no program that gives them.
    fn usable(&self) -> Result<(), AsteriskError> {
        Ok(())
    }
}

/// The Asterisk of this host.
#[derive(Clone, Debug)]
pub struct LocalAsterisk {
    config: AsteriskConfig,
}

impl LocalAsterisk {
    /// The one that `config` describes.
    pub fn new(config: AsteriskConfig) -> Self {
        Self { config }
    }
}

impl Asterisk for LocalAsterisk {
    fn run(&self, command: &Command, deadline: Duration) -> Result<String, AsteriskError> {
        let lines = command.lines();
        if command.is_reload() {
            remote_console::run(&self.config, &lines[0], deadline)
        } else {
            control_socket::ask(&self.config.control_socket, &lines, deadline)
        }
    }

    fn usable(&self) -> Result<(), AsteriskError> {
        let binary = &self.config.binary;
        access(binary, AccessFlags::X_OK).map_err(|errno| {
            let text = format!("{} cannot be run: {}", binary.display(), errno.desc());
            AsteriskError::Unusable(text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_carry_anything_into_a_command() {
        for bad in [
            "",
            "-x",
            "a b",
            "a\"b",
            "a;b",
            "A",
            "a\0",
            "1000\n",
            &"a".repeat(41),
        ] {
            assert!(Name::new(bad).is_none(), "{bad:?}");
        }
        assert!(Name::new("t1-1000-a").is_some());
    }

    #[test]
    fn questions_fit_what_asterisk_reads_at_once() {
        let name = |index: usize| Name::new(&format!("{}{index:03}", "a".repeat(37))).unwrap();
        let names: Vec<_> = (0..50).map(name).collect();
        let commands = Command::show_all(PjsipType::Endpoint, &names);
        let mut asked = Vec::new();
        for command in commands {
            assert!(control_socket::message(&command.lines()).len() <= MESSAGE_BYTES_MAX);
            let Command::Show(_, batch) = command else {
                panic!("another command")
            };
            asked.extend(batch);
        }
        assert_eq!(asked, names);
        assert!(Command::show_all(PjsipType::Aor, &[]).is_empty());
        let names: Vec<_> = (0..100_000)
            .map(|n: u32| format!("t{}-{n:06}-a", n / 1000))
            .collect();
        let mut sorted: Vec<_> = names.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        let classes = Class::divide(&sorted);
        let commands = Command::list_all(PjsipType::Endpoint, &classes);
        let mut asked = Vec::new();
        for command in commands {
            assert!(control_socket::message(&command.lines()).len() <= MESSAGE_BYTES_MAX);
            let Command::List(_, batch) = command else {
                panic!("another command")
            };
            asked.extend(batch);
        }
        assert_eq!(asked, classes);
    }
}
