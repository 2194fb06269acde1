//! The command's grammar, and the effect of chains of subcommands on the rc file.
#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

struct Bench {
    directory: TempDir,
}

struct Answer {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    fn with(content: &str) -> Self {
        let bench = Self::new();
        fs::write(bench.rc(), content).unwrap();
        bench
    }

    fn rc(&self) -> PathBuf {
        self.directory.path().join("rc")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aemp"));
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("PERL_ANYEVENT_MP_RC", self.rc());
        command
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        Answer {
            code: status.code().unwrap(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
        }
    }

    /// Runs a chain that prints nothing and succeeds, and returns the file.
    fn after(&self, arguments: &[&str]) -> Value {
        let answer = self.run(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (0, ""), "{}", answer.stderr);
        self.file()
    }

    fn file(&self) -> Value {
        serde_json::from_slice(&fs::read(self.rc()).unwrap()).unwrap()
    }

    /// Runs an invalid command line on a file with content, and returns the only line of its output.
    fn complaint(arguments: &[&str]) -> String {
        let before = r#"{"version":1,"secret":"kept"}"#;
        let bench = Self::with(before);
        let answer = bench.run(arguments);
        assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{}", answer.stderr);
        assert_eq!(fs::read_to_string(bench.rc()).unwrap(), before, "{}", answer.stderr);
        assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
        answer.stderr
    }
}

fn written(arguments: &[&str]) -> Value {
    Bench::new().after(arguments)
}

#[test]
fn a_chain_changes_the_defaults_and_then_a_profile() {
    let file = written(&[
        "setsecret",
        "geheim",
        "seeds",
        "10.0.0.1:4040,10.0.0.2:4040",
        "profile",
        "worker",
        "nodeid",
        "worker/%n/",
        "setparent",
        "cluster",
        "binds",
        "[\"127.0.0.1:*\"]",
    ]);
    assert_eq!(
        file,
        json!({
            "version": 1,
            "secret": "geheim",
            "seeds": ["10.0.0.1:4040", "10.0.0.2:4040"],
            "profile": {"worker": {
                "nodeid": "worker/%n/",
                "parent": "cluster",
                "binds": ["127.0.0.1:*"],
            }},
        })
    );
}

#[test]
fn every_key_has_a_long_a_short_and_a_deleting_form() {
    let keys = [
        "nodeid",
        "secret",
        "monitor_timeout",
        "connect_interval",
        "framing_format",
        "auth_offer",
        "auth_accept",
        "autocork",
        "nodelay",
        "secure",
        "tls_required",
        "encrypt",
        "handshake_limit",
        "handshake_limit_per_address",
        "heal",
        "heartbeat",
        "shutdown",
        "log_level",
        "metrics_values",
    ];
    for key in keys {
        let bench = Bench::new();
        let set = format!("set{key}");
        assert_eq!(bench.after(&[&set, "\"7\""]), json!({"version": 1, key: "7"}));
        assert_eq!(bench.after(&[key, "[\"8\", 9]"]), json!({"version": 1, key: ["8", 9]}));
        assert_eq!(bench.after(&[&format!("del{key}")]), json!({"version": 1}));
    }
    for key in ["binds", "seeds", "services", "advertise"] {
        let bench = Bench::new();
        let set = format!("set{key}");
        assert_eq!(bench.after(&[&set, "a,b"]), json!({"version": 1, key: ["a", "b"]}));
        assert_eq!(bench.after(&[key, "[\"c\"]"]), json!({"version": 1, key: ["c"]}));
        assert_eq!(bench.after(&[&format!("del{key}")]), json!({"version": 1}));
    }
    let bench = Bench::new();
    assert_eq!(bench.after(&["seteval", "1+1"]), json!({"version": 1, "eval": "1+1"}));
    assert_eq!(bench.after(&["deleval"]), json!({"version": 1}));
}

#[test]
fn values_are_stored_as_texts_unless_they_are_json() {
    let file = written(&["monitor_timeout", "12", "nodelay", "true", "secret", "\"[x]\""]);
    assert_eq!(
        file,
        json!({"version": 1, "monitor_timeout": "12", "nodelay": "true", "secret": "[x]"})
    );
}

#[test]
fn a_single_json_list_is_the_whole_line() {
    let file = written(&["[\"setsecret\", \"--help\", \"monitor_timeout\", 12]"]);
    assert_eq!(file, json!({"version": 1, "secret": "--help", "monitor_timeout": 12}));
}

#[test]
fn lists_are_split_at_commas_as_perl_splits() {
    let file = written(&["binds", ",a,,b ,,", "seeds", ""]);
    assert_eq!(file, json!({"version": 1, "binds": ["", "a", "", "b "], "seeds": []}));
}

#[test]
fn items_are_added_once_and_removed() {
    let bench = Bench::new();
    let file = bench.after(&["addbind", "a", "addbind", "b", "addbind", "a"]);
    assert_eq!(file["binds"], json!(["b", "a"]));
    assert_eq!(bench.after(&["delbind", "b"])["binds"], json!(["a"]));
    assert_eq!(bench.after(&["delbind", "a"])["binds"], json!([]));
    assert_eq!(bench.after(&["delseed", "nothing"])["seeds"], json!([]));
    assert_eq!(bench.after(&["seeds", "[4040]", "delseed", "4040"])["seeds"], json!([]));
}

#[test]
fn services_may_be_there_twice_and_go_one_at_a_time() {
    let bench = Bench::new();
    let file = bench.after(&["addservice", "a::", "addservice", "a::", "addservice", "[\"f\",1]"]);
    assert_eq!(file["services"], json!(["a::", "a::", ["f", 1]]));
    assert_eq!(bench.after(&["delservice", "a::"])["services"], json!(["a::", ["f", 1]]));
    assert_eq!(bench.after(&["delservice", "[\"f\",1]"])["services"], json!(["a::"]));
}

#[test]
fn profiles_are_made_even_if_empty_and_deleted() {
    let bench = Bench::new();
    let file = bench.after(&["profile", "a", "profile", "b", "nodeid", "n"]);
    assert_eq!(file, json!({"version": 1, "profile": {"a": {}, "b": {"nodeid": "n"}}}));
    let file = bench.after(&["delprofile", "b"]);
    assert_eq!(file, json!({"version": 1, "profile": {"a": {}}}));
}

#[test]
fn the_certificate_is_the_content_of_the_file() {
    let bench = Bench::new();
    let pem = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n\
               -----BEGIN PRIVATE KEY-----\ny\n-----END PRIVATE KEY-----\n";
    fs::write(bench.directory.path().join("my.pem"), pem).unwrap();
    assert_eq!(bench.after(&["setcert", "my.pem"]), json!({"version": 1, "cert": pem}));
}

#[test]
fn a_secret_can_be_read_from_standard_input() {
    let bench = Bench::new();
    let mut command = bench.command(&["secret", "-"]);
    fs::write(bench.directory.path().join("secret"), "typed by nobody\n").unwrap();
    command.stdin(fs::File::open(bench.directory.path().join("secret")).unwrap());
    assert!(command.status().unwrap().success());
    let rc: Value = serde_json::from_slice(&fs::read(bench.rc()).unwrap()).unwrap();
    assert_eq!(rc["secret"], "typed by nobody");
    let mut command = bench.command(&["secret", "-"]);
    command.stdin(std::process::Stdio::null());
    assert_eq!(command.status().unwrap().code(), Some(2), "nothing is no secret");
}

#[test]
fn a_file_with_a_byte_order_mark_is_refused_with_its_name() {
    let bench = Bench::with("\u{feff}{}");
    let answer = bench.run(&["profiles"]);
    assert_eq!(answer.code, 2);
    assert!(answer.stderr.contains("byte order mark"), "{}", answer.stderr);
}

#[test]
fn a_link_to_a_file_that_is_not_there_yet_is_followed() {
    let bench = Bench::new();
    std::os::unix::fs::symlink("elsewhere", bench.rc()).unwrap();
    assert_eq!(bench.run(&["secret", "x"]).code, 0);
    assert!(bench.rc().is_symlink());
    let names = fs::read_dir(bench.directory.path()).unwrap();
    let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["elsewhere", "elsewhere~lock~", "rc"]);
}

#[test]
fn a_generated_secret_is_long_private_and_not_shown() {
    let bench = Bench::new();
    let file = bench.after(&["gensecret"]);
    let secret = file["secret"].as_str().unwrap();
    assert_eq!(secret.len(), 180);
    assert!(secret.bytes().all(|c| c.is_ascii_alphanumeric()));
    let mode = fs::metadata(bench.rc()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_ne!(bench.after(&["gensecret"])["secret"], file["secret"]);
}

#[test]
fn a_generated_certificate_has_its_key_beside_it_and_is_not_shown() {
    let bench = Bench::new();
    let file = bench.after(&["profile", "p", "gencert"]);
    let pem = file["profile"]["p"]["cert"].as_str().unwrap();
    let labels: Vec<_> = pem.lines().filter(|line| line.starts_with("-----BEGIN")).collect();
    assert_eq!(labels, ["-----BEGIN CERTIFICATE-----", "-----BEGIN PRIVATE KEY-----"]);
}

#[test]
fn unknown_keys_survive() {
    let bench = Bench::with(
        "{ # mine\n\"chat\": {\"rooms\": [1, null]}, \"profile\": {\"p\": {\"x\": 1}},}",
    );
    let file = bench.after(&["profile", "p", "nodeid", "n"]);
    assert_eq!(
        file,
        json!({"chat": {"rooms": [1, null]}, "profile": {"p": {"x": 1, "nodeid": "n"}}})
    );
}

#[test]
fn a_file_that_does_not_parse_is_left_alone() {
    let bench = Bench::with("{\"secret\": oops}");
    let answer = bench.run(&["setsecret", "x"]);
    assert_eq!(answer.code, 2);
    assert!(answer.stderr.contains("line 1, column 12"), "{}", answer.stderr);
    assert_eq!(fs::read_to_string(bench.rc()).unwrap(), "{\"secret\": oops}");
}

#[test]
fn showing_follows_the_changes_before_it() {
    let bench = Bench::new();
    let line =
        ["profile", "p", "nodeid", "a", "showprofile", "p", "nodeid", "b", "showprofile", "p"];
    let answer = bench.run(&line);
    assert_eq!(answer.stdout, "{\n   \"nodeid\" : \"a\"\n}\n{\n   \"nodeid\" : \"b\"\n}\n");
    assert_eq!(bench.run(&["showprofile", "none"]).stdout, "{}\n");
}

#[test]
fn showing_alone_writes_nothing() {
    let bench = Bench::new();
    for line in [&["showconfig"][..], &["showprofile", "p"], &["profiles"], &["help"]] {
        assert_eq!(bench.run(line).code, 0);
    }
    assert_eq!(fs::read_dir(bench.directory.path()).unwrap().count(), 0);
}

#[test]
fn the_effective_configuration_puts_profile_parents_defaults_and_arguments_together() {
    let bench = Bench::with(
        r#"{"version": 1, "secret": "top", "monitor_timeout": 5,
            "profile": {"a": {"parent": "b", "nodeid": "a"}, "b": {"nodeid": "b", "secret": "b"}}}"#,
    );
    let shown = |line: &[&str]| -> Value {
        let answer = bench.run(line);
        assert_eq!(answer.code, 0, "{}", answer.stderr);
        serde_json::from_str(&answer.stdout).unwrap()
    };
    let a = shown(&["showconfig", "a", "autocork", "1", "monitor_timeout", "7"]);
    assert_eq!(
        a,
        json!({
            "version": 1, "secret": "b", "nodeid": "a", "monitor_timeout": 5, "autocork": "1",
            "connect_interval": 2, "framing_format": ["cbor", "json", "storable"],
            "auth_offer": ["tls_sha3_512", "hmac_sha3_512"],
            "auth_accept": ["tls_sha3_512", "hmac_sha3_512", "tls_anon", "cleartext"],
        })
    );
    let forced = shown(&["showconfig", "a", "nodeid", "x", "force", "1"]);
    assert_eq!((&forced["nodeid"], &forced["monitor_timeout"]), (&json!("x"), &json!(30)));
    let alone = shown(&["showconfig", "a", "nodeid", "x", "norc", "1", "profile", "b"]);
    assert_eq!((&alone["nodeid"], alone.get("secret")), (&json!("x"), None));
}

#[test]
fn json_output_is_one_line_of_ascii() {
    let bench = Bench::with("{\"profile\": {\"p\": {\"secret\": \"\u{e9}\u{1f600}\"}}}");
    let line = "{\"secret\":\"\\u00e9\\ud83d\\ude00\"}\n";
    for arguments in [
        ["--json", "showprofile", "p"],
        ["showprofile", "--json", "p"],
        ["showprofile", "p", "--json"],
    ] {
        assert_eq!(bench.run(&arguments).stdout, line);
    }
    assert_eq!(bench.run(&["profiles"]).stdout, "p\n");
    assert_eq!(bench.run(&["profiles", "--json"]).stdout, "[\"p\"]\n");
    let config = bench.run(&["showconfig", "p", "--json"]).stdout;
    assert!(config.lines().count() == 1 && config.is_ascii());
}

#[test]
fn octets_that_were_typed_are_printed_as_they_were() {
    let bench = Bench::new();
    let answer = bench.run(&["profile", "p", "secret", "gr\u{fc}n", "showprofile", "p"]);
    assert_eq!(answer.stdout, "{\n   \"secret\" : \"gr\u{fc}n\"\n}\n");
}

#[test]
fn an_unknown_subcommand_is_named_with_what_was_meant() {
    let complaint = Bench::complaint(&["setsecret", "x", "monitor_timeuot", "3"]);
    assert!(complaint.contains("\"monitor_timeuot\""), "{complaint}");
    assert!(complaint.contains("did you mean `monitor_timeout`?"), "{complaint}");
    let complaint = Bench::complaint(&["setbinds", "a", "b\x1b[31m"]);
    assert!(complaint.contains("after `setbinds ADDRESSES`"), "{complaint}");
    assert!(!complaint.contains('\x1b'));
}

#[test]
fn a_misspelt_option_is_no_profile() {
    for subcommand in ["run", "doctor", "showconfig"] {
        let complaint = Bench::complaint(&[subcommand, "--no-watchdgo"]);
        assert!(complaint.contains("--no-watchdgo"), "{complaint}");
    }
}

#[test]
fn a_missing_argument_is_named() {
    for (line, name) in [
        (&["setsecret"][..], "SECRET"),
        (&["nodelay", "1", "addbind"], "ADDRESS"),
        (&["secret", "x", "profile"], "PROFILE"),
        (&["setcert"], "FILE"),
        (&["secret", "x", "completions"], "SHELL"),
    ] {
        let complaint = Bench::complaint(line);
        assert!(complaint.starts_with(&format!("aemp: {name} is missing")), "{complaint}");
    }
}

#[test]
fn an_invalid_chain_writes_nothing() {
    let lines: &[&[&str]] = &[
        &["secret", "x", "--bogus"],
        &["secret", "x", ""],
        &["secret", "x", "setcert", "no/such.pem"],
        &["secret", "x", "binds", "[1,"],
        &["secret", "x", "profile", "[\"a\"]"],
        &["secret", "x", "profile", "a", "parent", "b", "profile", "b", "parent", "a"],
        &["secret", "x", "run", "y"],
        &["secret", "x", "help", "nonsense"],
        &["secret", "x", "completions", "csh"],
        &["secret", "x", "showconfig", "p", "key"],
        &[],
    ];
    for line in lines {
        Bench::complaint(line);
    }
}

#[test]
fn a_value_that_no_node_takes_is_stored_with_a_warning() {
    let bench = Bench::new();
    let answer =
        bench.run(&["framing_format", "json", "monitor_timeout", "soon", "addbind", "::1:x"]);
    assert_eq!((answer.code, answer.stderr.lines().count()), (0, 3), "{}", answer.stderr);
    assert!(answer.stderr.contains("write `aemp setframing_format '[\"json\"]'`"));
    assert_eq!(bench.file()["monitor_timeout"], "soon");
}

#[test]
fn help_is_printed_instead_of_doing_anything() {
    let bench = Bench::new();
    for line in [
        &["setsecret", "--help"][..],
        &["help", "setsecret"],
        &["help", "secret"],
        &["--help", "setsecret"],
        &["setsecret", "x", "--help"],
    ] {
        let answer = bench.run(line);
        assert_eq!(answer.code, 0);
        assert!(answer.stdout.starts_with("Usage: aemp setsecret SECRET\n"), "{}", answer.stdout);
        assert!(answer.stdout.contains("Example:"));
    }
    assert!(!bench.rc().exists());
    assert!(bench.run(&["--help"]).stdout.contains("Two nodes on this machine"));
    let version = concat!("aemp ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(bench.run(&["--version"]).stdout, version);
}

#[test]
fn many_writers_lose_nothing() {
    let bench = Bench::new();
    let items: Vec<String> = (0..40).map(|i| format!("10.0.0.{i}:4040")).collect();
    let start = |item: &String| bench.command(&["addseed", item]).spawn().unwrap();
    let children: Vec<_> = items.iter().map(start).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let mut seeds: Vec<String> = serde_json::from_value(bench.file()["seeds"].clone()).unwrap();
    seeds.sort();
    let mut items = items;
    items.sort();
    assert_eq!(seeds, items);
}

#[test]
fn a_node_that_cannot_be_configured_is_refused_in_one_line() {
    let lines: &[(&[&str], &str)] = &[
        (&["run", "norc", "1"], "neither a secret nor a certificate"),
        (&["run", "norc", "1", "secret", "topsecret", "binds", "a:b:c"], "`binds`"),
        (&["run", "norc", "1", "secret", "topsecret", "seeds", "h:99999"], "`seeds`"),
        (&["run", "norc", "1", "secret", "topsecret", "cert", "nopem"], "`cert`"),
        (&["run", "norc", "1", "secret", "topsecret", "nodeid", "a#b"], "`nodeid`"),
        (&["run", "norc", "1", "secret", "topsecret", "monitor_timeout", "0"], "seconds"),
        (&["run", "norc", "1", "secret", "[\"topsecret\"]"], "`secret`"),
        (&["run", "norc", "1", "secret", "topsecret", "binds", "{"], "argument 7"),
    ];
    for (line, part) in lines {
        let complaint = Bench::complaint(line);
        assert!(complaint.contains(part), "{complaint}");
        assert!(!complaint.contains("topsecret"), "{complaint}");
    }
}

#[test]
fn completion_scripts_ask_the_command_itself() {
    let bench = Bench::with("{\"profile\": {\"$(touch pwned)\": {}, \"a b\": {}}}");
    for shell in ["bash", "zsh", "fish"] {
        let script = bench.run(&["completions", shell]).stdout;
        assert!(script.contains(&format!("aemp __complete {shell}")), "{shell}");
    }
    let line = ["__complete", "bash", "aemp secret 'x y' profile "];
    assert_eq!(bench.run(&line).stdout, "words\n\\$\\(touch\\ pwned\\)\na\\ b\n");
    let answer = bench.run(&["__complete", "fish", "run", "p", "nodel"]).stdout;
    assert!(answer.starts_with("words\n") && answer.contains("\nnodelay\t"), "{answer}");
    let answer = bench.run(&["__complete", "zsh", "tra"]).stdout;
    assert!(answer.contains("\ntrace:Print which nodes"), "{answer}");
    assert_eq!(bench.run(&["__complete", "zsh", "setcert", ""]).stdout, "file\n");
    assert!(bench.run(&["man"]).stdout.starts_with(".TH AEMP 1"));
}

/// Runs the command with a file size limit of one kilobyte: as on a full disk, writing more fails, or
/// kills the process immediately.
fn on_a_full_disk(bench: &Bench, before: &str, arguments: &[&str]) -> Output {
    let script = format!("{before} ulimit -f 1; exec \"$0\" \"$@\"");
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_aemp")).args(arguments);
    command.env("PERL_ANYEVENT_MP_RC", bench.rc()).output().unwrap()
}

#[test]
fn on_a_full_disk_the_old_configuration_stays() {
    let value = "x".repeat(3000);
    let content = json!({"version": 1, "secret": value}).to_string();
    let bench = Bench::with(&content);
    for before in ["trap '' XFSZ;", ""] {
        let answer = on_a_full_disk(&bench, before, &["setnodeid", "other"]);
        assert!(!answer.status.success());
        let said = String::from_utf8(answer.stderr).unwrap();
        assert_eq!(said.contains("cannot write the configuration"), !before.is_empty(), "{said}");
        assert_eq!(fs::read_to_string(bench.rc()).unwrap(), content);
    }
    // Files that it left behind do no harm.
    let after = json!({"version": 1, "secret": value, "nodeid": "other"});
    assert_eq!(bench.after(&["setnodeid", "other"]), after);
    assert_eq!(fs::read_to_string(bench.rc().with_file_name("rc~")).unwrap(), content);
}
