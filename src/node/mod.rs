//! The node: tokio around the layers below.

pub mod tls;
