//! Things in use, and by how many.

use std::{borrow::Borrow, collections::BTreeMap};

/// Things in use, and by how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted<K>(BTreeMap<K, usize>);

impl<K> Default for Counted<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord> Counted<K> {
    /// One more uses it. Says whether that is the first one.
    pub fn take(&mut self, thing: K) -> bool {
        let users = self.0.entry(thing).or_default();
        *users += 1;
        *users == 1
    }

    /// One less uses it. Says whether that was the last one.
    pub fn leave<Q: Ord + ?Sized>(&mut self, thing: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        let Some(users) = self.0.get_mut(thing) else { return false };
        *users -= 1;
        let last = *users == 0;
        if last {
            self.0.remove(thing);
        }
        last
    }

    /// Whether something uses it.
    pub fn contains<Q: Ord + ?Sized>(&self, thing: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(thing)
    }

    /// Everything that is used, in order.
    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.0.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_user_brings_a_thing_and_the_last_one_takes_it_away() {
        let mut counted = Counted::default();
        assert!(counted.take("a") && !counted.take("a") && counted.contains("a"));
        assert!(!counted.leave("a") && counted.leave("a") && !counted.contains("a"));
        assert!(!counted.leave("a"), "nobody used it");
    }
}
