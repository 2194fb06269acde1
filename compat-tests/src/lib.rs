//! What the checks of aemp against real Perl modules and real Perl nodes have in common.
//!
//! `tests/codec.rs` compares the framings and tokens with Perl's own encoders, `tests/peer.rs` lets
//! a scripted Perl peer shake hands with a node in every way, and `tests/live.rs` runs networks of
//! Perl's AnyEvent::MP and ours. The first two need Debian packages only; see [`perl`].

// This crate is made of test helpers: failing loudly is what they are for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod cases;
pub mod codec;
pub mod dialogue;
pub mod neutral;
pub mod node;
pub mod peer;
pub mod perl;
pub mod perl_node;
pub mod process;
pub mod random;
