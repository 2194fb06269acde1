//! Breaks the kernel in known ways, one after another, and sees that the simulation notices.
//!
//! `mutants [NAME...]`: all, or those named. Each is built from a copy of the sources below the
//! target directory, and has to break a promise in one of a few thousand random plans, or else one
//! of the tests here.

#[path = "../mutations/mod.rs"]
mod mutations;

use mutations::MUTATIONS;
use std::fs::File;
use std::io::{Error, Result};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// So many random plans each mutation has to survive before the other tests have a look.
const PLANS: &str = "1200";
/// What takes longer never ends.
const LONGEST: Duration = Duration::from_secs(600);

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf);
    let workshop = Workshop::below(root.unwrap_or_default());
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    // Or else it would be no wonder.
    match workshop.noticed("mod.rs", "", "") {
        Ok(None) => {}
        Ok(Some(by)) => {
            println!("the sound kernel is taken for broken: {by}");
            return ExitCode::FAILURE;
        }
        Err(error) => {
            println!("nothing can be built: {error}");
            return ExitCode::FAILURE;
        }
    }
    let mut survivors = 0;
    for &(name, file, old, new) in MUTATIONS {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
            continue;
        }
        match workshop.noticed(file, old, new) {
            Ok(Some(by)) => println!("noticed: {name}: {by}"),
            Ok(None) => {
                println!("SURVIVED: {name}");
                survivors += 1;
            }
            Err(error) => {
                println!("CANNOT BE DONE: {name}: {error}");
                survivors += 1;
            }
        }
    }
    if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
            // What does not belong to the copy need not be built again.
            target: root.join("target"),
            log: place.join("log"),
            root,
        }
    }

    /// What notices the replacement, if anything does.
    fn noticed(&self, file: &str, old: &str, new: &str) -> Result<Option<String>> {
        for part in ["src", "sim"] {
            copy_changed(&self.root.join(part), &self.copy.join(part))?;
        }
        let manifest = std::fs::read_to_string(self.root.join("Cargo.toml"))?;
        std::fs::write(self.copy.join("Cargo.toml"), alone(&manifest))?;
        std::fs::copy(self.root.join("Cargo.lock"), self.copy.join("Cargo.lock"))?;
        let path = self.copy.join("src/kernel").join(file);
        let source = std::fs::read_to_string(&path)?;
        if !old.is_empty() && source.matches(old).count() != 1 {
            return Err(Error::other(format!("{file} does not have it once: {old}")));
        }
        if !old.is_empty() {
            std::fs::write(&path, source.replace(old, new))?;
        }
        let noticed = self.noticed_now();
        if !old.is_empty() {
            std::fs::write(&path, source)?;
        }
        noticed
    }

    fn noticed_now(&self) -> Result<Option<String>> {
        if !self.succeeds(&["build", "--example", "soak"])? {
            return Err(Error::other("it does not compile"));
        }
        if !self.succeeds(&["run", "--example", "soak", "--", "0", PLANS])? {
            let log = std::fs::read_to_string(&self.log)?;
            let what =
                log.lines().find(|line| line.starts_with("seed ") && line.contains("failed"));
            let what = what.or_else(|| log.lines().find(|line| line.contains("panicked")));
            return Ok(Some(what.unwrap_or("no plan comes to rest").chars().take(200).collect()));
        }
        let tests = ["test", "--no-fail-fast", "--test", "mesh", "--test", "monitors"];
        if !self.succeeds(&[&tests[..], &["--test", "perl"]].concat())? {
            let log = std::fs::read_to_string(&self.log)?;
            let failed = log.lines().filter_map(|line| line.strip_prefix("test "));
            let failed = failed.filter_map(|line| line.strip_suffix(" ... FAILED"));
            return Ok(Some(format!("test {}", failed.collect::<Vec<_>>().join(", "))));
        }
        Ok(None)
    }

    fn succeeds(&self, arguments: &[&str]) -> Result<bool> {
        let (command, rest) = arguments.split_first().unwrap_or((&"build", &[]));
        let log = File::create(&self.log)?;
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .arg(command)
            .args(["--package", "aemp-sim"])
            .args(rest)
            .current_dir(&self.copy)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("AEMP_SIM_SHRINK", "0")
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
