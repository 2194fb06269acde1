//! Packets of a peer in Storable.
#![no_main]

#[path = "../src/inputs.rs"]
#[allow(dead_code, reason = "each target uses some of it")]
mod inputs;

use aemp::wire::framing::Framing;

libfuzzer_sys::fuzz_target!(|input: &[u8]| inputs::packets(Framing::Storable, input));
