//! Values that pass through a seed of ours arrive as through a Perl seed: by relay and by the
//! database, for each pair of framings.

// Helpers of tests may fail loudly, but clippy sees only functions marked as tests as such.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use compat_tests::node::Aemp;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const FRAMINGS: [&str; 3] = ["cbor", "json", "storable"];

/// What the receiver says of each value that arrived, by the value's name.
type Got = BTreeMap<String, String>;

/// Which seeds there are between the two Perl nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Between {
    Perl,
    Ours,
    /// The sender joins by a Perl seed, the receiver by ours.
    Both,
}

/// The seeds, the sender's first; they end with this.
struct Seeds {
    ours: Option<Aemp>,
    perl: Option<PerlNode>,
}

impl Seeds {
    fn start(between: Between) -> Seeds {
        let perl = (between != Between::Ours).then(|| {
            let mut seed = PerlNode::start("perl-seed", json!({}));
            load(&mut seed);
            seed
        });
        let ours = (between != Between::Perl).then(|| match &perl {
            Some(perl) => Aemp::start("rust-seed", &[("seeds", perl.address())]),
            None => Aemp::start("rust-seed", &[]),
        });
        Seeds { ours, perl }
    }

    /// IDs and addresses.
    fn route(&self) -> Vec<(String, String)> {
        let perl = self.perl.iter().map(|seed| (seed.id().to_owned(), seed.address().to_owned()));
        let ours = self.ours.iter().map(|seed| (seed.id().to_owned(), seed.address()));
        perl.chain(ours).collect()
    }
}

fn load(node: &mut PerlNode) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/perl/pairs.pl");
    node.eval(&format!("require '{script}'; ()"));
}

/// Has Perl node A send all values to Perl node B, by `way` ("relay" or "database").
fn exchange(between: Between, way: &str, from: &str, to: &str) -> Got {
    let seeds = Seeds::start(between);
    let route = seeds.route();
    let joining = |address: &str, framing| json!({"seeds": [address], "framing_format": [framing]});
    let (first, last) = (route.first().unwrap(), route.last().unwrap());
    let mut b = PerlNode::start("perl-b", joining(&last.1, to));
    load(&mut b);
    let mut a = PerlNode::start("perl-a", joining(&first.1, from));
    load(&mut a);
    b.sees_up(&last.0);
    a.sees_up(&first.0);
    let port = b.eval("Pairs::listen()")[0].as_str().unwrap().to_owned();
    // `snd SEED, "snd", NEXT, "snd", PORT, ...`: each seed hands on what comes after its "snd".
    let there = hops(route.iter());
    let back = hops(route.iter().rev());
    a.eval(&format!("Pairs::{way}('{port}', [{back}], {there})"));
    let end = a.expect("the end of the exchange", |event| event["event"] == "pairs");
    let got: Value = b.eval("Pairs::got()")[0].clone();
    let got: Got = serde_json::from_value(got).unwrap();
    eprintln!("{between:?} {way} {from} {to}: {} values, lost: {}", got.len(), end["lost"]);
    got
}

fn hops<'a>(route: impl Iterator<Item = &'a (String, String)>) -> String {
    route.map(|(id, _)| format!("'{id}', 'snd'")).collect::<Vec<_>>().join(", ")
}

/// Differences from what a Perl seed hands on, where a Perl seed loses something or makes an object
/// of its own that ours would have to know; docs/protocol.md lists them too.
fn is_accepted(from: &str, to: &str, name: &str, perl: &str, ours: &str) -> bool {
    let number = |text: &str| {
        let digits = text.strip_prefix("float:").or_else(|| text.strip_prefix("octets:"));
        digits.filter(|_| name.starts_with("float"))?.parse::<f64>().ok()
    };
    // Perl writes floats with 15 digits, we with as many as it takes.
    if let (Some(perl), Some(ours)) = (number(perl), number(ours)) {
        return (perl - ours).abs() <= perl.abs() * 1e-14;
    }
    let is_number = name.contains("big") || name == "ratio";
    match (from, to) {
        // Perl's decoder misreads negative big integers (tag 3), once at each node.
        ("cbor", "cbor") => matches!(name, "negative big" | "long big float"),
        // Perl's own objects for big numbers, and what classes of the sender's have thawed.
        ("cbor", "storable") => is_number || name.starts_with("frozen"),
        ("storable", "cbor") => is_number || name.starts_with("frozen"),
        _ => false,
    }
}

fn compare(from: &str, to: &str) {
    if !perl::has(MODULES) {
        return;
    }
    let mut wrong = Vec::new();
    for way in ["relay", "database"] {
        let perl = exchange(Between::Perl, way, from, to);
        assert!(perl.len() > 40, "a Perl seed hands on most values: {perl:?}");
        for between in [Between::Ours, Between::Both] {
            let ours = exchange(between, way, from, to);
            for (name, perl) in &perl {
                let ours = ours.get(name).map_or("nothing", String::as_str);
                if perl != ours && !is_accepted(from, to, name, perl, ours) {
                    wrong.push(format!(
                        "{from} to {to} by {way} through {between:?}: {name}: {ours} instead of {perl}"
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One test for each pair, so that they run at the same time.
macro_rules! pairs {
    ($($name:ident: $from:literal, $to:literal;)*) => {
        $(#[test]
        fn $name() {
            assert!(FRAMINGS.contains(&$from) && FRAMINGS.contains(&$to));
            compare($from, $to);
        })*
    };
}

pairs! {
    what_comes_in_cbor_goes_on_in_cbor: "cbor", "cbor";
    what_comes_in_cbor_goes_on_in_json: "cbor", "json";
    what_comes_in_cbor_goes_on_in_storable: "cbor", "storable";
    what_comes_in_json_goes_on_in_cbor: "json", "cbor";
    what_comes_in_json_goes_on_in_json: "json", "json";
    what_comes_in_json_goes_on_in_storable: "json", "storable";
    what_comes_in_storable_goes_on_in_cbor: "storable", "cbor";
    what_comes_in_storable_goes_on_in_json: "storable", "json";
    what_comes_in_storable_goes_on_in_storable: "storable", "storable";
}
