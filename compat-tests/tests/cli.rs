//! The configuration commands of Perl's tool and ours with the same chains of subcommands: they write the
//! same files and print the same, and each reads what the other wrote.
//!
//! Perl's tool is `$PERL_AEMP`, or `perl-aemp` in the search path; without it nothing is compared, and
//! each test says so. Ours is `$AEMP`, or the one built here.
#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::{Deserializer, Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// An initial file, and the chain for both tools. `PEM` stands for a file with a certificate.
type Case = (&'static str, &'static [&'static str]);

const NOTHING: &str = "";
const NETWORK: &str = r#"{
   # comments and trailing commas are allowed
   "version": 1, "secret": "geheim", "monitor_timeout": 10, "chat": {"rooms": [1, 2.5, null, true]},
   "seeds": ["10.0.0.1:4040", "10.0.0.2:4040", "10.0.0.1:4040"],
   "services": ["A::", "B::f", "A::", ["C::g", 1, "x"]],
   "profile": {
      "base": {"nodeid": "base/%n/", "binds": ["*:4040"], "framing_format": ["json"]},
      "middle": {"parent": "base", "secret": "middle", "autocork": 1},
      "leaf": {"parent": "middle", "nodeid": "leaf", "unknown": {"a": [1, {"b": "c"}]}},
      "orphan": {"parent": "nobody", "nodeid": "orphan"},
      "empty": {},
   },
}"#;

const CHAINS: &[Case] = &[
    (NOTHING, &["setnodeid", "n1"]),
    (NOTHING, &["nodeid", "n1", "secret", "geheim"]),
    (NOTHING, &["setsecret", "a b", "setnodeid", "x/%n/%u"]),
    (NOTHING, &["secret", "gr\u{fc}n"]),
    (NOTHING, &["secret", "\"gr\u{fc}n \\u263a \\ud83d\\ude00\""]),
    (NOTHING, &["secret", "", "nodeid", "0"]),
    (NOTHING, &["secret", "\"[not json\""]),
    (NOTHING, &["secret", "\"line\\nend \\\"quoted\\\" \\\\ \\u0001\""]),
    (NOTHING, &["setcert", "PEM"]),
    (NOTHING, &["cert", "PEM", "delcert"]),
    (NOTHING, &["setbinds", "a,b"]),
    (NOTHING, &["binds", ",a,, b ,,"]),
    (NOTHING, &["binds", ""]),
    (NOTHING, &["binds", ","]),
    (NOTHING, &["binds", "[\"127.0.0.1:*\", \"[::1]:4040\"]"]),
    (NOTHING, &["binds", "\"[::1]:4040,*\""]),
    (NOTHING, &["binds", "[]", "seeds", "[4040]"]),
    (NOTHING, &["addbind", "a", "addbind", "b", "addbind", "a"]),
    (NOTHING, &["delbind", "a", "delseed", "b", "delservice", "c"]),
    (NOTHING, &["addservice", "A::", "addservice", "A::", "addservice", "[\"f\",1]"]),
    (NOTHING, &["services", "A::,B::f"]),
    (NOTHING, &["services", "[[\"f\", {\"a\": [true, false, null]}], \"A::\"]"]),
    (NOTHING, &["seteval", "print 1"]),
    (NOTHING, &["monitor_timeout", "12", "connect_interval", "1.5", "nodelay", "true"]),
    (NOTHING, &["setmonitor_timeout", "\"12\"", "setsecure", "1", "setautocork", "0"]),
    (NOTHING, &["framing_format", "[\"json\",\"cbor\"]", "auth_offer", "[\"hmac_sha3_512\"]"]),
    (NOTHING, &["auth_accept", "[]", "framing_format", "json"]),
    (NOTHING, &["profile", "p"]),
    (NOTHING, &["profile", "p", "profile", "q", "nodeid", "x"]),
    (NOTHING, &["profile", "p", "setparent", "q", "profile", "q", "binds", "*"]),
    (NOTHING, &["profile", "p", "parent", "q", "delparent"]),
    (NOTHING, &["profile", "p", "addseed", "a:1", "addseed", "b:1", "delseed", "a:1"]),
    (NOTHING, &["profile", "12", "nodeid", "34"]),
    (NOTHING, &["profile", "\u{e9}", "nodeid", "x", "showprofile", "\u{e9}"]),
    (NOTHING, &["delprofile", "none"]),
    (NOTHING, &["delnodeid"]),
    (NOTHING, &["[\"setsecret\", \"x\", \"monitor_timeout\", 12, \"nodelay\", null]"]),
    (NOTHING, &["showprofile", "none"]),
    (NOTHING, &["showconfig"]),
    (NOTHING, &["showconfig", "p", "nodeid", "x", "binds", "[\"a\"]", "secure", "1"]),
    (NOTHING, &["showconfig", "p", "norc", "1", "profile", "q", "parent", "r"]),
    (NETWORK, &["delsecret", "delseeds", "delbinds", "delservices"]),
    (NETWORK, &["delseed", "10.0.0.1:4040", "addseed", "10.0.0.2:4040"]),
    (NETWORK, &["delservice", "A::", "delservice", "none"]),
    (NETWORK, &["addservice", "D::", "delservice", "B::f"]),
    (NETWORK, &["profile", "leaf", "delnodeid", "profile", "base", "delbind", "*:4040"]),
    (NETWORK, &["profile", "middle", "delparent", "delautocork", "delmonitor_timeout"]),
    (NETWORK, &["delprofile", "base", "delprofile", "leaf"]),
    (NETWORK, &["profile", "empty"]),
    (NETWORK, &["profile", "orphan", "parent", "base", "showprofile", "orphan"]),
    (NETWORK, &["showprofile", "leaf", "showprofile", "empty", "showprofile", "base"]),
    (NETWORK, &["showprofile", "leaf", "showconfig", "leaf"]),
    (NETWORK, &["showconfig", "leaf"]),
    (NETWORK, &["showconfig", "middle", "monitor_timeout", "99", "connect_interval", "98"]),
    (NETWORK, &["showconfig", "middle", "monitor_timeout", "99", "force", "1"]),
    (NETWORK, &["showconfig", "leaf", "nodeid", "arg", "norc", "1"]),
    (NETWORK, &["showconfig", "leaf", "force", "0", "norc", "0", "nodeid", "arg"]),
    (NETWORK, &["showconfig", "orphan"]),
    (NETWORK, &["showconfig", "nobody"]),
    (NETWORK, &["profile", "leaf", "secret", "new", "showconfig", "leaf"]),
    (NETWORK, &["profile", "secret", "secret", "secret", "showprofile", "secret"]),
];

/// Chains that neither tool accepts.
const REFUSED: &[&[&str]] = &[
    &[],
    &["bogus"],
    &["setprofile", "x"],
    &["seteval"],
    &["setnodeid"],
    &["setsecret"],
    &["setcert"],
    &["setcert", "/no/such/file"],
    &["addbind"],
    &["delseed"],
    &["profile"],
    &["showprofile"],
    &["setparent"],
    &["setmonitor_timeout"],
    &["secret", "x", "run"],
    &["secret", "[1,"],
];

fn perl_tool() -> Option<PathBuf> {
    let from_path = || {
        let directories = env::var_os("PATH")?;
        env::split_paths(&directories)
            .map(|directory| directory.join("perl-aemp"))
            .find(|file| file.is_file())
    };
    let tool = env::var_os("PERL_AEMP").map(PathBuf::from).or_else(from_path);
    if tool.is_none() {
        eprintln!("SKIPPED: no Perl tool; let PERL_AEMP name the `aemp` of AnyEvent::MP");
    }
    tool
}

fn our_tool() -> &'static Path {
    static TOOL: OnceLock<PathBuf> = OnceLock::new();
    TOOL.get_or_init(compat_tests::node::command)
}

/// A temporary directory.
struct Bench(PathBuf);

impl Bench {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("aemp-cli-{}-{count}", std::process::id());
        let bench = Self(env::temp_dir().join(name));
        fs::create_dir(&bench.0).unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n\
                   -----BEGIN PRIVATE KEY-----\nMA==\n-----END PRIVATE KEY-----\n\u{e9}";
        fs::write(bench.0.join("PEM"), pem).unwrap();
        bench
    }

    fn begin_with(&self, content: &str) {
        let rc = self.0.join("rc");
        match content {
            NOTHING => drop(fs::remove_file(rc)),
            content => fs::write(rc, content).unwrap(),
        }
    }

    /// Whether it succeeded, and what it printed.
    fn run(&self, tool: &Path, arguments: &[&str]) -> (bool, Vec<u8>) {
        let output = Command::new(tool)
            .args(arguments)
            .current_dir(&self.0)
            .env("PERL_ANYEVENT_MP_RC", self.0.join("rc"))
            .stderr(Stdio::null())
            .output()
            .unwrap();
        (output.status.success(), output.stdout)
    }

    fn file(&self) -> Value {
        match fs::read(self.0.join("rc")) {
            Ok(content) => without_empty_profiles(relaxed(&content)),
            Err(_) => Value::Null,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _gone = fs::remove_dir_all(&self.0);
    }
}

fn relaxed(content: &[u8]) -> Value {
    aemp::config::relaxed::parse(content).unwrap()
}

/// Perl creates an empty table of profiles when it looks for one.
fn without_empty_profiles(mut file: Value) -> Value {
    if file["profile"] == json!({})
        && let Some(root) = file.as_object_mut()
    {
        root.remove("profile");
    }
    file
}

/// All JSON texts that were printed, octets as characters. Perl shows a counter of its own if the
/// chain changed something.
fn shown(stdout: &[u8]) -> Vec<Value> {
    let text = match std::str::from_utf8(stdout) {
        Ok(text) => text.to_owned(),
        Err(_) => aemp::config::octets::from_octets(stdout),
    };
    let values = Deserializer::from_str(&text).into_iter::<Value>();
    values
        .map(|value| {
            let mut value = value.unwrap();
            if let Some(object) = value.as_object_mut() {
                object.remove("dirty");
            }
            value
        })
        .collect()
}

#[test]
fn each_chain_leaves_the_same_file_and_shows_the_same() {
    let Some(perl) = perl_tool() else { return };
    let bench = Bench::new();
    for (content, chain) in CHAINS {
        let mut results = [perl.as_path(), our_tool()].into_iter().map(|tool| {
            bench.begin_with(content);
            let (success, stdout) = bench.run(tool, chain);
            assert!(success, "{chain:?}: refused by {}", tool.display());
            (bench.file(), shown(&stdout))
        });
        assert_eq!(results.next(), results.next(), "{chain:?}: Perl's left, ours right");
    }
}

#[test]
fn both_tools_work_in_turn_on_one_file() {
    let Some(perl) = perl_tool() else { return };
    let (ours, mixed) = (Bench::new(), Bench::new());
    for (index, (_, chain)) in CHAINS.iter().enumerate() {
        ours.run(our_tool(), chain);
        let tool = if index % 2 == 0 { our_tool() } else { &perl };
        mixed.run(tool, chain);
        assert_eq!(ours.file(), mixed.file(), "after {chain:?}");
    }
}

#[test]
fn what_is_printed_has_the_same_layout() {
    let Some(perl) = perl_tool() else { return };
    let bench = Bench::new();
    for tool in [&perl, our_tool()] {
        // One key in each object: Perl's order of keys is random.
        bench.begin_with(r#"{"profile": {"p": {"services": [["f", 1, {"a": {}}], [], "x"]}}}"#);
        let (_, stdout) = bench.run(tool, &["showprofile", "p"]);
        let expected = "{\n   \"services\" : [\n      [\n         \"f\",\n         1,\n         \
                        {\n            \"a\" : {}\n         }\n      ],\n      [],\n      \"x\"\n   \
                        ]\n}\n";
        assert_eq!(String::from_utf8(stdout).unwrap(), expected, "{}", tool.display());
        bench.begin_with(NOTHING);
        bench.run(tool, &["profile", "p", "secret", "gr\u{fc}n"]);
        let (_, stdout) = bench.run(tool, &["showprofile", "p"]);
        assert_eq!(stdout, "{\n   \"secret\" : \"gr\u{fc}n\"\n}\n".as_bytes());
        bench.run(tool, &["profile", "p", "secret", "\"\u{263a}\""]);
        let (_, stdout) = bench.run(tool, &["showprofile", "p"]);
        assert_eq!(stdout, "{\n   \"secret\" : \"\u{263a}\"\n}\n".as_bytes());
    }
}

#[test]
fn generated_secrets_look_alike() {
    let Some(perl) = perl_tool() else { return };
    let bench = Bench::new();
    for tool in [&perl, our_tool()] {
        assert!(bench.run(tool, &["gensecret"]).0);
        let file = bench.file();
        let secret = file["secret"].as_str().unwrap();
        assert!(secret.len() == 180 && secret.bytes().all(|c| c.is_ascii_alphanumeric()));
    }
}

#[test]
fn generated_certificates_have_the_same_parts_in_the_same_order() {
    let Some(perl) = perl_tool() else { return };
    let bench = Bench::new();
    let labels = [perl.as_path(), our_tool()].map(|tool| {
        assert!(bench.run(tool, &["gencert"]).0);
        let file = bench.file();
        let lines = file["cert"].as_str().unwrap().lines();
        lines.filter(|line| line.starts_with("-----")).map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(labels[0], labels[1]);
}

#[test]
fn what_perl_refuses_we_refuse_without_changing_anything() {
    let Some(perl) = perl_tool() else { return };
    let bench = Bench::new();
    for chain in REFUSED {
        bench.begin_with(NETWORK);
        assert!(!bench.run(&perl, chain).0, "{chain:?}");
        bench.begin_with(NETWORK);
        let before = bench.file();
        assert_eq!(bench.run(our_tool(), chain), (false, Vec::new()), "{chain:?}");
        assert_eq!(bench.file(), before, "{chain:?}");
    }
}
