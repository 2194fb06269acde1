//! Each mutation of `examples/mutants.rs` is used in exactly one place of the sources.

use aemp::mutation::Mutation;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_mutation_is_asked_for_in_the_sources() {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut files);
    let text: String = files.iter().filter_map(|file| std::fs::read_to_string(file).ok()).collect();
    for mutation in Mutation::ALL {
        let asked = format!("mutation::is_on(Mutation::{})", mutation.name());
        assert_eq!(text.matches(&asked).count(), 1, "{asked} has to stand in one place");
    }
}

#[test]
fn mutations_have_names_that_differ() {
    let names: BTreeSet<_> = Mutation::ALL.iter().map(|mutation| mutation.name()).collect();
    assert_eq!(names.len(), Mutation::ALL.len());
}
