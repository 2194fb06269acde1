//! Breaks the node in known ways, one after another, and checks that the simulation notices.
//!
//! `mutants [NAME...]`: tries all [mutations](aemp::mutation::Mutation), or those named. The
//! library is built once with the feature `mutations`, and an environment variable says which one
//! is on. Each has to break a promise in one of several hundred random plans, or else fail one of
//! the tests here.

use aemp::mutation::Mutation;
use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Number of random plans that are tried before the other tests.
const PLANS: &str = "600";
/// A run that takes longer counts as one that never ends.
const MUTANT_TIMEOUT: Duration = Duration::from_secs(1_200);

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let workshop = MutantBuild::below(root.unwrap_or_default());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| named(name).is_none()) {
        println!("there is no mutation {unknown}");
        return ExitCode::FAILURE;
    }
    if let Err(error) = workshop.build() {
        println!("the mutations cannot be built: {error}");
        return ExitCode::FAILURE;
    }
    let mut unexpected = 0;
    // If the unbroken node were taken for broken, noticing the mutations would prove nothing.
    match workshop.noticed("") {
        Ok(None) => println!("sound: nothing is noticed"),
        Ok(Some(by)) => {
            println!("THE SOUND NODE IS TAKEN FOR BROKEN: {by}");
            unexpected += 1;
        }
        Err(error) => {
            println!("CANNOT BE DONE: {error}");
            unexpected += 1;
        }
    }
    for mutation in Mutation::ALL {
        let name = mutation.name();
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        match workshop.noticed(name) {
            Ok(Some(by)) => println!("noticed: {name}: {by}"),
            Ok(None) => {
                println!("SURVIVED: {name}: {}", mutation.breaks());
                unexpected += 1;
            }
            Err(error) => {
                println!("CANNOT BE DONE: {name}: {error}");
                unexpected += 1;
            }
        }
    }
    if unexpected == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(name: &str) -> Option<Mutation> {
    Mutation::ALL.iter().copied().find(|mutation| mutation.name() == name)
}

/// The location of the build with mutations.
struct MutantBuild {
    root: PathBuf,
    target: PathBuf,
    log: PathBuf,
}

impl MutantBuild {
    fn below(root: PathBuf) -> Self {
        // A target directory of its own, since otherwise each change of the feature would rebuild
        // everything.
        let target = root.join("target/mutants");
        MutantBuild { log: target.join("log"), target, root }
    }

    fn build(&self) -> Result<()> {
        std::fs::create_dir_all(&self.target)?;
        for arguments in [&["build", "--example", "soak"], &["test", "--tests", "--no-run"]] {
            if !self.succeeds("", arguments)? {
                return Err(Error::other(std::fs::read_to_string(&self.log)?));
            }
        }
        Ok(())
    }

    /// The test or promise that notices a mutation, if any does.
    fn noticed(&self, name: &str) -> Result<Option<String>> {
        if !self.succeeds(name, &["run", "--example", "soak", "--", "0", PLANS])? {
            let log = std::fs::read_to_string(&self.log)?;
            let what =
                log.lines().find(|line| line.starts_with("seed ") && line.contains("failed"));
            let what = what.or_else(|| log.lines().find(|line| line.contains("panicked")));
            return Ok(Some(what.unwrap_or("no plan comes to rest").chars().take(200).collect()));
        }
        let tests = ["test", "--no-fail-fast", "--test", "mesh", "--test", "monitors"];
        let more = ["--test", "perl", "--test", "entries", "--test", "slow_links"];
        if !self.succeeds(name, &[&tests[..], &more].concat())? {
            let log = std::fs::read_to_string(&self.log)?;
            let failed = log.lines().filter_map(|line| line.strip_prefix("test "));
            let failed = failed.filter_map(|line| line.strip_suffix(" ... FAILED"));
            return Ok(Some(format!("test {}", failed.collect::<Vec<_>>().join(", "))));
        }
        Ok(None)
    }

    fn succeeds(&self, name: &str, arguments: &[&str]) -> Result<bool> {
        let (command, rest) = arguments.split_first().unwrap_or((&"build", &[]));
        let log = File::create(&self.log)?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .arg(command)
            .args(["--package", "aemp-sim", "--features", "mutations"])
            .args(rest)
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("AEMP_SIM_SHRINK", "0")
            .env("AEMP_MUTATION", name)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let until = Instant::now() + MUTANT_TIMEOUT;
        while Instant::now() < until {
            if let Some(status) = cargo.try_wait()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        cargo.kill()?;
        cargo.wait()?;
        Ok(false)
    }
}
