//! Perl's data model: one string type, numbers that are strings and back, arrays and hashes.
