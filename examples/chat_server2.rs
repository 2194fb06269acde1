//! A chat room in which each client spawns a port on the server that speaks for it and dies with it.
//!
//! It is configured like `aemp run`: by the rc file and by `[PROFILE] KEY VALUE...` on the command
//! line.

use aemp::value::DecodeError;
use aemp::{Context, Node, PortId};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Clone, Default)]
struct Room {
    clients: Arc<Mutex<BTreeSet<PortId>>>,
}

impl Room {
    fn tell(&self, node: &Node, text: &str) {
        println!("relaying: {text}");
        let clients = self.clients.lock().clone();
        for client in clients {
            if let Err(error) = node.snd(client, (text,)) {
                eprintln!("{error}");
            }
        }
    }

    /// The function that a client spawns.
    fn client_connect(
        self,
        ctx: &Context<'_>,
        (client, nick): (PortId, String),
    ) -> Result<(), &'static str> {
        let port = ctx.port().ok_or("client_connect has to be spawned")?;
        self.clients.lock().insert(client.clone());
        self.tell(ctx.node(), &format!("{nick} (joins)"));

        let (room, name, gone) = (self.clone(), nick.clone(), client.clone());
        let monitor = port.on_death(&client, move |ctx, reason| {
            room.clients.lock().remove(&gone);
            room.tell(ctx.node(), &format!("{name} (quits, {reason})"));
            ctx.kil(&reason);
        });
        monitor.detach();

        port.on_default(move |ctx, message| {
            let (text,): (String,) = message.decode()?;
            self.tell(ctx.node(), &format!("{nick}: {text}"));
            Ok::<(), DecodeError>(())
        });
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args_os().skip(1);
    let room = Room::default();
    let node = Node::builder()
        .node_id("eg_chat_server2/%u")
        .arguments(arguments)
        .expose("::client_connect", move |ctx, who| room.clone().client_connect(ctx, who))
        .start()
        .await?;
    node.db().set("eg_chat_server2", node.id().clone(), ())?;
    eprintln!("server ready.");
    node.ended().await;
    Ok(())
}
