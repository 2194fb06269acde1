//! Breaks the kernel in known ways, one after another, and sees that the simulation notices.
//!
//! `mutants [NAME...]`: all, or those named. A copy of the sources below the target directory gets
//! all of them, and a switch that says which one is tried. Each has to break a promise in one of
//! some hundred random plans, or else one of the tests here.

#[path = "../mutations/mod.rs"]
mod mutations;

use mutations::{MUTATIONS, SWITCH};
use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// So many random plans each mutation has to survive before the other tests have a look.
const PLANS: &str = "600";
/// What takes longer never ends.
const LONGEST: Duration = Duration::from_secs(1_200);

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let workshop = Workshop::below(root.unwrap_or_default());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = workshop.build() {
        println!("the mutations cannot be built: {error}");
        return ExitCode::FAILURE;
    }
    let mut unexpected = 0;
    // If the sound kernel were taken for broken, it would be no wonder that the others are.
    let names = std::iter::once("").chain(MUTATIONS.iter().map(|mutation| mutation.0));
    for name in names {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        match workshop.noticed(name) {
            Ok(Some(by)) if name.is_empty() => {
                println!("THE SOUND KERNEL IS TAKEN FOR BROKEN: {by}");
                unexpected += 1;
            }
            Ok(None) if name.is_empty() => println!("sound: nothing is noticed"),
            Ok(Some(by)) => println!("noticed: {name}: {by}"),
            Ok(None) => {
                println!("SURVIVED: {name}");
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

/// Where the copy of the sources is, and what is built from it.
struct Workshop {
    root: PathBuf,
    copy: PathBuf,
    target: PathBuf,
    log: PathBuf,
}

impl Workshop {
    fn below(root: PathBuf) -> Self {
        let place = root.join("target/mutants");
        Workshop {
            copy: place.join("sources"),

            // Of its own: cargo takes both for the same packages.
            target: place.join("target"),
            log: place.join("log"),
            root,
        }
    }

    fn build(&self) -> Result<()> {
        for part in ["src", "sim"] {
            copy_changed(&self.root.join(part), &self.copy.join(part))?;
        }
        let manifest = std::fs::read_to_string(self.root.join("Cargo.toml"))?;
        std::fs::write(self.copy.join("Cargo.toml"), alone(&manifest))?;
        std::fs::copy(self.root.join("Cargo.lock"), self.copy.join("Cargo.lock"))?;
        let kernel = self.copy.join("src/kernel");
        for (name, file, old, new) in MUTATIONS {
            let path = kernel.join(file);
            let source = std::fs::read_to_string(&path)?;
            if source.matches(old).count() != 1 {
                return Err(Error::other(format!("{file} does not have it once: {old}")));
            }
            let new = new.replace("BROKEN", &format!("crate::kernel::broken({name:?})"));
            std::fs::write(&path, source.replace(old, &new))?;
        }
        let path = kernel.join("mod.rs");
        let source = std::fs::read_to_string(&path)?;
        std::fs::write(&path, source + SWITCH)?;
        for arguments in [&["build", "--example", "soak"], &["test", "--tests", "--no-run"]] {
            if !self.succeeds("", arguments)? {
                return Err(Error::other(std::fs::read_to_string(&self.log)?));
            }
        }
        Ok(())
    }

    /// What notices a mutation, if anything does.
    fn noticed(&self, name: &str) -> Result<Option<String>> {
        if !self.succeeds(name, &["run", "--example", "soak", "--", "0", PLANS])? {
            let log = std::fs::read_to_string(&self.log)?;
            let what =
                log.lines().find(|line| line.starts_with("seed ") && line.contains("failed"));
            let what = what.or_else(|| log.lines().find(|line| line.contains("panicked")));
            return Ok(Some(what.unwrap_or("no plan comes to rest").chars().take(200).collect()));
        }
        let tests = ["test", "--no-fail-fast", "--test", "mesh", "--test", "monitors"];
        if !self.succeeds(name, &[&tests[..], &["--test", "perl"]].concat())? {
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
            .args(["--package", "aemp-sim"])
            .args(rest)
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("AEMP_SIM_SHRINK", "0")
            .env("AEMP_BROKEN", name)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let until = Instant::now() + LONGEST;
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

/// The manifest of a workspace that has the simulator only, and no tests of its own.
fn alone(manifest: &str) -> String {
    let sections = manifest.split("\n\n").filter(|section| !section.starts_with("[[test]]"));
    let sections: Vec<&str> = sections.collect();
    let manifest = sections.join("\n\n");
    let members = manifest.lines().map(|line| match line.starts_with("members = ") {
        true => "members = [\"sim\"]".to_owned(),
        false => line.to_owned(),
    });
    members.collect::<Vec<_>>().join("\n") + "\n"
}

/// Copies what differs, so that nothing else is built again.
fn copy_changed(from: &Path, to: &PathBuf) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_changed(&entry.path(), &target)?;
        } else if std::fs::read(&target).ok() != Some(std::fs::read(entry.path())?) {
            std::fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
