//! Traces every message, as `PERL_ANYEVENT_MP_TRACE` makes Perl nodes do.

use super::core::Shared;
use super::port::run_queue;
use crate::kernel::cut;
use crate::value::packed::Elements;
use crate::value::{NodeId, Packed, StrRef};
use std::fmt;
use std::sync::Arc;

/// Octets of a line. What does not fit is not formatted, as peers choose how long their messages are.
const MAX_LINE_LEN: usize = 64 << 10;

/// A function that gets a line for every message. It is code of the program: no lock may be held.
#[derive(Clone)]
pub(crate) struct TraceSink(Arc<dyn Fn(&str) + Send + Sync>);

impl TraceSink {
    pub(crate) fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }

    fn sent(&self, to: StrRef<'_>, packet: Elements<'_>) {
        (self.0)(&cut(format_args!("SND {to} <- {packet}"), MAX_LINE_LEN));
    }
}

impl Shared {
    /// Whether messages are shown.
    #[inline]
    pub(crate) const fn traces(&self) -> bool {
        self.settings.trace.is_some()
    }

    /// Shows a packet that is sent, port name first.
    #[inline]
    pub(crate) fn trace_sent(&self, to: StrRef<'_>, packet: Elements<'_>) {
        if let Some(sink) = &self.settings.trace {
            sink.sent(to, packet);
        }
    }

    /// As [`Shared::trace_sent`], once no lock is held.
    #[inline]
    pub(super) fn trace_sent_later(&self, to: &NodeId, packet: &Packed) {
        if let Some(sink) = &self.settings.trace {
            let (sink, to, packet) = (sink.clone(), to.clone(), packet.clone());
            run_queue::run(move || sink.sent(to.as_str(), packet.as_elements()));
        }
    }

    /// Shows a message that was received.
    #[inline]
    pub(crate) fn trace_received(&self, from: &NodeId, port: StrRef<'_>, message: Elements<'_>) {
        if let Some(TraceSink(sink)) = &self.settings.trace {
            sink(&cut(format_args!("RCV {from} -> [\"{port}\"] {message}"), MAX_LINE_LEN));
        }
    }
}

impl fmt::Debug for TraceSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceSink")
    }
}
