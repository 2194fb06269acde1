//! The octets of AEMP 2 without I/O: greeting, authentication, handshake and the three framings.

pub mod framing;
pub mod packet;
