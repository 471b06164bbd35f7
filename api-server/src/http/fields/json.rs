//! Reading JSON strictly, into no more memory than there is for it.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Reads JSON and refuses a key that occurs twice in an object: readers differ in which of the two
/// they take, so that what one checks is not what another one uses.
pub(in crate::http) fn parse_json(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse_json_within(&Room::new(ROOM_BYTES), bytes)
}

/// Likewise, as one of several that share the memory which their values may take.
pub(in crate::http) fn parse_json_within(
    room: &Room,
    bytes: &[u8],
) -> Result<Value, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Unique(room).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Most memory for the values of a body, beside its text: small ones need far more than they are long,
/// `[0],` for one forty times as much. What 20,000 users with their devices need is half of it.
const ROOM_BYTES: usize = 192 * 1024 * 1024;

// What a value takes on a machine of 64 bits, with what the allocator adds.
const VALUE_BYTES: usize = 32;
const STRING_BYTES: usize = VALUE_BYTES + 32;
/// A list that is not empty has room for four.
const LIST_BYTES: usize = VALUE_BYTES + 4 * VALUE_BYTES;
/// The first node of a map has room for eleven keys and values.
const OBJECT_BYTES: usize = VALUE_BYTES + 640;
const KEY_BYTES: usize = 32;

/// What is left of the memory that values may take, in bytes.
#[derive(Debug)]
pub(in crate::http) struct Room(Cell<usize>);

impl Room {
    /// So many bytes.
    pub(in crate::http) const fn new(bytes: usize) -> Self {
        Self(Cell::new(bytes))
    }

    /// Whether something found no room.
    pub(in crate::http) const fn is_exhausted(&self) -> bool {
        self.0.get() == 0
    }

    fn take<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        let left = self.0.get().saturating_sub(bytes);
        self.0.set(left);
        if left == 0 {
            return Err(E::custom("too many values: divide it"));
        }
        Ok(())
    }
}

/// Reads values into the room for them.
#[derive(Clone, Copy)]
struct Unique<'a>(&'a Room);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.0.take(VALUE_BYTES)?;
        Ok(Value::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.0.take(VALUE_BYTES)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.0.take(VALUE_BYTES)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.0.take(VALUE_BYTES)?;
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.0.take(VALUE_BYTES)?;
        let number = Number::from_f64(value).ok_or_else(|| E::custom("number out of range"))?;
        Ok(Value::Number(number))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.0.take(STRING_BYTES)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.0.take(STRING_BYTES)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.take(LIST_BYTES)?;
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        self.0.take(OBJECT_BYTES)?;
        let mut object = Map::new();
        while let Some(key) = pairs.next_key::<String>()? {
            self.0.take(KEY_BYTES)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom("a key occurs twice in one object"));
            }
            let value = pairs.next_value_seed(self)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}
