//! What one text of Asterisk's configuration changes against another, as a unified diff in which no
//! secret stands. Pure.
//!
//! Two lines are the same if their text is, and the section in which they stand: so a diff never
//! pairs the lines of two users, and finding it takes a time that hardly grows faster than the
//! files. Only the masked text of a line can be printed.

use std::borrow::Cow;
use std::collections::HashMap;

use similar::{Algorithm, DiffOp, DiffTag, capture_diff_slices, group_diff_ops};

use super::change::is_secret;

/// How many lines around a change are shown.
const CONTEXT_LINES: usize = 3;

/// What stands in place of a secret.
const SECRET: &str = "<secret>";

/// What stands in place of one that is not the same as before.
const CHANGED_SECRET: &str = "<secret, changed>";

/// A unified diff.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Empty when nothing differs.
    pub text: String,
    /// Whether lines were left off at the end.
    pub truncated: bool,
    /// How many lines are new; all of them are counted.
    pub added: usize,
    /// How many lines go.
    pub removed: usize,
}

/// What `new` changes against `old`, in at most `bytes_max` bytes. `name` stands at the top.
pub fn unified(name: &str, old: &str, new: &str, bytes_max: usize) -> Diff {
    if old == new {
        return Diff::default();
    }
    let (old, new) = (lines(old), lines(new));
    let secrets = secrets(&old);
    let ops = capture_diff_slices(Algorithm::Hunt, &old, &new);
    let mut diff = Diff {
        text: format!("--- {name}\n+++ {name}\n"),
        ..Diff::default()
    };
    for op in &ops {
        if op.tag() != DiffTag::Equal {
            diff.removed += op.old_range().len();
            diff.added += op.new_range().len();
        }
    }
    for hunk in group_diff_ops(ops, CONTEXT_LINES) {
        diff.push(&heading(&hunk), bytes_max);
        for op in hunk {
            let equal = op.tag() == DiffTag::Equal;
            let sign = if equal { ' ' } else { '-' };
            for line in &old[op.old_range()] {
                diff.push(&format!("{sign}{}\n", line.shown(None)), bytes_max);
            }
            for line in new[op.new_range()].iter().filter(|_| !equal) {
                diff.push(&format!("+{}\n", line.shown(Some(&secrets))), bytes_max);
            }
        }
    }
    diff
}

impl Diff {
    /// Once a line did not fit, none that follows may be shown.
    fn push(&mut self, line: &str, bytes_max: usize) {
        self.truncated |= self.text.len() + line.len() > bytes_max;
        if !self.truncated {
            self.text.push_str(line);
        }
    }
}

/// `@@ -first,count +first,count @@`
fn heading(hunk: &[DiffOp]) -> String {
    let range = |first: usize, count: usize| {
        // A range of no lines is named by the line before it.
        let first = if count == 0 { first } else { first + 1 };
        format!("{first},{count}")
    };
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
        return String::new();
    };
    let (old, new) = (first.old_range().start, first.new_range().start);
    let old = range(old, last.old_range().end - old);
    let new = range(new, last.new_range().end - new);
    format!("@@ -{old} +{new} @@\n")
}

/// A line of a file and where it stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Line<'a> {
    section: &'a str,
    kind: &'a str,
    text: &'a str,
}

type Secrets<'a> = HashMap<(&'a str, &'a str, &'a str), &'a str>;

impl<'a> Line<'a> {
    /// The option whose value must not be shown. A line that is none of the forms that the portal
    /// writes is all secret.
    fn secret(&self) -> Option<&'a str> {
        let text = self.text;
        if text.is_empty() || text.starts_with([';', '[']) {
            return None;
        }
        let key = text.split_once('=').map_or("", |(key, _)| key.trim());
        is_secret(key).then_some(key)
    }

    /// What may be seen of it. `before` are the secrets of the older file.
    fn shown(&self, before: Option<&Secrets<'_>>) -> Cow<'a, str> {
        let Some(key) = self.secret() else {
            return Cow::Borrowed(self.text);
        };
        let before = before.and_then(|before| before.get(&(self.section, self.kind, key)));
        let mask = match before {
            Some(text) if *text != self.text => CHANGED_SECRET,
            Some(_) | None => SECRET,
        };
        if key.is_empty() {
            Cow::Borrowed(mask)
        } else {
            Cow::Owned(format!("{key} = {mask}"))
        }
    }
}

fn lines(text: &str) -> Vec<Line<'_>> {
    let (mut section, mut kind) = ("", "");
    let mut lines = Vec::new();
    let mut rest = text.lines().peekable();
    while let Some(text) = rest.next() {
        if text.starts_with('[') {
            section = text;
            let first = rest.peek().and_then(|next| next.strip_prefix("type = "));
            kind = first.unwrap_or("");
        }
        lines.push(Line {
            section,
            kind,
            text,
        });
    }
    lines
}

fn secrets<'a>(lines: &[Line<'a>]) -> Secrets<'a> {
    let secret = |line: &Line<'a>| Some(((line.section, line.kind, line.secret()?), line.text));
    lines.iter().filter_map(secret).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: &str = "; head\n\n[1000]\ntype = auth\nusername = 1000\npassword_digest = MD5:aa\n\
        \n[999]\ntype = auth\nusername = 999\npassword_digest = MD5:cc\n";

    fn diff(new: &str) -> Diff {
        unified("f.conf", OLD, new, 1 << 20)
    }

    #[test]
    fn a_changed_secret_is_a_changed_line_that_reveals_nothing() {
        let diff = diff(&OLD.replace("MD5:aa", "MD5:bb"));
        let expected = "--- f.conf\n+++ f.conf\n@@ -3,7 +3,7 @@\n [1000]\n type = auth\n \
            username = 1000\n-password_digest = <secret>\n+password_digest = <secret, changed>\n \n \
            [999]\n type = auth\n";
        assert_eq!(diff.text, expected);
        assert_eq!((diff.added, diff.removed), (1, 1));
    }

    #[test]
    fn sections_come_and_go_whole() {
        let gone = "\n[999]\ntype = auth\nusername = 999\npassword_digest = MD5:cc\n";
        let come = "\n[998]\ntype = auth\nusername = 998\npassword_digest = MD5:cc\n";
        let text = diff(&OLD.replace(gone, come)).text;
        for line in [
            "-[999]\n",
            "+[998]\n",
            "-password_digest = <secret>\n",
            "+password_digest = <secret>\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert_eq!(diff(OLD), Diff::default());
        let first = unified("f", "", "[a]\n", 100);
        assert_eq!(first.text, "--- f\n+++ f\n@@ -0,0 +1,1 @@\n+[a]\n");
    }

    #[test]
    fn what_is_of_no_known_form_is_hidden() {
        let text = diff(&format!(
            "{OLD}hunter2\npassword = hunter2\nsecret=hunter2\nkey=> hunter2\n"
        ))
        .text;
        assert!(!text.contains("hunter2"), "{text}");
        assert!(
            text.contains("+<secret>\n+password = <secret>\n+secret = <secret>\n"),
            "{text}"
        );
    }

    #[test]
    fn a_long_diff_is_cut_at_a_line_and_still_counted() {
        let many: Vec<String> = (0..1000).map(|number| format!("[{number}]\n")).collect();
        let many = many.concat();
        let diff = unified("f", "", &many, 100);
        assert!(diff.truncated && diff.text.len() <= 100 && diff.text.ends_with("]\n"));
        assert_eq!(diff.added, 1000);
    }

    /// Applies a diff whose lines are all shown, as `patch` would.
    fn patched(old: &str, diff: &str) -> Option<String> {
        let old: Vec<&str> = old.lines().collect();
        let (mut at, mut new) = (0, Vec::new());
        for line in diff.lines().skip(2) {
            if let Some(heading) = line.strip_prefix("@@ -") {
                let (first, rest) = heading.split_once(',')?;
                let count = rest.split(' ').next()?;
                let first: usize = first.parse().ok()?;
                let from = if count == "0" { first } else { first - 1 };
                new.extend_from_slice(old.get(at..from)?);
                at = from;
                continue;
            }
            let (sign, text) = line.split_at(1);
            if sign != "+" {
                (*old.get(at)? == text).then_some(())?;
                at += 1;
            }
            if sign != "-" {
                new.push(text);
            }
        }
        new.extend_from_slice(old.get(at..)?);
        new.push("");
        Some(new.join("\n"))
    }

    fn file() -> impl Strategy<Value = String> {
        let section = (
            0..6_u8,
            prop::sample::subsequence(
                vec!["type = a", "context = x", "allow = y", "context = z"],
                0..4,
            ),
        );
        let text = |(name, lines): (u8, Vec<&str>)| format!("[{name}]\n{}\n", lines.join("\n"));
        prop::collection::vec(section.prop_map(text), 0..8).prop_map(|sections| sections.concat())
    }

    proptest! {
        #[test]
        fn a_diff_makes_the_new_text_of_the_old(old in file(), new in file()) {
            let diff = unified("f", &old, &new, 1 << 20);
            if diff.text.is_empty() {
                prop_assert_eq!(old, new);
            } else {
                prop_assert_eq!(patched(&old, &diff.text), Some(new));
            }
        }
    }
}
