//! §5: the database as a global node keeps it for slaves and other global nodes.

use super::monitors::met_again;
use super::{ANY, REST};
use crate::conform::check::{Check, check};
use crate::conform::context::Ctx;
use crate::conform::pattern;
use crate::conform::session::{Session, show_packet};
use crate::conform::stop::{Verdict, ensure, miss};
use serde_json::{Value as Json, json};

/// Those about the global side.
pub(super) const CHECKS: &[Check] = &[
    global("g-global", "4.2", "A node that is used as seed says g_global.", |c| {
        Box::pin(says_global(c))
    }),
    global("g-global-later", "4.2", "Says g_global to every node that connects later.", |c| {
        Box::pin(says_global_later(c))
    }),
    global("g-find", "5.1", "Answers g_find of a node with its addresses.", |c| Box::pin(find(c))),
    global(
        "g-find-unknown",
        "5.1",
        "Answers g_find of a node that nobody knows with undef.",
        |c| Box::pin(find_unknown(c)),
    ),
    global("g-find-itself", "5.1", "Knows its own addresses.", |c| Box::pin(find_itself(c))),
    global("g-slave-db", "5.2", "g_slave with a database makes its entries visible.", |c| {
        Box::pin(slave_database(c))
    }),
    global("g-slave-nothing", "5.2", "g_slave without a database takes nothing away.", |c| {
        Box::pin(slave_again(c))
    }),
    global("g-slave-replaces", "5.2", "A second g_slave replaces the first database.", |c| {
        Box::pin(slave_replaces(c))
    })
    .ours(),
    global("g-family", "5.1", "Answers g_db_family with keys and values.", |c| {
        Box::pin(query(c, "g_db_family", || json!({"k1": "v1", "k2": [2]})))
    }),
    global("g-keys", "5.1", "Answers g_db_keys with the keys.", |c| {
        Box::pin(query_list(c, "g_db_keys", || json!(["k1", "k2"])))
    }),
    global("g-values", "5.1", "Answers g_db_values with the values.", |c| {
        Box::pin(query_list(c, "g_db_values", || json!(["v1", [2]])))
    }),
    global("g-family-unknown", "5.1", "A family that does not exist is empty.", |c| {
        Box::pin(unknown_family(c))
    }),
    global("g-reply-id", "5.1", "An answer has the ID of its query, whatever that is.", |c| {
        Box::pin(reply_ids(c))
    }),
    global("g-same-family", "2.1", "Family and key are the same as octets and as text.", |c| {
        Box::pin(same_family(c))
    }),
    global("g-values-kept", "5", "Values are kept as they are.", |c| Box::pin(values_kept(c))),
    global("g-mon1", "5.1", "g_mon1 is answered with all that there is.", |c| Box::pin(content(c))),
    global("g-mon1-empty", "5.1", "g_mon1 of an unknown family is answered with none.", |c| {
        Box::pin(no_content(c))
    }),
    global("g-chg2-set", "5.1", "Subscribers see what is set.", |c| Box::pin(sees_set(c))),
    global("g-chg2-delete", "5.1", "Subscribers see what is deleted.", |c| {
        Box::pin(sees_deletion(c))
    }),
    global("g-chg2-form", "5.2", "g_chg2 has both the entries set and the keys deleted.", |c| {
        Box::pin(change_form(c))
    }),
    global("g-chg2-both", "5.2", "Of one g_upd what is set applies before what is deleted.", |c| {
        Box::pin(set_and_delete(c))
    }),
    global("g-chg2-equal", "5.2", "A value set to an equal one is passed on.", |c| {
        Box::pin(equal_value(c))
    }),
    global("g-chg2-own", "5.1", "A subscriber sees its own changes too.", |c| {
        Box::pin(own_changes(c))
    }),
    global("g-chg2-order", "5", "Changes come in the order in which they were made.", |c| {
        Box::pin(changes_in_order(c))
    }),
    global("g-chg2-family", "5.1", "A subscriber sees nothing of other families.", |c| {
        Box::pin(other_families(c))
    }),
    global("g-upd-null", "5.1", "g_upd may have undef for what is set.", |c| Box::pin(null_set(c))),
    global("g-upd-lists", "5.2", "g_upd may have both, and empty ones.", |c| {
        Box::pin(empty_update(c))
    }),
    global("g-mon0", "5.1", "After g_mon0 no change is told.", |c| Box::pin(unsubscribed(c))),
    global(
        "g-mon1-twice",
        "5.2",
        "Two g_mon1 are answered twice, and are one subscription.",
        |c| Box::pin(subscribed_twice(c)),
    ),
    global("g-last-writer", "5.2", "Of two that set a key, the last one counts.", |c| {
        Box::pin(last_writer(c))
    }),
    global(
        "g-other-owner",
        "5.2",
        "A deleted key that another slave still has gets its value.",
        |c| Box::pin(other_owner(c)),
    ),
    global(
        "g-lesser-owner",
        "5.2",
        "Who deletes a value that does not count changes nothing.",
        |c| Box::pin(lesser_owner(c)),
    ),
    global("g-undef", "5.2", "undef is a value, and not the empty string.", |c| {
        Box::pin(undef_value(c))
    }),
    global("g-down", "5.2", "The entries of a node go with it.", |c| Box::pin(goes_down(c))),
    global("g-down-owner", "5.2", "What a lost node shared with another one stays.", |c| {
        Box::pin(goes_down_sharing(c))
    }),
    global("g-down-address", "5.2", "The address of a node goes with it.", |c| {
        Box::pin(address_goes(c))
    }),
    global("g-down-monitors", "5.2", "The subscriptions of a node go with it.", |c| {
        Box::pin(subscriptions_go(c))
    })
    .ours(),
    global("g-set", "5.2", "Sends another global node the merge of its slaves.", |c| {
        Box::pin(sends_set(c))
    }),
    global("g-set-itself", "5.2", "That merge has its own addresses, and both in 'g.", |c| {
        Box::pin(sends_itself(c))
    }),
    global("g-set-merge", "5.2", "Slaves see the entries of other global nodes.", |c| {
        Box::pin(merges(c))
    }),
    global("g-set-mirror", "5.2", "Sets the address of another global node itself.", |c| {
        Box::pin(mirrors(c))
    }),
    global("g-set-replaces", "5.2", "A second g_set replaces the first.", |c| {
        Box::pin(set_replaces(c))
    })
    .ours(),
    global(
        "g-set-no-address",
        "5.2",
        "A g_set without its sender's address mirrors nothing.",
        |c| Box::pin(no_address(c)),
    )
    .ours(),
    global("g-tells", "5.2", "Tells other global nodes what its slaves set.", |c| {
        Box::pin(tells_global(c))
    }),
    global("g-tells-delete", "5.2", "Tells other global nodes what its slaves delete.", |c| {
        Box::pin(tells_deletion(c))
    }),
    global("g-tells-down", "5.2", "Tells other global nodes what goes with a slave.", |c| {
        Box::pin(tells_loss(c))
    }),
    global("g-tells-no-echo", "5.2", "Does not tell a global node what another one told.", |c| {
        Box::pin(tells_no_echo(c))
    }),
    global("g-hears", "5.2", "Tells subscribers what other global nodes tell.", |c| {
        Box::pin(hears(c))
    }),
    global("g-hears-delete", "5.2", "Tells subscribers what other global nodes delete.", |c| {
        Box::pin(hears_deletion(c))
    }),
    global(
        "g-global-first",
        "5.2",
        "A slave's value counts when a global node deletes its own.",
        |c| Box::pin(slave_has_it(c)),
    ),
    global("g-global-has", "5.2", "A slave's deleted key gets the value of a global node.", |c| {
        Box::pin(global_has_it(c))
    }),
    global("g-global-down", "5.2", "The entries of a global node go with it.", |c| {
        Box::pin(global_down(c))
    }),
    global("g-global-turns", "5.2", "The entries of a slave that turns global go.", |c| {
        Box::pin(turns_global(c))
    }),
    global("g-turns-keeps", "5.2", "Its subscriptions stay.", |c| Box::pin(turns_and_listens(c))),
    global("g-stranger", "5.2", "Takes g_upd of a node that is neither slave nor global.", |c| {
        Box::pin(stranger(c))
    })
    .should(),
];

type Code = fn(Ctx) -> std::pin::Pin<Box<dyn Future<Output = Verdict> + Send>>;

const fn global(
    id: &'static str,
    section: &'static str,
    sentence: &'static str,
    run: Code,
) -> Check {
    check(id, section, sentence, run).dial()
}

/// A slave of the node, with these entries beside its address.
async fn slave(c: &Ctx, name: &str, family: &str, entries: Json) -> Verdict<Session> {
    let mut session = c.meet(name).await?;
    let me = session.me.clone();
    let mut database = json!({"'l": {me: ["127.0.0.1:1"]}});
    if entries.as_object().is_some_and(|entries| !entries.is_empty()) {
        database[family] = entries;
    }
    session.send_all(&[json!(["", "g_slave"]), json!(["", "g_slave", database])]).await?;
    session.barrier().await?;
    Ok(session)
}

/// A slave that has subscribed to a family, and has what was in it.
async fn subscriber(c: &Ctx, name: &str, family: &str) -> Verdict<Session> {
    let mut session = slave(c, name, family, json!({})).await?;
    session.send(json!(["", "g_mon1", family])).await?;
    session.expect(json!(["", "g_chg1", family, ANY])).await?;
    Ok(session)
}

/// Another global node, with these entries of its slaves. Its address leads nowhere.
async fn other_global(c: &Ctx, name: &str, family: &str, entries: Json) -> Verdict<Session> {
    let mut session = c.meet(name).await?;
    // It would not be global otherwise.
    session.send_all(&[json!(["", "g_slave"]), json!(["", "g_global"])]).await?;
    session.expect(json!(["", "g_global"])).await?;
    let (me, node) = (session.me.clone(), session.node.clone());
    let mut database = json!({"'l": {&*me: ["127.0.0.1:1"]}, "'g": {&*me: null, node: null}});
    if entries.as_object().is_some_and(|entries| !entries.is_empty()) {
        database[family] = entries;
    }
    session.send(json!(["", "g_set", database])).await?;
    session.barrier().await?;
    Ok(session)
}

/// What a subscriber is told next.
async fn told(session: &mut Session, family: &str, set: Json, deleted: Json) -> Verdict {
    session
        .expect_first(
            json!(["", "g_chg2", family, REST]),
            json!(["", "g_chg2", family, set, deleted]),
        )
        .await?;
    Ok(())
}

/// What another global node is told next.
async fn updated(session: &mut Session, family: &str, set: Json, deleted: Json) -> Verdict {
    session
        .expect_first(
            json!(["", "g_upd", family, REST]),
            json!(["", "g_upd", family, set, deleted]),
        )
        .await?;
    Ok(())
}

/// Nothing more is told, once what `by` sent has taken effect.
async fn not_told(by: &mut Session, session: &mut Session, family: &str) -> Verdict {
    by.barrier().await?;
    session.nothing(json!(["", ANY, family, REST])).await
}

async fn upd(session: &mut Session, family: &str, set: Json, deleted: Json) -> Verdict {
    session.send(json!(["", "g_upd", family, set, deleted])).await
}

/// The content of a family, as a slave is told.
async fn has(session: &mut Session, family: &str, wanted: Json) -> Verdict {
    let found = session.family(family).await?;
    ensure(found == wanted, || format!("the family is {found}, and should be {wanted}"))
}

/// Looks into a family until it is so, as what goes with a connection goes in its own time.
async fn becomes(session: &mut Session, family: &str, wanted: Json) -> Verdict {
    let deadline = tokio::time::Instant::now() + session.patience;
    loop {
        let found = session.family(family).await?;
        if found == wanted {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return miss(format!("the family stays {found}, and should become {wanted}"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn says_global(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "g_slave"])).await?;
    a.expect(json!(["", "g_global"])).await?;
    Ok(())
}

async fn says_global_later(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "g_slave"])).await?;
    a.expect(json!(["", "g_global"])).await?;
    let mut b = c.meet("b").await?;
    b.expect(json!(["", "g_global"])).await?;
    Ok(())
}

async fn find(c: Ctx) -> Verdict {
    let a = slave(&c, "a", "", json!({})).await?;
    let mut b = slave(&c, "b", "", json!({})).await?;
    b.send(json!(["", "g_find", a.me])).await?;
    b.expect_first(json!(["", "g_found", REST]), json!(["", "g_found", a.me, ["127.0.0.1:1"]]))
        .await?;
    Ok(())
}

async fn find_unknown(c: Ctx) -> Verdict {
    let mut a = slave(&c, "a", "", json!({})).await?;
    let nobody = c.name("nobody");
    a.send(json!(["", "g_find", nobody])).await?;
    a.expect_first(json!(["", "g_found", REST]), json!(["", "g_found", nobody, null])).await?;
    Ok(())
}

async fn find_itself(c: Ctx) -> Verdict {
    let mut a = slave(&c, "a", "", json!({})).await?;
    let node = a.node.clone();
    a.send(json!(["", "g_find", node])).await?;
    let found = a.expect(json!(["", "g_found", node, ANY])).await?;
    let addresses = found.get(3).map(pattern::to_json).unwrap_or_default();
    let is_address = |address: &Json| {
        address.as_str().is_some_and(|text| {
            text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        })
    };
    let all = addresses.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(is_address));
    ensure(all, || format!("its addresses are {addresses}"))
}

async fn slave_database(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    has(&mut b, &family, json!({"k": "v"})).await
}

async fn slave_again(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    a.send(json!(["", "g_slave"])).await?;
    has(&mut a, &family, json!({"k": "v"})).await
}

async fn slave_replaces(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"old": 1, "both": 1})).await?;
    a.send(json!(["", "g_slave", {family.clone(): {"new": 2, "both": 2}}])).await?;
    has(&mut a, &family, json!({"both": 2, "new": 2})).await
}

async fn query(c: Ctx, request: &str, wanted: fn() -> Json) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k1": "v1", "k2": [2]})).await?;
    a.send(json!(["", request, family, "id"])).await?;
    a.expect_first(json!(["", "g_reply", "id", REST]), json!(["", "g_reply", "id", wanted()]))
        .await?;
    Ok(())
}

async fn query_list(c: Ctx, request: &str, wanted: fn() -> Json) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k1": "v1", "k2": [2]})).await?;
    a.send(json!(["", request, family, "id"])).await?;
    let reply = a.expect(json!(["", "g_reply", "id", ANY])).await?;
    let sorted = |list: Json| {
        let mut items: Vec<String> =
            list.as_array().into_iter().flatten().map(Json::to_string).collect();
        items.sort();
        items
    };
    let found = reply.get(3).map(pattern::to_json).unwrap_or_default();
    ensure(sorted(found.clone()) == sorted(wanted()), || format!("it answers {found}"))
}

async fn unknown_family(c: Ctx) -> Verdict {
    let family = c.name("no-such-family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    for (request, id) in [("g_db_family", "f"), ("g_db_keys", "k"), ("g_db_values", "v")] {
        a.send(json!(["", request, family, id])).await?;
        let reply = a.expect(json!(["", "g_reply", id, ANY])).await?;
        let found = reply.get(3).map(pattern::to_json).unwrap_or_default();
        let is_empty = match &found {
            Json::Array(items) => request != "g_db_family" && items.is_empty(),
            Json::Object(pairs) => request == "g_db_family" && pairs.is_empty(),
            _ => false,
        };
        ensure(is_empty, || format!("{request} answers {found}"))?;
    }
    Ok(())
}

async fn reply_ids(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": 1})).await?;
    for id in [json!("a text"), json!(42), json!("")] {
        a.send(json!(["", "g_db_keys", family, id])).await?;
        a.expect(json!(["", "g_reply", id, ["k"]])).await?;
    }
    Ok(())
}

async fn same_family(c: Ctx) -> Verdict {
    // Our own text is sent as text where the framing can tell; the node's words may be octets.
    let family = c.name("caf\u{e9}");
    let mut a = slave(&c, "a", &family, json!({"\u{e9}": "v"})).await?;
    has(&mut a, &family, json!({"\u{e9}": "v"})).await?;
    upd(&mut a, &family, Json::Null, json!(["\u{e9}"])).await?;
    has(&mut a, &family, json!({})).await
}

async fn values_kept(c: Ctx) -> Verdict {
    let family = c.name("family");
    let values = json!({"a": [1, [2, {"k": null}]], "e": "", "u": null, "t": "\u{20ac}", "h": {}});
    let mut a = slave(&c, "a", &family, json!({})).await?;
    upd(&mut a, &family, values.clone(), json!([])).await?;
    has(&mut a, &family, values).await
}

async fn content(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    b.send(json!(["", "g_mon1", family])).await?;
    b.expect_first(json!(["", "g_chg1", family, REST]), json!(["", "g_chg1", family, {"k": "v"}]))
        .await?;
    Ok(())
}

async fn no_content(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    a.send(json!(["", "g_mon1", family])).await?;
    let answer = a.expect(json!(["", "g_chg1", family, ANY])).await?;
    let found = answer.get(3).map(pattern::to_json).unwrap_or_default();
    ensure(found.is_null() || found == json!({}), || format!("the content is {found}"))
}

async fn sees_set(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    a.send(json!(["", "g_upd", family, {"k": "v"}])).await?;
    told(&mut b, &family, json!({"k": "v"}), json!(ANY)).await
}

async fn sees_deletion(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    a.send(json!(["", "g_upd", family, null, ["k"]])).await?;
    told(&mut b, &family, json!(ANY), json!(["k"])).await?;
    has(&mut b, &family, json!({})).await
}

async fn change_form(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    a.send(json!(["", "g_upd", family, {"k": "v"}])).await?;
    told(&mut b, &family, json!({"k": "v"}), json!([])).await?;
    a.send(json!(["", "g_upd", family, null, ["k"]])).await?;
    told(&mut b, &family, json!({}), json!(["k"])).await
}

async fn set_and_delete(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"old": 1})).await?;
    upd(&mut a, &family, json!({"new": 1, "both": 1}), json!(["old", "both"])).await?;
    has(&mut a, &family, json!({"new": 1})).await
}

async fn equal_value(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut a, &family, json!({"k": "v"}), json!([])).await?;
    told(&mut b, &family, json!({"k": "v"}), json!([])).await
}

async fn own_changes(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = subscriber(&c, "a", &family).await?;
    upd(&mut a, &family, json!({"k": "v"}), json!([])).await?;
    told(&mut a, &family, json!({"k": "v"}), json!([])).await
}

async fn changes_in_order(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    let changes: Vec<Json> =
        (0..50).map(|number| json!(["", "g_upd", family, {"k": number}])).collect();
    a.send_all(&changes).await?;
    for number in 0..50 {
        told(&mut b, &family, json!({"k": number}), json!([])).await?;
    }
    Ok(())
}

async fn other_families(c: Ctx) -> Verdict {
    let (family, other) = (c.name("family"), c.name("other"));
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut a, &other, json!({"k": "v"}), json!([])).await?;
    not_told(&mut a, &mut b, &other).await
}

async fn null_set(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": 1, "l": 2})).await?;
    upd(&mut a, &family, Json::Null, json!(["k"])).await?;
    has(&mut a, &family, json!({"l": 2})).await
}

async fn empty_update(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": 1})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut a, &family, json!({}), json!([])).await?;
    not_told(&mut a, &mut b, &family).await
}

async fn unsubscribed(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    b.send(json!(["", "g_mon0", family])).await?;
    b.barrier().await?;
    upd(&mut a, &family, json!({"k": "v"}), json!([])).await?;
    not_told(&mut a, &mut b, &family).await
}

async fn subscribed_twice(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = subscriber(&c, "a", &family).await?;
    a.send(json!(["", "g_mon1", family])).await?;
    a.expect(json!(["", "g_chg1", family, ANY])).await?;
    upd(&mut a, &family, json!({"k": 1}), json!([])).await?;
    told(&mut a, &family, json!({"k": 1}), json!([])).await?;
    a.nothing(json!(["", "g_chg2", family, REST])).await?;
    a.send(json!(["", "g_mon0", family])).await?;
    upd(&mut a, &family, json!({"k": 2}), json!([])).await?;
    a.nothing(json!(["", "g_chg2", family, REST])).await
}

async fn last_writer(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "a1"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    upd(&mut b, &family, json!({"k": "b1"}), json!([])).await?;
    has(&mut b, &family, json!({"k": "b1"})).await?;
    upd(&mut a, &family, json!({"k": "a2"}), json!([])).await?;
    has(&mut a, &family, json!({"k": "a2"})).await
}

async fn other_owner(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "from a"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    upd(&mut b, &family, json!({"k": "from b"}), json!([])).await?;
    b.barrier().await?;
    let mut watcher = subscriber(&c, "w", &family).await?;
    upd(&mut b, &family, Json::Null, json!(["k"])).await?;
    told(&mut watcher, &family, json!({"k": "from a"}), json!([])).await?;
    has(&mut watcher, &family, json!({"k": "from a"})).await
}

async fn lesser_owner(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "from a"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    upd(&mut b, &family, json!({"k": "from b"}), json!([])).await?;
    b.barrier().await?;
    let mut watcher = subscriber(&c, "w", &family).await?;
    upd(&mut a, &family, Json::Null, json!(["k"])).await?;
    not_told(&mut a, &mut watcher, &family).await?;
    has(&mut watcher, &family, json!({"k": "from b"})).await
}

async fn undef_value(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": null})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    upd(&mut b, &family, json!({"k": ""}), json!([])).await?;
    b.barrier().await?;
    let mut watcher = subscriber(&c, "w", &family).await?;
    upd(&mut b, &family, Json::Null, json!(["k"])).await?;
    told(&mut watcher, &family, json!({"k": null}), json!([])).await
}

async fn goes_down(c: Ctx) -> Verdict {
    let family = c.name("family");
    let a = slave(&c, "a", &family, json!({"k": "v", "l": "w"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    a.close().await;
    let change = b.expect(json!(["", "g_chg2", family, ANY, ANY])).await?;
    let keys = change.get(4).map(pattern::to_json).unwrap_or_default();
    let mut keys: Vec<String> =
        keys.as_array().into_iter().flatten().map(Json::to_string).collect();
    keys.sort();
    ensure(keys == ["\"k\"", "\"l\""], || format!("it tells {}", show_packet(&change)))?;
    has(&mut b, &family, json!({})).await
}

async fn goes_down_sharing(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "from a"})).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    upd(&mut b, &family, json!({"k": "from b"}), json!([])).await?;
    b.barrier().await?;
    let mut watcher = subscriber(&c, "w", &family).await?;
    b.close().await;
    told(&mut watcher, &family, json!({"k": "from a"}), json!([])).await
}

async fn address_goes(c: Ctx) -> Verdict {
    let a = slave(&c, "a", "", json!({})).await?;
    let mut b = slave(&c, "b", "", json!({})).await?;
    let gone = a.me.clone();
    a.close().await;
    let deadline = tokio::time::Instant::now() + b.patience;
    loop {
        b.send(json!(["", "g_find", gone])).await?;
        let found = b.expect(json!(["", "g_found", gone, ANY])).await?;
        if found.get(3).is_some_and(crate::value::Value::is_undef) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            return miss(format!("it still answers {}", show_packet(&found)));
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn subscriptions_go(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let b = subscriber(&c, "b", &family).await?;
    b.close().await;
    let mut b = met_again(&c, "b").await?;
    b.barrier().await?;
    upd(&mut a, &family, json!({"k": "v"}), json!([])).await?;
    not_told(&mut a, &mut b, &family).await
}

async fn sends_set(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    g.expect_first(
        json!(["", "g_set", REST]),
        json!(["", "g_set", {family: {"k": "v"}, REST: ANY}]),
    )
    .await?;
    Ok(())
}

async fn sends_itself(c: Ctx) -> Verdict {
    let mut g = other_global(&c, "g", "", json!({})).await?;
    let (me, node) = (g.me.clone(), g.node.clone());
    let wanted = json!({
        "'l": {&*node: [ANY, REST], REST: ANY},
        "'g": {&*node: null, me: null, REST: ANY},
        REST: ANY,
    });
    g.expect_first(json!(["", "g_set", REST]), json!(["", "g_set", wanted])).await?;
    Ok(())
}

async fn merges(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"ka": 1})).await?;
    let _g = other_global(&c, "g", &family, json!({"kg": 2})).await?;
    a.barrier().await?;
    let found = a.family(&family).await?;
    let wanted = json!({"ka": 1, "kg": 2});
    ensure(found == wanted, || format!("the family is {found}, and should be {wanted}"))
}

async fn mirrors(c: Ctx) -> Verdict {
    let mut g = other_global(&c, "g", "", json!({})).await?;
    let me = g.me.clone();
    g.expect(json!(["", "g_upd", "'l", {me: ["127.0.0.1:1"], REST: ANY}, ANY])).await?;
    Ok(())
}

async fn set_replaces(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut g = other_global(&c, "g", &family, json!({"old": 1})).await?;
    let me = g.me.clone();
    let again = json!({"'l": {me: ["127.0.0.1:1"]}, family.clone(): {"new": 2}});
    g.send(json!(["", "g_set", again])).await?;
    has(&mut g, &family, json!({"new": 2})).await
}

async fn no_address(c: Ctx) -> Verdict {
    let mut g = c.meet("g").await?;
    g.send_all(&[json!(["", "g_slave"]), json!(["", "g_global"]), json!(["", "g_set", {}])])
        .await?;
    g.expect(json!(["", "g_global"])).await?;
    let me = g.me.clone();
    g.nothing(json!(["", "g_upd", "'l", {me.clone(): null, REST: ANY}, ANY])).await?;
    g.send(json!(["", "g_find", me])).await?;
    g.expect(json!(["", "g_found", me, null])).await?;
    Ok(())
}

async fn tells_global(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({})).await?;
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    a.send(json!(["", "g_upd", family, {"k": "v"}])).await?;
    updated(&mut g, &family, json!({"k": "v"}), json!([])).await
}

async fn tells_deletion(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    a.send(json!(["", "g_upd", family, null, ["k"]])).await?;
    updated(&mut g, &family, json!({}), json!(["k"])).await
}

async fn tells_loss(c: Ctx) -> Verdict {
    let family = c.name("family");
    let a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    a.close().await;
    updated(&mut g, &family, json!({}), json!(["k"])).await
}

async fn tells_no_echo(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    let mut h = other_global(&c, "h", &family, json!({})).await?;
    upd(&mut g, &family, json!({"k": "v"}), json!([])).await?;
    not_told(&mut g, &mut h, &family).await?;
    g.nothing(json!(["", ANY, family, REST])).await
}

async fn hears(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut g, &family, json!({"k": "v"}), json!([])).await?;
    told(&mut b, &family, json!({"k": "v"}), json!([])).await
}

async fn hears_deletion(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut g = other_global(&c, "g", &family, json!({"k": "v"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut g, &family, json!({}), json!(["k"])).await?;
    told(&mut b, &family, json!({}), json!(["k"])).await
}

async fn slave_has_it(c: Ctx) -> Verdict {
    let family = c.name("family");
    let _a = slave(&c, "a", &family, json!({"k": "from a"})).await?;
    let mut g = other_global(&c, "g", &family, json!({})).await?;
    upd(&mut g, &family, json!({"k": "from g"}), json!([])).await?;
    g.barrier().await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut g, &family, json!({}), json!(["k"])).await?;
    told(&mut b, &family, json!({"k": "from a"}), json!([])).await
}

async fn global_has_it(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut g = other_global(&c, "g", &family, json!({"k": "from g"})).await?;
    let mut a = slave(&c, "a", &family, json!({})).await?;
    upd(&mut a, &family, json!({"k": "from a"}), json!([])).await?;
    a.barrier().await?;
    updated(&mut g, &family, json!({"k": "from a"}), json!([])).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    upd(&mut a, &family, Json::Null, json!(["k"])).await?;
    told(&mut b, &family, json!({"k": "from g"}), json!([])).await?;
    updated(&mut g, &family, json!({}), json!(["k"])).await
}

async fn global_down(c: Ctx) -> Verdict {
    let family = c.name("family");
    let g = other_global(&c, "g", &family, json!({"k": "v"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    has(&mut b, &family, json!({"k": "v"})).await?;
    g.close().await;
    told(&mut b, &family, json!({}), json!(["k"])).await
}

async fn turns_global(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = slave(&c, "a", &family, json!({"k": "v"})).await?;
    let mut b = subscriber(&c, "b", &family).await?;
    a.send(json!(["", "g_global"])).await?;
    a.barrier().await?;
    told(&mut b, &family, json!({}), json!(["k"])).await?;
    becomes(&mut b, &family, json!({})).await
}

async fn turns_and_listens(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut a = subscriber(&c, "a", &family).await?;
    let mut b = slave(&c, "b", &family, json!({})).await?;
    a.send(json!(["", "g_global"])).await?;
    a.barrier().await?;
    upd(&mut b, &family, json!({"k": "v"}), json!([])).await?;
    told(&mut a, &family, json!({"k": "v"}), json!([])).await
}

async fn stranger(c: Ctx) -> Verdict {
    let family = c.name("family");
    let mut b = subscriber(&c, "b", &family).await?;
    let mut a = c.meet("a").await?;
    a.send(json!(["", "g_upd", family, {"k": "v"}])).await?;
    told(&mut b, &family, json!({"k": "v"}), json!([])).await?;
    a.close().await;
    told(&mut b, &family, json!({}), json!(["k"])).await
}
