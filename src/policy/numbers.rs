//! Numbers for things that have none: the same thing keeps its number for as long as something uses it.
//!
//! `thing -> Numbers -> u32`. The kernel sees only numbers, and a number must never change its meaning while a packet can
//! still meet it; so numbers are given back only by [`Numbers::retain`], when the table that used them is gone.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

/// Numbers for things of one kind.
#[derive(Debug, Clone)]
pub struct Numbers<T> {
    first: u32,
    known: HashMap<Arc<T>, u32>,
    /// What each number stands for; of one that is reserved nobody knows.
    taken: BTreeMap<u32, Option<Arc<T>>>,
    next: u32,
}

impl<T: Eq + Hash> Numbers<T> {
    /// None given yet; the first will be `first`.
    pub fn from(first: u32) -> Self {
        Self { first, known: HashMap::new(), taken: BTreeMap::new(), next: first }
    }

    /// Keeps a number from being given away: something that is not known here uses it.
    pub fn reserve(&mut self, number: u32) {
        self.taken.entry(number).or_default();
    }

    /// The number of a thing: the one that it has, or the lowest that is free.
    pub fn of(&mut self, thing: T) -> u32 {
        if let Some(number) = self.known.get(&thing) {
            return *number;
        }
        while self.taken.contains_key(&self.next) {
            self.next += 1;
        }
        let thing = Arc::new(thing);
        self.taken.insert(self.next, Some(thing.clone()));
        self.known.insert(thing, self.next);
        self.next
    }

    /// What a number stands for.
    pub fn thing(&self, number: u32) -> Option<&Arc<T>> {
        self.taken.get(&number)?.as_ref()
    }

    /// Every thing that has a number.
    pub fn known(&self) -> impl Iterator<Item = (&T, u32)> {
        self.known.iter().map(|(thing, number)| (thing.as_ref(), *number))
    }

    /// Takes back every number but those that are in use.
    pub fn retain(&mut self, used: &BTreeSet<u32>) {
        self.known.retain(|_, number| used.contains(number));
        self.taken.retain(|number, _| used.contains(number));
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_keeps_its_number_and_two_things_never_share_one() {
        let mut numbers = Numbers::from(16);
        assert_eq!((numbers.of("a"), numbers.of("b"), numbers.of("a")), (16, 17, 16));
    }

    #[test]
    fn a_number_is_given_again_only_when_nothing_uses_it() {
        let mut numbers = Numbers::from(1);
        numbers.reserve(2);
        assert_eq!((numbers.of("a"), numbers.of("b")), (1, 3));
        numbers.retain(&BTreeSet::from([3]));
        assert_eq!((numbers.of("c"), numbers.of("b"), numbers.of("d")), (1, 3, 2));
    }
}
