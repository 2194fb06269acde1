//! The rc file on disk: private, replaced atomically, with no change lost among concurrent writers.
#![allow(missing_docs, clippy::unwrap_used)]

use aemp::config::rc::{RcError, Scope};
use aemp::config::{RcFile, relaxed};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

fn set(path: &Path, key: &str, value: impl Into<Value>) -> Result<(), RcError> {
    RcFile::update(path, |rc| {
        rc.set(Scope::Defaults, key, value.into());
        Ok(())
    })
}

fn json_in(path: &Path) -> Value {
    relaxed::parse(&fs::read(path).unwrap()).unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_file_is_private_and_has_no_backup() {
    let directory = directory();
    let path = directory.path().join("rc");
    set(&path, "secret", "x").unwrap();
    assert_eq!(json_in(&path), json!({"version": 1, "secret": "x"}));
    assert_eq!(mode(&path), 0o600);
    assert!(!beside(&path, "~").exists() && !beside(&path, "~new~").exists());
}

#[test]
fn a_rewritten_file_becomes_private_and_the_old_one_is_kept() {
    let directory = directory();
    let path = directory.path().join("rc");
    let before = "{ # ours\n\"unknown\":{\"b\":[1.5,],\"a\":null},\"secret\":\"old\",}";
    fs::write(&path, before).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    for secret in ["new", "newer"] {
        set(&path, "secret", secret).unwrap();
        assert_eq!(json_in(&path), json!({"unknown": {"b": [1.5], "a": null}, "secret": secret}));
        assert_eq!((mode(&path), mode(&beside(&path, "~"))), (0o600, 0o600));
        assert!(!beside(&path, "~new~").exists() && !beside(&path, "~old~").exists());
    }
    assert_eq!(json_in(&beside(&path, "~"))["secret"], "new");
}

#[test]
fn nothing_is_written_when_nothing_is_changed() {
    let directory = directory();
    let path = directory.path().join("rc");
    RcFile::update(&path, |_| Ok::<_, RcError>(())).unwrap();
    assert!(!path.exists());
}

#[test]
fn nothing_is_written_when_the_change_fails() {
    let directory = directory();
    let path = directory.path().join("rc");
    set(&path, "a", 1).unwrap();
    let result: Result<(), Box<dyn std::error::Error>> = RcFile::update(&path, |rc| {
        rc.set(Scope::Defaults, "a", 2.into());
        Err("changed my mind".into())
    });
    assert_eq!(result.unwrap_err().to_string(), "changed my mind");
    assert_eq!(json_in(&path)["a"], 1);
}

#[test]
fn a_file_that_does_not_parse_is_left_as_it_is() {
    let directory = directory();
    let path = directory.path().join("rc");
    for broken in ["{\"secret\":\"x\"", "[]", "{\"profile\":{\"a\":1}}", "\u{feff}{}"] {
        fs::write(&path, broken).unwrap();
        let error = set(&path, "secret", "y").unwrap_err().to_string();
        assert!(error.contains("the file was not changed"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), broken);
        assert!(!beside(&path, "~").exists());
    }
}

#[test]
fn a_missing_or_empty_file_is_a_new_one() {
    let directory = directory();
    let path = directory.path().join("rc");
    let version_1 = json!({"version": 1});
    assert_eq!(Value::from(RcFile::load(&path).unwrap().root().clone()), version_1);
    fs::write(&path, "").unwrap();
    assert_eq!(Value::from(RcFile::load(&path).unwrap().root().clone()), version_1);
    assert!(matches!(RcFile::load(directory.path()), Err(RcError::Read { .. })));
}

#[test]
fn devices_and_directories_are_not_replaced() {
    let directory = directory();
    assert!(matches!(set(directory.path(), "a", 1), Err(RcError::NotAFile { .. })));
    assert!(matches!(set(Path::new(""), "a", 1), Err(RcError::NoPath)));
    let device = directory.path().join("device");
    symlink("/dev/null", &device).unwrap();
    assert!(matches!(set(&device, "a", 1), Err(RcError::NotAFile { .. })));
    assert!(RcFile::load(&device).is_ok());
}

#[test]
fn a_missing_directory_is_an_error_that_names_it() {
    let directory = directory();
    let error = set(&directory.path().join("none/rc"), "a", 1).unwrap_err().to_string();
    assert!(error.contains("none/rc"), "{error}");
}

#[test]
fn symbolic_links_are_followed() {
    let directory = directory();
    let (target, link) = (directory.path().join("target"), directory.path().join("link"));
    fs::write(&target, "{}").unwrap();
    symlink("target", &link).unwrap();
    set(&link, "a", 1).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(json_in(&target), json!({"a": 1}));
}

#[test]
fn leftovers_of_a_killed_writer_do_no_harm() {
    let directory = directory();
    let path = directory.path().join("rc");
    set(&path, "a", 1).unwrap();
    fs::write(beside(&path, "~new~"), "{\"a\":").unwrap();
    fs::hard_link(&path, beside(&path, "~old~")).unwrap();
    fs::hard_link(&path, beside(&path, "~")).unwrap();
    set(&path, "a", 2).unwrap();
    assert_eq!(
        (json_in(&path)["a"].clone(), json_in(&beside(&path, "~"))["a"].clone()),
        (json!(2), json!(1))
    );
}

#[test]
fn a_hundred_threads_lose_no_change() {
    let directory = directory();
    let path = directory.path().join("rc");
    std::thread::scope(|scope| {
        for writer in 0..100 {
            let path = &path;
            scope.spawn(move || {
                RcFile::update(path, |rc| {
                    rc.edit_list(Scope::Profile("all"), "writers", |list| list.push(writer.into()));
                    Ok::<_, RcError>(())
                })
                .unwrap();
            });
        }
    });
    let mut writers: Vec<i64> =
        serde_json::from_value(json_in(&path)["profile"]["all"]["writers"].clone()).unwrap();
    writers.sort_unstable();
    assert_eq!(writers, (0..100).collect::<Vec<_>>());
}

/// Not a test by itself: the code of the child processes of the tests below.
#[test]
fn writer_process() {
    let Some(path) = std::env::var_os("CONFIG_RC_TEST_PATH") else {
        return;
    };
    let writer = std::env::var("CONFIG_RC_TEST_WRITER").unwrap();
    let rounds: usize = std::env::var("CONFIG_RC_TEST_ROUNDS").unwrap().parse().unwrap();
    for _ in 0..rounds {
        RcFile::update(&path, |rc| {
            let count = rc.get(Scope::Defaults, &writer).and_then(Value::as_u64).unwrap_or(0);
            rc.set(Scope::Defaults, &writer, (count + 1).into());
            rc.set(Scope::Profile(&writer), "padding", "x".repeat(20_000).into());
            Ok::<_, RcError>(())
        })
        .unwrap();
    }
}

fn start_writer(path: &Path, writer: usize, rounds: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer_process", "--test-threads=1"])
        .env("CONFIG_RC_TEST_PATH", path)
        .env("CONFIG_RC_TEST_WRITER", format!("writer-{writer}"))
        .env("CONFIG_RC_TEST_ROUNDS", rounds.to_string())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn many_processes_lose_no_change() {
    let directory = directory();
    let path = directory.path().join("rc");
    let mut writers: Vec<_> = (0..10).map(|writer| start_writer(&path, writer, 10)).collect();
    for writer in &mut writers {
        assert!(writer.wait().unwrap().success());
    }
    for writer in 0..10 {
        assert_eq!(json_in(&path)[format!("writer-{writer}")], 10);
    }
}

#[test]
fn killed_processes_leave_one_whole_version() {
    let directory = directory();
    let path = directory.path().join("rc");
    set(&path, "survivor", "here").unwrap();
    for round in 0..5 {
        let mut writers: Vec<_> =
            (0..2).map(|writer| start_writer(&path, writer, usize::MAX)).collect();
        // The file has to be complete at any moment: read it until the writers have written, then kill them.
        let before = json_in(&path)["writer-0"].as_u64().unwrap_or(0);
        while json_in(&path)["writer-0"].as_u64().unwrap_or(0) <= before + round {
            assert!(writers.iter_mut().all(|writer| writer.try_wait().unwrap().is_none()));
        }
        for writer in &mut writers {
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        assert_eq!(json_in(&path)["survivor"], "here");
        set(&path, "survivor", "here").unwrap();
    }
}
