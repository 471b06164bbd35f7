//! Passwords of accounts: what is typed, what may be chosen, and what is kept.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};
use zxcvbn::Score;

use super::{Invalid, redacted};

/// Longest password, in characters: enough for any sentence, and a bound on what is worked on.
const CHARS_MAX: usize = 128;

/// Shortest password that may be chosen, in characters.
const CHARS_MIN: usize = 12;

/// What somebody typed as a password: 1 to 128 characters, whether it is right or not.
#[derive(Clone)]
pub struct Password(SecretString);

impl Password {
    /// The clear text, for hashing.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl FromStr for Password {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new("empty", "must not be empty"));
        }
        if text.chars().count() > CHARS_MAX {
            return Err(Invalid::new(
                "too_long",
                "must be at most 128 characters long",
            ));
        }
        Ok(Self(text.to_owned().into()))
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "Password")
    }
}

/// A password that may be chosen: 12 to 128 characters, and hard to guess also for somebody who
/// knows whose it is.
#[derive(Clone, Debug)]
pub struct NewPassword(Password);

impl NewPassword {
    /// Judges a password by `about`: what is known of its owner, as login and name. What it holds of
    /// that is no part of it: the rest must be hard to guess by itself. It takes milliseconds.
    ///
    /// # Errors
    /// `too_short`, `too_easy`.
    pub fn choose(password: Password, about: &[&str]) -> Result<Self, Invalid> {
        if password.expose().chars().count() < CHARS_MIN {
            return Err(Invalid::new(
                "too_short",
                "must be at least 12 characters long",
            ));
        }
        let known = known_words(about);
        let easy = |text: &str| {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            zxcvbn::zxcvbn(text, &known).score() < Score::Three
        };
        if easy(password.expose()) || easy(without(password.expose(), &known).expose_secret()) {
            return Err(Invalid::new(
                "too_easy",
                "is too easy to guess: take several words that do not belong together, and neither \
                 login nor name",
            ));
        }
        Ok(Self(password))
    }

    /// The clear text, for hashing.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// Shortest word that is taken out of a password: shorter ones are in many others.
const WORD_CHARS_MIN: usize = 3;

/// Whole words are recognised, so each text is given with its parts, also without the digits around them,
/// and with them written together. The longest come first.
fn known_words(about: &[&str]) -> Vec<String> {
    let mut words = Vec::new();
    for text in about {
        let text = text.to_lowercase();
        let parts = |separates: fn(char) -> bool| -> Vec<String> {
            let parts = text.split(separates).filter(|part| !part.is_empty());
            parts.map(str::to_owned).collect()
        };
        let named = parts(|c| !c.is_alphanumeric());
        words.push(named.concat());
        words.extend(named);
        words.extend(parts(|c| !c.is_alphabetic()));
        words.push(text);
    }
    words.sort_by_key(|word| std::cmp::Reverse(word.chars().count()));
    words
}

/// What is left of a password without the words, whatever their case, and without separators and digits
/// beside them; as it is where none occurs.
fn without(password: &str, words: &[String]) -> SecretString {
    let mut rest = password.to_lowercase();
    let mut found = false;
    for word in words
        .iter()
        .filter(|word| word.chars().count() >= WORD_CHARS_MIN)
    {
        found |= rest.contains(word.as_str());
        // A mark, so that what stood on both sides becomes no word.
        rest = rest.replace(word.as_str(), MARK);
    }
    if !found {
        return password.to_owned().into();
    }
    let beside = |c: char| !c.is_alphabetic();
    let parts: Vec<&str> = rest
        .split(MARK)
        .map(|part| part.trim_matches(beside))
        .collect();
    parts.join(" ").trim().to_owned().into()
}

/// Stands where a word was: in no word of letters and digits.
const MARK: &str = "\u{0}";

/// The Argon2id hash of a password, in the PHC string format. Who has it can try passwords, so it is
/// a secret as well.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// What hashing made, or what is stored.
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for the database.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "PasswordHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(text: &str, about: &[&str]) -> Result<(), &'static str> {
        let password: Password = text.parse().map_err(|error: Invalid| error.code)?;
        let chosen = NewPassword::choose(password, about).map_err(|error| error.code)?;
        assert_eq!(chosen.expose(), text);
        Ok(())
    }

    #[test]
    fn what_can_be_guessed_cannot_be_chosen() {
        let about = ["ann.meier@example.org", "Ann Meier"];
        assert_eq!(choose("", &about), Err("empty"));
        assert_eq!(choose("x9$Kq2!vTz8", &about), Err("too_short"));
        assert_eq!(choose(&"ä".repeat(129), &about), Err("too_long"));
        for easy in [
            "password1234",
            "aaaaaaaaaaaaaaaa",
            "qwertyuiopasdfgh",
            "ann.meier@example.org",
            "annmeier2026",
            "MeierAnnMeier",
        ] {
            assert_eq!(choose(easy, &about), Err("too_easy"), "{easy}");
        }
        for good in ["correct horse battery staple", "Wiege Ampel 7 Überholspur"] {
            assert_eq!(choose(good, &about), Ok(()), "{good}");
        }
        for (easy, about) in [
            ("acme-adm acme-adm", ["acme-adm", "Acme Administration"]),
            ("anna example anna example", ["anna", "Anna Example"]),
            ("novak.olga.1", ["novak.olga", "Olga Novak"]),
            ("ann@example.com", ["ann6162@example.org", "Ann"]),
            ("EXAMPLE-6162-2026!Ann", ["ann6162@example.org", "Ann"]),
            ("ÖMER--ömer--2026", ["oemer", "Ömer Öztürk"]),
        ] {
            assert_eq!(choose(easy, &about), Err("too_easy"), "{easy}");
        }
        // What is left counts as much as anything else.
        let good = "Ann Meier correct horse battery staple";
        assert_eq!(choose(good, &about), Ok(()));
        // Easy for those who know the owner, and nobody else.
        let same = "zebedeequillfeather";
        assert_eq!(choose(same, &["Zebedee Quillfeather"]), Err("too_easy"));
        assert_eq!(choose(same, &about), Ok(()));
    }

    #[test]
    fn nothing_shows_a_password() {
        let password: Password = "correct horse battery staple".parse().unwrap();
        let hash = PasswordHash::new("$argon2id$x".to_owned());
        let chosen = NewPassword::choose(password.clone(), &[]).unwrap();
        let shown = format!("{password:?} {chosen:?} {hash:?}");
        assert!(
            !shown.contains("horse") && !shown.contains("argon2id"),
            "{shown}"
        );
    }
}
