//! How the files of the command depend on each other.
#![allow(missing_docs, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The files of the command by their module paths: `network::db` for `network/db.rs`.
fn modules() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/aemp");
    let mut modules = BTreeMap::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                modules.insert(name(&root, &path), production_code(&path));
            }
        }
    }
    assert!(modules.contains_key("main") && modules.contains_key("network::db"));
    modules
}

fn name(root: &Path, file: &Path) -> String {
    let path: PathBuf = file.strip_prefix(root).unwrap().with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// Without comments and unit tests.
fn production_code(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that a module names in its paths.
fn imports(module: &str, code: &str, modules: &BTreeMap<String, String>) -> BTreeSet<String> {
    let parent = module.rsplit_once("::").map_or("", |(parent, _)| parent);
    let mut found = BTreeSet::new();
    let mut add = |path: String| {
        // The longest part of the path that is a file.
        let mut path = path.as_str();
        while !modules.contains_key(path) {
            match path.rsplit_once("::") {
                Some((shorter, _)) => path = shorter,
                None => return,
            }
        }
        if path != module {
            found.insert(path.to_owned());
        }
    };
    let path_at = |text: &str| -> String {
        text.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | ':')).collect()
    };
    // Unlike in a module of its own file, `super` in a `mod.rs` is the directory above.
    let above = |path: &str| match parent {
        "" => path.to_owned(),
        parent => format!("{parent}::{path}"),
    };
    for (start, base) in [("crate::", ""), ("super::", "super")] {
        for (at, _) in code.match_indices(start) {
            let rest = &code[at + start.len()..];
            let group = path_at(rest);
            let names: Vec<String> = match rest[group.len()..].strip_prefix('{') {
                Some(list) => list
                    .split('}')
                    .next()
                    .unwrap_or_default()
                    .split(',')
                    .map(|item| format!("{group}{}", path_at(item.trim())))
                    .collect(),
                None => vec![group],
            };
            for name in names {
                add(if base == "super" { above(&name) } else { name });
            }
        }
    }
    // Children are named without a prefix.
    for child in
        modules.keys().filter(|child| child.rsplit_once("::").is_some_and(|c| c.0 == module))
    {
        let last = child.rsplit("::").next().unwrap_or_default();
        if code.contains(&format!("{last}::")) {
            found.insert(child.clone());
        }
    }
    found
}

#[test]
fn no_files_of_the_command_import_each_other_in_a_circle() {
    let modules = modules();
    let direct: BTreeMap<&str, BTreeSet<String>> =
        modules.iter().map(|(name, code)| (name.as_str(), imports(name, code, &modules))).collect();
    assert!(direct["network::db"].contains("output"), "{:?}", direct["network::db"]);
    assert!(direct["network"].contains("network::db"), "{:?}", direct["network"]);
    assert!(direct["network::top::view"].contains("network::top::model"));
    let mut in_circles = Vec::new();
    for module in modules.keys() {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = direct[module.as_str()].iter().collect();
        while let Some(next) = open.pop() {
            if reached.insert(next) {
                open.extend(&direct[next.as_str()]);
            }
        }
        if reached.contains(module) {
            in_circles.push(module);
        }
    }
    assert!(in_circles.is_empty(), "{in_circles:?}");
}

/// Whoever prints without it may wait for ever for a reader that is slow, or die of one that is gone.
#[test]
fn only_two_files_write_to_standard_output_and_error() {
    let forbidden = ["print!", "println!", "eprint!", "eprintln!", "dbg!", "stdout()", "stderr()"];
    for (module, code) in modules() {
        if module == "output" || module == "stderr" {
            continue;
        }
        for line in code.lines() {
            let line = line.replace("stdout().is_terminal()", "");
            for word in forbidden {
                assert!(!line.contains(word), "{module}: {line}");
            }
        }
    }
}
