//! Shapes: what a field holds and what the API wants it to hold.
//!
//! [`Reader`] collects findings while values are read. As in the server's decoder, `null` is an absent field, a wrong type
//! is an error, and a field that the API does not know is one too (strict field validation, the default of kubectl).

use crate::{
    finding::{Finding, Severity, place::Place, printable},
    policy::model::Name,
};
use serde_json::Value;
use smallvec::SmallVec;

/// The most findings about one object.
const MAX_FINDINGS: usize = 200;
/// How many names are remembered.
const NAMES: usize = 8;

/// What is wrong so far.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) findings: Vec<Finding>,
    /// How many findings leave a part of the object without a meaning.
    pub(super) unreadable: usize,
    /// The first names that were read: an object says the same few again and again.
    names: SmallVec<[Name; NAMES]>,
}

/// How a mapping is called, which fields it has, and how to write it.
pub(super) struct Shape<const N: usize> {
    pub(super) what: &'static str,
    pub(super) fields: [&'static str; N],
    pub(super) example: &'static str,
}

impl Reader {
    /// A finding for which a server refuses the object, and which leaves what it speaks of without a meaning.
    pub(super) fn refuse(&mut self, rule: &'static str, path: &Place<'_>, message: String, help: impl Into<String>) {
        self.unreadable += 1;
        self.ambiguous(rule, path, message, help);
    }

    /// A finding for which a server refuses the object, though it has one meaning only.
    pub(super) fn ambiguous(&mut self, rule: &'static str, path: &Place<'_>, message: String, help: impl Into<String>) {
        if self.is_full() {
            return;
        }
        let (path, message, help) = (path.path(), printable(&message).into_owned(), help.into());
        self.findings.push(Finding { rule, severity: Severity::Error, path, message, help, server: true });
    }

    /// Whether there are so many findings that more would help nobody, and only cost whoever reads them.
    fn is_full(&self) -> bool {
        self.findings.len() >= MAX_FINDINGS
    }

    /// A field that holds something else than the API wants.
    pub(super) fn wrong_type(&mut self, value: &Value, path: &Place<'_>, wanted: &str, help: impl Into<String>) {
        let message = format!("{} must be {wanted}, and it is {}", path.path(), describe(value));
        self.refuse("wrong-type", path, message, help);
    }

    /// The fields of a mapping as the shape lists them, null those that it does not have, and all of them if it is null; `None` if
    /// it is something else.
    pub(super) fn mapping<'a, const N: usize>(
        &mut self,
        value: &'a Value,
        path: &Place<'_>,
        shape: &Shape<N>,
    ) -> Option<[&'a Value; N]> {
        let mut known = [&Value::Null; N];
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Some(known),
            other => {
                self.wrong_type(other, path, "a mapping", format!("write {}", shape.example));
                return None;
            }
        };
        for (name, value) in fields {
            if let Some(at) = shape.fields.iter().position(|field| field == name) {
                known[at] = value;
            } else if self.is_full() {
                self.unreadable += 1;
            } else {
                let message = format!("{} has no field {}", shape.what, cut(name));
                let help = super::unknown::help(name, value, &shape.fields);
                self.refuse("unknown-field", &path.field(name), message, help);
            }
        }
        Some(known)
    }

    /// The items of a list; `None` if it is null or something else.
    pub(super) fn list<'a>(&mut self, value: &'a Value, path: &Place<'_>, example: &str) -> Option<&'a [Value]> {
        match value {
            Value::Array(items) => Some(items),
            Value::Null => None,
            other => {
                self.wrong_type(other, path, "a list", format!("write {example}"));
                None
            }
        }
    }

    /// A text; null is the empty one, as Go reads it.
    pub(super) fn string<'a>(&mut self, value: &'a Value, path: &Place<'_>) -> Option<&'a str> {
        match value {
            Value::String(text) => Some(text),
            Value::Null => Some(""),
            other => {
                self.wrong_type(other, path, "a string", in_quotes(other));
                None
            }
        }
    }

    /// A text as a name.
    pub(super) fn name(&mut self, text: &str) -> Name {
        if let Some(known) = self.names.iter().find(|known| known.as_ref() == text) {
            return known.clone();
        }
        let name = Name::from(text);
        if self.names.len() < NAMES {
            self.names.push(name.clone());
        }
        name
    }

    /// A mapping of texts to texts, as labels are: each pair that can be read.
    pub(super) fn strings<'a>(
        &mut self,
        value: &'a Value,
        path: &Place<'_>,
        mut each: impl FnMut(&mut Self, &'a str, &'a str),
    ) {
        let Value::Object(fields) = value else {
            if !value.is_null() {
                let name = path.path().to_string();
                let name = name.rsplit('.').next().unwrap_or_default();
                self.wrong_type(value, path, "a mapping of keys to values", format!("write {name}: {{app: web}}"));
            }
            return;
        };
        for (key, value) in fields {
            if let Some(text) = self.string(value, &path.field(key)) {
                each(self, key, text);
            }
        }
    }

    /// A number of 32 bits, which is what the API has for ports.
    pub(super) fn int32(&mut self, value: &Value, path: &Place<'_>) -> Option<i32> {
        let number = value.as_i64().and_then(|n| i32::try_from(n).ok());
        if number.is_none() {
            let help = match value {
                Value::String(text) if text.parse::<u16>().is_ok() => format!("write {text}, without quotes"),
                _ => "write a whole number from 1 to 65535".to_owned(),
            };
            self.wrong_type(value, path, "a whole number", help);
        }
        number
    }
}

/// A field that is there and not null.
pub(super) fn there(value: &Value) -> Option<&Value> {
    Some(value).filter(|value| !value.is_null())
}

/// What a value is, in words. Long ones are cut.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Bool(flag) => format!("the truth value {flag}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the string {}", cut(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(fields) => match fields.keys().next() {
            Some(key) if fields.len() == 1 => format!("the mapping {{{}: …}}", cut(key)),
            _ => "a mapping".to_owned(),
        },
    }
}

/// A text in quotes, cut so that a line stays one.
pub(super) fn cut(text: &str) -> String {
    let short: String = text.chars().take(64).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{text:?}") }
}

fn in_quotes(value: &Value) -> String {
    match value {
        Value::Bool(_) => {
            format!("quote it: \"{value}\" (YAML reads yes, no, on, off, y and n without quotes as true or false)")
        }
        // How it was written is lost in JSON.
        Value::Number(number) if number.is_f64() => {
            "quote it as it was written (without quotes YAML makes a number of it: 1.10 is 1.1)".to_owned()
        }
        Value::Number(_) => format!("quote it: \"{value}\" (without quotes YAML makes a number of it: 0777 is 511)"),
        Value::Object(fields) if fields.len() == 1 => match fields.iter().next() {
            Some((key, Value::Null)) => format!("write {key}, without the colon"),
            Some((key, other)) => format!("write one word: {key}, or {}", describe(other)),
            None => String::new(),
        },
        Value::Array(items) => match &items[..] {
            [Value::String(only)] => format!("write {only}, without a list around it"),
            _ => "write one string, not a list".to_owned(),
        },
        _ => "write one string".to_owned(),
    }
}
