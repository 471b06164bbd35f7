//! Reading CSV as spreadsheets write it: with or without a byte order mark, divided by commas,
//! semicolons or tabs, with empty lines at the end.

use csv::StringRecord;
use encoding_rs::{Encoding, UTF_8};

use super::shape;
use crate::domain::bulk::ENTRIES_MAX;
use crate::http::fields::FieldError;

/// What cells may be divided by.
const SEPARATORS: [u8; 3] = [b',', b';', b'\t'];

/// A table with a head.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Sheet {
    /// The names in the head, in lower case.
    pub(in crate::http) head: Vec<String>,
    /// The other lines that hold anything.
    pub(in crate::http) lines: Vec<Line>,
}

/// A line of a table.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Line {
    /// Where it begins in the file, the first line being 1.
    pub(in crate::http) number: u64,
    /// Its cells up to the last one that holds anything; there may be fewer than in the head, or more.
    pub(in crate::http) cells: StringRecord,
}

/// Reads a table. Without a byte order mark it is in `charset`, and in UTF-8 when that is not said.
///
/// # Errors
/// It cannot be read; `body` or the line is named.
pub(in crate::http) fn read(bytes: &[u8], charset: Option<&str>) -> Result<Sheet, FieldError> {
    let text = decoded(bytes, charset)?;
    let (said, skipped, text) = match said(&text)? {
        Some((separator, rest)) => (Some(separator), 1, rest),
        None => (None, 0, text.as_str()),
    };
    let separator = said.unwrap_or_else(|| separator(text));
    shape::check(text, separator, skipped + 1)?;
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(separator)
        .from_reader(text.as_bytes());
    let mut head = None;
    let mut lines = Vec::new();
    let mut count = Count::default();
    let mut record = StringRecord::new();
    let unreadable = |_| fault("body", "malformed", "cannot be read as CSV");
    while reader.read_record(&mut record).map_err(unreadable)? {
        let holds_something = |(_, cell): &(usize, &str)| !cell.trim().is_empty();
        let Some((last, _)) = record.iter().enumerate().filter(holds_something).last() else {
            continue;
        };
        let at = record.position().map_or(0, csv::Position::byte);
        let number = count.up_to(text, at) + skipped;
        let cells = record.iter().take(last + 1);
        if head.is_none() {
            head = Some(cells.map(|cell| cell.trim().to_lowercase()).collect());
        } else if lines.len() == ENTRIES_MAX {
            let message = "a table may have at most 20000 lines: divide it";
            return Err(fault(&format!("line {number}"), "too_many", message));
        } else {
            let cells = cells.collect();
            lines.push(Line { number, cells });
        }
    }
    let head =
        head.ok_or_else(|| fault("body", "empty", "must begin with the names of columns"))?;
    Ok(Sheet { head, lines })
}

/// What a first line like `sep=;`, Excel's own, says that cells are divided by, and what follows that line.
///
/// # Errors
/// There is such a line, and it does not say it.
fn said(text: &str) -> Result<Option<(u8, &str)>, FieldError> {
    let (line, rest) = text.split_at(text.find(['\r', '\n']).unwrap_or(text.len()));
    let quoted = line
        .strip_prefix('"')
        .and_then(|line| line.strip_suffix('"'));
    let Some((name, said)) = quoted.unwrap_or(line).split_once('=') else {
        return Ok(None);
    };
    if !name.eq_ignore_ascii_case("sep") {
        return Ok(None);
    }
    let separator = match said {
        "\t" => b'\t',
        said => match said.trim_matches(' ') {
            "," => b',',
            ";" => b';',
            "|" => b'|',
            _ => {
                let message = "sep= must be followed by a comma, a semicolon, a tab or a | and nothing \
                    else";
                return Err(fault("line 1", "malformed", message));
            }
        },
    };
    let rest = rest.strip_prefix('\r').unwrap_or(rest);
    Ok(Some((separator, rest.strip_prefix('\n').unwrap_or(rest))))
}

/// Counts the ends of lines: LF, CR, or both.
#[derive(Default)]
struct Count {
    bytes: usize,
    ends: u64,
}

impl Count {
    /// The line of what begins at a byte or, when an end of a line is there, behind it: that of a record
    /// is before the empty lines that were passed over. Never goes back.
    fn up_to(&mut self, text: &str, at: u64) -> u64 {
        let text = text.as_bytes();
        let at = usize::try_from(at).unwrap_or(usize::MAX);
        while let Some(byte) = text.get(self.bytes) {
            if self.bytes >= at && !matches!(byte, b'\r' | b'\n') {
                break;
            }
            let first_of_two = *byte == b'\r' && text.get(self.bytes + 1) == Some(&b'\n');
            self.ends += u64::from(matches!(byte, b'\r' | b'\n') && !first_of_two);
            self.bytes += 1;
        }
        self.ends + 1
    }
}

fn decoded(bytes: &[u8], charset: Option<&str>) -> Result<String, FieldError> {
    let (encoding, mark) = match (Encoding::for_bom(bytes), charset) {
        (Some((encoding, mark)), _) => (encoding, mark),
        (None, None) => (UTF_8, 0),
        (None, Some(label)) => {
            let known = Encoding::for_label(label.as_bytes());
            let message = "is no character encoding: windows-1252 and utf-16le are";
            (
                known.ok_or_else(|| fault("charset", "unknown_value", message))?,
                0,
            )
        }
    };
    let bytes = &bytes[mark..];
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
    text.map(std::borrow::Cow::into_owned).ok_or_else(|| {
        let good = std::str::from_utf8(bytes).map_or_else(|error| error.valid_up_to(), str::len);
        let line = bytes[..good].split(|byte| *byte == b'\n').count();
        let message = "is not in the encoding that the file should have: save it as CSV UTF-8, or say \
             its encoding, as in Content-Type: text/csv; charset=windows-1252";
        fault(&format!("line {line}"), "malformed", message)
    })
}

/// What stands most often in the head, outside of quotation marks.
fn separator(text: &str) -> u8 {
    let mut counts = [0; SEPARATORS.len()];
    let mut quoted = false;
    for byte in text.trim_start().bytes() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' | b'\r' if !quoted => break,
            _ if !quoted => {
                let at = SEPARATORS.iter().position(|separator| *separator == byte);
                counts[at.unwrap_or(0)] += usize::from(at.is_some());
            }
            _ => {}
        }
    }
    let most = (0..SEPARATORS.len()).rev().max_by_key(|at| counts[*at]);
    SEPARATORS[most.unwrap_or(0)]
}

pub(super) fn fault(field: &str, code: &'static str, message: &'static str) -> FieldError {
    FieldError::new(field, crate::domain::Invalid { code, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(bytes: &[u8], charset: Option<&str>) -> Vec<Vec<String>> {
        let sheet = read(bytes, charset).unwrap();
        assert_eq!(sheet.head, ["name", "email"]);
        let cells = |line: &Line| line.cells.iter().map(str::to_owned).collect();
        sheet.lines.iter().map(cells).collect()
    }

    #[test]
    fn whatever_a_spreadsheet_writes_is_the_same_table() {
        let wanted = [["Zoë, \"Z\"", "zoe@example.com"], ["Last", "l@example.com"]];
        let plain = "name,email\n\"Zoë, \"\"Z\"\"\",zoe@example.com\nLast,l@example.com";
        let semicolons =
            "Name;E-Mail\r\n\"Zoë, \"\"Z\"\"\";zoe@example.com\r\nLast;l@example.com\r\n;\r\n";
        let semicolons = semicolons.replace("E-Mail", "email ");
        let tabs = plain
            .replace(",zoe@", "\tzoe@")
            .replace(",l@", "\tl@")
            .replace("e,e", "e\te");
        let utf_16 = |text: &str| -> Vec<u8> {
            let units = std::iter::once(0xfeff).chain(text.encode_utf16());
            units.flat_map(u16::to_le_bytes).collect()
        };
        let windows = |text: &str| encoding_rs::WINDOWS_1252.encode(text).0.into_owned();
        for (bytes, charset) in [
            (plain.into(), None),
            (format!("\u{feff}{plain}\n\n").into_bytes(), None),
            (semicolons.clone().into_bytes(), None),
            (format!("sep=;\r\n{semicolons}").into_bytes(), None),
            (format!("\u{feff}sep=;\n{semicolons}").into_bytes(), None),
            (format!("SEP=; \r{semicolons}").into_bytes(), None),
            (format!("\"Sep=;\"\n{semicolons}").into_bytes(), None),
            (format!("sep=\t\r\n{tabs}").into_bytes(), None),
            (
                format!("sep=|\n{}", semicolons.replace(';', "|")).into_bytes(),
                None,
            ),
            (tabs.clone().into_bytes(), None),
            (utf_16(&tabs), None),
            (windows(&semicolons), Some("windows-1252")),
            (plain.replace('\n', "\r").into_bytes(), None),
        ] {
            assert_eq!(cells(&bytes, charset), wanted);
        }
    }

    #[test]
    fn lines_are_numbered_as_in_the_file() {
        let text = "name,email\n\n\"two\nlines\",a\nb,c";
        let numbers = |text: &str| -> Vec<u64> {
            let sheet = read(text.as_bytes(), None).unwrap();
            sheet.lines.iter().map(|line| line.number).collect()
        };
        assert_eq!(numbers(text), [3, 5]);
        assert_eq!(numbers(&text.replace('\n', "\r\n")), [3, 5]);
        assert_eq!(numbers(&text.replace('\n', "\r")), [3, 5]);
        assert_eq!(numbers("a\r\nb\r\nc\r\n"), [2, 3]);
        assert_eq!(numbers(&format!("sep=,\n{text}")), [4, 6]);
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        let fault = |bytes: &[u8], charset| {
            let error = read(bytes, charset).unwrap_err();
            (error.field, error.code.into_owned())
        };
        assert_eq!(fault(b"", None), ("body".to_owned(), "empty".to_owned()));
        assert_eq!(
            fault(b"\n;;\n", None),
            ("body".to_owned(), "empty".to_owned())
        );
        assert_eq!(
            fault(b"name\nZo\xeb\n", None),
            ("line 2".to_owned(), "malformed".to_owned())
        );
        assert_eq!(
            fault(b"name\n\"Ann\nBob\n", None),
            ("line 2".to_owned(), "malformed".to_owned())
        );
        assert_eq!(
            fault(b"sep=,\nname\n\n\"Ann\nBob\n", None),
            ("line 4".to_owned(), "malformed".to_owned())
        );
        // Whatever else is said of what divides the cells is not passed over.
        for said in [
            "sep=",
            "sep=x",
            "sep=;;",
            "sep=\"",
            "\"sep=\"",
            "sep=;,",
            "SEP=\u{a0}",
        ] {
            for end in ["\r\n", "\n", "\r", ""] {
                assert_eq!(
                    fault(format!("{said}{end}name;email{end}").as_bytes(), None),
                    ("line 1".to_owned(), "malformed".to_owned()),
                    "{said:?}"
                );
            }
        }
        assert_eq!(
            fault(b"name", Some("klingon")),
            ("charset".to_owned(), "unknown_value".to_owned())
        );
        let many = "name\n".to_owned() + &"x\n".repeat(ENTRIES_MAX + 1);
        assert_eq!(
            fault(many.as_bytes(), None),
            ("line 20002".to_owned(), "too_many".to_owned())
        );
    }
}
