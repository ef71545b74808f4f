//! Names and labels: text that is cheap to clone, and pairs of it in order.

use std::sync::Arc;

/// A name, a label key or a label value. Cheap to clone.
pub type Name = Arc<str>;

/// Up to how many labels are looked through one by one: that two texts differ is mostly seen by their lengths, their order is not.
const FEW: usize = 16;

/// Labels of an object, ordered by key.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Name, Name)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Name> {
        if self.0.len() <= FEW {
            return self.0.iter().find(|(k, _)| k.as_ref() == key).map(|(_, value)| value);
        }
        let at = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether somebody else has them, too, without a copy.
    pub fn are_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Every key and its value, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter().map(|(k, v)| (k, v))
    }
}

impl<K: Into<Name>, V: Into<Name>> FromIterator<(K, V)> for Labels {
    /// The last value of a key that comes twice is kept.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let ordered: std::collections::BTreeMap<Name, Name> =
            labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        Self(ordered.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_found_among_few_and_among_many() {
        for count in [0, 1, FEW, FEW + 1, 100] {
            let labels: Labels = (0..count).map(|n| (format!("key-{n}"), format!("value-{n}"))).collect();
            for n in 0..count {
                assert_eq!(labels.get(&format!("key-{n}")).unwrap().as_ref(), format!("value-{n}"));
            }
            assert_eq!(labels.get("key-"), None);
            assert_eq!(labels.get("z"), None);
        }
    }
}
