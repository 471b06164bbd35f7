//! The tenant file: YAML here, JSON to the portal.
//!
//! What people write without quotes stays what they wrote: `+420123456789` and `0042` are texts,
//! because as numbers they would lose what makes them a telephone number, and so are `no` and `on`.

use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap as _, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

/// A value of JSON whose fields keep their order.
#[derive(Debug)]
enum Ordered {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

/// A value of YAML, with where it stands.
enum Node {
    Plain(Ordered),
    List(Vec<Spanned<Self>>),
    Map(Vec<(String, Spanned<Self>)>),
}

/// How much aliases and merges may repeat, in events of the parser: a short file must not become an
/// endless one.
const REPEATED_MAX: usize = 500_000;

/// Reads YAML.
///
/// # Errors
/// In words, with the place.
pub(super) fn to_json(text: &str) -> Result<Value, String> {
    // What is written out may be as much as the file holds, whose owner runs this: no byte comes to
    // more than three events.
    let written = text.len().saturating_mul(3).saturating_add(100);
    let most = written.saturating_add(REPEATED_MAX);
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: most,
            max_nodes: most,
            max_aliases: written,
            max_anchors: written,
            max_merge_keys: written,
            // One list of codecs may be that of every device.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATED_MAX,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    let root: Spanned<Node> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| said(&error))?;
    value(root, text)
}

/// What is wrong with it, for whoever wrote the file: nothing about options of the parser.
fn said(error: &serde_saphyr::Error) -> String {
    error.render_with_formatter(&serde_saphyr::UserMessageFormatter)
}

fn value(node: Spanned<Node>, source: &str) -> Result<Value, String> {
    match node.value {
        // Where it was written, which is elsewhere when an alias or a merge repeats it.
        Node::Plain(Ordered::Number(number)) => self::number(number, node.defined, source),
        Node::Plain(Ordered::Bool(truth)) => Ok(Value::Bool(truth)),
        Node::Plain(Ordered::Text(text)) => Ok(Value::String(text)),
        Node::Plain(_) => Ok(Value::Null),
        Node::List(list) => list.into_iter().map(|node| value(node, source)).collect(),
        Node::Map(map) => {
            let fields = map
                .into_iter()
                .map(|(name, node)| Ok((name, value(node, source)?)));
            fields.collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
    }
}

/// A number, or the text it is when the number is not all of it.
fn number(number: Number, at: Location, source: &str) -> Result<Value, String> {
    let span = at.span();
    let start = span.byte_offset().and_then(|at| usize::try_from(at).ok());
    let length = span.byte_len().and_then(|len| usize::try_from(len).ok());
    let written = start
        .zip(length)
        .and_then(|(at, len)| source.get(at..at + len));
    let refused = |why: &str| Err(format!("line {}: {why}", at.line()));
    let Some(written) = written.map(str::trim) else {
        return refused("a number that cannot be told from a text: put it in quotes");
    };
    if written.starts_with('+') {
        return Ok(Value::String(written.to_owned()));
    }
    let digits = written.trim_start_matches('-');
    if number.is_f64() && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return refused(&format!(
            "{written} is too large for a number: put it in quotes if it is a text"
        ));
    }
    Ok(Value::Number(number))
}

/// Writes JSON as YAML, the fields in their order.
///
/// # Errors
/// It is no JSON.
pub(super) fn of_json(json: &[u8]) -> Result<String, String> {
    let ordered: Ordered = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    serde_saphyr::to_string(&ordered).map_err(|error| error.to_string())
}

/// Scalars are the same in both.
macro_rules! scalars {
    ($wrap:expr) => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a value")
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Null))
        }
        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Null))
        }
        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Bool(value)))
        }
        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Number(value.into())))
        }
        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Number(value.into())))
        }
        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            let number = Number::from_f64(value);
            Ok($wrap(number.map_or(Ordered::Null, Ordered::Number)))
        }
        fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
            Ok($wrap(Ordered::Text(value.to_owned())))
        }
    };
}

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Ordered;
            scalars!(std::convert::identity);

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Ordered, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Ordered::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ordered, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Ordered::Map(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;
            scalars!(Node::Plain);

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(element) = seq.next_element()? {
                    list.push(element);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Node::Map(fields))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Number(number) => number.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => list.serialize(serializer),
            Self::Map(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_stays_what_it_is() {
        let text = "
tenant: {name: no, ext_min: 1000, metadata: {hotline: +420800123456, code: 0042, on: off}}
users:
  - email: ann@example.com
    name: 'yes'
    dnd: false
    outbound_caller_id: +420123456789
    call_forward:
      always: null
      busy: \"+420 1\"
      no_answer: ~
      delay_seconds: +25
    devices:
      - {label: Desk, codecs: [ulaw, alaw], share: 0.5}
  - email: bob@example.com
    name: |
      Bob
";
        let expected = json!({
            "tenant": {"name": "no", "ext_min": 1000,
                "metadata": {"hotline": "+420800123456", "code": "0042", "on": "off"}},
            "users": [
                {"email": "ann@example.com", "name": "yes", "dnd": false,
                 "outbound_caller_id": "+420123456789",
                 "call_forward": {"always": null, "busy": "+420 1", "no_answer": null,
                    "delay_seconds": "+25"},
                 "devices": [{"label": "Desk", "codecs": ["ulaw", "alaw"], "share": 0.5}]},
                {"email": "bob@example.com", "name": "Bob\n"},
            ],
        });
        assert_eq!(to_json(text).unwrap(), expected);
    }

    #[test]
    fn what_is_repeated_is_what_was_written() {
        let text = "
a: &number +420123456789
b: *number
c: &all {n: +420123456780, m: 7, l: [+1, 2]}
d: {<<: *all, k: +421}
e: *all
f: !!str 5
";
        let all = json!({"n": "+420123456780", "m": 7, "l": ["+1", 2]});
        let mut merged = all.clone();
        merged["k"] = json!("+421");
        let expected = json!({
            "a": "+420123456789", "b": "+420123456789", "c": all, "d": merged, "e": all, "f": "5",
        });
        assert_eq!(to_json(text).unwrap(), expected);
    }

    #[test]
    fn a_number_is_not_rounded() {
        let text = "a: 18446744073709551615\nb: -9223372036854775808\nc: 1.5e3\n";
        let expected = json!({"a": u64::MAX, "b": i64::MIN, "c": 1500.0});
        assert_eq!(to_json(text).unwrap(), expected);
        for large in ["18446744073709551616", "-9223372036854775809"] {
            let said = to_json(&format!("a: 1\nb: {large}\n")).unwrap_err();
            assert!(said.contains("line 2") && said.contains(large), "{said}");
        }
        let quoted = "a: '18446744073709551616'";
        assert_eq!(to_json(quoted).unwrap()["a"], "18446744073709551616");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let json = json!({
            "name": "no", "a": "yes", "b": "null", "c": "~", "d": "", "e": "1000", "f": "0x10",
            "g": "+420123456789", "h": "1e3", "i": " x ", "j": "a: b", "k": "- a", "l": "#x",
            "m": "line\nline", "n": "'\"", "o": [], "p": {}, "q": [null, true, 1, -1, 0.25],
            "r": "on", "s": "0042", "t": "1_000", "u": "2026-01-01", "v": "Žluťoučký", "w": ".inf",
            "x": "*a", "y": "&a", "z": "!t", "aa": "{x}", "bb": "@x", "cc": "%x", "dd": "\t",
            "ee": "|", "ff": "true", "gg": "12:30:45", "hh": "---", "ii": "\u{7}", "jj": "=",
        });
        let yaml = of_json(json.to_string().as_bytes()).unwrap();
        assert_eq!(to_json(&yaml).unwrap(), json, "{yaml}");
    }

    #[test]
    fn fields_keep_their_order() {
        let yaml =
            of_json(br#"{"tenant":{"name":"A","ext_min":1},"users":[{"email":"a","name":"b"}]}"#);
        let yaml = yaml.unwrap();
        let at = |name: &str| yaml.find(name).unwrap();
        assert!(
            at("tenant") < at("ext_min") && at("ext_min") < at("users"),
            "{yaml}"
        );
        assert!(at("email") < at("name: b"), "{yaml}");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let said = to_json("a: 1\na: 2\n").unwrap_err();
        assert!(said.contains("duplicate") && said.contains('2'), "{said}");
        assert!(to_json("users: [").is_err());
    }

    #[test]
    fn a_large_tenant_is_read_and_a_bomb_is_not() {
        let user = "  - [a, b, c, d, e, f, g, h, i, j, k]\n".repeat(25_000);
        let read = to_json(&format!("users:\n{user}")).unwrap();
        assert_eq!(read["users"][24_999][10], "k");

        let shared = "  - {codecs: *all}\n".repeat(1_000);
        let shared = format!("first: &all [ulaw, alaw]\nusers:\n{shared}");
        let read = to_json(&shared).unwrap();
        assert_eq!(read["users"][999], json!({"codecs": ["ulaw", "alaw"]}));

        let mut bomb = vec!["a0: &a0 [x, x, x, x, x, x, x, x, x, x]".to_owned()];
        for level in 1..12 {
            let before = format!("*a{}, ", level - 1).repeat(10);
            bomb.push(format!("a{level}: &a{level} [{before}]"));
        }
        let bomb = bomb.join("\n");
        let said = to_json(&bomb).unwrap_err();
        assert!(said.contains("alias") || said.contains("anchor"), "{said}");
    }
}
