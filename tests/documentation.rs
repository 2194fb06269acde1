//! All links between the pages of the documentation are valid, including those to headings.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The pages: those at the top, and all of `docs`.
fn pages() -> Vec<PathBuf> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let of = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")).collect()
    };
    let pages = [of(top), of(&top.join("docs"))].concat();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// The lines of a page that are not code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            return false;
        }
        !in_code
    })
}

/// A heading's anchor: lower case, blanks as dashes, without other punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#'))).collect()
}

/// The targets of `[text](target)`.
fn links(page: &str) -> Vec<String> {
    let text: String = prose(page).collect::<Vec<_>>().join("\n");
    let after_text = text.split("](").skip(1);
    after_text.filter_map(|rest| rest.split_once(')')).map(|(to, _)| to.to_owned()).collect()
}

#[test]
fn every_link_between_pages_is_valid() {
    let texts: HashMap<PathBuf, String> = pages()
        .into_iter()
        .map(|page| (page.canonicalize().unwrap(), std::fs::read_to_string(&page).unwrap()))
        .collect();
    let mut broken = Vec::new();
    for (page, text) in &texts {
        for link in links(text) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                Some(page.clone())
            } else {
                page.parent().unwrap().join(file).canonicalize().ok()
            };
            let leads_somewhere = target.is_some_and(|target| {
                heading.is_empty()
                    || texts
                        .get(&target)
                        .is_some_and(|text| anchors(text).contains(&heading.into()))
            });
            if !leads_somewhere {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn the_index_names_every_page() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let index = std::fs::read_to_string(docs.join("index.md")).unwrap();
    let named = links(&index);
    for page in std::fs::read_dir(docs).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let is_page = name.ends_with(".md") && name != "index.md";
        assert!(!is_page || named.contains(&name), "docs/index.md does not name {name}");
    }
}

#[test]
fn the_protocol_page_names_every_request_that_nodes_know() {
    let page =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md"))
            .unwrap();
    for request in aemp::kernel::REQUESTS {
        let name = request.name;
        let names =
            |code: &str| code.split([' ', '"', ',', '[', ']', '|']).any(|word| word == name);
        assert!(page.split('`').skip(1).step_by(2).any(names), "{name:?}");
    }
}

/// The public types and traits of a file, each with the comment before it.
fn types_with_comments(text: &str) -> Vec<(String, String)> {
    let (mut found, mut comment) = (Vec::new(), String::new());
    for line in text.lines().map(str::trim) {
        if line.starts_with("///") {
            comment.push_str(line);
            continue;
        }
        if line.starts_with("#[") {
            continue;
        }
        let rest = ["pub struct ", "pub trait "].iter().find_map(|kind| line.strip_prefix(kind));
        if let Some(rest) = rest {
            let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
            found.push((rest[..end].to_owned(), std::mem::take(&mut comment)));
        }
        comment.clear();
    }
    found
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| if path.is_dir() { rust_files(&path) } else { vec![path] };
    entries.flat_map(of).collect()
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Those that the crate's root re-exports from `node`; errors and events are enums, which need none.
#[test]
fn every_type_that_people_begin_with_has_an_example() {
    let root = std::fs::read_to_string(source().join("lib.rs")).unwrap();
    let (_, list) = root.split_once("pub use node::{").unwrap();
    let (list, _) = list.split_once('}').unwrap();
    let mut without: Vec<&str> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    assert!(without.len() > 20, "{without:?}");
    without.push("NodeBuilder");
    for file in rust_files(&source().join("node")).into_iter().chain([source().join("builder.rs")])
    {
        for (name, comment) in types_with_comments(&std::fs::read_to_string(file).unwrap()) {
            without.retain(|wanted| *wanted != name || !comment.contains("```"));
        }
    }
    let enums = ["CallError", "DbError", "NodeEvent", "RecvError", "SendError", "StartError"];
    without.retain(|name| !enums.contains(name));
    assert_eq!(without, Vec::<&str>::new());
}

#[test]
fn every_pattern_has_an_example_at_its_beginning_or_at_its_types() {
    let begins_with_one =
        |text: &str| text.lines().any(|line| line.trim_end().starts_with("//! ```"));
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let patterns = source().join("patterns");
    for file in rust_files(&patterns) {
        let text = read(&file);
        let module = file.with_file_name("mod.rs");
        if begins_with_one(&text) || begins_with_one(&read(&module)) {
            continue;
        }
        for (name, comment) in types_with_comments(&text) {
            assert!(comment.contains("```"), "{name} in {} has no example", file.display());
        }
    }
}
