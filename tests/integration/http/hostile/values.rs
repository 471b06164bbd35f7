//! What is sent where something decent is expected.

use std::fmt;

use serde_json::Value;

/// What stands in a body until the hostile value takes its place.
const PLACE: &str = "@@here@@";

/// A hostile value.
pub(in crate::http) struct Hostile {
    /// As it stands in a body.
    pub(in crate::http) text: String,
    /// What that means; `None` when it is no JSON.
    pub(in crate::http) json: Option<Value>,
}

impl Hostile {
    /// `body` with this in `field`.
    pub(in crate::http) fn within(&self, body: &Value, field: &str) -> anyhow::Result<String> {
        let mut body = body.clone();
        let mut place = &mut body;
        for name in field.split('.') {
            if !place[name].is_object() {
                place[name] = serde_json::json!({});
            }
            place = &mut place[name];
        }
        *place = Value::from(PLACE);
        let text = serde_json::to_string(&body)?;
        Ok(text.replace(&format!("\"{PLACE}\""), &self.text))
    }
}

impl fmt::Display for Hostile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start: String = self.text.chars().take(60).collect();
        f.write_str(&start)
    }
}

/// Texts that some parser on the way treats specially.
const TEXTS: &[&str] = &[
    // Nothing, blanks, what ends lines and texts.
    "",
    "   ",
    " a\t",
    "a\0b",
    "a\u{1}b",
    "a\u{7f}b",
    "a\u{85}b",
    "a\u{2028}b",
    "a\nb",
    "a\r\n[1001]\r\ntype=endpoint",
    "a\n[evil](!)\n#exec touch /needle",
    // Asterisk's configuration: comments, sections, directives, assignments.
    ";",
    "a; b",
    ";--",
    "x --; y",
    "\\;--",
    "[1001]",
    "](+)",
    "#exec touch /needle",
    "#include /etc/passwd",
    "= x",
    "=> x",
    ">",
    "type=endpoint",
    "exten => 1001,1,System(touch /needle)",
    // Evaluation.
    "${SHELL(touch /needle)}",
    "$[1+1]${EXTEN}",
    "$(touch /needle)`touch /needle`",
    "%s%n{{7*7}}<b>&amp;",
    // Quotes and separators.
    "\"quoted\"",
    "a\" <1002>",
    "x> , <sip:evil@x",
    "end\\",
    ",|&/()@^~*!?",
    "1000&PJSIP/1001",
    "+1,1002",
    "'; drop table \"user\"; --",
    "../../etc/passwd",
    // Other scripts, from right to left, combined, unseen, outside Unicode's words.
    "Žluťoučký kůň",
    "עברית abc",
    "e\u{301}\u{301}\u{301}",
    "a\u{200b}b\u{feff}c",
    "👩‍👩‍👧",
    "\u{fffe}\u{10ffff}",
    "ſKİ",
    // Numbers and words as text.
    "1000",
    "-1",
    "1e3",
    "１０００",
    "true",
    "null",
    "nan",
];

/// What is no text, or none that can be written above. The last ones are no JSON.
const OTHERS: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-1",
    "-0.0",
    "1.5",
    "1e3",
    "1e308",
    "4294967296",
    "99999999999999999999",
    "[]",
    "{}",
    "[null]",
    "[\"ulaw\",\"ulaw\"]",
    "[[\"ulaw\"]]",
    "{\"\":null}",
    "{\"a\":\"\\n[x]\\u0001\"}",
    "{\"udp\":\"x\\n[y]\"}",
    "{\"__proto__\":{\"a\":1}}",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "1e400",
    "{\"x\":1,\"x\":2}",
    "nan",
    "'a'",
    "01",
];

/// All of them.
pub(in crate::http) fn hostile() -> Vec<Hostile> {
    let texts = TEXTS.iter().map(|text| Value::from(*text).to_string());
    let long = [255, 4_096, 30_000, 1_000_000].map(|length| format!("\"{}\"", "x".repeat(length)));
    let wide = ["é", "😀", ";", "\\\\"].map(|text| format!("\"{}\"", text.repeat(100)));
    let deep = [20, 100, 10_000].map(|depth| {
        let (open, close) = ("{\"a\":".repeat(depth), "}".repeat(depth));
        format!("{open}1{close}")
    });
    let all = texts
        .chain(OTHERS.iter().map(|&text| text.to_owned()))
        .chain(long)
        .chain(wide)
        .chain(deep);
    all.map(|text| Hostile {
        json: read(&text),
        text,
    })
    .collect()
}

/// The meaning of a text, if it is JSON in which no key occurs twice.
fn read(text: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    (text != "{\"x\":1,\"x\":2}").then_some(value)
}
