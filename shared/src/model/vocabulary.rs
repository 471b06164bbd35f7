//! The closed vocabulary of [`super`]: which options, values and dialplan steps the portal renders.

use crate::bundle::GENERATION_EXTENSION;
use crate::names::is_name;

/// Whether a value may be what it is.
pub(super) type Grammar = fn(&str) -> bool;

/// The options that the portal renders, each with what its value may be.
pub(super) fn vocabulary(kind: &str) -> Option<&'static [(&'static str, Grammar)]> {
    match kind {
        "endpoint" => Some(&[
            ("context", is_name),
            ("disallow", |value| value == "all"),
            ("allow", is_codecs),
            ("auth", is_name),
            ("aors", is_name),
            ("callerid", is_caller_id),
            ("direct_media", is_yes_no),
            ("rtp_symmetric", is_yes_no),
            ("force_rport", is_yes_no),
            ("rewrite_contact", is_yes_no),
            ("accountcode", is_name),
        ]),
        "auth" => Some(&[
            ("auth_type", |value| value == "digest"),
            ("username", is_name),
            ("realm", is_realm),
            ("password_digest", is_md5_digest),
        ]),
        "aor" => Some(&[
            ("max_contacts", is_small_number),
            ("remove_existing", is_yes_no),
            ("maximum_expiration", is_small_number),
            ("qualify_frequency", is_small_number),
            ("voicemail_extension", is_name),
        ]),
        _ => None,
    }
}

fn is_realm(text: &str) -> bool {
    text.split('.').all(is_name)
}

fn is_codecs(text: &str) -> bool {
    text.split(',')
        .all(|codec| matches!(codec, "ulaw" | "alaw" | "g722" | "opus"))
}

fn is_yes_no(text: &str) -> bool {
    matches!(text, "yes" | "no")
}

fn is_small_number(text: &str) -> bool {
    !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_digits(text: &str) -> bool {
    (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_md5_digest(text: &str) -> bool {
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("MD5:")
        .is_some_and(|hash| hash.len() == 32 && hash.bytes().all(hex))
}

/// `"NAME" <NUMBER>` with every quote and backslash of the name escaped.
fn is_caller_id(text: &str) -> bool {
    let Some((name, number)) = text
        .strip_suffix('>')
        .and_then(|rest| rest.rsplit_once("\" <"))
        .and_then(|(name, number)| Some((name.strip_prefix('"')?, number)))
    else {
        return false;
    };
    let mut chars = name.chars();
    while let Some(char) = chars.next() {
        let escaped = char != '\\' || matches!(chars.next(), Some('\\' | '"'));
        if char == '"' || !escaped {
            return false;
        }
    }
    is_digits(number)
}

/// Takes `EXTEN,PRIORITY,APPLICATION(ARGUMENTS)` apart; `None` unless the portal renders such a
/// step. Asterisk loads a step whose application does not exist, and fails when it is dialled.
pub(super) fn step(text: &str) -> Option<(&str, usize, &str)> {
    let (extension, rest) = text.split_once(',')?;
    let (priority, application) = rest.split_once(',')?;
    let known = argument(application, "NoOp").is_some_and(is_name) || is_dial(application);
    let extension_known = is_digits(extension) || extension == GENERATION_EXTENSION;
    (known && extension_known).then_some((extension, priority.parse().ok()?, application))
}

fn is_dial(application: &str) -> bool {
    dialled(application).is_some_and(is_name)
        && argument(application, "Dial")
            .and_then(|arguments| arguments.split_once(','))
            .is_some_and(|(_, seconds)| is_small_number(seconds))
}

/// The endpoint that `Dial(PJSIP/<endpoint>,<seconds>)` rings.
pub(super) fn dialled(application: &str) -> Option<&str> {
    argument(application, "Dial")?
        .split_once(',')?
        .0
        .strip_prefix("PJSIP/")
}

/// What stands in the brackets of `NAME(…)`.
pub(super) fn argument<'a>(application: &'a str, name: &str) -> Option<&'a str> {
    application
        .strip_prefix(name)?
        .strip_prefix('(')?
        .strip_suffix(')')
}
