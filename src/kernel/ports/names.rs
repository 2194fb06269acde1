//! The names of new ports, local and spawned.

use crate::kernel::effect::PortName;
use crate::kernel::letters::letters;
use crate::kernel::random::Random;
use crate::value::Str;

/// A generator of unique names.
#[derive(Debug)]
pub(super) struct Names {
    count: u64,
    /// The prefix of the names of ports that this node spawns on others.
    remote_prefix: Vec<u8>,
}

impl Names {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut remote_prefix = Vec::with_capacity(10);
        random.alphanumeric(&mut remote_prefix, 10);
        if let Some(last) = remote_prefix.last_mut() {
            last.make_ascii_uppercase();
        }
        Names { count: 0, remote_prefix }
    }

    /// A name for a local port, impossible to guess.
    pub(super) fn local(&mut self, random: &mut Random) -> PortName {
        let mut name = Vec::with_capacity(16);
        random.alphanumeric(&mut name, 8);
        self.number(&mut name);
        Str::octets(name)
    }

    /// A name for a port on another node.
    pub(super) fn remote(&mut self) -> PortName {
        let mut name = self.remote_prefix.clone();
        self.number(&mut name);
        Str::octets(name)
    }

    fn number(&mut self, name: &mut Vec<u8>) {
        self.count += 1;
        name.extend_from_slice(&letters(self.count));
    }
}
