//! Where a value stands, while it is read: a chain of steps up to the whole object.
//!
//! `Place -> FieldPath`, by [`Place::path`], where something is found. Nearly every value is as it should be, so on the way to
//! it nothing is made but a link to where one comes from.

use super::{FieldPath, Step};

/// The place of a value in an object.
#[derive(Debug, Clone, Copy)]
pub enum Place<'p> {
    /// The object itself.
    Root,
    /// Some way down already.
    At(&'p FieldPath),
    /// The value of a key of the mapping that stands there.
    Field(&'p Place<'p>, &'p str),
    /// An item of the list that stands there, counted from 0.
    Index(&'p Place<'p>, usize),
}

impl<'p> Place<'p> {
    /// The place of a key's value below this one.
    #[must_use]
    pub fn field(&'p self, name: &'p str) -> Place<'p> {
        Place::Field(self, name)
    }

    /// The place of an item below this one.
    #[must_use]
    pub fn index(&'p self, at: usize) -> Place<'p> {
        Place::Index(self, at)
    }

    /// As a value of its own.
    pub fn path(&self) -> FieldPath {
        match *self {
            Place::Root => FieldPath::root(),
            Place::At(path) => path.clone(),
            Place::Field(above, name) => above.path().then(Step::Field(name.to_owned().into())),
            Place::Index(above, at) => above.path().then(Step::Index(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_becomes_the_path_that_leads_to_it() {
        let spec = Place::Root.field("spec");
        let rules = spec.field("ingress");
        assert_eq!(rules.index(1).path(), FieldPath::root().field("spec").field("ingress").index(1));
        let template = FieldPath::root().field("spec").field("template");
        assert_eq!(Place::At(&template).field("metadata").path(), template.field("metadata"));
    }
}
