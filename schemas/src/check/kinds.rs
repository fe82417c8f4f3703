//! Sections whose keys depend on the kind they are of: a model on its family, an optimizer on its name. It knows no
//! kind itself.

use super::reader::{Fields, list_of};

/// The kinds of a section.
pub struct Kinds {
    /// The key that names the kind.
    pub key: &'static str,
    /// The other keys that every kind has.
    pub shared: &'static [&'static str],
    /// Each kind and the keys of its own.
    pub own: &'static [(&'static str, &'static [&'static str])],
}

impl Kinds {
    pub fn names(&self) -> Vec<&'static str> {
        self.own.iter().map(|(name, _)| *name).collect()
    }

    /// The section's kind. Each key that this kind does not have is a fault, and one that other kinds have gets a hint
    /// of its own; where the kind cannot be read, each that no kind has.
    pub fn kind(&self, fields: &Fields) -> Option<&'static str> {
        let names = self.names();
        let node = fields.required(self.key, &format!("one of {}", list_of(names.iter().copied())));
        let kind = node.and_then(|node| node.word(&names));
        self.only(fields, kind);
        kind
    }

    fn only(&self, fields: &Fields, kind: Option<&str>) {
        let keys = |kind: Option<&str>| {
            let own = self.own.iter().filter(move |(name, _)| kind.is_none_or(|kind| kind == *name));
            let own = own.flat_map(|(_, keys)| keys.iter().copied());
            [self.key].into_iter().chain(self.shared.iter().copied()).chain(own).collect::<Vec<_>>()
        };
        let (mut known, all) = (keys(kind), keys(None));
        let Some(kind) = kind else { return fields.only(&all) };
        let foreign: Vec<&str> =
            all.into_iter().filter(|key| fields.map.contains_key(*key) && !known.contains(key)).collect();
        for key in &foreign {
            let help =
                format!("remove it, or give its parameter a `when`; `{kind}` has {}", list_of(known.iter().copied()));
            fields.fault(key, format!("is not a setting of `{kind}`"), help);
        }
        known.extend(foreign);
        fields.only(&known);
    }
}
