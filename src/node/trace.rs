//! Traces every message, as `PERL_ANYEVENT_MP_TRACE` makes Perl nodes do.

use std::fmt;
use std::sync::Arc;

/// A function that gets a line for every message.
#[derive(Clone)]
pub(crate) struct TraceSink(pub(super) Arc<dyn Fn(&str) + Send + Sync>);

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
