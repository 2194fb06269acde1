//! Printing every message, as `PERL_ANYEVENT_MP_TRACE` makes Perl nodes do.

use super::core::Shared;
use crate::value::packed::Elements;
use crate::value::{NodeId, StrRef};

impl Shared {
    /// Prints a packet that is sent, port name first.
    #[inline]
    pub(crate) fn trace_sent(&self, to: StrRef<'_>, packet: Elements<'_>) {
        if self.settings.trace {
            eprintln!("SND {to} <- {packet}");
        }
    }

    /// Prints a message that was received.
    #[inline]
    pub(crate) fn trace_received(&self, from: &NodeId, port: StrRef<'_>, message: Elements<'_>) {
        if self.settings.trace {
            eprintln!("RCV {from} -> [\"{port}\"] {message}");
        }
    }
}
