//! Checking for Perl modules, and starting our Perl programs.
//!
//! A test whose modules are missing is skipped, with a message that names the Debian package to install. If
//! `AEMP_REQUIRE` has the word `packages`, missing modules that Debian has are a failure; if it has `live`,
//! so is a missing AnyEvent::MP.

use crate::process::Process;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PACKAGES: &str = include_str!("../perl/modules.txt");

/// Whether Perl can load all these modules; if not, prints that the test is skipped.
///
/// # Panics
/// If one is missing that `AEMP_REQUIRE` asks for.
pub fn has(modules: &[&str]) -> bool {
    let missing: Vec<&str> = modules.iter().copied().filter(|m| !loads(m)).collect();
    if missing.is_empty() {
        return true;
    }
    let remedies: Vec<String> = missing.iter().map(|module| remedy(module)).collect();
    let remedies = remedies.join("; ");
    for module in missing {
        let word = match package(module) {
            Some(_) => "packages",
            None => "live",
        };
        assert!(!crate::is_required(word), "a required Perl module is missing: {remedies}");
    }
    eprintln!("SKIPPED: {remedies}");
    false
}

/// Starts one of our Perl programs.
pub fn start(
    name: &str,
    script: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Process {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("perl").join(script);
    let script = script.to_str().expect("a path in UTF-8");
    let arguments = [&[script], arguments].concat();
    Process::start(name, &interpreter(), &arguments, environment)
}

fn interpreter() -> PathBuf {
    PathBuf::from("perl")
}

fn loads(module: &str) -> bool {
    Command::new(interpreter())
        .args([&format!("-M{module}"), "-e", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The Debian package that has a module.
fn package(module: &str) -> Option<&'static str> {
    PACKAGES
        .lines()
        .filter_map(|line| line.split_once(' '))
        .find(|(name, package)| *name == module && *package != "-")
        .map(|(_, package)| package)
}

fn remedy(module: &str) -> String {
    match package(module) {
        Some(package) => {
            format!("Perl cannot load {module}: install the Debian package {package}")
        }
        None => format!("Perl cannot load {module}: install it from CPAN"),
    }
}
