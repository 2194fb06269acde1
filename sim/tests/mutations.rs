//! The mutations of `examples/mutants.rs` still fit the kernel.
#![allow(clippy::unwrap_used)]

#[path = "../mutations/mod.rs"]
mod mutations;

use mutations::MUTATIONS;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn every_mutation_replaces_what_the_source_has_just_once() {
    let kernel = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/kernel");
    for (name, file, old, new) in MUTATIONS {
        let source = std::fs::read_to_string(kernel.join(file)).unwrap();
        assert_eq!(source.matches(old).count(), 1, "{name}: {file} has to have this once: {old}");
        assert_ne!(old, new, "{name}");
    }
}

#[test]
fn the_names_of_mutations_differ() {
    let names: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.0).collect();
    assert_eq!(names.len(), MUTATIONS.len());
}
