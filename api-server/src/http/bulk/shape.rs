//! Whether a table is well-formed. The reader of CSV makes something of everything: of a quotation mark
//! that is missing, one cell out of all lines up to the next one. So nothing is read that leaves a doubt.

use super::sheet::fault;
use crate::http::fields::FieldError;

/// Most cells of a line: what spreadsheets leave empty to the right of a table is among them.
const CELLS_MAX: usize = 256;

/// Where in a cell something stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    Begin,
    Bare,
    Quoted,
    /// Behind a quotation mark that ends the cell, unless another one follows.
    Closed,
}

/// Looks at each cell: one that begins with a quotation mark ends with one, has each other one twice, and
/// no other cell holds any (RFC 4180).
///
/// # Errors
/// The line where the first cell begins that is otherwise, or which has too many; `first` is the number of
/// the first line.
pub(super) fn check(text: &str, separator: u8, first: u64) -> Result<(), FieldError> {
    let (mut at, mut line, mut begun, mut cells) = (At::Begin, first, first, 1);
    let mut previous = b' ';
    for byte in text.bytes() {
        let is_end = matches!(byte, b'\r' | b'\n');
        at = match at {
            At::Begin if byte == b'"' => {
                begun = line;
                At::Quoted
            }
            At::Quoted if byte == b'"' => At::Closed,
            At::Closed if byte == b'"' => At::Quoted,
            At::Quoted => At::Quoted,
            At::Bare if byte == b'"' => return Err(stray(line)),
            At::Begin | At::Bare | At::Closed if is_end => {
                cells = 1;
                At::Begin
            }
            At::Begin | At::Bare | At::Closed if byte == separator => {
                cells += 1;
                if cells > CELLS_MAX {
                    return Err(too_wide(line));
                }
                At::Begin
            }
            At::Begin | At::Bare => At::Bare,
            At::Closed => return Err(open(begun)),
        };
        // CR and LF together are one end.
        line += u64::from(is_end && (byte, previous) != (b'\n', b'\r'));
        previous = byte;
    }
    if at == At::Quoted {
        return Err(open(begun));
    }
    Ok(())
}

fn open(line: u64) -> FieldError {
    let message = "a cell that begins with a quotation mark must end with one, and have each other one \
        twice";
    fault(&format!("line {line}"), "malformed", message)
}

fn stray(line: u64) -> FieldError {
    let message = "a quotation mark stands in a cell that does not begin with one: put the cell between \
        quotation marks, and the one in it twice";
    fault(&format!("line {line}"), "malformed", message)
}

fn too_wide(line: u64) -> FieldError {
    let message = "has more cells than any table of these";
    fault(&format!("line {line}"), "too_many", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quotation_mark_begins_a_cell_ends_one_or_stands_twice() {
        for good in [
            "",
            "a,b\n",
            "\"a\",\"b\"",
            "\"\",\"\"\"\",\"a\"\"b\"\r\n\"x\ny\",\"z\"\n",
            "a'b,\n\n",
        ] {
            assert_eq!(check(good, b',', 1), Ok(()), "{good}");
        }
        for (bad, line) in [
            // One is missing, and another one much later.
            ("n,m\nx,y\n\"Ann,a\nBob,b\n\"Eve,e\n", 3),
            ("n,m\r\n\"Ann,a\r\nBob,b\"c\r\n", 2),
            ("n,m\rx\r\"Ann\r", 3),
            ("n,m\n\"a\nb\",x\nAnn \"A\" B,b\n", 4),
            ("n,m\n \"Ann\",b\n", 2),
            ("n,m\n\"Ann\" ,b\n", 2),
        ] {
            let error = check(bad, b',', 1).unwrap_err();
            assert_eq!(error.field, format!("line {line}"), "{bad}");
            assert_eq!(error.code, "malformed");
        }
        // What divides cells elsewhere is text.
        assert_eq!(check("\"a\"\t\"b,\"", b'\t', 1), Ok(()));
        assert!(check("\"a\",\"b\"", b'\t', 1).is_err());
    }

    #[test]
    fn a_line_is_as_wide_as_any_table() {
        let widest = ",".repeat(CELLS_MAX - 1);
        assert_eq!(
            check(&format!("{widest}\n\",\"{widest}\n"), b',', 1),
            Ok(())
        );
        let error = check(&format!("x\n{widest},\n"), b',', 2).unwrap_err();
        assert_eq!((error.field.as_str(), &*error.code), ("line 3", "too_many"));
    }
}
