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
