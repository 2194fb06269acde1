//! A chat room in which each client spawns a port on the server that speaks for it and dies with it.
//!
//! It is configured like `aemp run`: by the rc file and by `[PROFILE] KEY VALUE...` on the command
//! line.

use aemp::patterns::Failure;
use aemp::patterns::actor::{self, Actor, ActorContext};
use aemp::{KillReason, Node, PortId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Speaks for a client, in a room of clients.
struct Agent {
    room: Arc<Mutex<BTreeSet<PortId>>>,
    client: PortId,
    nick: String,
}

impl Agent {
    fn tell(&self, ctx: &ActorContext, text: &str) -> Result<(), Failure> {
        println!("relaying: {text}");
        let clients = self.room.lock().clone();
        Ok(clients.iter().try_for_each(|client| ctx.snd(client, (text,)))?)
    }
}

impl Actor for Agent {
    type Message = (String,);

    async fn started(&mut self, ctx: &ActorContext) -> Result<(), Failure> {
        ctx.die_with(&self.client);
        self.room.lock().insert(self.client.clone());
        self.tell(ctx, &format!("{} (joins)", self.nick))
    }

    async fn handle(&mut self, ctx: &ActorContext, (text,): (String,)) -> Result<(), Failure> {
        self.tell(ctx, &format!("{}: {text}", self.nick))
    }

    async fn stopped(&mut self, ctx: &ActorContext, reason: &KillReason) {
        self.room.lock().remove(&self.client);
        let _ = self.tell(ctx, &format!("{} (quits, {reason})", self.nick));
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args_os().skip(1);
    let room = Arc::default();
    let agent = move |(client, nick)| Ok(Agent { room: Arc::clone(&room), client, nick });
    let builder = Node::builder().node_id("eg_chat_server2/%u").arguments(arguments);
    let node = builder.expose("::client_connect", actor::init(agent)).start().await?;
    node.db().set("eg_chat_server2", node.id().clone(), ())?;
    eprintln!("server ready.");
    node.ended().await;
    Ok(())
}
