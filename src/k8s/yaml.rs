//! YAML text (JSON is a part of it) -> objects that know where they stand.
//!
//! `text -> documents -> Object {value, places}`: the value is what kubectl would send, the places say for every
//! [`FieldPath`] where its key and its value are. Reading never fails: [`parse`] returns every object that can be read and
//! every [`SyntaxError`]. Size, depth and what aliases expand to are bounded.

mod build;
mod node;
mod scalar;

use super::convert;
use crate::finding::{
    FieldPath, Finding, Step,
    located::{Located, Span},
};
use node::Node;
use serde_json::Value;
use std::{borrow::Cow, sync::Arc};

/// The largest text that is read, in bytes. An API server takes 3 MiB a request; a file may hold many objects.
pub const MAX_BYTES: usize = 8 << 20;
/// How many values a text may hold once its aliases are written out.
pub const MAX_NODES: usize = 500_000;
/// How deep values may nest, as in serde_json.
pub const MAX_DEPTH: usize = 128;

/// What a text holds.
#[derive(Debug, Clone, Default)]
pub struct Parsed {
    /// Its objects in order; lists (`kind: List` and its like) are unrolled, empty documents left out.
    pub objects: Vec<Object>,
    /// What is no YAML. The rest of that document is missing from the objects.
    pub errors: Vec<SyntaxError>,
}

/// One place that is no YAML, or more of it than is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {}, column {}: {message}", .span.line, .span.column)]
pub struct SyntaxError {
    /// Where reading stopped.
    pub span: Span,
    /// What is wrong there and what to do. One line.
    pub message: String,
}

/// One object of a text.
#[derive(Debug, Clone)]
pub struct Object {
    /// What kubectl would send.
    pub value: Value,
    root: Arc<Node>,
}

/// Where a field stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its key; items of a list have none.
    pub key: Option<Span>,
    /// Its value.
    pub value: Span,
    /// The value is neither a mapping nor a list.
    pub scalar: bool,
}

/// A key that a mapping has twice. The last one is what kubectl sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeated {
    /// The field.
    pub path: FieldPath,
    /// The key that is lost.
    pub first: Span,
    /// The key that counts.
    pub again: Span,
}

impl Object {
    /// Where a field stands, or the nearest thing above it that is there.
    pub fn place(&self, path: &FieldPath) -> Place {
        node::place(&self.root, path)
    }

    /// Keys that come twice in one mapping, in the order of the text.
    pub fn repeated(&self) -> Vec<Repeated> {
        let mut found = Vec::new();
        node::repeated(&self.root, &FieldPath::root(), &mut found);
        found
    }

    /// A finding about it, with its place.
    pub fn located(&self, finding: Finding, file: &str, default_namespace: &str) -> Located {
        let place = self.place(&finding.path);
        // Where a mapping or a list is wrong as a whole, its key is what to look at; the key of a requirement is a value.
        let is_key_field = matches!(finding.path.0.last(), Some(Step::Field(name)) if name == "key");
        let about_key = !place.scalar || (convert::ABOUT_KEYS.contains(&finding.rule) && !is_key_field);
        let span = place.key.filter(|_| about_key).unwrap_or(place.value);
        Located::new(file, span, &self.title(default_namespace), finding)
    }

    /// `Kind/namespace/name`; without the namespace for kinds that have none.
    pub fn title(&self, default_namespace: &str) -> String {
        let text = |value: &Value| value.as_str().map(str::to_owned).filter(|text| !text.is_empty());
        let kind = text(&self.value["kind"]).unwrap_or_default();
        let metadata = &self.value["metadata"];
        let name = text(&metadata["name"]).or_else(|| text(&metadata["generateName"])).unwrap_or_default();
        match kind.as_str() {
            "Namespace" | "Node" => format!("{kind}/{name}"),
            _ => format!("{kind}/{}/{name}", text(&metadata["namespace"]).as_deref().unwrap_or(default_namespace)),
        }
    }

    fn unroll(root: Arc<Node>, into: &mut Vec<Object>) {
        let is_list = matches!(root.get("kind").map(Node::value), Some(Value::String(kind)) if kind.ends_with("List"));
        match root.get("items").and_then(Node::items).filter(|_| is_list) {
            Some(items) => items.iter().for_each(|item| Self::unroll(item.clone(), into)),
            None => into.push(Object { value: root.value(), root }),
        }
    }
}

/// Reads a text of one or more YAML documents, or JSON.
pub fn parse(text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    if text.len() > MAX_BYTES {
        let message = format!("the text is larger than {} MiB: split it", MAX_BYTES >> 20);
        parsed.errors.push(SyntaxError { span: Span::default(), message });
        return parsed;
    }
    let text = &json_as_yaml(text);
    let mut budget = MAX_NODES;
    for (first_line, document) in documents(text) {
        let (roots, error) = build::roots(document, first_line, &mut budget);
        roots.into_iter().filter(|root| !root.is_null()).for_each(|root| Object::unroll(root, &mut parsed.objects));
        parsed.errors.extend(error);
        if budget == 0 {
            break;
        }
    }
    parsed
}

/// Reads bytes, which have to be UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Parsed {
    match std::str::from_utf8(bytes) {
        Ok(text) => parse(text),
        Err(error) => {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            let message = "not UTF-8: save the file as UTF-8".to_owned();
            Parsed { objects: vec![], errors: vec![SyntaxError { span: Span::at(line, column), message }] }
        }
    }
}

/// JSON is YAML but for two things: tabs between its values become spaces, and the two escapes for what lies beyond 16 bits
/// become one. (Columns behind such an escape are then two less than they are.)
fn json_as_yaml(text: &str) -> Cow<'_, str> {
    if !text.trim_start().starts_with(['{', '[']) || text.contains("\n---") {
        return Cow::Borrowed(text);
    }
    // JSON has no tab inside of a string.
    let text = text.replace('\t', " ");
    if !text.contains("\\u") {
        return Cow::Owned(text);
    }
    let unit = |text: &str, at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u").filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
        u16::from_str_radix(digits, 16).ok()
    };
    let (mut out, mut rest) = (String::with_capacity(text.len()), &text[..]);
    while let Some(at) = rest.find('\\') {
        out += &rest[..at];
        let pair = unit(rest, at).zip(unit(rest, at + 6)).map(|(high, low)| [high, low]);
        let character = pair.and_then(|pair| char::decode_utf16(pair).next()?.ok()).filter(|c| u32::from(*c) > 0xffff);
        let taken = match character {
            Some(character) => {
                out += &format!("\\U{:08X}", u32::from(character));
                12
            }
            // A backslash and the character that it escapes.
            None => {
                let taken = 1 + rest[at + 1..].chars().next().map_or(0, char::len_utf8);
                out += &rest[at..at + taken];
                taken
            }
        };
        rest = &rest[at + taken..];
    }
    out += rest;
    Cow::Owned(out)
}

/// The documents of a text, each with the line that it begins on. As kubectl does it, by lines that begin with `---`, so
/// that one document that is no YAML does not hide the next.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let (mut begin, mut begin_line, mut at) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let separates =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if separates && at > begin {
            found.push((begin_line, &text[begin..at]));
            (begin, begin_line) = (at, index + 1);
        }
        at += line.len();
    }
    found.push((begin_line, &text[begin..]));
    // What stands before the first separator may be comments and directives only.
    found.retain(|(_, document)| {
        document.lines().any(|line| !line.trim_start().starts_with(['#', '%']) && !line.trim().is_empty())
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn values(text: &str) -> Vec<Value> {
        let parsed = parse(text);
        assert_eq!(parsed.errors, vec![], "{text}");
        parsed.objects.into_iter().map(|o| o.value).collect()
    }

    fn error(text: &str) -> SyntaxError {
        parse(text).errors.into_iter().next().expect("an error")
    }

    fn path(steps: &[&'static str]) -> FieldPath {
        steps.iter().fold(FieldPath::root(), |path, step| match step.parse() {
            Ok(place) => path.index(place),
            Err(_) => path.field(*step),
        })
    }

    #[test]
    fn documents_are_read_one_by_one_and_empty_ones_left_out() {
        assert_eq!(values("# c\n---\na: 1\n---\n---\n# c\n--- # d\nb: 2\n...\n"), [json!({"a": 1}), json!({"b": 2})]);
        assert_eq!(values(""), Vec::<Value>::new());
        assert_eq!(values("%YAML 1.1\n---\na: 1\n"), [json!({"a": 1})]);
    }

    #[test]
    fn a_list_is_its_items() {
        let items = values("kind: List\nitems:\n- {kind: Pod}\n- {kind: PodList, items: [{a: 1}]}\n");
        assert_eq!(items, [json!({"kind": "Pod"}), json!({"a": 1})]);
    }

    #[test]
    fn json_is_read_with_tabs_and_surrogates() {
        assert_eq!(
            values("{\n\t\"a\": \"\\ud83d\\ude00\\/\",\n\t\"b\": [1, null]\n}\n"),
            [json!({"a": "😀/", "b": [1, null]})]
        );
    }

    #[test]
    fn places_count_lines_and_characters_from_1() {
        let text = "---\nspec:\n  'ü': {a: b}\n  policyTypes:\n  - Ingress:\n  - Egress\n";
        let object = parse(text).objects.remove(0);
        let span = |line, column, end_column| Span { line, column, end_line: line, end_column };
        let place = object.place(&path(&["spec", "ü", "a"]));
        assert_eq!(place, Place { key: Some(span(3, 9, 10)), value: span(3, 12, 13), scalar: true });
        let place = object.place(&path(&["spec", "policyTypes", "0"]));
        assert_eq!(place, Place { key: None, value: span(5, 5, 13), scalar: false });
        assert_eq!(object.place(&path(&["spec", "policyTypes", "1"])).value, span(6, 5, 11));
        // What is not there is where it would be.
        assert_eq!(object.place(&path(&["spec", "egress", "0"])).key, Some(span(2, 1, 5)));
    }

    #[test]
    fn a_syntax_error_has_its_place_and_does_not_hide_the_next_document() {
        let parsed = parse("a: 1\n---\nspec:\n\tb: 1\n---\nc: 1\n");
        assert_eq!(parsed.objects.iter().map(|o| &o.value).collect::<Vec<_>>(), [&json!({"a": 1}), &json!({"c": 1})]);
        let [error] = &parsed.errors[..] else { panic!("{:?}", parsed.errors) };
        assert_eq!((error.span.line, error.span.column), (4, 1));
        assert!(error.message.contains("tab"), "{error}");
    }

    #[test]
    fn tabs_indent_nothing_and_may_stand_in_what_is_said() {
        for text in ["a: b\n\t\nc: d\n", "a: b\n\t# c\n", "-\tb\n", "\ta: b\n", "a:\n  - \tb\n"] {
            assert!(error(text).message.contains("tab"), "{text:?}");
        }
        for text in [
            "a: b\t\n",
            "a: b\t# c\n",
            "a: |\n  b\n  \tc\n",
            "a: \"b\n  \tc\"\n",
            "{\"a\":\t1,\n\t\"b\"\t:\t[\t1\n\t]}\n",
        ] {
            assert_eq!(values(text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn of_a_key_that_comes_twice_the_last_counts() {
        let object = parse("a:\n  b: 1\n  b: 2\n").objects.remove(0);
        assert_eq!(object.value, json!({"a": {"b": 2}}));
        let [repeated] = &object.repeated()[..] else { panic!() };
        assert_eq!((repeated.path.to_string().as_str(), repeated.first.line, repeated.again.line), ("a.b", 2, 3));
    }

    #[test]
    fn aliases_and_merges_are_written_out() {
        assert_eq!(values("a: &x {b: 1}\nc: *x\n"), [json!({"a": {"b": 1}, "c": {"b": 1}})]);
        assert_eq!(
            values("a: &x {b: 1, c: 1}\nd: {<<: *x, c: 2}\n"),
            [json!({"a": {"b": 1, "c": 1}, "d": {"b": 1, "c": 2}})]
        );
        // go-yaml v2 writes a merge where it stands: it covers what came before. Of a list, the first wins.
        assert_eq!(values("a: &x {c: 1}\nd: {c: 2, <<: *x}\n")[0]["d"], json!({"c": 1}));
        assert_eq!(values("d: {<<: [{c: 1}, {c: 2, e: 3}]}\n")[0]["d"], json!({"c": 1, "e": 3}));
        assert!(error("a: {<<: 1}\n").message.contains("merge"));
    }

    #[test]
    fn an_anchor_holds_for_its_document_and_not_for_itself() {
        assert!(error("a: &x 1\n---\nb: *x\n").message.contains("anchor"));
        assert!(error("a: &x [*x]\n").message.contains("itself"));
    }

    #[test]
    fn bombs_are_refused_with_one_line() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..12 {
            let aliases = vec![format!("*a{}", n - 1); 10].join(",");
            bomb += &format!("a{n}: &a{n} [{aliases}]\n");
        }
        let error = error(&bomb);
        assert!(error.message.contains("more than") && !error.message.contains('\n'), "{error}");
        assert!(parse(&"[".repeat(100_000)).errors[0].message.lines().count() == 1);
        assert!(parse(&"- ".repeat(10_000)).errors[0].message.contains("deep"));
        assert!(parse(&"a".repeat(MAX_BYTES + 1)).errors[0].message.contains("MiB"));
    }

    #[test]
    fn bytes_that_are_not_utf_8_have_their_place() {
        assert_eq!(parse_bytes(b"a: 1\nb: \xff").errors[0].span, Span::at(2, 4));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            parse(&text);
        }

        #[test]
        fn no_text_of_yaml_s_own_signs_panics(text in "[-?:,\\[\\]{}#&*!|>'\"%@`a0~<. \n\t\r]{0,60}") {
            parse(&text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse_bytes(&bytes);
        }

        #[test]
        fn what_json_says_is_what_is_read(text in "\\PC{0,8}", number in any::<i64>(), flag in any::<bool>()) {
            let value = json!({"a": [text, number, flag, null], "b": {"c": {}, "d": []}});
            prop_assert_eq!(values(&value.to_string()), vec![value.clone()]);
            prop_assert_eq!(values(&serde_json::to_string_pretty(&value).expect("JSON")), vec![value]);
        }
    }
}
