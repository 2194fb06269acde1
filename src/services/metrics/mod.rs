//! The figures of a node over HTTP: for Prometheus, for load balancers, and for a browser.
//!
//! [`serve`], or the configuration key `metrics`, serves them on an address of its own. Nobody
//! should reach it who must not know them: there is no password.
//!
//! | path | what |
//! |---|---|
//! | `/metrics` | [`Node::metrics`] in Prometheus' text format; `docs/operations.md` lists the series |
//! | `/health` | 200 if [`Node::health`] finds nothing wrong, else 503 with the reason |
//! | `/` | a page that shows the node and its network, live |
//!
//! Only `GET` and `HEAD` are answered: one request a connection, 32 connections at a time, each for
//! at most 10 s. The host that a request names has to be an IP address, `localhost`, this machine's
//! name or the configured one; otherwise a page from elsewhere could read everything by a name of
//! its own that it lets lead here (DNS rebinding).
//!
//! Programs with an exporter of their own take [`Node::metrics`], which is plain data, or
//! [`render`], or the function `publish` (of the feature `metrics-facade`).

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
pub use self::prometheus::{CONTENT_TYPE, MOST_SERIES, render};
#[cfg(feature = "metrics")]
pub use self::server::serve;

#[cfg(doc)]
use crate::Node;
