//! Lists of names in the configuration, in which unknown names are ignored.

use crate::wire::auth::AuthMethod;
use crate::wire::framing::Framing;
use thiserror::Error;

/// A name that this version does not know, though other nodes may. It is ignored as long as a known
/// one is left.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name:?} is unknown (known are {known})")]
pub struct UnknownName {
    /// The name.
    pub name: String,
    known: String,
}

/// A type whose values the configuration lists by name.
pub(super) trait Named: Copy + PartialEq + 'static {
    /// All values, in the default order of preference.
    const ALL: &'static [Self];

    fn name(self) -> &'static str;

    /// The value with this name.
    fn named(name: &str) -> Result<Self, UnknownName> {
        let found = Self::ALL.iter().find(|item| item.name() == name);
        found.copied().ok_or_else(|| UnknownName { name: name.into(), known: names(Self::ALL) })
    }
}

/// The names of all values, for error texts.
pub(super) fn names<T: Named>(items: &[T]) -> String {
    items.iter().map(|item| item.name()).collect::<Vec<_>>().join(", ")
}

impl Named for Framing {
    const ALL: &'static [Self] = &Framing::ALL;

    fn name(self) -> &'static str {
        Framing::name(self)
    }
}

impl Named for AuthMethod {
    const ALL: &'static [Self] = &AuthMethod::LISTED;

    fn name(self) -> &'static str {
        AuthMethod::name(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_name_is_reported_with_the_known_ones() {
        assert_eq!(Framing::named("json"), Ok(Framing::Json));
        let error = Framing::named("yaml").unwrap_err().to_string();
        assert_eq!(error, "\"yaml\" is unknown (known are cbor, json, storable)");
    }
}
