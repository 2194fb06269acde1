//! §4 and §1.7: the connections that the node makes, tested where the suite dials.

use super::REST;
use super::service::Service;
use crate::conform::check::{Check, check, run};
use crate::conform::conn::Conn;
use crate::conform::context::Ctx;
use crate::conform::session::{EchoMode, Session, is_text, show_packet};
use crate::conform::shake::{self, Shake};
use crate::conform::stop::{Verdict, ensure, miss};
use bytes::BytesMut;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;

/// The checks of the mesh.
pub(super) const CHECKS: &[Check] = &[
    check("mesh-demand", "4.3a", "Dials a node whose address is known when somebody sends to it.")
        .dial()
        .by(run!(on_demand)),
    check("mesh-queue", "4.3b", "Messages queued for the connection arrive in order.")
        .dial()
        .by(run!(queue)),
    check("mesh-second", "4.3d", "Tries the next address if one does not answer.")
        .should()
        .dial()
        .by(run!(second_address)),
    check("mesh-incoming", "4.3b", "Messages queued for a node are sent when that node dials.")
        .dial()
        .by(run!(incoming)),
    check("mesh-other-id", "4.3e", "Goes on trying if another node answers at an address.")
        .ours()
        .dial()
        .by(run!(other_id)),
    check("mesh-nowhere", "4.3c", "A monitor on a node without an address fires at once.")
        .ours()
        .dial()
        .by(run!(nowhere)),
    check("mesh-global", "5.2d", "A global node connects to every node in the family 'g.")
        .dial()
        .by(run!(global_mesh)),
    check("mesh-global-again", "5.2d", "Dials a node in 'g again that was lost.")
        .dial()
        .by(run!(global_mesh_again)),
    check("mesh-again", "1.3d", "A node that was lost is accepted again.").dial().by(run!(again)),
    check("mesh-dead", "4.4a", "A new connection replaces one that no longer answers.")
        .ours()
        .dial()
        .by(run!(replaces_dead)),
    check("data-unexpected", "1.7a", "Refuses a data connection that nobody expects.")
        .dial()
        .by(run!(unexpected_data)),
    check("data-timeout", "3.6a", "Kills the port of a data connection that does not come.")
        .should()
        .by(run!(data_timeout)),
    check("log-monitors", "3.5a", "Monitors the port to which it sends its log.")
        .should()
        .by(run!(log_monitors)),
];

/// A listener whose address one of the node's slaves announces as that of the node `name`.
async fn announced(
    c: &Ctx,
    slave: &mut Session,
    name: &str,
    before: &[String],
) -> Verdict<TcpListener> {
    let listener = c.listen(slave).await?;
    let Ok(address) = listener.local_addr() else {
        return miss("the suite has lost its listener");
    };
    let mut addresses: Vec<Json> = before.iter().map(|address| json!(address)).collect();
    addresses.push(json!(address.to_string()));
    let node = c.name(name);
    let me = slave.me.clone();
    let database = json!({"'l": {me: ["127.0.0.1:1"], node: addresses}});
    slave.send_all(&[json!(["", "g_slave"]), json!(["", "g_slave", database])]).await?;
    slave.barrier().await?;
    Ok(listener)
}

async fn on_demand(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let listener = announced(&c, &mut a, "x", &[]).await?;
    a.send(json!(["", "snd", format!("{}#port", c.name("x")), "hello", 1])).await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["port", "hello", 1])).await?;
    Ok(())
}

/// The number of messages queued for a connection: more than a queue of a guessed length would hold.
const QUEUED: u32 = 1000;

async fn queue(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let listener = announced(&c, &mut a, "x", &[]).await?;
    let to = format!("{}#port", c.name("x"));
    let packets: Vec<Json> = (0..QUEUED).map(|number| json!(["", "snd", to, number])).collect();
    a.send_all(&packets).await?;
    a.barrier().await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    for number in 0..QUEUED {
        x.expect_first(json!(["port", REST]), json!(["port", number])).await?;
    }
    Ok(())
}

/// An address on which nobody listens.
async fn closed_address(c: &Ctx, session: &Session) -> Verdict<String> {
    let listener = c.listen(session).await?;
    let address = listener.local_addr().map(|address| address.to_string());
    Ok(address.unwrap_or_default())
}

async fn second_address(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let closed = closed_address(&c, &a).await?;
    let listener = announced(&c, &mut a, "x", &[closed]).await?;
    a.send(json!(["", "snd", format!("{}#port", c.name("x")), "hello"])).await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["port", "hello"])).await?;
    Ok(())
}

async fn incoming(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let listener = announced(&c, &mut a, "x", &[]).await?;
    a.send(json!(["", "snd", format!("{}#port", c.name("x")), "hello"])).await?;
    // The node has dialled, and gets no answer there.
    let Ok(Ok((stream, _))) = tokio::time::timeout(c.target.patience, listener.accept()).await
    else {
        return miss("the node did not dial");
    };
    let mut x = c.meet("x").await?;
    x.expect(json!(["port", "hello"])).await?;
    let mut late = Conn::new(stream, BytesMut::new(), "late", &c.transcript, c.target.patience)?;
    match shake::agree(&mut late, &c.shake("x")).await {
        Err(crate::conform::stop::Seen::Closed(_)) => {}
        _ => late.wait_closed(c.target.patience).await?,
    }
    x.still_works("the second connection").await
}

async fn other_id(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let wrong = c.listen(&a).await?;
    let address = wrong.local_addr().map(|address| address.to_string()).unwrap_or_default();
    let listener = announced(&c, &mut a, "x", &[address]).await?;
    a.send(json!(["", "snd", format!("{}#port", c.name("x")), "hello"])).await?;
    let mut y = c.dialled(&wrong, "y", &c.shake("y")).await?;
    y.barrier().await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["port", "hello"])).await?;
    Ok(())
}

async fn nowhere(c: Ctx) -> Verdict {
    let mut a = Service::met(&c).await?;
    let nobody = c.name("nobody");
    a.lets(json!(["mon", "m", format!("{nobody}#port"), a.port("fired")])).await?;
    a.expect_first(json!(["fired", REST]), json!(["fired", "m", "transport_error", nobody, REST]))
        .await?;
    Ok(())
}

async fn global_mesh(c: Ctx) -> Verdict {
    meshed(&c).await?;
    Ok(())
}

async fn global_mesh_again(c: Ctx) -> Verdict {
    let (mut g, listener, x) = meshed(&c).await?;
    g.barrier().await?;
    x.close().await;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.barrier().await
}

/// A global node, and another one that the node has dialled because the first one has it in `'g`.
async fn meshed(c: &Ctx) -> Verdict<(Session, TcpListener, Session)> {
    let mut g = c.meet("g").await?;
    let listener = c.listen(&g).await?;
    let address = listener.local_addr().map(|address| address.to_string()).unwrap_or_default();
    g.send_all(&[json!(["", "g_slave"]), json!(["", "g_global"])]).await?;
    g.expect(json!(["", "g_global"])).await?;
    let (me, x) = (g.me.clone(), c.name("x"));
    let database = json!({
        "'l": {&*me: ["127.0.0.1:1"], &*x: [address]},
        "'g": {&*me: null, &*x: null},
    });
    g.send(json!(["", "g_set", database])).await?;
    let mut x = c.dialled(&listener, "x", &c.shake("x")).await?;
    x.expect(json!(["", "g_global"])).await?;
    Ok((g, listener, x))
}

async fn again(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.barrier().await?;
    a.close().await;
    let mut a = c.meet_again("a").await?;
    a.barrier().await
}

async fn replaces_dead(c: Ctx) -> Verdict {
    let frozen = Shake { pace: EchoMode::Frozen, ..c.shake("a") };
    let mut dead = c.meet_as("dead", &frozen).await?;
    dead.barrier().await?;
    let mut conn = c.connect("new").await?;
    conn.patience = c.target.connect_interval * 2 + c.target.patience;
    let mut new = shake::meet(conn, &c.shake("a")).await?;
    new.barrier().await?;
    dead.expect_closed(c.target.patience).await
}

async fn unexpected_data(c: Ctx) -> Verdict {
    let mut shake = c.shake("a");
    shake.protocol = "aemp-dataconn".to_owned();
    shake.keys.push(("dataconn_id".to_owned(), c.name("nobody-expects-this")));
    c.is_refused(&shake).await
}

async fn data_timeout(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    let function = "AnyEvent::MP::DataConn::_expect";
    a.send(json!(["", function, c.name("id"), a.port("victim"), 0.2, "Conform::No::thing"]))
        .await?;
    let killed = a.expect(json!(["", "kil1", "victim", REST])).await?;
    ensure(is_text(killed.get(3), "AnyEvent::MP::DataConn"), || {
        format!("the reason is {}", show_packet(&killed))
    })
}

async fn log_monitors(c: Ctx) -> Verdict {
    let mut a = c.meet("a").await?;
    a.send(json!(["", "AnyEvent::MP::LogCatcher::connect", 0, a.port("log"), 4])).await?;
    a.expect(json!(["", "mon1", "log"])).await?;
    a.send(json!(["", "kil0", "log"])).await?;
    a.still_works("the end of the port").await
}
