//! The node: tokio around the kernel.

#[allow(dead_code, reason = "the node that uses it is still being built")]
pub(crate) mod port;
