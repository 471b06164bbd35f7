//! A strict reader of Asterisk's configuration format, for files that the portal generated.
//!
//! It reads what `main/config.c` of Asterisk 22 would read, and refuses whatever Asterisk would
//! skip, cut, or take as something else: there a file with one bad line loads "successfully" and
//! silently loses every object behind that line. The portal checks what it rendered with it, the
//! agent what it received.

use std::borrow::Cow;
use std::fmt;

/// Longest line that Asterisk reads: longer ones are skipped with a warning.
const LINE_BYTES_MAX: usize = 8191;

/// Longest section name: Asterisk cuts longer ones silently, so that two of them may collide.
const SECTION_NAME_BYTES_MAX: usize = 79;

/// An endpoint has some ten lines.
const ENTRIES_EXPECTED: usize = 12;

/// `[name]` and the lines below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// The text between the brackets.
    pub name: &'a str,
    /// Where it stands, from 1.
    pub line: usize,
    /// Its lines, in order.
    pub entries: Vec<Entry<'a>>,
}

impl Section<'_> {
    /// The value of the first `key`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.entries
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &*entry.value)
    }
}

/// `key = value` or `key => value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Before the first `=`.
    pub key: Cow<'a, str>,
    /// Behind it, as Asterisk hands it to the module: unescaped and trimmed.
    pub value: Cow<'a, str>,
    /// Where it stands, from 1.
    pub line: usize,
}

/// Why Asterisk would not read the text as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ReadError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A byte below 0x20, or 0x7f.
    ControlCharacter,
    /// Not UTF-8.
    NotUtf8,
    /// More than 8191 bytes.
    TooLong,
    /// `#include`, `#exec` and the like.
    Directive,
    /// `;--` opens a comment over several lines, and `--;` ends one.
    BlockComment,
    /// `[` without `]`, an empty name, one over 79 bytes, a template, or text behind the bracket.
    SectionHeader,
    /// A line before the first section: it would go into a section of another file.
    OutsideSection,
    /// A line without `=`, or with nothing before it.
    NoAssignment,
    /// `key += value` appends to an inherited value.
    Append,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ControlCharacter => "control character",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "longer than 8191 bytes",
            Self::Directive => "a directive (`#`) in a generated file",
            Self::BlockComment => "a block comment (`;--` or `--;`)",
            Self::SectionHeader => "a malformed section header",
            Self::OutsideSection => "a line before the first section",
            Self::NoAssignment => "a line that assigns nothing",
            Self::Append => "an appending assignment (`+=`)",
        })
    }
}

/// Reads a whole file.
///
/// # Errors
/// The first line that Asterisk would not read as it is meant.
pub fn read(bytes: &[u8]) -> Result<Vec<Section<'_>>, ReadError> {
    let mut sections = Vec::new();
    read_each(bytes, |section| sections.push(section))?;
    Ok(sections)
}

/// Reads a whole file and hands out each section as it ends, so that a large file is never held as
/// sections. Lines are not copied unless something in them is escaped: this is on the way of every
/// apply.
///
/// # Errors
/// The first line that Asterisk would not read as it is meant; the sections before it have been
/// handed out.
pub fn read_each<'a>(bytes: &'a [u8], mut each: impl FnMut(Section<'a>)) -> Result<(), ReadError> {
    let (text, broken) = valid_lines(bytes);
    // Looked for once in the whole file, where it takes a fraction of the time, line by line.
    let plain = !has_control_character(text.as_bytes());
    let mut current: Option<Section<'a>> = None;
    let mut lines = 0;
    for raw in text.split('\n') {
        lines += 1;
        let at = |fault| ReadError { line: lines, fault };
        if !plain && has_control_character(raw.as_bytes()) {
            return Err(at(Fault::ControlCharacter));
        }
        match read_line(raw).map_err(at)? {
            Line::Empty => {}
            Line::Section(name) => {
                let next = Section {
                    name,
                    line: lines,
                    entries: Vec::with_capacity(ENTRIES_EXPECTED),
                };
                if let Some(ended) = current.replace(next) {
                    each(ended);
                }
            }
            Line::Entry { key, value } => {
                let section = current.as_mut().ok_or(at(Fault::OutsideSection))?;
                let line = lines;
                section.entries.push(Entry { key, value, line });
            }
        }
    }
    if broken {
        return Err(ReadError {
            line: lines,
            fault: Fault::NotUtf8,
        });
    }
    current.into_iter().for_each(each);
    Ok(())
}

/// The text, or what stands before the first line that is not UTF-8, and whether there is one.
fn valid_lines(bytes: &[u8]) -> (&str, bool) {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return (text, false),
        Err(error) => error,
    };
    let valid = &bytes[..error.valid_up_to()];
    let end = valid.iter().rposition(|&byte| byte == b'\n');
    let lines = &valid[..end.map_or(0, |end| end + 1)];
    (std::str::from_utf8(lines).unwrap_or_default(), true)
}

/// Anything below the space but the end of a line.
fn has_control_character(bytes: &[u8]) -> bool {
    let control = |byte: u8| (byte < 0x20 && byte != b'\n') || byte == 0x7f;
    // Without an early end, the compiler looks at many bytes at a time.
    bytes.iter().fold(false, |any, &byte| any | control(byte))
}

enum Line<'a> {
    Empty,
    Section(&'a str),
    Entry {
        key: Cow<'a, str>,
        value: Cow<'a, str>,
    },
}

fn read_line(raw: &str) -> Result<Line<'_>, Fault> {
    if raw.len() > LINE_BYTES_MAX {
        return Err(Fault::TooLong);
    }
    if raw.starts_with(';') && !raw.starts_with(";--") {
        return Ok(Line::Empty);
    }
    let text = uncomment(raw)?;
    // Asterisk strips bytes up to the space only; `str::trim` would strip Unicode blanks as well.
    match text.trim_start_matches(' ').as_bytes().first() {
        None => Ok(Line::Empty),
        Some(b'#') => Err(Fault::Directive),
        // A section header holds nothing that `uncomment` changes, so the raw line will do.
        Some(b'[') => section_name(raw).map(Line::Section),
        Some(_) => entry(text),
    }
}

/// Cuts a comment and takes one backslash from each `\;`.
fn uncomment(text: &str) -> Result<Cow<'_, str>, Fault> {
    if !text.as_bytes().contains(&b';') {
        return Ok(Cow::Borrowed(text));
    }
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(';') {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('\\') {
            kept.push_str(escaped);
            kept.push(';');
            rest = &from[1..];
        } else if from.starts_with(";--") || before.ends_with("--") {
            return Err(Fault::BlockComment);
        } else {
            rest = "";
            kept.push_str(before);
        }
    }
    kept.push_str(rest);
    Ok(Cow::Owned(kept))
}

fn section_name(raw: &str) -> Result<&str, Fault> {
    let name = raw
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .ok_or(Fault::SectionHeader)?;
    let plain = !name.contains([']', ';', '[']) && !name.is_empty();
    if plain && name.len() <= SECTION_NAME_BYTES_MAX {
        Ok(name)
    } else {
        Err(Fault::SectionHeader)
    }
}

fn entry(text: Cow<'_, str>) -> Result<Line<'_>, Fault> {
    Ok(match text {
        Cow::Borrowed(text) => {
            let (key, value) = assignment(text)?;
            Line::Entry {
                key: key.into(),
                value: value.into(),
            }
        }
        Cow::Owned(text) => {
            let (key, value) = assignment(&text)?;
            Line::Entry {
                key: key.to_owned().into(),
                value: value.to_owned().into(),
            }
        }
    })
}

fn assignment(text: &str) -> Result<(&str, &str), Fault> {
    let (key, value) = text.split_once('=').ok_or(Fault::NoAssignment)?;
    if key.ends_with('+') {
        return Err(Fault::Append);
    }
    let key = key.trim_matches(' ');
    if key.is_empty() {
        return Err(Fault::NoAssignment);
    }
    let value = value.strip_prefix('>').unwrap_or(value).trim_matches(' ');
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<Fault> {
        read(text.as_bytes()).err().map(|error| error.fault)
    }

    fn value_of(line: &str) -> String {
        let text = format!("[s]\n{line}\n");
        let sections = read(text.as_bytes()).unwrap();
        sections[0].entries[0].value.clone().into_owned()
    }

    #[test]
    fn reads_sections_and_both_kinds_of_assignment() {
        let sections = read(b"; who\n[a]\nk = v\nexten => 1,1,NoOp()\n\n[b]\n").unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].value("k"), Some("v"));
        assert_eq!(sections[0].value("exten"), Some("1,1,NoOp()"));
        assert_eq!((sections[1].name, sections[1].line), ("b", 6));
    }

    #[test]
    fn reads_values_as_asterisk_does() {
        assert_eq!(value_of(r"k = a\;b"), "a;b");
        assert_eq!(value_of(r"k = a\\;b"), r"a\;b");
        assert_eq!(value_of(r"k = \;\;"), ";;");
        assert_eq!(value_of("k = a ; comment"), "a");
        assert_eq!(value_of("k = >x"), ">x");
        assert_eq!(value_of("k =>x"), "x");
        assert_eq!(value_of("k = a=b"), "a=b");
        assert_eq!(value_of(r"k = --\;"), "--;");
    }

    #[test]
    fn refuses_what_asterisk_would_lose_in_silence() {
        for (text, expected) in [
            ("k = v\n", Fault::OutsideSection),
            ("[1001\n", Fault::SectionHeader),
            ("[]\n", Fault::SectionHeader),
            ("[a](!)\n", Fault::SectionHeader),
            ("[a](b)\n", Fault::SectionHeader),
            ("[a](+)\n", Fault::SectionHeader),
            ("[a;b]\n", Fault::SectionHeader),
            ("[s]\naors 1001\n", Fault::NoAssignment),
            ("[s]\n= x\n", Fault::NoAssignment),
            ("[s]\nk += v\n", Fault::Append),
            ("[s]\n#include x\n", Fault::Directive),
            ("[s]\n#exec /bin/x\n", Fault::Directive),
            ("[s]\nk = a\0b\n", Fault::ControlCharacter),
            ("[s]\nk = a\rb\n", Fault::ControlCharacter),
            ("[s]\nk = a\u{7f}\n", Fault::ControlCharacter),
            ("[s]\nk = a--;b\n", Fault::BlockComment),
            ("[s]\n;-- x\n", Fault::BlockComment),
        ] {
            assert_eq!(fault(text), Some(expected), "{text:?}");
        }
        assert_eq!(
            fault(&format!("[{}]\n", "m".repeat(80))),
            Some(Fault::SectionHeader)
        );
        assert_eq!(
            fault(&format!("[s]\nk = {}\n", "v".repeat(8191))),
            Some(Fault::TooLong)
        );
        for (bytes, line, fault) in [
            (&b"[s]\nk = \xff\n"[..], 2, Fault::NotUtf8),
            (b"\xff", 1, Fault::NotUtf8),
            (b"[s]\nk = v\n\xc3", 3, Fault::NotUtf8),
            (b"[s]\nk v\nk = \xff\n", 2, Fault::NoAssignment),
            (b"[s]\nk = a\tb\nk = \xff\n", 2, Fault::ControlCharacter),
        ] {
            assert_eq!(read(bytes), Err(ReadError { line, fault }), "{bytes:?}");
        }
    }
}
