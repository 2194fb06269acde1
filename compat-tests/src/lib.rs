//! Checks of aemp against real Perl modules and real Perl nodes.
