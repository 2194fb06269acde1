//! Perl's data model: one string type, numbers that are strings and back, arrays and hashes.
//!
//! A message is a list of Perl values. Most programs never see them: they send and receive Rust
//! types, which serde turns into values and back. What to know about Perl then:
//!
//! - **One string type.** A Perl string is a sequence of code points; whether it is stored as octets
//!   or as UTF-8 is its own affair. So `b"\xe9"` and `"é"` are the same string, as data, hash key,
//!   tag or node ID. [`Str`] and [`StrRef`] compare like that. A Rust `String` takes either; so do
//!   octets (`Vec<u8>`), as long as no code point is above 255.
//! - **Numbers are strings, and strings are numbers.** A Perl program that prints the number 42
//!   may send it as `"42"` from then on; big integers and floats arrive as strings from some nodes,
//!   and `3.0` as 3. Ask for the type that you want, and it is taken from all of these.
//! - **Truth.** Perl's own true and false are the strings `"1"` and `""`. A `bool` takes these, 1, 0,
//!   undef, and booleans proper.
//! - **undef** is `None` and `()`.
//! - **Hashes** have string keys and no order. Structs and maps become hashes.
//!
//! ```
//! use aemp::value::{Packed, PortId, Value};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Debug, PartialEq, Serialize, Deserialize)]
//! #[serde(rename_all = "lowercase")]
//! enum Chat {
//!     Join(PortId, String),       // "join", port, nick
//!     Privmsg(String, u32, bool), // "privmsg", text, number, flag
//!     Quit,                       // "quit"
//! }
//!
//! // What a Perl node might send: everything is a string.
//! let message = Packed::of(&("privmsg", "hi", "42", ""))?;
//! let chat: Chat = message.decode()?;
//! assert_eq!(chat, Chat::Privmsg("hi".into(), 42, false));
//!
//! // And back: what we send keeps its types.
//! assert_eq!(Packed::of(&chat)?.to_string(), r#"["privmsg", "hi", 42, false]"#);
//!
//! // Data of unknown shape is a `Value`.
//! let elements: Vec<Value> = message.decode()?;
//! assert!(elements[2].perl_eq(&Value::from(42)));
//! assert_eq!(elements[2].to_integer(), Some(42.into()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Inside the library a message is not a tree of values but a sequence of octets, the [`packed`] form:
//! [`to_elements`] writes it directly from Rust types, [`from_elements`] reads it directly into them,
//! and strings can be borrowed from it.

mod data;
mod de;
mod de_access;
mod de_value;
mod error;
mod exact;
mod hash;
mod id;
mod message;
mod nesting;
mod number;
pub mod packed;
mod ser;
mod ser_string;
mod serde_impls;
mod serde_tokens;
mod show;
mod string;
pub(crate) mod tag;
mod tagged;
#[cfg(test)]
mod tests;

pub use data::Value;
pub use de::{from_elements, from_value};
pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub use exact::Exact;
pub use hash::Hash;
pub use id::{InvalidId, NodeId, PortId};
pub use message::Packed;
pub use nesting::MAX_NESTING;
pub use number::{Integer, Number};
pub use packed::{Count, Elements};
pub use ser::{put_elements, put_value, put_value_within, to_elements};
pub use string::{CodePoints, Str, StrKind, StrRef};
pub(crate) use string::{is_ascii, is_deceptive, same};
pub use tagged::Tagged;
