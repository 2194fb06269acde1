//! Everything that a peer may send before it is authenticated.
#![no_main]

#[path = "../src/inputs.rs"]
#[allow(dead_code, reason = "each target uses some of it")]
mod inputs;

libfuzzer_sys::fuzz_target!(|input: &[u8]| inputs::handshake(input));
