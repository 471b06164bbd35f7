//! Configuration from environment variables: every variable is read before any error is reported,
//! and no rejected value is ever shown, because it may be a secret.

use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::SecretString;

/// Everything that is wrong with the environment, one line each.
#[derive(Debug, thiserror::Error)]
#[error("configuration:\n  {}", .0.join("\n  "))]
pub struct ConfigErrors(pub Vec<String>);

/// A reader of variables that gathers what is wrong.
pub struct Env<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    errors: Vec<String>,
}

/// Looks a variable up in the environment of this process; an empty one counts as absent.
pub fn process_env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl<'a> Env<'a> {
    /// A reader over `lookup`, which is [`process_env`] outside tests.
    pub fn new(lookup: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            lookup,
            errors: Vec::new(),
        }
    }

    /// An optional variable.
    pub fn optional<T: FromStr>(&mut self, name: &str) -> Option<T>
    where
        T::Err: Display,
    {
        match (self.lookup)(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.errors.push(format!("{name}: {error}"));
                None
            }
        }
    }

    /// A variable with a default.
    pub fn or<T: FromStr>(&mut self, name: &str, default: T) -> T
    where
        T::Err: Display,
    {
        self.optional(name).unwrap_or(default)
    }

    /// A variable that must be there. `None` means that an error was noted.
    pub fn required<T: FromStr>(&mut self, name: &str, meaning: &str) -> Option<T>
    where
        T::Err: Display,
    {
        if (self.lookup)(name).is_none() {
            self.errors.push(format!("{name} is not set: {meaning}"));
            return None;
        }
        self.optional(name)
    }

    /// A path with a default.
    pub fn path(&mut self, name: &str, default: &str) -> PathBuf {
        (self.lookup)(name).map_or_else(|| PathBuf::from(default), PathBuf::from)
    }

    /// A secret from `NAME`, or from the file that `NAME_FILE` names; a line end at its end is cut.
    /// `None` means that an error was noted.
    pub fn secret(&mut self, name: &str, meaning: &str) -> Option<SecretString> {
        let file_name = format!("{name}_FILE");
        match ((self.lookup)(name), (self.lookup)(&file_name)) {
            (Some(_), Some(_)) => {
                self.fault(format!("{name} and {file_name} are both set: keep one"))
            }
            (Some(value), None) => Some(value.into()),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) => Some(text.trim_end_matches(['\n', '\r']).into()),
                Err(error) => self.fault(format!("{file_name}: {path}: {error}")),
            },
            (None, None) => self.fault(format!("neither {name} nor {file_name} is set: {meaning}")),
        }
    }

    /// Notes an error that the caller found.
    pub fn fault<T>(&mut self, message: String) -> Option<T> {
        self.errors.push(message);
        None
    }

    /// `value`, unless anything was wrong. Each `None` of the readers above has noted its error, so
    /// `value` is `Some` when there is none.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, ConfigErrors> {
        match value {
            Some(value) if self.errors.is_empty() => Ok(value),
            _ => Err(ConfigErrors(self.errors)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_is_reported_at_once_and_no_value_is_shown() {
        let lookup = |name: &str| match name {
            "PORT" => Some("hunter2".to_owned()),
            "KEY" | "KEY_FILE" => Some("swordfish".to_owned()),
            _ => None,
        };
        let mut env = Env::new(&lookup);
        let port: u16 = env.or("PORT", 1);
        let key = env.secret("KEY", "a key");
        let url = env.required::<String>("URL", "where the database is");
        let message = env
            .finish(key.zip(url).map(|_| port))
            .unwrap_err()
            .to_string();
        for name in ["PORT", "KEY and KEY_FILE are both set", "URL is not set"] {
            assert!(message.contains(name), "{message}");
        }
        assert!(
            !message.contains("hunter2") && !message.contains("swordfish"),
            "{message}"
        );
    }
}
