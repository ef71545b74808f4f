//! JSON cut down while it is read: what nobody asks for is never in memory.
//!
//! `text -> Keep -> Value`. Of a pod's twenty kilobytes a few hundred bytes are used. Something of another shape than
//! expected is kept as it is: whether it can be read is for `convert` to say.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// What is kept of a value.
#[derive(Debug)]
pub(super) enum Keep {
    /// All of it.
    All,
    /// Of a mapping, these fields; of a list, them of each item.
    Fields(&'static [(&'static str, Keep)]),
}

impl Keep {
    fn of(&self, field: &str) -> Option<&Keep> {
        match self {
            Keep::All => Some(&Keep::All),
            Keep::Fields(fields) => fields.iter().find(|(name, _)| *name == field).map(|(_, keep)| keep),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Keep {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Keep {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.of(&name) {
                Some(keep) => {
                    let value = map.next_value_seed(keep)?;
                    fields.insert(name.into_owned(), value);
                }
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(fields))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn trimmed(keep: &Keep, value: &Value) -> Value {
        let text = value.to_string();
        keep.deserialize(&mut serde_json::Deserializer::from_str(&text)).unwrap()
    }

    const KEEP: Keep = Keep::Fields(&[
        ("name", Keep::All),
        ("items", Keep::Fields(&[("ports", Keep::Fields(&[("name", Keep::All)]))])),
    ]);

    #[test]
    fn what_is_not_named_is_gone_at_every_depth() {
        let value = json!({"name": {"a": [1, -1, 1.5, null, true]}, "big": {"x": 1},
            "items": [{"ports": [{"name": "http", "number": 1}], "image": "i"}, {}]});
        let wanted = json!({"name": {"a": [1, -1, 1.5, null, true]}, "items": [{"ports": [{"name": "http"}]}, {}]});
        assert_eq!(trimmed(&KEEP, &value), wanted);
    }

    #[test]
    fn what_has_another_shape_stays_for_others_to_judge() {
        let value = json!({"items": "text"});
        assert_eq!(trimmed(&KEEP, &value), value);
        assert_eq!(trimmed(&KEEP, &json!(7)), json!(7));
    }
}
