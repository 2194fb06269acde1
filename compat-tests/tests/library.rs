//! The library's public interface against real Perl nodes: messages, monitors, spawning and killing, for each
//! row of `docs/protocol.md` §3.1, §3.3 and §3.4, in both directions and all three framings.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use aemp::{CallError, Context, KillReason, Node, Port, PortId};
use compat_tests::node::SECRET;
use compat_tests::perl;
use compat_tests::perl_node::{MODULES, PerlNode};
use compat_tests::process::TIMEOUT;
use serde_json::{Value, json};
use std::future::IntoFuture;
use std::sync::mpsc;
use std::time::Duration;

const FRAMINGS: [&str; 3] = ["cbor", "json", "storable"];

/// Our node and a Perl node that has joined it, with only one framing.
struct Pair {
    rust: Node,
    perl: PerlNode,
    framing: &'static str,
}

/// Runs a test in each framing.
async fn in_all_framings(test: impl AsyncFn(&mut Pair)) {
    if !perl::has(MODULES) {
        return;
    }
    for framing in FRAMINGS {
        let builder = Node::builder().node_id("rust").secret(SECRET).bind("127.0.0.1:0");
        let rust = builder.set("framing_format", vec![framing]).start().await.unwrap();
        let seed = rust.addresses()[0].to_string();
        let mut perl =
            PerlNode::start("perl", json!({"seeds": [seed], "framing_format": [framing]}));
        perl.sees_up("rust");
        let mut pair = Pair { rust, perl, framing };
        test(&mut pair).await;
    }
}

async fn within<T>(future: impl IntoFuture<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, future).await.expect("in time")
}

impl Pair {
    /// Waits until Perl's node has handled everything that ours sent.
    async fn settled(&self) {
        let mut echo = self.rust.port();
        self.rust.snd("perl", ("snd", echo.id(), "echo")).unwrap();
        let _: (String,) = within(echo.recv()).await.unwrap();
    }

    /// Waits until our node has handled everything that Perl's sent.
    fn perl_settled(&mut self) {
        let port = self.perl.port("settled");
        self.perl.snd("rust", json!(["snd", port, "settled"]));
        assert_eq!(self.perl.message("settled"), json!(["settled"]));
    }

    fn monitored_by_perl(&mut self, port: impl ToString, label: &str) {
        self.perl.run("mon", json!({"of": port.to_string(), "label": label}));
        self.perl_settled();
    }

    fn fired(&mut self, label: &str) -> Value {
        self.perl.event("monitor", label, |_| true)["reason"].clone()
    }

    fn kill_perls(&mut self, port: &str, reason: Value) {
        self.perl.run("kil", json!({"port": port, "reason": reason}));
    }
}

async fn message(port: &mut Port) -> String {
    format!("{:?}", within(port.recv_message()).await.unwrap().packed())
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_arrive_as_they_were_sent() {
    in_all_framings(async |pair| {
        let mut port = pair.rust.port();
        let at_perl: PortId = pair.perl.port("inbox").parse().unwrap();
        for sent in [
            json!([]),
            json!(["tag", 1, -2, "3"]),
            json!([null, [], {}, [[1, [2]], {"a": {"b": ["c"]}}]]),
            json!(["\u{e4}\u{20ac}\u{1f600}\u{0}\n", ""]),
        ] {
            pair.perl.snd(&port.id().to_string(), sent.clone());
            let arrived = within(port.recv_message()).await.unwrap();
            assert_eq!(arrived.from().to_string(), "perl");
            // Sent back unchanged, without being decoded.
            let values = arrived.values().unwrap();
            pair.rust.snd(&at_perl, &values).unwrap();
            assert_eq!(pair.perl.message("inbox"), sent, "{}", pair.framing);
        }
        // In Storable's portable form floats are strings.
        pair.perl.snd(&port.id().to_string(), json!([4.5]));
        assert_eq!(within(port.recv::<(f64,)>()).await.unwrap(), (4.5,));
        pair.rust.snd(&at_perl, (4.5,)).unwrap();
        let text = pair.perl.message("inbox")[0].to_string();
        assert_eq!(text.trim_matches('"'), "4.5", "{}", pair.framing);
        // Numbers that were used as strings, and strings that look like numbers.
        pair.perl.eval(&format!(
            "my $n = 42; my $s = \"$n\"; AnyEvent::MP::snd('{}', $n, '43', 1 == 1, 1 == 0)",
            port.id()
        ));
        let (number, string, yes, no): (u32, u32, bool, bool) = within(port.recv()).await.unwrap();
        assert_eq!((number, string, yes, no), (42, 43, true, false), "{}", pair.framing);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_beyond_json_are_the_same_number_for_perl() {
    in_all_framings(async |pair| {
        pair.perl.eval(
            "$main::GUARDS{numbers} = AnyEvent::MP::port { \
                my ($nan, $inf, $neg) = @_; \
                main::report('numbers', label => 'numbers', are => [ \
                    ($nan != $nan) ? 1 : 0, ($inf == 9**9**9) ? 1 : 0, ($neg == -9**9**9) ? 1 : 0 \
                ]) \
            }",
        );
        let port = pair.perl.eval("$main::GUARDS{numbers}")[0].as_str().unwrap().to_owned();
        pair.rust.snd(&port, (f64::NAN, f64::INFINITY, f64::NEG_INFINITY)).unwrap();
        let event = pair.perl.event("numbers", "numbers", |_| true);
        assert_eq!(event["are"], json!([1, 1, 1]), "{}", pair.framing);
        let mut back = pair.rust.port();
        pair.perl.eval(&format!("AnyEvent::MP::snd('{}', 9**9**9, -9**9**9)", back.id()));
        // JSON cannot represent such numbers; Perl's encoder writes invalid JSON.
        if pair.framing != "json" {
            let numbers: (f64, f64) = within(back.recv()).await.unwrap();
            assert_eq!(numbers, (f64::INFINITY, f64::NEG_INFINITY), "{}", pair.framing);
        }
    })
    .await;
}

// §3.1: mon1, mon0, kil0, kil1.

#[tokio::test(flavor = "multi_thread")]
async fn our_monitors_of_perls_ports_fire_with_the_reason() {
    in_all_framings(async |pair| {
        for reason in [json!([]), json!(["tag", "text"]), json!(["tag", [1, null], {"a": 1}])] {
            let port = pair.perl.port("dies");
            let (one, two) = (pair.rust.monitor(&port), pair.rust.monitor(&port));
            pair.settled().await;
            pair.kill_perls(&port, reason.clone());
            for monitor in [one, two] {
                let fired = within(monitor).await;
                assert_eq!(fired.is_normal(), reason == json!([]));
                let fired: Vec<aemp::Value> = fired.decode().unwrap();
                assert_eq!(serde_json::to_value(fired).unwrap(), reason, "{}", pair.framing);
            }
        }
        let reason = within(pair.rust.monitor("perl#none")).await;
        assert_eq!(reason.tag().unwrap(), "no_such_port");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn perls_monitors_of_our_ports_fire_with_the_reason() {
    in_all_framings(async |pair| {
        let port = pair.rust.port();
        pair.monitored_by_perl(port.id(), "normal");
        drop(port);
        assert_eq!(pair.fired("normal"), json!([]));

        let port = pair.rust.port();
        pair.monitored_by_perl(port.id(), "killed");
        port.kil(&KillReason::new("tag", "t\u{e9}xt \u{20ac}"));
        assert_eq!(pair.fired("killed"), json!(["tag", "t\u{e9}xt \u{20ac}"]), "{}", pair.framing);

        let port = pair.rust.port_of_tags();
        port.on("die", |_: &Context<'_>, (): ()| Err::<(), _>("told to"));
        pair.monitored_by_perl(port.id(), "failed");
        pair.perl.snd(&port.id().to_string(), json!(["die"]));
        assert_eq!(pair.fired("failed"), json!(["die", "told to"]));

        let port = pair.rust.port_of_tags();
        pair.monitored_by_perl(port.id(), "unhandled");
        pair.perl.snd(&port.id().to_string(), json!(["what"]));
        assert_eq!(pair.fired("unhandled")[0], "unhandled_message");

        pair.monitored_by_perl("rust#none", "none");
        let reason = pair.fired("none");
        assert_eq!(reason, json!(["no_such_port", "cannot monitor nonexistent port", "rust#none"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_without_receivers_dies_of_a_message_as_in_perl() {
    in_all_framings(async |pair| {
        let port = pair.perl.run("port", json!({"label": "silent", "silent": true}));
        let perls = pair.rust.monitor(port.as_str().unwrap());
        pair.rust.snd(port.as_str().unwrap(), ("what", 1)).unwrap();
        let ours = pair.rust.port_of_tags();
        let died = pair.rust.monitor(ours.id());
        pair.rust.snd(ours.id(), ("what", 1)).unwrap();
        let [perls, ours] = [within(perls).await, within(died).await].map(|reason| {
            let (tag, text): (String, String) = reason.decode().unwrap();
            assert_eq!(tag, "unhandled_message");
            text
        });
        // Ours names the sender, too.
        assert_eq!(ours, format!("{perls} from rust"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_monitor_that_was_removed_does_not_fire() {
    in_all_framings(async |pair| {
        // Ours, on a port of Perl's.
        let port = pair.perl.port("lives");
        drop(pair.rust.monitor(&port));
        pair.settled().await;
        let watched = pair.perl.eval("scalar keys %{ $AnyEvent::MP::Kernel::NODE{rust}{rmon} }");
        assert_eq!(watched, json!([0]), "mon0 has arrived");
        // Perl's, on a port of ours.
        let port = pair.rust.port();
        pair.monitored_by_perl(port.id(), "removed");
        pair.perl.run("unmon", json!({"label": "removed"}));
        pair.perl_settled();
        drop(port);
        let last = pair.rust.port();
        pair.monitored_by_perl(last.id(), "last");
        drop(last);
        let fired = pair.perl.expect("a monitor", |event| event["event"] == "monitor");
        assert_eq!(fired["label"], "last");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_killed_across_the_network() {
    in_all_framings(async |pair| {
        let port = pair.perl.port("victim");
        let died = pair.rust.monitor(&port);
        pair.rust.kil(&port, &KillReason::new("by", "rust"));
        assert_eq!(within(died).await.to_string(), r#"["by", "rust"]"#);

        let mut port = pair.rust.port();
        pair.monitored_by_perl(port.id(), "victim");
        let id = port.id().to_string();
        pair.kill_perls(&id, json!(["by", "perl"]));
        let died = within(port.recv::<()>()).await.unwrap_err().to_string();
        assert!(died.ends_with(r#"["by", "perl"]"#), "{died}");
        assert_eq!(pair.fired("victim"), json!(["by", "perl"]));
        // Ports that do not exist.
        pair.kill_perls("rust#none", json!(["by", "perl"]));
        pair.rust.kil("perl#none", &KillReason::normal());
        pair.settled().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_work_across_the_network() {
    in_all_framings(async |pair| {
        let (theirs, ours) = (pair.perl.port("linked"), pair.rust.port_of_tags());
        ours.link(&theirs).detach();
        pair.monitored_by_perl(ours.id(), "ours");
        pair.settled().await;
        pair.kill_perls(&theirs, json!(["crash", "there"]));
        assert_eq!(pair.fired("ours"), json!(["crash", "there"]));

        let (theirs, ours) = (pair.perl.port("linked"), pair.rust.port());
        pair.perl.eval(&format!(
            "AnyEvent::MP::mon('{}', '{theirs}'); AnyEvent::MP::mon('{theirs}', \
             sub {{ main::report('monitor', label => 'theirs', reason => [@_]) }}); ()",
            ours.id()
        ));
        pair.perl_settled();
        ours.kil(&KillReason::new("crash", "here"));
        assert_eq!(pair.fired("theirs"), json!(["crash", "here"]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_a_node_fires_all_monitors_of_its_ports() {
    in_all_framings(async |pair| {
        let port = pair.perl.port("lost");
        let monitors =
            [pair.rust.monitor(&port), pair.rust.monitor(&port), pair.rust.monitor("perl")];
        pair.settled().await;
        pair.perl.kill();
        for monitor in monitors {
            let reason: (String, String, String) = within(monitor).await.decode().unwrap();
            assert_eq!((&*reason.0, &*reason.1), ("transport_error", "perl"));
        }
    })
    .await;
    in_all_framings(async |pair| {
        let port = pair.rust.port();
        pair.monitored_by_perl(port.id(), "port");
        pair.monitored_by_perl("rust", "node");
        // A port that is dropped dies normally and first; this one is not.
        let rust = pair.rust.clone();
        rust.shutdown().await;
        for label in ["port", "node"] {
            assert_eq!(pair.fired(label)[0], "transport_error", "{label}");
        }
        drop(port);
    })
    .await;
}

// §3.3: snd, can, eval, time, devnull, functions by name.

#[tokio::test(flavor = "multi_thread")]
async fn perls_node_port_answers_our_calls() {
    in_all_framings(async |pair| {
        let call = |name: &'static str, argument: &'static str| {
            pair.rust.call::<Vec<String>>("perl", (name, argument))
        };
        assert_eq!(within(call("can", "snd")).await.unwrap(), ["1"]);
        assert_eq!(within(call("can", "nothing")).await.unwrap(), [""]);
        assert_eq!(within(call("eval", "6 * 7")).await.unwrap(), ["", "42"]);
        let answer = within(call("eval", "die 'an error'")).await.unwrap();
        assert!(answer[0].starts_with("an error"), "{answer:?}");
        let (time,): (f64,) = within(pair.rust.call("perl", ("time",))).await.unwrap();
        assert!(time > 1.7e9);
        let (here,): (f64,) = within(pair.rust.call("rust", ("time",))).await.unwrap();
        assert!((time - here).abs() < 60.0);
        pair.rust.snd("perl", ("devnull", 1)).unwrap();
        pair.rust.snd("perl", ()).unwrap();
        pair.rust.snd("perl#none", ("lost",)).unwrap();
        let silence = pair.rust.call::<()>("perl", ("devnull",));
        let silence = silence.timeout(Duration::from_millis(20));
        assert!(matches!(within(silence).await, Err(CallError::Timeout(_))));
        pair.settled().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_node_port_answers_perls_calls() {
    in_all_framings(async |pair| {
        pair.rust.answer_eval(|expression, from| match expression {
            "6 * 7" => Ok(vec![42u32.into(), from.to_string().into()]),
            _ => Err("cannot".to_owned()),
        });
        let mut call = |message: Value| {
            pair.perl.run("cal", json!({"to": "rust", "message": message, "label": "call"}));
            pair.perl.event("reply", "call", |_| true)["message"].clone()
        };
        assert_eq!(call(json!(["can", "time"])), json!(["1"]));
        assert_eq!(call(json!(["can", "nothing"])), json!([""]));
        assert_eq!(call(json!(["eval", "6 * 7"])), json!(["", 42, "perl"]));
        assert_eq!(call(json!(["eval", "7 * 6"])), json!(["cannot"]));
        assert_eq!(call(json!(["eval", "up_nodes"])), json!(["", "perl"]));
        assert_eq!(call(json!(["eval", "$$"]))[1].to_string().replace('"', ""), own_pid());
        // In the form that Perl's shell uses.
        let line = "package AnyEvent::MP::Kernel; my $ECHO = 'x'; $NODE";
        assert_eq!(call(json!(["eval", line])), json!(["", "rust"]));
        let time = call(json!(["time"]))[0].clone();
        let seconds = time.as_f64().or_else(|| time.as_str()?.parse().ok());
        assert!(seconds.unwrap() > 1.7e9);
        pair.perl.snd("rust", json!(["devnull", 1]));
        pair.perl.snd("rust", json!([]));
        pair.perl.snd("rust#none", json!(["lost"]));
        pair.perl_settled();
    })
    .await;
}

fn own_pid() -> String {
    std::process::id().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn functions_are_called_by_name_in_both_directions() {
    in_all_framings(async |pair| {
        let (sender, called) = mpsc::channel();
        pair.rust.expose("My::function", move |ctx: &Context<'_>, args: (u32, String)| {
            sender.send((ctx.from().to_string(), args)).unwrap();
        });
        for number in 0..10 {
            pair.perl.snd("rust", json!(["My::function", number, "x"]));
        }
        pair.perl.snd("rust", json!(["My::unknown", 1]));
        pair.perl_settled();
        let expected: Vec<_> =
            (0..10).map(|number| ("perl".to_owned(), (number, "x".to_owned()))).collect();
        assert_eq!(called.try_iter().collect::<Vec<_>>(), expected);

        pair.perl.eval("sub Compat::note { main::report('note', label => 'note', args => [@_]) }");
        pair.rust.snd("perl", ("Compat::note", 1, "two")).unwrap();
        let event = pair.perl.event("note", "note", |_| true);
        assert_eq!(event["args"], json!([1, "two"]));
    })
    .await;
}

// §3.4: spawning.

#[tokio::test(flavor = "multi_thread")]
async fn we_spawn_on_perls_node() {
    in_all_framings(async |pair| {
        let mut reply = pair.rust.port();
        let port = pair.rust.spawn("perl", "Compat::echo", (1, "x")).unwrap();
        let died = pair.rust.monitor(&port);
        pair.rust.snd(&port, ("echo", reply.id(), "hello")).unwrap();
        assert_eq!(message(&mut reply).await, r#"["hello", 1, "x"]"#, "{}", pair.framing);
        let spawned = pair.perl.expect("spawned", |event| event["event"] == "spawned");
        assert_eq!(spawned["arguments"], json!([1, "x"]));
        assert_eq!(spawned["port"], port.to_string());
        pair.rust.snd(&port, ("die",)).unwrap();
        let (tag, text): (String, String) = within(died).await.decode().unwrap();
        assert!(tag == "die" && text.starts_with("told to die"), "{tag} {text}");

        for function in ["Compat::fail", "Compat::none"] {
            let port = pair.rust.spawn("perl", function, ()).unwrap();
            assert!(!within(pair.rust.monitor(&port)).await.is_normal(), "{function}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn perl_spawns_on_our_node() {
    in_all_framings(async |pair| {
        pair.rust.expose("My::echo", |ctx: &Context<'_>, (first, second): (u32, String)| {
            ctx.on("echo", move |ctx: &Context<'_>, (reply, text): (PortId, String)| {
                ctx.snd(&reply, (text, first, &second))
            });
            ctx.on("die", |_: &Context<'_>, (): ()| Err::<(), _>("told to die"));
        });
        pair.rust.expose("My::failure", |_: &Context<'_>, (): ()| Err::<(), _>("told to fail"));
        let reply = pair.perl.port("reply");
        // The request, the monitor and the first messages in one write.
        let port = pair.perl.eval(&format!(
            "my $port = AnyEvent::MP::spawn('rust', 'My::echo', 1, 'x'); \
             $main::GUARDS{{spawned}} = AnyEvent::MP::mon($port, \
                sub {{ main::report('monitor', label => 'spawned', reason => [@_]) }}); \
             AnyEvent::MP::snd($port, 'unknown tag'); \
             AnyEvent::MP::snd($port, echo => '{reply}', 'hello'); \
             $port"
        ));
        assert_eq!(pair.perl.message("reply"), json!(["hello", 1, "x"]));
        pair.perl.snd(port[0].as_str().unwrap(), json!(["die"]));
        assert_eq!(pair.fired("spawned"), json!(["die", "told to die"]));

        for (function, arguments, text) in [
            ("My::failure", json!([]), "told to fail"),
            ("My::unknown", json!([]), "function My::unknown is not registered here"),
        ] {
            let port = pair.perl.run(
                "spawn",
                json!({"node": "rust", "function": function, "arguments": arguments}),
            );
            // The monitor comes long after the port has died.
            pair.perl_settled();
            pair.monitored_by_perl(port.as_str().unwrap(), function);
            assert_eq!(pair.fired(function), json!(["die", text]), "{}", pair.framing);
        }
        let port = pair.perl.run("spawn", json!({"node": "rust", "function": "My::echo"}));
        pair.monitored_by_perl(port.as_str().unwrap(), "arguments");
        let reason = pair.fired("arguments");
        assert_eq!(reason[0], "die", "missing arguments: {reason}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secure_node_of_ours_refuses_what_perl_asks_it_to_run() {
    if !perl::has(MODULES) {
        return;
    }
    let builder = Node::builder().node_id("rust").secret(SECRET).bind("127.0.0.1:0");
    let rust = builder.set("secure", true).start().await.unwrap();
    rust.expose("My::function", |_: &Context<'_>, (): ()| {});
    let seed = rust.addresses()[0].to_string();
    let perl = PerlNode::start("perl", json!({"seeds": [seed]}));
    let mut pair = Pair { rust, perl, framing: "cbor" };
    pair.perl.sees_up("rust");
    let port = pair.perl.run("spawn", json!({"node": "rust", "function": "My::function"}));
    pair.monitored_by_perl(port.as_str().unwrap(), "spawned");
    assert_eq!(pair.fired("spawned"), json!(["die", "remote execution not allowed"]));
    let reply = pair.perl.port("reply");
    pair.perl.snd("rust", json!(["eval", "$$", reply]));
    pair.perl.snd("rust", json!(["My::function"]));
    pair.perl.snd("rust", json!(["can", "snd", reply]));
    assert_eq!(pair.perl.message("reply"), json!(["1"]), "eval is not answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_end_with_the_answer_or_the_death_of_the_other_side() {
    in_all_framings(async |pair| {
        let port = pair.rust.spawn("perl", "Compat::echo", ()).unwrap();
        let mut inbox = pair.rust.port();
        pair.rust.snd(&port, ("echo", inbox.id(), "x")).unwrap();
        assert_eq!(message(&mut inbox).await, r#"["x"]"#);
        let dies = pair.rust.call::<()>(&port, ("die",));
        assert!(matches!(within(dies).await, Err(CallError::Died(_))));
        let counts = (pair.rust.port_count(), pair.rust.monitor_count());
        assert_eq!(counts, (1, 0));

        let port = pair.rust.port_of_tags();
        port.on("double", |ctx: &Context<'_>, (number, reply): (u32, PortId)| {
            ctx.snd(&reply, (2 * number,))
        });
        let to = port.id().to_string();
        pair.perl.run("cal", json!({"to": to, "message": ["double", 21], "label": "call"}));
        assert_eq!(pair.perl.event("reply", "call", |_| true)["message"], json!([42]));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_numbers_has_no_holes_in_both_directions() {
    in_all_framings(async |pair| {
        let mut port = pair.rust.port();
        let id = port.id();
        pair.perl.eval(&format!("AnyEvent::MP::snd('{id}', n => $_) for 0 .. 9999"));
        for expected in 0..10_000 {
            let (_, number): (String, u32) = within(port.recv()).await.unwrap();
            assert_eq!(number, expected);
        }
        pair.perl.eval(
            "my $next = 0; $main::GUARDS{stream} = AnyEvent::MP::port { \
                my $ok = $_[0] == $next++; \
                main::report('stream', label => 'stream', ok => $ok ? 1 : 0) \
                    if !$ok || $next == 10_000 \
            }",
        );
        let port = pair.perl.eval("$main::GUARDS{stream}")[0].as_str().unwrap().to_owned();
        for number in 0..10_000 {
            pair.rust.snd_wait(&port, (number,)).await.unwrap();
        }
        assert_eq!(pair.perl.event("stream", "stream", |_| true)["ok"], 1, "{}", pair.framing);
    })
    .await;
}
