//! How Asterisk shows the options that were written, and what to say of those that differ.

use std::collections::BTreeMap;

use shared::model::Options;

/// Longest value that a message shows.
const VALUE_BYTES_MAX: usize = 80;

/// The names of the options that Asterisk shows otherwise.
pub(super) fn differing(options: &Options, shown: &BTreeMap<String, String>) -> Vec<&'static str> {
    let differs = |(option, value): &(&str, &str)| !same(option, value, shown.get(*option));
    let differing = options.iter().filter(differs);
    differing.map(|(option, _)| option).collect()
}

/// The names of the options that nobody should have set: that the bundle does not write, and that
/// are otherwise than with the generation marker `plain`, which is written with hardly any option, so
/// that it shows Asterisk's own defaults. Another file has added to the object.
pub(super) fn added<'a>(
    options: &Options,
    shown: &'a BTreeMap<String, String>,
    (plain, plain_shown): (&Options, &BTreeMap<String, String>),
) -> Vec<&'a str> {
    let is_default = |(option, value): &(&String, &String)| {
        options.contains_key(option)
            || plain.contains_key(option)
            || FOLLOWING.contains(&option.as_str())
            || plain_shown.get(*option) == Some(*value)
    };
    let added = shown.iter().filter(|shown| !is_default(shown));
    added.map(|(option, _)| option.as_str()).collect()
}

/// Options that Asterisk shows by what was written elsewhere: the contacts of an AOR are mostly
/// those that have registered, the codecs what is left of `disallow` and `allow`, the MD5 credentials
/// what `password_digest` says.
const FOLLOWING: [&str; 3] = ["contact", "allow", "md5_cred"];

/// Whether `shown` is what Asterisk shows of an option that was written as `value`.
pub(super) fn same(option: &str, value: &str, shown: Option<&String>) -> bool {
    let shown = shown.map(String::as_str);
    match option {
        // The list of codecs is what is left after both of them.
        "disallow" => true,
        "allow" => shown == Some(format!("({})", value.replace(',', "|")).as_str()),
        "callerid" => shown.is_some_and(|shown| same_caller_id(shown, value)),
        _ => match value {
            "yes" => matches!(shown, Some("yes" | "true")),
            "no" => matches!(shown, Some("no" | "false")),
            _ => shown == Some(value),
        },
    }
}

/// The options that differ, with both values unless they are secret.
pub(super) fn words(
    options: &Options,
    shown: &BTreeMap<String, String>,
    differing: &[&str],
) -> String {
    let word = |option: &&str| match (*option, options.get(option), shown.get(*option)) {
        ("password_digest", _, _) | (_, None, _) => (*option).to_owned(),
        (option, Some(_), None) => format!("{option} (not set)"),
        (option, Some(value), Some(shown)) => {
            format!("{option} ({} instead of {})", plain(shown), plain(value))
        }
    };
    let words: Vec<_> = differing.iter().map(word).collect();
    words.join(", ")
}

/// A value for a message: whatever Asterisk shows, it stays on its line.
fn plain(value: &str) -> String {
    let end = value.floor_char_boundary(VALUE_BYTES_MAX);
    let cut = if end < value.len() { " …" } else { "" };
    let text: String = value[..end].chars().filter(|c| !c.is_control()).collect();
    if text.is_empty() {
        "nothing".to_owned()
    } else {
        format!("{text}{cut}")
    }
}

/// Whether `shown` is the caller id `sent`. Asterisk shows it, with every quote and backslash of the
/// name escaped, in ten bytes more than the bare name and number have (`caller_id_to_str` in
/// `res_pjsip`), so that more than five escapes push the end out.
pub(super) fn same_caller_id(shown: &str, sent: &str) -> bool {
    let mut escapes = 0;
    let mut chars = sent.chars();
    while let Some(char) = chars.next() {
        if char == '\\' {
            chars.next();
            escapes += 1;
        }
    }
    let room = (sent.len() + 5).saturating_sub(escapes);
    if sent.len() <= room {
        return plain_caller_id(shown) == plain_caller_id(sent);
    }
    // A character that was cut in the middle is shown as U+FFFD.
    let end = |text: &str| text.trim_end_matches([' ', '\u{fffd}']).to_owned();
    end(shown) == end(&sent[..sent.floor_char_boundary(room)])
}

/// A caller id without quotes and backslashes, which Asterisk writes by rules of its own.
fn plain_caller_id(text: &str) -> String {
    text.chars()
        .filter(|char| !matches!(char, '"' | '\\'))
        .collect()
}
