//! Parser events -> [`Node`]s.
//!
//! Anchors, aliases and merge keys are resolved here, and here the bounds are kept: every value that an alias stands for
//! counts.

use super::{
    MAX_DEPTH, MAX_NODES, SyntaxError,
    node::{Field, Kind, Node},
    scalar,
};
use crate::finding::located::Span;
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, Tag};
use std::{collections::HashMap, sync::Arc};

type Result<T> = std::result::Result<T, SyntaxError>;

/// The values of a text whose first line has this number, and where it stops being YAML. Takes from the budget what they
/// come to.
pub(super) fn roots(text: &str, first_line: usize, budget: &mut usize) -> (Vec<Arc<Node>>, Option<SyntaxError>) {
    let mut roots = Vec::new();
    let result = readable(text, first_line).and_then(|()| {
        let parser = Parser::new_from_str(text);
        let (anchors, covered) = (HashMap::new(), Vec::new());
        let mut builder = Builder { parser, first_line, anchors, covered, budget };
        while let Some(placed) = builder.next()? {
            match placed.0 {
                Event::DocumentStart(_) => builder.anchors.clear(),
                Event::StreamStart | Event::StreamEnd | Event::DocumentEnd | Event::Nothing => {}
                _ => roots.push(builder.node(placed, 1)?.0),
            }
        }
        untabbed(text, first_line, builder.covered)
    });
    (roots, result.err())
}

/// go-yaml refuses control characters wherever they stand; to the parser, NUL would be the end of the text.
fn readable(text: &str, first_line: usize) -> Result<()> {
    for (index, line) in text.split('\n').enumerate() {
        let wrong = |c: char| match c {
            '\t' | '\r' | '\u{85}' => false,
            '\u{fffe}' | '\u{ffff}' => true,
            other => other.is_control(),
        };
        if let Some(column) = line.chars().position(wrong) {
            let message = "a control character: take it away, or write it escaped in double quotes".to_owned();
            return Err(SyntaxError { span: Span::at(first_line + index, column + 1), message });
        }
    }
    Ok(())
}

/// go-yaml takes no tab where a line is indented, empty lines and comments included; the parser takes some. Lines that
/// begin inside of a scalar or between brackets are covered.
fn untabbed(text: &str, first_line: usize, mut covered: Vec<(usize, usize)>) -> Result<()> {
    covered.sort_unstable();
    let mut covered = covered.into_iter().peekable();
    for (line, text) in text.lines().enumerate().map(|(index, text)| (first_line + index, text)) {
        while covered.next_if(|(_, last)| *last < line).is_some() {}
        if covered.peek().is_some_and(|(first, _)| *first <= line) {
            continue;
        }
        let indent = text.len() - text.trim_start_matches([' ', '\t', '-']).len();
        if let Some(at) = text[..indent].find('\t').filter(|at| !text[..*at].contains("--")) {
            return Err(tab((line, at + 1)));
        }
    }
    Ok(())
}

struct Builder<'a, 'b> {
    parser: Parser<'a, StrInput<'a>>,
    first_line: usize,
    /// By the parser's number. `None` while the value is being read.
    anchors: HashMap<usize, Option<Arc<Node>>>,
    /// The lines, first and last, that begin inside of something.
    covered: Vec<(usize, usize)>,
    budget: &'b mut usize,
}

/// A line and a column.
type Point = (usize, usize);

/// An event, where it begins and where it ends.
type Placed<'a> = (Event<'a>, Point, Point);

impl<'a> Builder<'a, '_> {
    fn point(&self, marker: &Marker) -> Point {
        (marker.line().max(1) + self.first_line - 1, marker.col() + 1)
    }

    fn next(&mut self) -> Result<Option<Placed<'a>>> {
        match self.parser.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.point(&span.start), self.point(&span.end)))),
            Some(Err(error)) => Err(self.syntax(&error)),
        }
    }

    fn within(&mut self) -> Result<Placed<'a>> {
        self.next()?.ok_or_else(|| refuse((self.first_line, 1), "not YAML: the document ends too early"))
    }

    fn syntax(&self, error: &ScanError) -> SyntaxError {
        let info = error.info();
        let (line, column) = self.point(error.marker());
        // The parser names the character behind the tab.
        match info.starts_with("tabs disallowed") {
            true => {
                refuse((line, column.saturating_sub(1).max(1)), "a tab where YAML wants spaces: indent with spaces")
            }
            false => refuse((line, column), &format!("not YAML: {}", info.replace('\n', " "))),
        }
    }

    /// The value that an event begins, and where it ends.
    fn node(&mut self, (event, from, to): Placed<'a>, depth: usize) -> Result<(Arc<Node>, Point)> {
        if depth > MAX_DEPTH {
            return Err(too_deep(from));
        }
        let (anchor, kind, to) = match event {
            Event::Alias(anchor) => return Ok((self.alias(anchor, from, depth)?, to)),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar::resolve(&text, style, tag.as_deref()).map_err(|why| refuse(from, &why))?;
                self.cover(from, to);
                (anchor, Kind::Scalar(value), to)
            }
            Event::SequenceStart(anchor, _) => {
                self.anchors.insert(anchor, None);
                let (items, to) = self.items(to, depth)?;
                (anchor, Kind::List(items), to)
            }
            Event::MappingStart(anchor, _) => {
                self.anchors.insert(anchor, None);
                let (kind, to) = self.fields(to, depth)?;
                (anchor, kind, to)
            }
            _ => return Err(refuse(from, "not YAML: a value is missing")),
        };
        self.take(1, from)?;
        let node = Arc::new(Node::new(Span { line: from.0, column: from.1, end_line: to.0, end_column: to.1 }, kind));
        self.anchors.insert(anchor, Some(node.clone()));
        Ok((node, to))
    }

    fn cover(&mut self, from: Point, to: Point) {
        let last = if to.1 == 1 { to.0 - 1 } else { to.0 };
        if last > from.0 {
            self.covered.push((from.0 + 1, last));
        }
    }

    /// Where a collection ends: at its bracket, or with the last thing in it.
    fn close(&mut self, (_, from, to): &Placed<'_>, open: Point, last: Point) -> Point {
        if from == to {
            return last;
        }
        self.cover(open, *to);
        *to
    }

    fn items(&mut self, open: Point, depth: usize) -> Result<(Vec<Arc<Node>>, Point)> {
        let mut end = open;
        let mut items = Vec::new();
        loop {
            let placed = self.within()?;
            if placed.0 == Event::SequenceEnd {
                return Ok((items, self.close(&placed, open, end)));
            }
            let (item, to) = self.node(placed, depth + 1)?;
            items.push(item);
            end = to;
        }
    }

    fn fields(&mut self, open: Point, depth: usize) -> Result<(Kind, Point)> {
        let mut end = open;
        let mut map = Map::default();
        loop {
            let placed = self.within()?;
            if placed.0 == Event::MappingEnd {
                return Ok((Kind::Map(map.fields, map.replaced), self.close(&placed, open, end)));
            }
            let merges = is_merge(&placed.0);
            let (key, _) = self.node(placed, depth + 1)?;
            let value = self.within()?;
            let from = value.1;
            let (value, to) = self.node(value, depth + 1)?;
            // A value that is not written ends behind the colon of its key.
            let unwritten = from == to && from == (key.span.end_line, key.span.end_column);
            end = if unwritten { (to.0, to.1 + 1) } else { to };
            if merges {
                self.merge(&value, from, &mut map)?;
                continue;
            }
            let Kind::Scalar(name) = &key.kind else {
                return Err(refuse((key.span.line, key.span.column), "a mapping or list is no key: write a name"));
            };
            let name = scalar::key(name.clone()).map_err(|why| refuse((key.span.line, key.span.column), &why))?;
            map.set(Field { name, key: key.span, value, merged: false });
        }
    }

    /// `<<: *other`: the fields of another mapping, or of several, of which the first wins. go-yaml v2 writes them over
    /// what stands before.
    fn merge(&mut self, value: &Arc<Node>, from: Point, map: &mut Map) -> Result<()> {
        let sources = match &value.kind {
            Kind::List(items) => &items[..],
            _ => std::slice::from_ref(value),
        };
        for source in sources.iter().rev() {
            let Kind::Map(fields, _) = &source.kind else {
                return Err(refuse(from, "a merge key (<<) takes a mapping or a list of mappings"));
            };
            for field in fields {
                self.take(field.value.size, from)?;
                map.set(Field { merged: true, ..field.clone() });
            }
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, from: Point, depth: usize) -> Result<Arc<Node>> {
        let node = match self.anchors.get(&anchor) {
            Some(Some(node)) => node.clone(),
            Some(None) => {
                return Err(refuse(from, "an alias of the value that it stands in: a value cannot hold itself"));
            }
            None => return Err(refuse(from, "an alias without an anchor: anchors (&name) hold for one document")),
        };
        if depth + node.depth > MAX_DEPTH {
            return Err(too_deep(from));
        }
        self.take(node.size, from)?;
        Ok(node)
    }

    fn take(&mut self, size: usize, at: Point) -> Result<()> {
        match self.budget.checked_sub(size) {
            Some(left) => *self.budget = left,
            None => {
                *self.budget = 0;
                return Err(refuse(at, &format!("more than {MAX_NODES} values, aliases written out: split the file")));
            }
        }
        Ok(())
    }
}

/// The fields of a mapping, by the order in which their keys first came.
#[derive(Default)]
struct Map {
    fields: Vec<Field>,
    places: HashMap<String, usize>,
    replaced: Vec<(String, Span, Span)>,
}

impl Map {
    fn set(&mut self, field: Field) {
        match self.places.get(&field.name) {
            Some(&at) => {
                let before = &mut self.fields[at];
                if !before.merged && !field.merged {
                    self.replaced.push((field.name.clone(), before.key, field.key));
                }
                *before = field;
            }
            None => {
                self.places.insert(field.name.clone(), self.fields.len());
                self.fields.push(field);
            }
        }
    }
}

fn is_merge(event: &Event<'_>) -> bool {
    let is_tag = |tag: &Tag| tag.is_yaml_core_schema() && tag.suffix == "merge";
    match event {
        Event::Scalar(text, style, _, None) => text == "<<" && *style == ScalarStyle::Plain,
        Event::Scalar(text, _, _, Some(tag)) => text == "<<" && is_tag(tag),
        _ => false,
    }
}

fn refuse((line, column): Point, message: &str) -> SyntaxError {
    SyntaxError { span: Span::at(line, column), message: message.to_owned() }
}

fn tab(at: Point) -> SyntaxError {
    refuse(at, "a tab where YAML wants spaces: indent with spaces")
}

fn too_deep(at: Point) -> SyntaxError {
    refuse(at, &format!("nested more than {MAX_DEPTH} deep: flatten it"))
}
