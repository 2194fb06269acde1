//! A node's figures over HTTP: for Prometheus, for load balancers, and for browsers.
//!
//! [`serve`], or the configuration key `metrics`, serves them on an address of its own. There is no
//! password: make sure that only those who may see the figures can reach it.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | [`Node::metrics`] in Prometheus' text format; `docs/operations.md` lists the series |
//! | `/health` | 200 if [`Node::health`] finds nothing wrong, otherwise 503 with the reason |
//! | `/` | a page that shows the node and its network, live |
//!
//! Only `GET` and `HEAD` are answered: one request per connection, 32 connections at a time, each for
//! at most 10 s. The host in a request has to be an IP address, `localhost`, this machine's name or the
//! configured one; otherwise a page of another site could read everything through a name of its own that
//! resolves to this address (DNS rebinding).
//!
//! Programs with an exporter of their own use [`Node::metrics`], which is plain data, or
//! [`render`], or the function `publish` (feature `metrics-facade`).

#[cfg(feature = "metrics-facade")]
mod facade;
mod figures;
mod prometheus;
mod shown;

#[cfg(feature = "metrics")]
mod events;
#[cfg(feature = "metrics")]
mod http;
#[cfg(feature = "metrics")]
mod network;
#[cfg(feature = "metrics")]
mod page;
#[cfg(feature = "metrics")]
mod server;

#[cfg(feature = "metrics-facade")]
pub use self::facade::publish;
pub use self::prometheus::{CONTENT_TYPE, MAX_SERIES, render};
#[cfg(feature = "metrics")]
pub use self::server::serve;

#[cfg(doc)]
use crate::node::Node;
