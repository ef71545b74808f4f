//! A stretch of a text, in lines and columns.
//!
//! What turns a [`super::FieldPath`] into a place that an editor can jump to. Plain numbers, no file and no text.

/// From one character to another of a text. Lines and columns begin with 1, columns count characters, the end is the
/// character after the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column of the end.
    pub end_column: usize,
}

impl Default for Span {
    /// The beginning of a text.
    fn default() -> Self {
        Self { line: 1, column: 1, end_line: 1, end_column: 1 }
    }
}

impl Span {
    /// The place of one character.
    pub fn at(line: usize, column: usize) -> Self {
        Self { line, column, end_line: line, end_column: column + 1 }
    }
}
