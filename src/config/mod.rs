//! Configuration: the rc file shared with Perl, profiles, and the typed settings of a node.
//!
//! From files and arguments to a node (`docs/protocol.md` §6): [`args`] reads the program's values or
//! the command line, [`rc`] reads the rc file, [`profile`] combines both with the built-in defaults, and
//! [`settings`] converts the result into typed [`Settings`]; its errors name the key and where the value
//! comes from. [`node_id`] and [`address`] expand what depends on the machine that runs the node.
//!
//! Strings in this layer are Perl strings: one character for each octet or character, so that
//! octets are the characters U+0000..=U+00FF (see [`octets`]).

pub mod address;
pub mod args;
pub mod coerce;
pub mod methods;
mod metrics_address;
pub mod node_id;
pub mod octets;
mod pretty;
pub mod profile;
pub mod rc;
mod reader;
mod redacted;
pub mod relaxed;
mod replace;
pub mod service;
mod setting_error;
pub mod settings;
mod similar;
mod warning;

pub use address::{AdvertiseSpec, BindSpec, SeedSpec};
pub use args::Args;
pub use methods::UnknownName;
pub use metrics_address::{DEFAULT_METRICS_PORT, MetricsAddress};
pub use node_id::NodeIdTemplate;
pub use pretty::to_pretty;
pub use profile::{Effective, Origin};
pub use rc::{RcFile, Scope};
pub use redacted::Redacted;
pub use service::Service;
pub use settings::Settings;
pub use similar::nearest;
pub use warning::Warning;
