//! Counts the instructions of the hot paths with callgrind, and compares them with the committed
//! figures; growth of more than 3 % is a failure.
//!
//! `aemp-profile check FILE`, `aemp-profile write FILE`; `aemp-profile functions PATH` shows which
//! functions the instructions of a path are in. Callgrind runs `aemp-profile run PATH`.

mod database;
mod messages;

use aemp::wire::framing::Framing;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATHS: [&str; 12] = [
    "encode",
    "encode_json",
    "decode",
    "decode_json",
    "dispatch",
    "local",
    "mailbox",
    "call",
    "merge",
    "set",
    "subscriber",
    "relay",
];
const GROWTH: f64 = 1.03;

/// Iterations before counting begins, and iterations that are counted; multiples of [`BATCH`].
const WARM_UP: usize = 2048;
const COUNTED: usize = 4096;

/// Iterations between which no other node has to run, on paths that need several nodes.
const BATCH: usize = 64;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["run", path] => run(path),
        ["check", file] => check(&serde_json::from_str(&std::fs::read_to_string(file)?)?),
        ["write", file] => {
            let paths = PATHS.into_iter().map(|path| Ok((path, measure(path)?)));
            let paths: BTreeMap<&str, u64> = paths.collect::<Result<_>>()?;
            let figures = json!({ "compiler": compiler()?, "paths": paths });
            Ok(std::fs::write(file, serde_json::to_string_pretty(&figures)? + "\n")?)
        }
        ["functions", path] => functions(path),
        _ => bail!("usage: aemp-profile check FILE | write FILE | functions PATH"),
    }
}

/// Figures are comparable only if the same compiler made the program.
fn compiler() -> Result<String> {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(&rustc).arg("--version").output().context(rustc)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn check(committed: &Value) -> Result<()> {
    let compiler = compiler()?;
    if committed["compiler"] != *compiler {
        println!("SKIPPED: the counts were made with {}, not {compiler}", committed["compiler"]);
        println!("         after a look at them: aemp-profile write FILE");
        return Ok(());
    }
    if let Err(problem) = measure(PATHS[0]) {
        println!("SKIPPED: the counts, as valgrind does not work here: {problem}");
        return Ok(());
    }
    let mut grown = Vec::new();
    for path in PATHS {
        let now = measure(path)?;
        let before = committed["paths"][path].as_u64().context("a path without a figure")?;
        println!("{path:<12} {now:>6} instructions, committed {before:>6}");
        if now as f64 > before as f64 * GROWTH {
            grown.push(path);
        }
    }
    if !grown.is_empty() {
        bail!("more than 3 % slower than committed: {}", grown.join(", "));
    }
    Ok(())
}

/// Instructions per iteration.
fn measure(path: &str) -> Result<u64> {
    with_counts(path, |counts| {
        let text = std::fs::read_to_string(counts)?;
        let line = text.lines().find_map(|line| line.strip_prefix("summary:")).context("no sum")?;
        Ok(line.trim().parse::<u64>()? / COUNTED as u64)
    })
}

/// Shows the instructions of all counted iterations by function: its own, then with what it calls.
fn functions(path: &str) -> Result<()> {
    with_counts(path, |counts| {
        println!("for {COUNTED} iterations:");
        for inclusive in ["no", "yes"] {
            let mut annotate = Command::new("callgrind_annotate");
            let annotate = annotate.arg(format!("--inclusive={inclusive}")).arg(counts);
            anyhow::ensure!(annotate.status().context("valgrind is needed")?.success());
        }
        Ok(())
    })
}

/// Pins the variants that the C library would choose by the processor's features, so that counts do not
/// depend on the processor.
const SAME_EVERYWHERE: &str =
    "glibc.cpu.hwcaps=-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-ERMS,-FSRM,-MOVBE,-BMI2";

/// Counts a path's iterations, and calls `f` with callgrind's file.
///
/// Starting a node collects entropy from the timing of the processor, which takes some hundred million
/// instructions, never the same number; so only what the main thread does between
/// [`counting_begins`] and [`counting_ends`] is counted.
fn with_counts<R>(path: &str, f: impl FnOnce(&Path) -> Result<R>) -> Result<R> {
    let folder = std::env::temp_dir().join(format!("aemp-profile-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let result = count(path, &folder).and_then(|file| f(&file));
    std::fs::remove_dir_all(&folder)?;
    result
}

fn count(path: &str, folder: &Path) -> Result<PathBuf> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .args(["--zero-before=*counting_begins*", "--dump-before=*counting_ends*"])
        .arg(format!("--callgrind-out-file={}", folder.join("counts").display()))
        .arg(std::env::current_exe()?)
        .args(["run", path])
        .env("GLIBC_TUNABLES", SAME_EVERYWHERE)
        .output()
        .context("valgrind is needed")?;
    if !output.status.success() {
        bail!("{path}: {}", String::from_utf8_lossy(&output.stderr));
    }
    // The first part was written when counting ended, by the thread that counted.
    let name = |file: &Path| file.to_string_lossy().contains("counts.1-");
    let files = std::fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    files.into_iter().find(|file| name(file)).context("callgrind wrote nothing")
}

fn run(path: &str) -> Result<()> {
    match path {
        "encode" => messages::encode_all(Framing::Cbor),
        "encode_json" => messages::encode_all(Framing::Json),
        "decode" => messages::decode_all(Framing::Cbor),
        "decode_json" => messages::decode_all(Framing::Json),
        "dispatch" => messages::dispatch(false),
        "local" => messages::dispatch(true),
        "mailbox" => messages::mailbox(),
        "call" => messages::call(),
        "merge" => database::merge(),
        "set" => database::set(),
        "subscriber" => database::subscriber(),
        "relay" => database::relay(),
        _ => bail!("no such path"),
    }
}

/// The numbers of the iterations; starts to count after the warm-up, and stops after the last one.
fn iterations() -> impl Iterator<Item = usize> {
    batches_of(1)
}

/// As [`iterations`], for `size` iterations at a time.
fn batches_of(size: usize) -> impl Iterator<Item = usize> {
    let (first, end) = (WARM_UP / size, (WARM_UP + COUNTED) / size);
    let mut next = 0;
    std::iter::from_fn(move || {
        if next == first {
            counting_begins();
        }
        if next == end {
            counting_ends();
            return None;
        }
        next += 1;
        Some(next - 1)
    })
}

#[inline(never)]
fn counting_begins() {
    black_box("begin");
}

#[inline(never)]
fn counting_ends() {
    black_box("end");
}
