//! The octets of AEMP 2 without I/O: the session of a connection, its greetings and proofs, and the
//! three framings of its packets.

pub mod auth;
pub mod conversation;
pub mod framing;
pub mod greeting;
#[doc(hidden)]
pub mod hex;
pub mod packet;
pub mod protection;
pub mod recording;
pub mod session;
