//! Names that people give, and what must not stand in them.

use super::Invalid;

/// Declares a name that people give: one line, trimmed, of at most so many characters and bytes.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $chars:literal, $bytes:literal, $too_long:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// What the database holds: of the time before a name had to be legible, perhaps.
            ///
            /// # Errors
            /// It could never come in.
            pub fn from_stored(text: &str) -> Result<Self, $crate::domain::Invalid> {
                let text = $crate::domain::name::one_line(text)?;
                if text.chars().count() > $chars || text.len() > $bytes {
                    return Err($crate::domain::Invalid::new("too_long", $too_long));
                }
                Ok(Self(text.to_owned()))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::Invalid;

            fn from_str(text: &str) -> Result<Self, $crate::domain::Invalid> {
                let name = Self::from_stored(text)?;
                $crate::domain::name::legible(name.as_str())?;
                Ok(name)
            }
        }
    };
}
pub(super) use name;

/// A line of text without the blanks around it.
pub(super) fn one_line(text: &str) -> Result<&str, Invalid> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Invalid::new("empty", "must not be empty"));
    }
    if text.chars().any(breaks_a_line) {
        return Err(Invalid::new(
            "control_character",
            "must not hold control characters or line breaks",
        ));
    }
    Ok(text)
}

/// Whether a character may not stand in one line of text: ASCII and C1 controls (U+0085 is one of
/// them) and the two Unicode line ends.
pub(super) fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// What a person calls something: one line in which no character turns others around, with something
/// to be seen.
pub(super) fn legible(name: &str) -> Result<(), Invalid> {
    let refused = |message| Err(Invalid::new("control_character", message));
    if name.chars().any(breaks_a_line) {
        return refused("must not hold control characters or line breaks");
    }
    if name.chars().any(turns_others_around) {
        return refused("must not hold characters that change the direction of others");
    }
    if name.chars().all(shows_nothing) {
        return Err(Invalid::new("empty", "must hold something to be seen"));
    }
    Ok(())
}

/// The marks, embeddings, overrides and isolates of the bidirectional algorithm (UAX #9): with them a
/// name is shown as another one. Scripts from right to left need none.
const fn turns_others_around(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// White space, what Unicode calls default ignorable, and what is drawn as an empty square of Braille.
fn shows_nothing(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'..='\u{1160}'
                | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fff8}'
                | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_legible_and_reads_as_it_is_written() {
        for good in [
            "Ann",
            "עברית",
            "a\u{200b}b",
            "👩‍👩‍👧",
            "e\u{301}",
            "\u{fe0f}1",
            ";",
        ] {
            assert_eq!(legible(good), Ok(()), "{good:?}");
        }
        for (bad, code) in [
            ("a\nb", "control_character"),
            ("a\u{85}b", "control_character"),
            ("a\u{2028}b", "control_character"),
            ("nimda\u{202e}", "control_character"),
            ("\u{2066}a\u{2069}", "control_character"),
            ("a\u{200f}", "control_character"),
            ("a\u{61c}", "control_character"),
            ("\u{200b}", "empty"),
            ("\u{3164}\u{2800}\u{a0}", "empty"),
            ("\u{e0041}\u{feff}", "empty"),
        ] {
            assert_eq!(legible(bad).map_err(|e| e.code), Err(code), "{bad:?}");
        }
    }
}
