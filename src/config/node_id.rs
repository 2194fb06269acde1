//! Node IDs: the template in the configuration, and what it becomes on a machine.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const MAX_LENGTH: usize = 1024;

/// Why a text cannot be a node ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NodeIdError {
    /// Perl nodes treat both as "no node ID".
    #[error(
        "a node ID cannot be empty or \"0\"; write a name, or one ending in / for a random one"
    )]
    Empty,
    /// The character separates node ID and port name, or fields of the greeting.
    #[error("a node ID cannot contain `#`, `;` or control characters; leave them out")]
    ForbiddenCharacter,
    /// A percent sign that does not begin an escape.
    #[error(
        "in a node ID only %n (node name) and %u (a random string) may follow the percent sign"
    )]
    UnknownEscape,
    /// A character above U+00FF.
    #[error("a node ID is a string of octets; leave out the characters above U+00FF")]
    NotOctets,
    /// Too long to fit into a greeting.
    #[error("a node ID has at most {MAX_LENGTH} characters; shorten it")]
    TooLong,
}

/// A node ID before expansion: `%n` stands for the node name, `%u` for a random unique string, which is
/// also appended to a `/` at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NodeIdTemplate(String);

/// The result of [`NodeIdTemplate::expand`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpandedNodeId {
    /// The node ID.
    pub id: String,
    /// Whether it contains the unique string. If so, port names need no random part of their own.
    pub is_unique: bool,
}

impl NodeIdTemplate {
    /// The default for a profile: its name and a unique string.
    ///
    /// # Errors
    /// If the profile's name cannot be part of a node ID.
    pub fn for_profile(profile: &str) -> Result<Self, NodeIdError> {
        format!("{profile}/").parse()
    }

    /// The text as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Inserts the node name (`uname -n`) and the unique string (see [`unique_string`]), the same one at
    /// each place.
    ///
    /// # Errors
    /// If the node name makes the result invalid as a node ID.
    pub fn expand(&self, node_name: &str, unique: &str) -> Result<ExpandedNodeId, NodeIdError> {
        let named = self.0.replace("%n", node_name);
        let is_unique = named.contains("%u") || named.ends_with('/');
        let mut id = named.replace("%u", unique);
        if named.ends_with('/') {
            id.push_str(unique);
        }
        check(&id)?;
        match id.contains('%') {
            true => Err(NodeIdError::UnknownEscape),
            false => Ok(ExpandedNodeId { id, is_unique }),
        }
    }
}

impl FromStr for NodeIdTemplate {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        check(text)?;
        let escapes_are_known =
            text.split('%').skip(1).all(|after| after.starts_with('n') || after.starts_with('u'));
        match escapes_are_known {
            true => Ok(Self(text.into())),
            false => Err(NodeIdError::UnknownEscape),
        }
    }
}

impl fmt::Display for NodeIdTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(id: &str) -> Result<(), NodeIdError> {
    match id {
        "" | "0" => Err(NodeIdError::Empty),
        _ if id.chars().any(|c| c.is_control() && c < '\u{80}' || matches!(c, '#' | ';')) => {
            Err(NodeIdError::ForbiddenCharacter)
        }
        _ if id.chars().any(|c| c > '\u{ff}') => Err(NodeIdError::NotOctets),
        _ if id.chars().count() > MAX_LENGTH => Err(NodeIdError::TooLong),
        _ => Ok(()),
    }
}

/// Ten random letters and digits, the last not lowercase: about 59 bits. Perl calls it `$RUNIQ` and
/// also begins the names of ports that it spawns on other nodes with it.
#[must_use]
pub fn unique_string(random: u128) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = random;
    (0..10)
        .map(|index| {
            let choices = if index == 9 { 36 } else { 62 };
            let digit = usize::try_from(rest % choices).unwrap_or_default();
            rest /= choices;
            char::from(DIGITS.get(digit).copied().unwrap_or(b'0'))
        })
        .collect()
}

/// The name of this machine, as `uname -n` shows it.
#[must_use]
pub fn node_name() -> String {
    super::octets::from_octets(rustix::system::uname().nodename().to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(template: &str) -> Result<ExpandedNodeId, NodeIdError> {
        template.parse::<NodeIdTemplate>()?.expand("rain", "R0")
    }

    #[test]
    fn the_node_name_and_the_unique_string_are_inserted() {
        for (template, id, is_unique) in [
            ("eg", "eg", false),
            ("eg/%n", "eg/rain", false),
            ("eg/%u", "eg/R0", true),
            ("eg/", "eg/R0", true),
            ("aemp/%n/%u", "aemp/rain/R0", true),
            ("%u/", "R0/R0", true),
            ("%u%u%n%n", "R0R0rainrain", true),
            ("a/b", "a/b", false),
        ] {
            assert_eq!(expand(template), Ok(ExpandedNodeId { id: id.into(), is_unique }));
        }
    }

    #[test]
    fn a_profile_without_node_id_has_its_name_and_a_unique_string() {
        assert_eq!(NodeIdTemplate::for_profile("eg").unwrap().as_str(), "eg/");
    }

    #[test]
    fn an_invalid_node_id_is_refused() {
        for (template, error) in [
            ("", NodeIdError::Empty),
            ("0", NodeIdError::Empty),
            ("a#b", NodeIdError::ForbiddenCharacter),
            ("a;b", NodeIdError::ForbiddenCharacter),
            ("a\nb", NodeIdError::ForbiddenCharacter),
            ("a%", NodeIdError::UnknownEscape),
            ("a%h", NodeIdError::UnknownEscape),
            ("\u{20ac}", NodeIdError::NotOctets),
            (&"a".repeat(1025), NodeIdError::TooLong),
        ] {
            assert_eq!(expand(template), Err(error), "{template}");
        }
    }

    #[test]
    fn a_node_name_that_cannot_be_in_a_node_id_is_refused() {
        let template: NodeIdTemplate = "%n".parse().unwrap();
        assert_eq!(template.expand("", "R0"), Err(NodeIdError::Empty));
        assert_eq!(template.expand("a#b", "R0"), Err(NodeIdError::ForbiddenCharacter));
        assert_eq!(template.expand("a%b", "R0"), Err(NodeIdError::UnknownEscape));
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!node_name().is_empty());
    }

    proptest! {
        #[test]
        fn unique_strings_are_ten_alphanumerics_and_end_in_no_lowercase(random in any::<u128>()) {
            let unique = unique_string(random);
            prop_assert_eq!(unique.len(), 10);
            prop_assert!(unique.bytes().all(|octet| octet.is_ascii_alphanumeric()));
            prop_assert!(!unique.ends_with(|c: char| c.is_ascii_lowercase()));
        }
    }
}
