//! §3.1, §3.2 and §3.4: monitors, deaths and spawned ports.

use super::service::Service;
use super::{ANY, REST};
use crate::conform::check::{Check, check, run};
use crate::conform::context::Ctx;
use crate::conform::session::{is_text, show_packet};
use crate::conform::stop::{Verdict, ensure};
use serde_json::{Value as Json, json};
use std::time::Duration;

/// The checks of monitors.
pub(super) const CHECKS: &[Check] = &[
    check("mon-unknown", "3.1f", "mon1 for a port that is not there is answered with kil0.")
        .by(run!(unknown)),
    check("mon-unknown-once", "3.1g", "A monitor fires once.").by(run!(unknown_once)),
    check("mon-unknown-text", "3.1f", "That kil0 has the reference's text and the port's ID.")
        .should()
        .by(run!(unknown_text)),
    check("mon-same-name", "2.1b", "A port's name is the same as octets and as text.")
        .by(run!(same_name)),
    check("mon0-unknown", "3.1b", "mon0 for a port that nobody monitors has no effect.")
        .by(run!(harmless(json!(["", "mon0", "no-such-port"])))),
    check("kil1-unknown", "3.1d", "kil1 for a port that is not there has no effect.")
        .by(run!(harmless(json!(["", "kil1", "no-such-port", "reason"])))),
    check("kil0-unknown", "3.1c", "kil0 for a port that it does not monitor has no effect.")
        .by(run!(harmless(json!(["", "kil0", "no-such-port", "reason"])))),
    check("kil1-node-port", "3.1k", "kil1 for the node port has no effect.")
        .ours()
        .by(run!(harmless(json!(["", "kil1", "", "reason"])))),
    check("spawn-unknown", "3.4b", "A port with an unknown function dies.").by(run!(spawn_unknown)),
    check("spawn-unknown-once", "3.4b", "Spawn, monitor and message in one read: one kil0.")
        .by(run!(spawn_unknown_at_once)),
    check("spawn-reason", "3.4b", "The reason of a failed spawn is die, TEXT.")
        .ours()
        .by(run!(spawn_reason)),
    check("spawn-node-port", "3.4c", "A spawn onto the node port has no effect.")
        .ours()
        .by(run!(harmless(json!(["", "AnyEvent::MP::_spawn", "", "Conform::No::thing"])))),
    check("spawn", "3.4a", "A spawned function gets its port and all arguments.").by(run!(spawns)),
    check("spawn-order", "3a", "Spawn, monitor and message of one read take effect in order.")
        .by(run!(spawn_order)),
    check("spawn-name-taken", "3.4c", "A spawn onto an existing name has no effect.")
        .ours()
        .by(run!(name_taken)),
    check("port-tag-unknown", "3.1m", "A port that only has tags drops messages with other tags.")
        .by(run!(unknown_tag)),
    check("port-order", "3.2a", "Messages to one port arrive in order.").by(run!(order)),
    check("mon-alive", "3.1a", "mon1 for a living port is not answered.").by(run!(alive)),
    check("kil1-reason", "3.1d", "kil1 kills a port; its monitor gets the same reason.")
        .by(run!(kil_reason)),
    check("kil1-normal", "3.1e", "A normal end is a kil0 without a reason.").by(run!(kil_normal)),
    check("kil0-once", "3.1g", "A port that dies fires a monitor once.").by(run!(once)),
    check("mon0", "3.1b", "After mon0 a monitor does not fire.").by(run!(unmonitored)),
    check("mon0-mon1", "3.1b", "A monitor that was removed can be set again.")
        .by(run!(monitored_again)),
    check("mon-dead", "3.1f", "mon1 for a port that is dead fires at once.").by(run!(dead)),
    check("mon-die", "3.1n", "A port whose code fails dies with the tag die.")
        .should()
        .by(run!(dies)),
    check("mon-before-death", "3.2a", "What a port sent before it died arrives before the kil0.")
        .by(run!(words_before_death)),
    check("mon-two-nodes", "3.1a", "Every node that monitors a port gets its kil0.")
        .dial()
        .by(run!(two_nodes)),
    check("mon0-others", "3.1b", "mon0 of one node leaves the monitors of others.")
        .dial()
        .by(run!(others_stay)),
    check("mon-of-lost", "3.1o", "Monitors of a lost connection are removed.")
        .dial()
        .by(run!(lost_monitors)),
    check("monitors", "3.1h", "Sends mon1 when its port monitors ours, with the port's name.")
        .by(run!(monitors)),
    check("monitors-fire", "3.1c", "Its monitors fire with the reason of our kil0.")
        .by(run!(fires)),
    check("monitors-once", "3.1h", "Two of its monitors on one port are one mon1.")
        .by(run!(one_monitor)),
    check("monitors-last", "3.1i", "Sends mon0 with the last of its monitors, not before.")
        .by(run!(last_monitor)),
    check("monitors-again", "3.1h", "Sends mon1 anew after a kil0 or mon0.")
        .by(run!(monitors_again)),
    check("monitors-loss", "3.1o", "A lost connection fires with transport_error, our ID.")
        .dial()
        .by(run!(loss)),
    check("monitors-node", "3.1j", "A monitor on a node sends nothing and fires with its loss.")
        .dial()
        .by(run!(node_monitor)),
    check("kills", "3.1d", "Sends kil1 when it kills our port.").by(run!(kills)),
];

async fn unknown(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "mon1", "nowhere"])).await?;
    a.expect_first(
        json!(["", "kil0", "nowhere", REST]),
        json!(["", "kil0", "nowhere", "no_such_port", REST]),
    )
    .await?;
    Ok(())
}

async fn unknown_once(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "mon1", "nowhere"])).await?;
    let fired = a.all(json!(["", "kil0", "nowhere", REST])).await?;
    ensure(fired.len() == 1, || format!("it sent {} kil0 for one mon1", fired.len()))
}

async fn unknown_text(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "mon1", "nowhere"])).await?;
    let text = "cannot monitor nonexistent port";
    let wanted = json!(["", "kil0", "nowhere", "no_such_port", text, a.theirs("nowhere")]);
    a.expect_first(json!(["", "kil0", "nowhere", REST]), wanted).await?;
    Ok(())
}

async fn same_name(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    // Sent as text in framings that distinguish it; the answer may be either.
    a.send(json!(["", "mon1", "caf\u{e9}"])).await?;
    a.expect(json!(["", "kil0", "caf\u{e9}", REST])).await?;
    Ok(())
}

/// It has no effect.
async fn harmless(c: Ctx, packet: Json) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(packet).await?;
    a.nothing(json!(["", "kil0", REST])).await?;
    a.nothing(json!(["", "kil1", REST])).await?;
    a.still_works("it").await
}

async fn spawn_unknown(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "AnyEvent::MP::_spawn", c.port_name(), "Conform::No::such::function", 1]))
        .await?;
    a.barrier().await?;
    a.send(json!(["", "mon1", c.port_name()])).await?;
    a.expect(json!(["", "kil0", c.port_name(), ANY, REST])).await?;
    Ok(())
}

async fn spawn_unknown_at_once(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send_all(&[
        json!(["", "AnyEvent::MP::_spawn", c.port_name(), "Conform::No::such::function"]),
        json!(["", "mon1", c.port_name()]),
        json!([c.port_name(), "hello"]),
    ])
    .await?;
    let fired = a.all(json!(["", "kil0", c.port_name(), ANY, REST])).await?;
    ensure(fired.len() == 1, || format!("{} kil0 came", fired.len()))
}

async fn spawn_reason(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send_all(&[
        json!(["", "AnyEvent::MP::_spawn", c.port_name(), "Conform::No::such::function"]),
        json!(["", "mon1", c.port_name()]),
    ])
    .await?;
    a.expect_first(
        json!(["", "kil0", c.port_name(), REST]),
        json!(["", "kil0", c.port_name(), "die", ANY]),
    )
    .await?;
    Ok(())
}

async fn spawns(c: Ctx) -> Verdict {
    let function = c.service()?;
    let mut a = c.meet("a").await?;
    let to = a.port("spawned");
    a.send(json!(["", "AnyEvent::MP::_spawn", c.port_name(), function, to, 1, [2], {"k": null}]))
        .await?;
    a.expect_first(json!(["spawned", REST]), json!(["spawned", 1, [2], {"k": null}])).await?;
    a.send(json!([c.port_name(), "echo", to, "hello", 1])).await?;
    a.expect_first(json!(["spawned", REST]), json!(["spawned", "hello", 1])).await?;
    Ok(())
}

async fn spawn_order(c: Ctx) -> Verdict {
    let function = c.service()?;
    let mut a = c.meet("a").await?;
    let to = a.port("spawned");
    a.send_all(&[
        json!(["", "AnyEvent::MP::_spawn", c.port_name(), function, to, "up"]),
        json!(["", "mon1", c.port_name()]),
        json!([c.port_name(), "echo", to, "first"]),
        json!(["", "snd", to, "second"]),
    ])
    .await?;
    for word in ["up", "first", "second"] {
        a.expect_first(json!(["spawned", REST]), json!(["spawned", word])).await?;
    }
    a.nothing(json!(["", "kil0", REST])).await
}

async fn name_taken(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let again =
        json!(["", "AnyEvent::MP::_spawn", c.port_name(), c.service()?, a.port("again"), "up"]);
    a.send(again).await?;
    a.lets(json!(["echo", a.port("first"), "alive"])).await?;
    a.expect(json!(["first", "alive"])).await?;
    a.nothing(json!(["again", REST])).await
}

async fn unknown_tag(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let to = a.port("echo");
    a.send_all(&[
        json!(["", "mon1", c.port_name()]),
        json!([c.port_name(), "no such tag", 1]),
        json!([c.port_name(), "echo", to, "alive"]),
    ])
    .await?;
    a.expect(json!(["echo", "alive"])).await?;
    a.nothing(json!(["", "kil0", REST])).await
}

async fn order(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let to = a.port("echo");
    let packets: Vec<Json> =
        (0..100).map(|number| json!([c.port_name(), "echo", to, number])).collect();
    a.send_all(&packets).await?;
    for number in 0..100 {
        a.expect_first(json!(["echo", REST]), json!(["echo", number])).await?;
    }
    Ok(())
}

async fn alive(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.monitors().await?;
    a.nothing(json!(["", ANY, c.port_name(), REST])).await
}

async fn kil_reason(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.monitors().await?;
    a.kills(json!(["some", "reason", 42])).await?;
    a.is_told_of_death(json!(["some", "reason", 42])).await
}

async fn kil_normal(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.monitors().await?;
    a.kills(json!([])).await?;
    a.is_told_of_death(json!([])).await
}

async fn once(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.monitors().await?;
    a.kills(json!(["reason"])).await?;
    a.kills(json!(["reason"])).await?;
    let fired = a.deaths().await?;
    ensure(fired.len() == 1, || format!("{} kil0 came", fired.len()))
}

async fn unmonitored(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.send_all(&[json!(["", "mon1", c.port_name()]), json!(["", "mon0", c.port_name()])]).await?;
    a.kills(json!(["reason"])).await?;
    a.is_told_of_no_death().await
}

async fn monitored_again(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.send_all(&[
        json!(["", "mon1", c.port_name()]),
        json!(["", "mon0", c.port_name()]),
        json!(["", "mon1", c.port_name()]),
        json!(["", "kil1", c.port_name(), "reason"]),
    ])
    .await?;
    a.is_told_of_death(json!(["reason"])).await
}

async fn dead(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.kills(json!(["reason"])).await?;
    a.barrier().await?;
    a.monitors().await?;
    a.is_told_of_death(json!([ANY, REST])).await
}

async fn dies(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.monitors().await?;
    a.lets(json!(["die"])).await?;
    a.is_told_of_death(json!(["die", ANY])).await
}

async fn words_before_death(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.forget().await?;
    let to = a.port("last");
    a.send_all(&[
        json!(["", "mon1", c.port_name()]),
        json!([c.port_name(), "echo", to, "words"]),
        json!(["", "kil1", c.port_name(), "reason"]),
    ])
    .await?;
    a.is_told_of_death(json!([REST])).await?;
    // If it were sent later, it would not have arrived yet.
    a.expect_within(json!(["last", "words"]), Duration::ZERO).await?;
    Ok(())
}

async fn two_nodes(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let mut b = Service::shared(&c, c.meet("b").await?);
    a.monitors().await?;
    b.monitors().await?;
    b.barrier().await?;
    a.kills(json!(["reason"])).await?;
    a.is_told_of_death(json!(["reason"])).await?;
    b.is_told_of_death(json!(["reason"])).await
}

async fn others_stay(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let mut b = Service::shared(&c, c.meet("b").await?);
    a.monitors().await?;
    b.monitors().await?;
    b.send(json!(["", "mon0", c.port_name()])).await?;
    b.barrier().await?;
    a.kills(json!(["reason"])).await?;
    a.is_told_of_death(json!(["reason"])).await?;
    b.is_told_of_no_death().await
}

async fn lost_monitors(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let mut b = Service::shared(&c, c.meet("b").await?);
    b.monitors().await?;
    b.barrier().await?;
    b.close().await;
    let mut b = Service::shared(&c, c.meet_again("b").await?);
    a.kills(json!(["reason"])).await?;
    a.barrier().await?;
    b.is_told_of_no_death().await
}

async fn monitors(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets_monitor("m", "watched").await?;
    a.expect_first(json!(["", "mon1", REST]), json!(["", "mon1", "watched"])).await?;
    Ok(())
}

async fn fires(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets_monitor("m", "watched").await?;
    a.expect(json!(["", "mon1", "watched"])).await?;
    a.send(json!(["", "kil0", "watched", "the", "reason", 7])).await?;
    a.expect_first(json!(["fired", REST]), json!(["fired", "m", "the", "reason", 7])).await?;
    a.send(json!(["", "kil0", "watched", "again"])).await?;
    a.nothing(json!(["fired", REST])).await
}

async fn one_monitor(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets_monitor("m", "watched").await?;
    a.lets_monitor("n", "watched").await?;
    let sent = a.all(json!(["", "mon1", "watched"])).await?;
    ensure(sent.len() == 1, || format!("it sent {} mon1", sent.len()))?;
    a.send(json!(["", "kil0", "watched", "reason"])).await?;
    for _ in 0..2 {
        a.expect(json!(["fired", ANY, "reason"])).await?;
    }
    Ok(())
}

async fn last_monitor(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets_monitor("m", "watched").await?;
    a.lets_monitor("n", "watched").await?;
    a.lets(json!(["unmon", "m"])).await?;
    a.nothing(json!(["", "mon0", REST])).await?;
    a.lets(json!(["unmon", "n"])).await?;
    a.expect_first(json!(["", "mon0", REST]), json!(["", "mon0", "watched"])).await?;
    a.send(json!(["", "kil0", "watched", "late"])).await?;
    a.nothing(json!(["fired", REST])).await
}

async fn monitors_again(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets_monitor("m", "watched").await?;
    a.expect(json!(["", "mon1", "watched"])).await?;
    a.send(json!(["", "kil0", "watched", "reason"])).await?;
    a.expect(json!(["fired", "m", "reason"])).await?;
    a.lets_monitor("n", "watched").await?;
    a.expect(json!(["", "mon1", "watched"])).await?;
    a.lets(json!(["unmon", "n"])).await?;
    a.expect(json!(["", "mon0", "watched"])).await?;
    a.lets_monitor("o", "watched").await?;
    a.expect(json!(["", "mon1", "watched"])).await?;
    Ok(())
}

async fn loss(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let mut b = c.meet("b").await?;
    b.barrier().await?;
    let watched = b.port("watched");
    a.lets(json!(["mon", "m", watched, a.port("fired")])).await?;
    b.expect(json!(["", "mon1", "watched"])).await?;
    let lost = b.me.clone();
    b.close().await;
    a.expect_first(json!(["fired", REST]), json!(["fired", "m", "transport_error", lost, REST]))
        .await?;
    Ok(())
}

async fn node_monitor(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let mut b = c.meet("b").await?;
    b.forget().await?;
    let lost = b.me.clone();
    a.lets(json!(["mon", "m", lost, a.port("fired")])).await?;
    a.barrier().await?;
    b.nothing(json!(["", "mon1", REST])).await?;
    b.close().await;
    let fired = a.expect(json!(["fired", "m", REST])).await?;
    ensure(is_text(fired.get(2), "transport_error") && is_text(fired.get(3), &lost), || {
        format!("it fired with {}", show_packet(&fired))
    })
}

async fn kills(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    a.lets(json!(["kil", a.port("victim"), "the", "reason"])).await?;
    a.expect_first(json!(["", "kil1", REST]), json!(["", "kil1", "victim", "the", "reason"]))
        .await?;
    Ok(())
}
