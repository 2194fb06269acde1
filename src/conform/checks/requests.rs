//! §2 and §3.3: packets and the requests that every node answers.

use super::{ANY, REST};
use crate::conform::check::{Check, check, run};
use crate::conform::context::Ctx;
use crate::conform::position::Position;
use crate::conform::session::{has_number, is_text, show_packet};
use crate::conform::stop::{Verdict, ensure, miss, skip};
use crate::value::Value;
use serde_json::{Value as Json, json};
use std::time::SystemTime;

/// The checks of requests.
pub(super) const CHECKS: &[Check] = &[
    check("keepalive", "2b", "Ignores [] and [\"\"].").by(run!(ignored(json!([[], [""], []])))),
    check("port-unknown", "3.1l", "Drops a message to a port that does not exist.")
        .by(run!(ignored(json!([["no-such-port", "lost", 1], ["no-such-port"]])))),
    check("port-number", "2c", "Takes a number as the name of a port.")
        .by(run!(ignored(json!([[42, "lost"], [1.5, "lost"]])))),
    check("devnull", "3.3e", "Ignores devnull, with any arguments.")
        .by(run!(ignored(json!([["", "devnull"], ["", "devnull", 1, [2], {"three": 3}]])))),
    check("request-empty", "3.3e", "Ignores a request with the empty name.")
        .by(run!(ignored(json!([["", "", 1, 2]])))),
    check("request-unknown", "3.3f", "Survives a call of a function that does not exist.")
        .by(run!(ignored(json!([["", "Conform::Nothing::here", 1, 2]])))),
    check("snd-echo", "3.3a", "snd relays a message with its elements unchanged.").by(run!(echo)),
    check("snd-empty", "3.3a", "snd relays a message without elements.").by(run!(empty)),
    check("snd-self", "3.3a", "snd to the node itself is a request to it.").by(run!(to_itself)),
    check("snd-other", "3.3a", "snd relays to another connected node.").dial().by(run!(to_another)),
    check("snd-nowhere", "4.3c", "snd to a node that nobody knows has no effect.")
        .dial()
        .by(run!(ignored(json!([["", "snd", "nobody-knows-this-node#port", "lost"]])))),
    check("order-requests", "3a", "Answers requests in the order in which they came.")
        .by(run!(order)),
    check("order-many", "3.2a", "A thousand messages arrive in order, and none is missing.")
        .by(run!(many)),
    check("can-known", "3.3b", "can answers \"1\" for each of the requests that there are.")
        .by(run!(can_known)),
    check("can-unknown", "3.3b", "can answers \"\" for what it does not know.")
        .by(run!(can_unknown)),
    check("can-form", "3.3b", "can answers with strings, not with booleans.").by(run!(can_form)),
    check("time", "3.3d", "time answers the seconds since 1970.").by(run!(time)),
    check("time-float", "3.3d", "time answers with a number that has a fraction.")
        .should()
        .by(run!(time_float)),
    check("reply-prepends", "3b", "An answer begins with all elements that the reply has.")
        .by(run!(prepends)),
    check("reply-none", "3b", "Without a reply port there is no answer.")
        .by(run!(ignored(json!([["", "time"], ["", "can", "snd"], ["", "can"]])))),
    check("reply-other", "3b", "An answer goes to the port that is named, wherever it is.")
        .dial()
        .by(run!(reply_elsewhere)),
    check("eval-error", "3.3c", "eval of what cannot be evaluated answers an error text.")
        .should()
        .by(run!(eval_error)),
    check("eval-nothing", "3.3c", "eval of nothing answers no error and no result.")
        .should()
        .by(run!(eval_exactly("", json!([""])))),
    check("eval-up-nodes", "3.3g", "eval of up_nodes answers the connected nodes.")
        .should()
        .by(run!(eval_up_nodes("AnyEvent::MP::Kernel::up_nodes"))),
    check("eval-up-nodes-call", "3.3g", "eval knows up_nodes with parentheses too.")
        .should()
        .by(run!(eval_up_nodes("AnyEvent::MP::Kernel::up_nodes()"))),
    check("eval-node", "3.3g", "eval of $NODE answers the node's ID.")
        .should()
        .by(run!(eval_node("$AnyEvent::MP::Kernel::NODE"))),
    check("eval-shell", "3.3g", "eval knows how Perl's shell wraps its lines.")
        .should()
        .by(run!(eval_node("package AnyEvent::MP::Kernel; my $ECHO = 'x#y'; $NODE"))),
    check("eval-pid", "3.3g", "eval of $$ answers a process ID.").should().by(run!(eval_pid)),
    check("eval-healers", "7a", "eval answers master and nodes at once, as healers ask.")
        .should()
        .by(run!(eval_healers)),
];

/// These packets have no effect, and the connection stays up.
async fn ignored(c: Ctx, packets: Json) -> Verdict {
    let mut session = c.meet("a").await?;
    session.forget().await?;
    session.send_all(packets.as_array().map_or(&[], Vec::as_slice)).await?;
    for kind in [json!(["", "kil0", REST]), json!(["", "kil1", REST]), json!(["re", REST])] {
        session.nothing(kind).await?;
    }
    Ok(())
}

async fn echo(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let elements =
        json!(["tag", 1, -1, 1.5, "text", "\u{e9}\u{20ac}", "", null, [], {}, {"k": [1]}]);
    let mut packet = vec![json!(""), json!("snd"), json!(a.port("echo"))];
    packet.extend(elements.as_array().into_iter().flatten().cloned());
    a.send(Json::Array(packet)).await?;
    let mut wanted = vec![json!("echo")];
    wanted.extend(elements.as_array().into_iter().flatten().cloned());
    a.expect_first(json!(["echo", REST]), Json::Array(wanted)).await?;
    Ok(())
}

async fn empty(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "snd", a.port("empty")])).await?;
    a.expect(json!(["empty"])).await?;
    Ok(())
}

async fn to_itself(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let node = a.node.clone();
    a.send(json!(["", "snd", node, "snd", node, "snd", a.port("far"), "hello"])).await?;
    a.expect(json!(["far", "hello"])).await?;
    Ok(())
}

async fn to_another(c: Ctx) -> Verdict {
    let (mut a, mut b) = (c.meet("a").await?, c.meet("b").await?);
    b.barrier().await?;
    a.send(json!(["", "snd", b.port("other"), "hello", 1])).await?;
    b.expect(json!(["other", "hello", 1])).await?;
    Ok(())
}

async fn order(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let to = a.port("in-order");
    a.send_all(&[
        json!(["", "snd", to, 1]),
        json!(["", "can", "snd", to, 2]),
        json!(["", "time", to, 3]),
        json!(["", "snd", to, 4]),
        json!(["", "can", "nothing", to, 5]),
        json!(["", "snd", to, 6]),
    ])
    .await?;
    for number in 1..=6 {
        a.expect_first(json!(["in-order", REST]), json!(["in-order", number, REST])).await?;
    }
    Ok(())
}

async fn many(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let to = a.port("many");
    let packets: Vec<Json> = (0..1000).map(|number| json!(["", "snd", to, number])).collect();
    for part in packets.chunks(250) {
        a.send_all(part).await?;
    }
    for number in 0..1000 {
        a.expect_first(json!(["many", ANY]), json!(["many", number])).await?;
    }
    Ok(())
}

const REQUESTS: &[&str] = &[
    "mon0", "mon1", "kil0", "kil1", "snd", "can", "eval", "time", "devnull", "g_slave", "g_upd",
    "g_global", "g_find",
];

async fn can_known(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    if c.position() == Position::Dial {
        // Only after that does the reference have the database requests.
        a.send(json!(["", "g_slave"])).await?;
        a.expect(json!(["", "g_global"])).await?;
    }
    for request in REQUESTS {
        let answer = a.ask(&[json!("can"), json!(request)], "can").await?;
        let optional = request.starts_with("g_") && c.position() == Position::Listen;
        let is_known = answer.len() == 1 && is_text(answer.first(), "1");
        ensure(is_known || optional, || format!("can {request} answers {}", show_packet(&answer)))?;
    }
    Ok(())
}

async fn can_unknown(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    for request in ["no such request", "Conform::Never::called", "can't"] {
        let answer = a.ask(&[json!("can"), json!(request)], "can").await?;
        let is_unknown = answer.len() == 1 && is_text(answer.first(), "");
        ensure(is_unknown, || format!("can {request:?} answers {}", show_packet(&answer)))?;
    }
    Ok(())
}

async fn can_form(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    for request in ["snd", "no such request"] {
        let answer = a.ask(&[json!("can"), json!(request)], "can").await?;
        let is_string = matches!(answer.first(), Some(Value::Str(_)));
        ensure(is_string, || format!("can {request:?} answers {}", show_packet(&answer)))?;
    }
    Ok(())
}

async fn time(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let answer = a.ask(&[json!("time")], "time").await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0.0, |since| since.as_secs_f64());
    let [time] = &answer[..] else {
        return miss(format!("time answers {}", show_packet(&answer)));
    };
    let seconds = time.to_number().map(|number| number.to_f64());
    // The clocks of two machines may differ; this is to find answers in milliseconds.
    let is_near = seconds.is_some_and(|seconds| (seconds - now).abs() < 86_400.0);
    ensure(is_near, || format!("time answers {}, and it is {now}", show_packet(&answer)))
}

async fn time_float(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    // One time in a thousand is a whole millisecond, and one in a million a whole second.
    for _ in 0..3 {
        let answer = a.ask(&[json!("time")], "time").await?;
        let seconds = answer.first().and_then(Value::to_number).map(|number| number.to_f64());
        if seconds.is_some_and(|seconds| seconds.fract() != 0.0) {
            return Ok(());
        }
    }
    miss("three times in a row it was a full second")
}

async fn prepends(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "can", "snd", a.port("many"), "one", [2], null, {"three": 3}])).await?;
    let wanted = json!(["many", "one", [2], null, {"three": 3}, "1"]);
    a.expect_first(json!(["many", REST]), wanted).await?;
    Ok(())
}

async fn reply_elsewhere(c: Ctx) -> Verdict {
    let (mut a, mut b) = (c.meet("a").await?, c.meet("b").await?);
    b.barrier().await?;
    a.send(json!(["", "can", "snd", b.port("answers"), "for b"])).await?;
    b.expect(json!(["answers", "for b", "1"])).await?;
    Ok(())
}

async fn eval_error(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let answer = a.ask(&[json!("eval"), json!("die 'no such thing'")], "eval").await?;
    let is_text = matches!(answer.first(), Some(Value::Str(text)) if !text.is_empty());
    ensure(is_text, || format!("it answers {}", show_packet(&answer)))
}

async fn eval(c: &Ctx, expression: &str) -> Verdict<(String, Vec<Value>)> {
    let mut a = c.meet("a").await?;
    let mut answer = a.ask(&[json!("eval"), json!(expression)], "eval").await?;
    let Some(Value::Str(error)) = answer.first() else {
        return miss(format!("the answer {} begins with no error text", show_packet(&answer)));
    };
    if !error.is_empty() {
        let error = error.to_text_lossy();
        if error.contains("secure") || error.contains("not allowed") {
            return skip(format!("it does not evaluate: {error}"));
        }
        return miss(format!("the error is {error:?}"));
    }
    Ok((a.me.clone(), answer.split_off(1)))
}

async fn eval_exactly(c: Ctx, expression: &str, wanted: Json) -> Verdict {
    let mut a = c.meet("a").await?;
    let answer = a.ask(&[json!("eval"), json!(expression)], "eval").await?;
    let fits = crate::conform::pattern::matches_packet(&wanted, &answer);
    ensure(fits, || format!("it answers {}", show_packet(&answer)))
}

async fn eval_up_nodes(c: Ctx, expression: &str) -> Verdict {
    let mut a = c.meet("a").await?;
    a.forget().await?;
    let answer = a.ask(&[json!("eval"), json!(expression)], "eval").await?;
    ensure(is_text(answer.first(), ""), || format!("it answers {}", show_packet(&answer)))?;
    let has = |node: &str| answer.iter().skip(1).any(|one| is_text(Some(one), node));
    ensure(has(&a.me), || format!("the asker is missing in {}", show_packet(&answer)))?;
    ensure(!has(&a.node), || format!("the node itself is in {}", show_packet(&answer)))
}

async fn eval_node(c: Ctx, expression: &str) -> Verdict {
    let mut a = c.meet("a").await?;
    let node = a.node.clone();
    let answer = a.ask(&[json!("eval"), json!(expression)], "eval").await?;
    let is_node = answer.len() == 2 && is_text(answer.first(), "") && is_text(answer.get(1), &node);
    ensure(is_node, || format!("it answers {}", show_packet(&answer)))
}

async fn eval_pid(c: Ctx) -> Verdict {
    let (_, results) = eval(&c, "$$").await?;
    let is_number = results.len() == 1 && results.iter().all(|pid| pid.to_integer().is_some());
    ensure(is_number, || format!("the results are {}", show_packet(&results)))
}

async fn eval_healers(c: Ctx) -> Verdict {
    let expression = "($AnyEvent::MP::Kernel::MASTER, AnyEvent::MP::Kernel::up_nodes())";
    let (me, results) = eval(&c, expression).await?;
    let has_asker = results.iter().skip(1).any(|node| is_text(Some(node), &me));
    ensure(has_asker, || format!("the asker is missing in {}", show_packet(&results)))?;
    let is_master = matches!(results.first(), Some(Value::Undef | Value::Str(_)));
    ensure(is_master && !results.first().is_some_and(has_number), || {
        format!("the first of {} is no node", show_packet(&results))
    })
}
