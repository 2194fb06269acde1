//! Showing every message, as `PERL_ANYEVENT_MP_TRACE` makes Perl nodes do.

use super::core::Shared;
use crate::value::packed::Elements;
use crate::value::{NodeId, StrRef};
use std::fmt;
use std::sync::Arc;

/// Who is given a line for every message.
#[derive(Clone)]
pub(crate) struct TraceSink(Arc<dyn Fn(&str) + Send + Sync>);

impl TraceSink {
    pub(crate) fn new(sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(sink))
    }
}

impl fmt::Debug for TraceSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceSink")
    }
}

impl Shared {
    /// Shows a packet that is sent, port name first.
    #[inline]
    pub(crate) fn trace_sent(&self, to: StrRef<'_>, packet: Elements<'_>) {
        if let Some(TraceSink(sink)) = &self.settings.trace {
            sink(&format!("SND {to} <- {packet}"));
        }
    }

    /// Shows a message that was received.
    #[inline]
    pub(crate) fn trace_received(&self, from: &NodeId, port: StrRef<'_>, message: Elements<'_>) {
        if let Some(TraceSink(sink)) = &self.settings.trace {
            sink(&format!("RCV {from} -> [\"{port}\"] {message}"));
        }
    }
}
