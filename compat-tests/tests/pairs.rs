//! Values that pass through our nodes arrive as through Perl nodes: by relay, by the database, or by a
//! program that sends on what it received, for each pair of framings; and when databases meet or lose a
//! master.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::value::{PortId, Value};
use aemp::{Context, MessageRef, Node};
use compat_tests::node::{Aemp, SECRET};
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use serde_json::json;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

const FRAMINGS: [&str; 3] = ["cbor", "json", "storable"];

/// Storable with numbers in native order.
const NATIVE: &str = "native";

/// The receiver's description of each value that arrived, by the value's name.
type ReceivedValues = BTreeMap<String, String>;

/// A node between the two Perl nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MiddleNode {
    Perl,
    /// The `aemp` command.
    Ours,
    /// A program that sends on the elements as they are kept.
    Elements,
    /// A program that decodes them into [`Value`]s.
    Values,
}

/// A running node between the two Perl nodes; it ends with this.
enum RunningMiddle {
    Perl(PerlNode),
    Ours(Aemp),
    Program { node: Node, port: aemp::CallbackPort, _runtime: Runtime },
}

impl RunningMiddle {
    /// Starts the node, which joins by the one before it.
    fn start(middle: MiddleNode, id: &str, before: Option<&RunningMiddle>) -> RunningMiddle {
        let seed = before.map(RunningMiddle::address);
        match middle {
            MiddleNode::Perl => {
                let seeds = seed.map_or(json!({}), |seed| json!({ "seeds": [seed] }));
                let mut node = PerlNode::start(id, seeds);
                load(&mut node);
                RunningMiddle::Perl(node)
            }
            MiddleNode::Ours => {
                let seeds = seed.as_deref().map(|seed| ("seeds", seed));
                RunningMiddle::Ours(Aemp::start(id, seeds.as_slice()))
            }
            MiddleNode::Elements | MiddleNode::Values => {
                let runtime = Runtime::new().unwrap();
                let builder = Node::builder().node_id(id).secret(SECRET).bind("127.0.0.1:0");
                let node = runtime.block_on(builder.start()).unwrap();
                let port = node.port_with(move |ctx: &Context<'_>, message: MessageRef<'_>| {
                    let to = message.decode::<PortId>()?;
                    if middle == MiddleNode::Elements {
                        ctx.snd(&to, message.elements().after(1))?;
                    } else {
                        let values = message.decode::<Vec<Value>>()?;
                        ctx.snd(&to, values.get(1..).unwrap_or_default())?;
                    }
                    Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
                });
                RunningMiddle::Program { node, port, _runtime: runtime }
            }
        }
    }

    fn id(&self) -> String {
        match self {
            RunningMiddle::Perl(node) => node.id().to_owned(),
            RunningMiddle::Ours(node) => node.id().to_owned(),
            RunningMiddle::Program { node, .. } => node.id().to_string(),
        }
    }

    fn address(&self) -> String {
        match self {
            RunningMiddle::Perl(node) => node.address().to_owned(),
            RunningMiddle::Ours(node) => node.address(),
            RunningMiddle::Program { node, .. } => node.addresses()[0].to_string(),
        }
    }

    /// The beginning of a message that is to be sent on, in Perl: for a relay, the node and `snd`.
    fn hop(&mut self, is_program: bool) -> String {
        match self {
            RunningMiddle::Perl(node) if is_program => {
                format!("'{}'", node.eval("Pairs::forward()")[0].as_str().unwrap())
            }
            RunningMiddle::Program { port, .. } => format!("'{}'", port.id()),
            _ => format!("'{}', 'snd'", self.id()),
        }
    }
}

/// Starts the nodes, the sender's first; each joins by the one before it.
fn start(middles: &[MiddleNode]) -> Vec<RunningMiddle> {
    let mut all: Vec<RunningMiddle> = Vec::new();
    for (at, middle) in middles.iter().enumerate() {
        let node = RunningMiddle::start(*middle, &format!("middle-{at}"), all.last());
        all.push(node);
    }
    all
}

fn load(node: &mut PerlNode) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/perl/pairs.pl");
    node.eval(&format!("require '{script}'; ()"));
}

fn join(id: &str, seeds: &[&RunningMiddle], framing: &str) -> PerlNode {
    let addresses: Vec<String> = seeds.iter().map(|seed| seed.address()).collect();
    let mut node = PerlNode::start(id, json!({"seeds": addresses, "framing_format": [framing]}));
    load(&mut node);
    for seed in seeds {
        node.sees_up(&seed.id());
    }
    node
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Relay,
    Database,
    /// By a program in the middle.
    Program,
}

/// Makes Perl node A send all values to Perl node B.
fn exchange(middles: &[MiddleNode], way: Way, from: &str, to: &str) -> ReceivedValues {
    let mut between = start(middles);
    let mut b = join("perl-b", &[between.last().unwrap()], to);
    let is_native = from == NATIVE;
    let mut a = join("perl-a", &[&between[0]], if is_native { "storable" } else { from });
    if is_native {
        a.eval("Pairs::native()");
    }
    let port = b.eval("Pairs::listen()")[0].as_str().unwrap().to_owned();
    let hops: Vec<String> = between.iter_mut().map(|node| node.hop(way == Way::Program)).collect();
    let back: Vec<&str> = hops.iter().rev().map(String::as_str).collect();
    let (there, back) = (hops.join(", "), back.join(", "));
    let function = if way == Way::Database { "database" } else { "relay" };
    a.eval(&format!("Pairs::{function}('{port}', '{to}', [{back}], {there})"));
    let end = a.expect("the end of the exchange", |event| event["event"] == "pairs");
    let got: ReceivedValues = serde_json::from_value(b.eval("Pairs::got()")[0].clone()).unwrap();
    eprintln!("{middles:?} {way:?} {from} {to}: {} values, lost: {}", got.len(), end["lost"]);
    got
}

/// Differences from what Perl nodes pass on, where these lose something, run code of the value's class,
/// or make an object of their own that our nodes would have to know; docs/protocol.md lists them too.
fn is_accepted(
    path: &[&str],
    middles: &[MiddleNode],
    (name, perl, ours): (&str, &str, &str),
) -> bool {
    let is_number = perl.contains("Math::Big");
    let (perl, mut ours) = (with_rounded_floats(perl), with_rounded_floats(ours));
    if path.last() == Some(&"json") {
        // Perl writes whole floats as integers, so their type is lost.
        ours = with_whole_floats_as_integers(&ours);
    }
    if perl == ours {
        return true;
    }
    // `Value` has no `undefined`.
    if middles.contains(&MiddleNode::Values) && perl == "error" && ours == "undef" {
        return true;
    }
    path.windows(2).any(|hop| match hop {
        // Perl's decoder misreads negative big integers (tag 3), once at each node.
        ["cbor", "cbor"] => is_number && perl.contains('-'),
        // Perl's own objects for big numbers, dates and addresses, and what the sender's classes
        // restore.
        ["cbor", "storable"] => {
            let classes = ["Time::Piece", "URI", "Pairs::Frozen"];
            is_number || classes.into_iter().any(|class| perl.contains(class))
        }
        // The objects' descriptions by their own classes.
        ["storable", "cbor"] => {
            let names = ["for CBOR", "small big integer"];
            is_number || perl.contains("Pairs::Frozen") || names.contains(&name)
        }
        _ => false,
    })
}

/// The framings in which values pass; seeds use CBOR between each other.
fn path<'a>(from: &'a str, middles: &[MiddleNode], to: &'a str) -> Vec<&'a str> {
    let from = if from == NATIVE { "storable" } else { from };
    if middles.len() > 1 { vec![from, "cbor", to] } else { vec![from, to] }
}

/// The description of a value whose whole floats are described as integers.
fn with_whole_floats_as_integers(shown: &str) -> String {
    let mut parts = shown.split("float:");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e');
        let end = part.find(|c| !is_part(c)).unwrap_or(part.len());
        match part[..end].parse::<i64>() {
            Ok(whole) => out.push_str(&format!("integer:{whole}")),
            Err(_) => out.push_str(&format!("float:{}", &part[..end])),
        }
        out.push_str(&part[end..]);
    }
    out
}

/// The description of a value with all floats, be they numbers or strings, cut to 14 digits.
fn with_rounded_floats(shown: &str) -> String {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'e');
    let mut out = String::new();
    let mut rest = shown;
    while let Some(at) = ["float:", "octets:"].iter().filter_map(|kind| rest.find(kind)).min() {
        let colon = at + rest[at..].find(':').unwrap() + 1;
        let end = rest[colon..].find(|c| !is_part(c)).map_or(rest.len(), |end| colon + end);
        let text = &rest[colon..end];
        let is_float = rest[..colon].ends_with("float:");
        out.push_str(&rest[..colon]);
        match text.parse::<f64>() {
            Ok(number) if text.contains(['.', 'e']) || is_float && text.len() > 14 => {
                out.push_str(&format!("{number:.13e}"));
            }
            _ => out.push_str(text),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// What differs between what arrived through Perl nodes and through `middles`.
fn differences(
    (from, to): (&str, &str),
    middles: &[MiddleNode],
    way: &str,
    perl: &ReceivedValues,
    ours: &ReceivedValues,
) -> Vec<String> {
    let path = path(from, middles, to);
    let differ = perl.iter().filter_map(|(name, perl)| {
        let ours = ours.get(name).map_or("nothing", String::as_str);
        (perl != ours && !is_accepted(&path, middles, (name, perl, ours))).then(|| {
            // The text from shortly before the first difference on.
            let same = perl.bytes().zip(ours.bytes()).take_while(|(a, b)| a == b).count();
            let part = |text: &str| text.get(same.saturating_sub(40)..).unwrap_or(text).to_owned();
            let (perl, ours) = (part(perl), part(ours));
            format!("{from} to {to} by {way} through {middles:?}: {name}: {ours}\n  not {perl}")
        })
    });
    differ.collect()
}

fn compare(way: Way, from: &str, to: &str) {
    assert!((from == NATIVE || FRAMINGS.contains(&from)) && FRAMINGS.contains(&to));
    if !perl::has(MODULES) {
        return;
    }
    let mut wrong = Vec::new();
    let one: &[&[MiddleNode]] = match way {
        Way::Program => &[&[MiddleNode::Elements], &[MiddleNode::Values]],
        Way::Relay | Way::Database => &[&[MiddleNode::Ours]],
    };
    let two: &[&[MiddleNode]] = match way {
        Way::Program => &[],
        Way::Relay => &[&[MiddleNode::Perl, MiddleNode::Ours]],
        Way::Database => &[&[MiddleNode::Ours, MiddleNode::Perl]],
    };
    for (perl, others) in
        [(&[MiddleNode::Perl][..], one), (&[MiddleNode::Perl, MiddleNode::Perl], two)]
    {
        if others.is_empty() {
            continue;
        }
        let expected = exchange(perl, way, from, to);
        assert!(expected.len() > 60, "Perl nodes hand on most values: {expected:?}");
        assert!(!expected.contains_key("the port"), "{expected:?}");
        // A Perl node cannot send these as CBOR.
        let is_storable = path(from, perl, to).iter().all(|framing| *framing == "storable");
        if is_storable && way != Way::Program {
            for name in ["list with tail", "all in all", "composed deeply"] {
                assert!(expected.contains_key(name), "Perl nodes hand on {name}: {expected:?}");
            }
        }
        for middles in others {
            let ours = exchange(middles, way, from, to);
            let way = format!("{way:?}");
            wrong.extend(differences((from, to), middles, &way, &expected, &ours));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One test for each pair and way, so that they run at the same time.
macro_rules! pairs {
    ($($name:ident: $way:ident, $from:literal, $to:literal;)*) => {
        $(#[test]
        fn $name() {
            compare(Way::$way, $from, $to);
        })*
    };
}

pairs! {
    what_comes_in_cbor_is_relayed_in_cbor: Relay, "cbor", "cbor";
    what_comes_in_cbor_is_relayed_in_json: Relay, "cbor", "json";
    what_comes_in_cbor_is_relayed_in_storable: Relay, "cbor", "storable";
    what_comes_in_json_is_relayed_in_cbor: Relay, "json", "cbor";
    what_comes_in_json_is_relayed_in_json: Relay, "json", "json";
    what_comes_in_json_is_relayed_in_storable: Relay, "json", "storable";
    what_comes_in_storable_is_relayed_in_cbor: Relay, "storable", "cbor";
    what_comes_in_storable_is_relayed_in_json: Relay, "storable", "json";
    what_comes_in_storable_is_relayed_in_storable: Relay, "storable", "storable";
    what_comes_in_native_order_is_relayed_in_cbor: Relay, "native", "cbor";
    what_comes_in_native_order_is_relayed_in_json: Relay, "native", "json";
    what_comes_in_native_order_is_relayed_in_storable: Relay, "native", "storable";
    the_database_takes_native_order_and_gives_storable: Database, "native", "storable";
    the_database_takes_cbor_and_gives_cbor: Database, "cbor", "cbor";
    the_database_takes_cbor_and_gives_json: Database, "cbor", "json";
    the_database_takes_cbor_and_gives_storable: Database, "cbor", "storable";
    the_database_takes_json_and_gives_cbor: Database, "json", "cbor";
    the_database_takes_json_and_gives_json: Database, "json", "json";
    the_database_takes_json_and_gives_storable: Database, "json", "storable";
    the_database_takes_storable_and_gives_cbor: Database, "storable", "cbor";
    the_database_takes_storable_and_gives_json: Database, "storable", "json";
    the_database_takes_storable_and_gives_storable: Database, "storable", "storable";
    a_program_sends_on_in_cbor_what_comes_in_cbor: Program, "cbor", "cbor";
    a_program_sends_on_in_json_what_comes_in_cbor: Program, "cbor", "json";
    a_program_sends_on_in_storable_what_comes_in_cbor: Program, "cbor", "storable";
    a_program_sends_on_in_cbor_what_comes_in_storable: Program, "storable", "cbor";
    a_program_sends_on_in_storable_what_comes_in_storable: Program, "storable", "storable";
    a_program_sends_on_in_json_what_comes_in_json: Program, "json", "json";
    a_program_sends_on_in_cbor_what_comes_in_json: Program, "json", "cbor";
    a_program_sends_on_in_storable_what_comes_in_json: Program, "json", "storable";
    a_program_sends_on_in_json_what_comes_in_storable: Program, "storable", "json";
}

/// Sets these values at A, and waits until the family that B receives has an entry called `mark`.
fn family(a: &mut PerlNode, b: &mut PerlNode, names: &[&String], mark: &str) -> ReceivedValues {
    let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
    a.eval(&format!("Pairs::enter({})", names.join(", ")));
    a.eval(&format!("db_set pairs => '{mark}' => 1; ()"));
    look(b, mark)
}

/// The family that B receives, as soon as it has an entry called `mark`.
fn look(b: &mut PerlNode, mark: &str) -> ReceivedValues {
    loop {
        b.eval("Pairs::look()");
        let event = b.expect("the family", |event| event["event"] == "family");
        let mut got: ReceivedValues = serde_json::from_value(event["got"].clone()).unwrap();
        if got.remove(mark).is_some() {
            return got;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Two global nodes meet, the first of which has values (`g_set`).
fn meet(middles: [MiddleNode; 2], framing: &str, names: &[&String]) -> ReceivedValues {
    let first = RunningMiddle::start(middles[0], "middle-0", None);
    let mut a = join("perl-a", &[&first], framing);
    let mut watcher = join("watcher", &[&first], framing);
    family(&mut a, &mut watcher, names, "entered");
    let second = RunningMiddle::start(middles[1], "middle-1", Some(&first));
    let mut b = join("perl-b", &[&second], framing);
    look(&mut b, "entered")
}

/// The sender's master is lost, and it sends its entries to another one (`g_slave` with a database, and
/// `g_chg1` to the receiver).
fn fail_over(survivor: MiddleNode, framing: &str, names: &[&String]) -> ReceivedValues {
    let mut first = RunningMiddle::start(MiddleNode::Perl, "middle-0", None);
    let second = RunningMiddle::start(survivor, "middle-1", Some(&first));
    let mut b = join("perl-b", &[&second], framing);
    let mut tries = 0;
    // Which of its seeds a Perl node chooses as its master depends on chance.
    let mut a = loop {
        let mut a = join(&format!("perl-a{tries}"), &[&first, &second], framing);
        let master = a.eval("$AnyEvent::MP::Kernel::MASTER")[0].clone();
        if master == "middle-0" {
            break a;
        }
        tries += 1;
        assert!(tries < 20, "the first seed never became the master");
    };
    family(&mut a, &mut b, names, "entered");
    match &mut first {
        RunningMiddle::Perl(node) => node.kill(),
        _ => unreachable!("the one to be lost is Perl's"),
    }
    a.sees_down("middle-0");
    a.eval("db_set pairs => 'after' => 1; ()");
    let mut got = look(&mut b, "after");
    got.remove("entered");
    got
}

fn compare_databases(framing: &str) {
    if !perl::has(MODULES) {
        return;
    }
    // Only values that Perl's databases can carry, since others would break it for all values.
    let carried = exchange(&[MiddleNode::Perl, MiddleNode::Perl], Way::Database, framing, framing);
    let names: Vec<&String> = carried.keys().collect();
    let mut wrong = Vec::new();
    let expected = meet([MiddleNode::Perl; 2], framing, &names);
    assert!(expected.len() > 60, "{expected:?}");
    for middles in [[MiddleNode::Perl, MiddleNode::Ours], [MiddleNode::Ours, MiddleNode::Perl]] {
        let ours = meet(middles, framing, &names);
        wrong.extend(differences((framing, framing), &middles, "meeting", &expected, &ours));
    }
    let expected = fail_over(MiddleNode::Perl, framing, &names);
    assert!(expected.len() > 60, "{expected:?}");
    let ours = fail_over(MiddleNode::Ours, framing, &names);
    wrong.extend(differences(
        (framing, framing),
        &[MiddleNode::Ours],
        "failover",
        &expected,
        &ours,
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn databases_that_meet_or_lose_a_master_keep_what_comes_in_cbor() {
    compare_databases("cbor");
}

#[test]
fn databases_that_meet_or_lose_a_master_keep_what_comes_in_json() {
    compare_databases("json");
}

#[test]
fn databases_that_meet_or_lose_a_master_keep_what_comes_in_storable() {
    compare_databases("storable");
}
