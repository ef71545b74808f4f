//! Label selectors: a conjunction of requirements on labels.
//!
//! `matchLabels` and `matchExpressions` come to the same: [`Requirement`]s that must all hold. An empty selector matches
//! everything. NotIn and DoesNotExist hold for an object that lacks the key (apimachinery, `labels.Requirement.Matches`).

use super::labels::{Labels, Name};
use smallvec::SmallVec;
use std::sync::Arc;

/// Requirements that must all hold, in order and none twice; empty = everything matches. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Arc<[Requirement]>);

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: Name,
    /// What must hold for it.
    pub test: Test,
}

/// What must hold for a label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// It is there, with one of these values.
    In(Values),
    /// It is not there, or has none of these values.
    NotIn(Values),
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// Values of a label, in order. Nearly always there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Values(SmallVec<[Name; 1]>);

impl Values {
    /// Whether a value is one of them.
    pub fn contains(&self, value: &Name) -> bool {
        match &self.0[..] {
            [only] => only == value,
            many => many.binary_search(value).is_ok(),
        }
    }

    /// The least of them.
    pub fn first(&self) -> Option<&Name> {
        self.0.first()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Name> {
        self.0.iter()
    }
}

impl FromIterator<Name> for Values {
    fn from_iter<I: IntoIterator<Item = Name>>(values: I) -> Self {
        let mut ordered: SmallVec<[Name; 1]> = values.into_iter().collect();
        ordered.sort_unstable();
        ordered.dedup();
        Self(ordered)
    }
}

impl Selector {
    /// The selector that matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }

    /// Whether it matches everything because it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether somebody else has it, too, without a copy.
    pub fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// The requirements, ordered.
    pub fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }
}

impl FromIterator<Requirement> for Selector {
    fn from_iter<I: IntoIterator<Item = Requirement>>(requirements: I) -> Self {
        requirements.into_iter().collect::<Requirements>().into()
    }
}

/// Requirements that must all hold, in any order.
pub type Requirements = SmallVec<[Requirement; 1]>;

impl From<Requirements> for Selector {
    fn from(mut ordered: Requirements) -> Self {
        ordered.sort_unstable();
        ordered.dedup();
        // Nearly always there is one, and memory is asked for once.
        Self(match ordered.into_inner() {
            Ok(only) => Arc::new(only),
            Err(more) => more.into_vec().into(),
        })
    }
}

impl Requirement {
    /// `key` has exactly this value, as `matchLabels` asks.
    pub fn equals(key: impl Into<Name>, value: impl Into<Name>) -> Self {
        Self { key: key.into(), test: Test::In(Values::from_iter([value.into()])) }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.contains(v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> Labels {
        Labels::from_iter([("app", "web"), ("tier", "front")])
    }

    fn one(key: &str, test: Test) -> Selector {
        Selector::from_iter([Requirement { key: key.into(), test }])
    }

    fn values(values: &[&str]) -> Values {
        values.iter().map(|v| Name::from(*v)).collect()
    }

    #[test]
    fn an_empty_selector_matches_everything() {
        assert!(Selector::everything().matches(&labels()));
        assert!(Selector::everything().matches(&Labels::default()));
    }

    #[test]
    fn all_requirements_must_hold() {
        let both = Selector::from_iter([Requirement::equals("app", "web"), Requirement::equals("tier", "back")]);
        assert!(!both.matches(&labels()));
        assert!(Selector::from_iter([Requirement::equals("app", "web")]).matches(&labels()));
    }

    #[test]
    fn in_and_exists_need_the_key() {
        assert!(one("app", Test::In(values(&["api", "web"]))).matches(&labels()));
        assert!(!one("app", Test::In(values(&["api"]))).matches(&labels()));
        assert!(!one("absent", Test::In(values(&["web"]))).matches(&labels()));
        assert!(one("app", Test::Exists).matches(&labels()));
        assert!(!one("absent", Test::Exists).matches(&labels()));
    }

    #[test]
    fn not_in_and_does_not_exist_hold_without_the_key() {
        assert!(one("absent", Test::NotIn(values(&["web"]))).matches(&labels()));
        assert!(one("app", Test::NotIn(values(&["api"]))).matches(&labels()));
        assert!(!one("app", Test::NotIn(values(&["web"]))).matches(&labels()));
        assert!(one("absent", Test::DoesNotExist).matches(&labels()));
        assert!(!one("app", Test::DoesNotExist).matches(&labels()));
    }
}
