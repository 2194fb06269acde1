//! A chat room to which clients send requests: `join, CLIENT, NICK` and `privmsg, NICK, TEXT`.
//!
//! It is configured like `aemp run`: by the rc file and by `[PROFILE] KEY VALUE...` on the command
//! line.

use aemp::{Node, PortId, RecvError};
use std::collections::BTreeSet;
use tokio::task::JoinSet;

#[derive(serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    Join(PortId, String),
    Privmsg(String, String),
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args_os().skip(1);
    let node = Node::builder().node_id("eg_chat_server/%u").arguments(arguments).start().await?;
    let mut port = node.port();
    let _entry = node.db().register("eg_chat_server", &port)?;
    eprintln!("server ready.");

    let mut clients = BTreeSet::new();
    let mut deaths = JoinSet::new();
    loop {
        let text = tokio::select! {
            request = port.recv() => match request {
                Ok(Request::Join(client, nick)) => {
                    clients.insert(client.clone());
                    let text = format!("{nick} (joins)");
                    let death = node.monitor(&client);
                    deaths.spawn(async move { (client, nick, death.await) });
                    text
                }
                Ok(Request::Privmsg(nick, text)) => format!("{nick}: {text}"),
                Err(RecvError::Died(reason)) => return Err(reason.into()),
                Err(wrong_message) => {
                    eprintln!("ignored: {wrong_message}");
                    continue;
                }
            },
            Some(Ok((client, nick, reason))) = deaths.join_next() => {
                clients.remove(&client);
                format!("{nick} (quits, {reason})")
            }
        };
        println!("relaying: {text}");
        for client in &clients {
            node.snd(client, (&text,))?;
        }
    }
}
