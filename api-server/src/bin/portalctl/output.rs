//! What is said: on standard output what was asked for, on standard error everything else.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::rc::Rc;

use clap::ColorChoice;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use time::OffsetDateTime;
use time::macros::format_description;

use crate::failure::Failure;

/// Standard output and standard error.
#[derive(Clone)]
pub(crate) struct Output {
    color: bool,
    color_of_errors: bool,
    json: bool,
    state: Rc<State>,
}

#[derive(Default)]
struct State {
    closed: Cell<bool>,
    error: RefCell<Option<io::Error>>,
}

impl Output {
    pub(crate) fn new(color: ColorChoice, json: bool) -> Self {
        // https://no-color.org: when it is set and not empty.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let wanted = |terminal: bool| match color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && !refused && !dumb,
        };
        Self {
            color: wanted(io::stdout().is_terminal()),
            color_of_errors: wanted(io::stderr().is_terminal()),
            json,
            state: Rc::default(),
        }
    }

    /// Whether the portal's JSON is wanted in place of words.
    pub(crate) const fn json(&self) -> bool {
        self.json
    }

    /// Whether nobody reads standard output any more, as after `| head`.
    pub(crate) fn closed(&self) -> bool {
        self.state.closed.get()
    }

    /// A line on standard output.
    pub(crate) fn line(&self, text: &str) {
        self.raw(format!("{text}\n").as_bytes());
    }

    /// Bytes on standard output. What cannot be written fails the command at its end: what it does
    /// at the portal goes on.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        if self.closed() || self.state.error.borrow().is_some() {
            return;
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.state.closed.set(true),
            Err(error) => *self.state.error.borrow_mut() = Some(error),
        }
    }

    /// JSON as the portal gave it, and the end of the line.
    pub(crate) fn reply(&self, body: &[u8]) {
        let mut bytes = body.to_vec();
        if !bytes.ends_with(b"\n") {
            bytes.push(b'\n');
        }
        self.raw(&bytes);
    }

    /// A line on standard error.
    #[expect(clippy::unused_self, reason = "the one way to say something")]
    pub(crate) fn note(&self, text: &str) {
        // Whoever closed standard error wants to hear nothing.
        writeln!(io::stderr().lock(), "{text}").ok();
    }

    /// Text for standard output in a colour, given as the parameters of SGR.
    pub(crate) fn paint(&self, sgr: &str, text: &str) -> String {
        painted(self.color, sgr, text)
    }

    /// Likewise for standard error.
    pub(crate) fn err_paint(&self, sgr: &str, text: &str) -> String {
        painted(self.color_of_errors, sgr, text)
    }

    /// A table with one line for each row.
    pub(crate) fn table(&self, headers: &[&str], rows: Vec<Vec<String>>) {
        self.line(&columns(Some(headers), rows));
    }

    /// Something that is said before a question: on standard error where that for programs goes to
    /// standard output, and then only to somebody who can be asked. A program reads a problem there.
    pub(crate) fn aside(&self, text: &str) {
        if self.json {
            if io::stdin().is_terminal() {
                self.note(text);
            }
        } else {
            self.line(text);
        }
    }

    /// Likewise, a table.
    pub(crate) fn table_aside(&self, headers: &[&str], rows: Vec<Vec<String>>) {
        self.aside(&columns(Some(headers), rows));
    }

    /// Names and values; those without a value are left out.
    pub(crate) fn details(&self, pairs: Vec<(&str, String)>) {
        let known = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        let rows = known.map(|(name, value)| vec![name.to_owned(), value]);
        self.line(&columns(None, rows.collect()));
    }

    /// # Errors
    /// Standard output could not be written, for another reason than that nobody reads it.
    pub(crate) fn finish(&self) -> Result<(), Failure> {
        match self.state.error.take() {
            Some(error) => Err(Failure::other(format!("standard output: {error}"))),
            None => Ok(()),
        }
    }
}

fn painted(color: bool, sgr: &str, text: &str) -> String {
    if color {
        format!("\u{1b}[{sgr}m{text}\u{1b}[0m")
    } else {
        text.to_owned()
    }
}

fn columns(headers: Option<&[&str]>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    // Nothing is wrapped or cut: a line is a row, also for `grep` and `awk`.
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    if let Some(headers) = headers {
        table.set_header(headers.iter().copied());
    }
    for row in rows {
        table.add_row(row.iter().map(|text| one_line(text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Text of others without what would command a terminal: control characters and those that turn the
/// direction of writing are shown as escapes.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for char in text.chars() {
        let turns = matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if char != '\n' && (char.is_control() || turns) {
            // Writing to a String cannot fail.
            write!(clean, "{}", char.escape_default()).ok();
        } else {
            clean.push(char);
        }
    }
    clean
}

/// Likewise, and in one line whatever it holds.
pub(crate) fn one_line(text: &str) -> String {
    clean(text).replace('\n', " ⏎ ")
}

/// A time in UTC, to the second.
pub(crate) fn time(at: OffsetDateTime) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    at.to_offset(time::UtcOffset::UTC)
        .format(format)
        .unwrap_or_default()
}

/// What there is, or nothing.
pub(crate) fn or_nothing<T: ToString>(value: Option<&T>) -> String {
    value.map(ToString::to_string).unwrap_or_default()
}

/// A truth in words.
pub(crate) fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_commanded_by_others() {
        assert_eq!(clean("a\u{1b}[2Jb\u{9b}c\r\n"), "a\\u{1b}[2Jb\\u{9b}c\\r\n");
        assert_eq!(clean("Žluťoučký 電話 👍"), "Žluťoučký 電話 👍");
        assert_eq!(clean("x\u{202e}y"), "x\\u{202e}y");
        assert_eq!(one_line("a\u{1b}[2J\nb"), "a\\u{1b}[2J ⏎ b");
    }

    #[test]
    fn a_row_is_a_line() {
        let rows = vec![
            vec!["1000".to_owned(), "Ann".to_owned()],
            vec!["1001".to_owned(), "a\nb".repeat(80)],
        ];
        let table = columns(Some(&["EXTENSION", "NAME"]), rows);
        assert_eq!(table.lines().count(), 3, "{table}");
        assert!(
            table.starts_with("EXTENSION  NAME\n1000       Ann\n"),
            "{table}"
        );
    }
}
