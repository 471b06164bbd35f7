//! The closed vocabulary of [`super`]: which options, values and dialplan steps the portal renders.

use crate::bundle::GENERATION_EXTENSION;
use crate::names::{OLD, is_name, is_transport};

/// Whether a value may be what it is.
pub(super) type Grammar = fn(&str) -> bool;

/// The options that the portal renders, each with what its value may be.
pub(super) fn vocabulary(kind: &str) -> Option<&'static [(&'static str, Grammar)]> {
    match kind {
        "endpoint" => Some(&[
            ("context", is_name),
            ("transport", is_transport),
            ("disallow", |value| value == "all"),
            ("allow", is_codecs),
            ("auth", is_auths),
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
            ("supported_algorithms_uas", is_uncommon_algorithm),
            ("supported_algorithms_uac", is_uncommon_algorithm),
            ("password_digest", |value| algorithm(value).is_some()),
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

/// Codecs, none twice: Asterisk keeps the first of two, and shows another list than was written.
fn is_codecs(text: &str) -> bool {
    let known = |codec: &str| matches!(codec, "ulaw" | "alaw" | "g722" | "opus");
    let mut codecs = text.split(',').enumerate();
    codecs.all(|(at, codec)| known(codec) && text.split(',').take(at).all(|other| other != codec))
}

/// One auth, or one and that of the former password behind it.
fn is_auths(text: &str) -> bool {
    match text.split_once(',') {
        None => is_name(text),
        Some((name, old)) => is_name(old) && old.strip_suffix(OLD) == Some(name),
    }
}

/// The auths that the option `auth` of an endpoint names.
pub fn auths(value: &str) -> impl Iterator<Item = &str> {
    value.split(',')
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

/// An algorithm that Asterisk does not take for granted. One at a time: several phones fail when
/// they are offered two.
fn is_uncommon_algorithm(text: &str) -> bool {
    matches!(text, "SHA-256" | "SHA-512-256")
}

/// The algorithm of a `password_digest`.
pub(super) fn algorithm(digest: &str) -> Option<&str> {
    let (algorithm, hash) = digest.split_once(':')?;
    let length = match algorithm {
        "MD5" => 32,
        "SHA-256" | "SHA-512-256" => 64,
        _ => return None,
    };
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (hash.len() == length && hash.bytes().all(hex)).then_some(algorithm)
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
    let known = |endpoint: Option<&str>| endpoint.is_some_and(is_name);
    ring(application).is_some_and(|(devices, seconds)| {
        devices.split('&').map(endpoint).all(known) && is_small_number(seconds)
    })
}

/// The endpoints that `Dial(PJSIP/<endpoint>&PJSIP/<endpoint>,<seconds>)` rings; none for any other
/// application.
pub(super) fn dialled(application: &str) -> impl Iterator<Item = &str> {
    let devices = ring(application).map(|(devices, _)| devices);
    devices
        .into_iter()
        .flat_map(|devices| devices.split('&').filter_map(endpoint))
}

fn ring(application: &str) -> Option<(&str, &str)> {
    argument(application, "Dial")?.split_once(',')
}

fn endpoint(device: &str) -> Option<&str> {
    device.strip_prefix("PJSIP/")
}

/// What stands in the brackets of `NAME(…)`.
pub(super) fn argument<'a>(application: &'a str, name: &str) -> Option<&'a str> {
    application
        .strip_prefix(name)?
        .strip_prefix('(')?
        .strip_suffix(')')
}
