//! The octets of AEMP 2 without I/O: greeting, authentication, handshake and the three framings.

pub mod auth;
pub mod conversation;
pub mod framing;
pub mod greeting;
pub mod handshake;
pub mod packet;
pub mod recording;
