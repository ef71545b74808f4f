//! How near two words are: what a word that nobody knows was probably meant to be.

/// How many letters to insert, to remove or to change (Levenshtein).
pub fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, a) in from.chars().take(64).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, b) in to.iter().enumerate() {
            let change = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

/// The nearest of some words, if one is near enough to have been meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.into_iter().map(|known| (distance(word, known), known)).min()?;
    (best.0 <= 2 && best.0 * 2 <= best.1.len()).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        assert_eq!(nearest("fronted", ["backend", "frontend"]), Some("frontend"));
        assert_eq!(nearest("web", ["database", "api"]), None);
        assert_eq!(distance("a", "a"), 0);
    }
}
