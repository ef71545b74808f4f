//! What a scalar means: YAML 1.1 as go-yaml v2 resolves it and sigs.k8s.io/yaml writes it as JSON.
//!
//! Only plain scalars are anything but strings. `yes`, `on` and `y` are true, `0777` is 511, `1.10` is 1.1, dates stay
//! strings (go.yaml.in/yaml/v2, resolve.go).

use saphyr_parser::{ScalarStyle, Tag};
use serde_json::{Number, Value};

/// The value of a scalar, or why it has none.
pub(super) fn resolve(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    match tag {
        None if style != ScalarStyle::Plain => Ok(Value::String(text.to_owned())),
        None => plain(text),
        Some(tag) if tag.is_yaml_core_schema() => tagged(text, &tag.suffix),
        Some(_) => Ok(Value::String(text.to_owned())),
    }
}

/// The text of a key. JSON has string keys only.
pub(super) fn key(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Bool(flag) => Ok(flag.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("{other} is no key: write a name")),
    }
}

fn tagged(text: &str, tag: &str) -> Result<Value, String> {
    let value = match tag {
        "bool" | "int" | "float" | "null" => plain(text)?,
        _ => return Ok(Value::String(text.to_owned())),
    };
    let fits = match tag {
        "bool" => value.is_boolean(),
        "int" => value.is_i64() || value.is_u64(),
        "float" => value.is_number(),
        _ => value.is_null(),
    };
    if fits { Ok(value) } else { Err(format!("{text:?} is no !!{tag}: take the tag away")) }
}

fn plain(text: &str) -> Result<Value, String> {
    let value = match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" | "-.inf" | "-.Inf"
        | "-.INF" => return Err(format!("{text} is a number that JSON does not have: quote it")),
        _ if text.starts_with('.') => fraction(text).map_or_else(|| Value::String(text.to_owned()), Value::Number),
        _ if text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') => {
            let digits = text.replace('_', "");
            let number = integer(&digits).or_else(|| is_decimal(&digits).then(|| fraction(&digits)).flatten());
            number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
        }
        _ => Value::String(text.to_owned()),
    };
    Ok(value)
}

/// Go's `ParseInt(text, 0, 64)`, and `ParseUint` where that is too small.
fn integer(text: &str) -> Option<Number> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let size = u64::from_str_radix(digits, radix).ok()?;
    match negative {
        true => 0i64.checked_sub_unsigned(size).map(Number::from),
        false => Some(Number::from(size)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (text, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    all_digits(whole)
        && all_digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|e| !e.is_empty() && all_digits(e))
}

/// A float as Go writes it as JSON: one without a fraction is an integer.
fn fraction(text: &str) -> Option<Number> {
    /// 2^63: below it, an f64 without a fraction is an i64.
    const WHOLE: f64 = 9_223_372_036_854_775_808.0;
    let float: f64 = text.parse().ok().filter(|f: &f64| f.is_finite())?;
    match float.fract() == 0.0 && float.abs() < WHOLE {
        true => Some(Number::from(float as i64)),
        false => Number::from_f64(float),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        plain(text).expect("a value")
    }

    #[test]
    fn words_for_true_and_false_are_booleans() {
        for word in ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE"] {
            assert_eq!(read(word), json!(true));
        }
        for word in ["n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE"] {
            assert_eq!(read(word), json!(false));
        }
        assert_eq!(read("yEs"), json!("yEs"));
    }

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, value) in [
            ("0777", json!(511)),
            ("0o17", json!(15)),
            ("0x1F", json!(31)),
            ("-0x1f", json!(-31)),
            ("0b11", json!(3)),
            ("1_000", json!(1000)),
            ("+1", json!(1)),
            ("1.10", json!(1.1)),
            ("1.0", json!(1)),
            ("1e3", json!(1000)),
            ("08", json!(8)),
            (".5", json!(0.5)),
            ("5.", json!(5)),
            ("-0", json!(0)),
            ("0", json!(0)),
            ("18446744073709551615", json!(u64::MAX)),
            ("-9223372036854775808", json!(i64::MIN)),
        ] {
            assert_eq!(read(text), value, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_stays_a_string() {
        for text in [
            "0x",
            "1:30",
            "80-90",
            "10.0.0.0/8",
            "2001-12-14",
            "1e",
            "+",
            "-",
            "_1",
            "0o9",
            ".",
            "1e999",
            "- 1",
            "0x+1",
        ] {
            assert_eq!(read(text), json!(text));
        }
    }

    #[test]
    fn tags_and_quotes_decide() {
        let core = |suffix: &str| Tag { handle: "tag:yaml.org,2002:".into(), suffix: suffix.into() };
        assert_eq!(resolve("yes", ScalarStyle::DoubleQuoted, None), Ok(json!("yes")));
        assert_eq!(resolve("1", ScalarStyle::Plain, Some(&core("str"))), Ok(json!("1")));
        assert_eq!(resolve("1", ScalarStyle::DoubleQuoted, Some(&core("int"))), Ok(json!(1)));
        assert!(resolve("x", ScalarStyle::Plain, Some(&core("int"))).is_err());
        assert_eq!(
            resolve("1", ScalarStyle::Plain, Some(&Tag { handle: "!".into(), suffix: "x".into() })),
            Ok(json!("1"))
        );
    }

    #[test]
    fn numbers_that_json_lacks_are_refused() {
        assert!(plain(".inf").is_err() && plain(".NaN").is_err());
    }
}
