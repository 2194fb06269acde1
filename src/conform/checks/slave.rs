//! §4.1 and §5.1: a node with seeds, of which one is its master. The suite is those seeds.

use super::monitors::spawned;
use super::{ANY, REST};
use crate::conform::check::{Check, check};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::{Session, show_packet};
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Those of the seeds.
pub(super) const CHECKS: &[Check] = &[
    check("join", "4.1", "Dials its seed and says g_slave without argument.", |c| {
        Box::pin(joins(c))
    })
    .seeds(1),
    check("join-master", "5.1", "Takes the seed as its master and sends it its database.", |c| {
        Box::pin(adopts(c))
    })
    .seeds(1),
    check("join-address", "5", "Sets its addresses in 'l, and can be dialled there.", |c| {
        Box::pin(address_works(c))
    })
    .seeds(1),
    check("join-all", "4.1", "Connects to each of its seeds.", |c| Box::pin(joins_all(c))).seeds(3),
    check("join-one-master", "5.1", "Has one master at a time.", |c| Box::pin(one_master(c)))
        .seeds(2),
    check("seed-again", "4.1", "Dials a seed again that was lost.", |c| Box::pin(dials_again(c)))
        .seeds(1),
    check("seed-refused", "4.1", "Dials a seed again that closed before its greeting.", |c| {
        Box::pin(dials_after_refusal(c))
    })
    .seeds(1),
    check("seed-master-again", "5.1", "Sends a master that came back its database again.", |c| {
        Box::pin(adopts_again(c))
    })
    .seeds(1),
    check("failover", "5.1", "Takes the next seed as master when the master is lost.", |c| {
        Box::pin(failover(c))
    })
    .seeds(2),
    check("failover-stays", "5.1", "Stays with its master when an old one comes back.", |c| {
        Box::pin(stays(c))
    })
    .seeds(2),
    check("failover-entries", "5.1", "Sends a new master all the entries it has set.", |c| {
        Box::pin(failover_entries(c))
    })
    .seeds(2),
    check("failover-monitors", "5.1", "Monitors its families at the new master.", |c| {
        Box::pin(failover_monitors(c))
    })
    .seeds(2),
    check("failover-queries", "5.1", "Asks the new master what the old one left open.", |c| {
        Box::pin(failover_queries(c))
    })
    .seeds(2),
    check("failover-changes", "5.1", "Reports what is different at the new master.", |c| {
        Box::pin(failover_changes(c))
    })
    .seeds(2),
    check("failover-unchanged", "5.1", "Reports nothing of what is the same there.", |c| {
        Box::pin(unchanged(c))
    })
    .ours()
    .seeds(2),
    check("slave-set", "5.1", "Tells its master what it sets.", |c| Box::pin(sets(c))).seeds(1),
    check("slave-set-again", "5.1", "Tells nothing when it sets an equal value.", |c| {
        Box::pin(sets_again(c))
    })
    .seeds(1),
    check("slave-delete", "5.1", "Tells its master what it deletes.", |c| Box::pin(deletes(c)))
        .seeds(1),
    check("slave-delete-nothing", "5.1", "Tells nothing when it deletes what is not set.", |c| {
        Box::pin(deletes_nothing(c))
    })
    .seeds(1),
    check("slave-family", "5.1", "Asks its master for a family.", |c| {
        Box::pin(asks(c, "db_family", || json!({"k": [1, null]})))
    })
    .seeds(1),
    check("slave-keys", "5.1", "Asks its master for the keys of a family.", |c| {
        Box::pin(asks(c, "db_keys", || json!(["k", "l"])))
    })
    .seeds(1),
    check("slave-values", "5.1", "Asks its master for the values of a family.", |c| {
        Box::pin(asks(c, "db_values", || json!(["v", [2]])))
    })
    .seeds(1),
    check("slave-mon", "5.1", "Subscribes to a family and reports its content.", |c| {
        Box::pin(subscribes(c))
    })
    .seeds(1),
    check("slave-mon-changes", "5.1", "Reports what is added, changed and deleted.", |c| {
        Box::pin(reports_changes(c))
    })
    .seeds(1),
    check("slave-mon-once", "5.1", "Two monitors on a family are one subscription.", |c| {
        Box::pin(subscribes_once(c))
    })
    .seeds(1),
    check("slave-mon0", "5.1", "Ends the subscription with the last monitor.", |c| {
        Box::pin(unsubscribes(c))
    })
    .seeds(1),
    check("slave-chg-stranger", "5.1", "Ignores changes from who is not its master.", |c| {
        Box::pin(ignores_strangers(c))
    })
    .seeds(2),
    check("slave-find", "4.3", "Asks its master for a node, dials it, and sends.", |c| {
        Box::pin(finds(c))
    })
    .seeds(1),
    check("slave-find-nothing", "4.3", "Monitors fire if the master knows no address.", |c| {
        Box::pin(finds_nothing(c))
    })
    .ours()
    .seeds(1),
    // The last one, as there is no way back for a node that all of them share.
    check("join-global", "4.2", "Becomes global when another node uses it as seed.", |c| {
        Box::pin(becomes_global(c))
    })
    .seeds(1),
];

/// The seed that the node takes as its master, after it got the database.
async fn master(c: &Ctx) -> Verdict<Session> {
    let mut session = c.meet_at("m", 0).await?;
    database(&mut session).await?;
    Ok(session)
}

/// The database that the node sends to its new master.
async fn database(session: &mut Session) -> Verdict<Json> {
    session.send(json!(["", "g_global"])).await?;
    let packet = session.expect(json!(["", "g_slave", {REST: ANY}])).await?;
    Ok(packet.get(2).map(pattern::to_json).unwrap_or_default())
}

/// A master with the test service on its slave.
async fn master_with_service(c: &Ctx) -> Verdict<Session> {
    c.service()?;
    let mut session = master(c).await?;
    spawned(c, &mut session, &c.port_name()).await?;
    Ok(session)
}

async fn joins(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn adopts(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    let database = database(&mut m).await?;
    let addresses = database.get("'l").and_then(|addresses| addresses.get(&m.node));
    ensure(addresses.is_some_and(Json::is_array), || format!("its database is {database}"))
}

async fn address_works(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    let database = database(&mut m).await?;
    let addresses = database.get("'l").and_then(|addresses| addresses.get(&m.node));
    let first = addresses.and_then(|all| all.get(0)).and_then(Json::as_str);
    let Some(address) = first else {
        return miss(format!("it has no address in {database}"));
    };
    match timeout(c.target.patience, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => miss(format!("nobody listens on {address}: {error}")),
        Err(_) => miss(format!("nobody answers on {address}")),
    }
}

async fn joins_all(c: Ctx) -> Verdict {
    let mut seeds = Vec::new();
    for seed in 0..3 {
        let mut session = c.meet_at(&format!("m{seed}"), seed).await?;
        session.expect(json!(["", "g_slave"])).await?;
        seeds.push(session);
    }
    for seed in &mut seeds {
        seed.barrier().await?;
    }
    Ok(())
}

async fn one_master(c: Ctx) -> Verdict {
    let mut m = master(&c).await?;
    let mut other = c.meet_at("o", 1).await?;
    other.send(json!(["", "g_global"])).await?;
    m.barrier().await?;
    other.nothing(json!(["", "g_slave", {REST: ANY}])).await
}

async fn becomes_global(c: Ctx) -> Verdict {
    let mut m = master(&c).await?;
    m.send(json!(["", "g_slave"])).await?;
    m.expect(json!(["", "g_global"])).await?;
    Ok(())
}

async fn dials_again(c: Ctx) -> Verdict {
    let mut m = c.meet_at("m", 0).await?;
    m.barrier().await?;
    m.close().await;
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn dials_after_refusal(c: Ctx) -> Verdict {
    drop(c.connect_at("m", 0).await?);
    let mut m = c.meet_at("m", 0).await?;
    m.expect(json!(["", "g_slave"])).await?;
    Ok(())
}

async fn adopts_again(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    m.close().await;
    master(&c).await?;
    Ok(())
}

async fn failover(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.close().await;
    database(&mut next).await?;
    Ok(())
}

async fn stays(c: Ctx) -> Verdict {
    let m = master(&c).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.close().await;
    database(&mut next).await?;
    let mut m = c.meet_at("m", 0).await?;
    m.send(json!(["", "g_global"])).await?;
    next.barrier().await?;
    m.nothing(json!(["", "g_slave", {REST: ANY}])).await
}

async fn failover_entries(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_set", family, "k", ["v"]])).await?;
    m.expect(json!(["", "g_upd", family, REST])).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.close().await;
    let database = database(&mut next).await?;
    let entry = database.get(&family);
    ensure(entry == Some(&json!({"k": ["v"]})), || format!("its database is {database}"))
}

async fn failover_monitors(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, m.port("family")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.close().await;
    database(&mut next).await?;
    next.expect(json!(["", "g_mon1", family])).await?;
    Ok(())
}

async fn failover_queries(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_family", family, m.port("answer")])).await?;
    m.expect(json!(["", "g_db_family", family, ANY])).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.close().await;
    database(&mut next).await?;
    next.expect(json!(["", "g_db_family", family, ANY])).await?;
    Ok(())
}

async fn failover_changes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, next.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"same": 1, "other": 1}])).await?;
    next.expect(json!(["report", "label", {"same": 1, "other": 1}, ANY, ANY, ANY])).await?;
    m.close().await;
    database(&mut next).await?;
    next.expect(json!(["", "g_mon1", family])).await?;
    next.send(json!(["", "g_chg1", family, {"same": 1, "other": 2, "new": 3}])).await?;
    let content = json!({"same": 1, "other": 2, "new": 3});
    let report = next
        .expect_first(
            json!(["report", REST]),
            json!(["report", "label", content, ["new"], ANY, []]),
        )
        .await?;
    // The reference counts each key that was there before as changed.
    let changed = report.get(4).map(pattern::to_json).unwrap_or_default();
    let has_other = changed.as_array().is_some_and(|keys| keys.contains(&json!("other")));
    ensure(has_other, || format!("what it reports as changed is {changed}"))
}

async fn unchanged(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    let mut next = c.meet_at("n", 1).await?;
    next.barrier().await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, next.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"same": 1}])).await?;
    next.expect(json!(["report", "label", {"same": 1}, REST])).await?;
    m.close().await;
    database(&mut next).await?;
    next.expect(json!(["", "g_mon1", family])).await?;
    next.send(json!(["", "g_chg1", family, {"same": 1, "new": 2}])).await?;
    next.expect_first(
        json!(["report", REST]),
        json!(["report", "label", {"same": 1, "new": 2}, ["new"], [], []]),
    )
    .await?;
    Ok(())
}

async fn sets(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_set", family, "k", {"v": [1]}])).await?;
    let update = m.expect(json!(["", "g_upd", family, REST])).await?;
    let is_right = match &update[..] {
        [_, _, _, set] => pattern::matches(&json!({"k": {"v": [1]}}), set),
        [_, _, _, set, deleted] => {
            pattern::matches(&json!({"k": {"v": [1]}}), set)
                && (deleted.is_undef() || pattern::matches(&json!([]), deleted))
        }
        _ => false,
    };
    ensure(is_right, || format!("it told {}", show_packet(&update)))
}

async fn sets_again(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    let set = json!([c.port_name(), "db_set", family, "k", ["v", 1]]);
    m.send(set.clone()).await?;
    m.expect(json!(["", "g_upd", family, REST])).await?;
    m.send(set).await?;
    m.nothing(json!(["", "g_upd", family, REST])).await
}

async fn deletes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_set", family, "k", 1])).await?;
    m.expect(json!(["", "g_upd", family, REST])).await?;
    m.send(json!([c.port_name(), "db_del", family, "k"])).await?;
    let update = m.expect(json!(["", "g_upd", family, ANY, ["k"]])).await?;
    let sets_nothing =
        update.get(3).is_some_and(|set| set.is_undef() || pattern::matches(&json!({}), set));
    ensure(sets_nothing, || format!("it told {}", show_packet(&update)))
}

async fn deletes_nothing(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_del", family, "never-set"])).await?;
    m.nothing(json!(["", "g_upd", family, REST])).await
}

async fn asks(c: Ctx, tag: &str, answer: fn() -> Json) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), tag, family, m.port("answer")])).await?;
    let request = format!("g_{tag}");
    let query = m.expect(json!(["", request, family, ANY])).await?;
    let id = query.get(3).map(pattern::to_json).unwrap_or_default();
    m.send(json!(["", "g_reply", id, answer()])).await?;
    m.expect_first(json!(["answer", REST]), json!(["answer", answer()])).await?;
    Ok(())
}

async fn subscribes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, m.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"k": "v"}])).await?;
    m.expect_first(json!(["report", REST]), json!(["report", "label", {"k": "v"}, ["k"], [], []]))
        .await?;
    Ok(())
}

async fn reports_changes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, m.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"a": 1, "b": 1}])).await?;
    m.expect(json!(["report", "label", {"a": 1, "b": 1}, ANY, ANY, ANY])).await?;
    m.send(json!(["", "g_chg2", family, {"b": 2, "c": 3}, ["a"]])).await?;
    m.expect_first(
        json!(["report", REST]),
        json!(["report", "label", {"b": 2, "c": 3}, ["c"], ["b"], ["a"]]),
    )
    .await?;
    Ok(())
}

async fn subscribes_once(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    m.send(json!([c.port_name(), "db_mon", "one", family, m.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"k": 1}])).await?;
    m.expect(json!(["report", "one", {"k": 1}, REST])).await?;
    m.send(json!([c.port_name(), "db_mon", "two", family, m.port("report")])).await?;
    m.expect(json!(["report", "two", {"k": 1}, REST])).await?;
    m.nothing(json!(["", "g_mon1", family])).await
}

async fn unsubscribes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    for label in ["one", "two"] {
        m.send(json!([c.port_name(), "db_mon", label, family, m.port("report")])).await?;
    }
    m.expect(json!(["", "g_mon1", family])).await?;
    m.send(json!(["", "g_chg1", family, {"k": 1}])).await?;
    m.expect(json!(["report", "two", {"k": 1}, REST])).await?;
    m.send(json!([c.port_name(), "db_unmon", "one"])).await?;
    m.nothing(json!(["", "g_mon0", family])).await?;
    m.send(json!([c.port_name(), "db_unmon", "two"])).await?;
    m.expect(json!(["", "g_mon0", family])).await?;
    Ok(())
}

async fn ignores_strangers(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut m = master_with_service(&c).await?;
    let mut other = c.meet_at("o", 1).await?;
    m.send(json!([c.port_name(), "db_mon", "label", family, m.port("report")])).await?;
    m.expect(json!(["", "g_mon1", family])).await?;
    other.send(json!(["", "g_chg1", family, {"wrong": 1}])).await?;
    other.send(json!(["", "g_chg2", family, {"wrong": 1}, []])).await?;
    other.barrier().await?;
    m.send(json!(["", "g_chg1", family, {"right": 1}])).await?;
    m.expect_first(
        json!(["report", REST]),
        json!(["report", "label", {"right": 1}, ["right"], [], []]),
    )
    .await?;
    Ok(())
}

async fn finds(c: Ctx) -> Verdict {
    let mut m = master_with_service(&c).await?;
    let listener = c.listen(&m).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let x = c.name("x");
    m.send(json!([c.port_name(), "snd", format!("{x}#port"), "hello", 1])).await?;
    m.expect(json!(["", "g_find", x])).await?;
    m.send(json!(["", "g_found", x, [address]])).await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["port", "hello", 1])).await?;
    Ok(())
}

async fn finds_nothing(c: Ctx) -> Verdict {
    let mut m = master_with_service(&c).await?;
    let x = c.name("x");
    m.send(json!([c.port_name(), "mon", "m", format!("{x}#port"), m.port("fired")])).await?;
    m.expect(json!(["", "g_find", x])).await?;
    m.send(json!(["", "g_found", x, null])).await?;
    m.expect_first(json!(["fired", REST]), json!(["fired", "m", "transport_error", x, REST]))
        .await?;
    Ok(())
}
