//! A chat client: `chat_client2 NICK [PROFILE] [KEY VALUE]...`. It spawns a port on `chat_server2`
//! that speaks for it. If either of the two dies, so does the other, and the client waits for another
//! server.

use aemp::{KillReason, Node, NodeId, RecvError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let nick = arguments.next().and_then(|nick| nick.into_string().ok());
    let nick = nick.ok_or("usage: chat_client2 NICK [PROFILE] [KEY VALUE]...")?;
    let node = Node::builder().node_id("eg_chat_client2/%u").arguments(arguments).start().await?;
    let (db, mut lines) = (node.db(), BufReader::new(stdin()).lines());

    loop {
        let server = tokio::select! {
            server = db.wait_for_key("eg_chat_server2") => server,
            line = lines.next_line() => match line? {
                Some(_) => {
                    println!("no server is there to hear it");
                    continue;
                }
                None => break,
            },
        };
        let Some(server) = server else { break };
        println!("connecting...");
        // A new port for each attempt, which dies with the port that it spawns on the server.
        let mut client = node.port();
        let agent =
            node.spawn(&NodeId::try_from(server)?, "::client_connect", (client.id(), &nick))?;
        let _link = node.link(&agent, &client.id());
        let reason = loop {
            tokio::select! {
                text = client.recv::<(String,)>() => match text {
                    Ok((text,)) => println!("{text}"),
                    Err(RecvError::Died(reason)) => break reason,
                    Err(wrong_message) => eprintln!("ignored: {wrong_message}"),
                },
                line = lines.next_line() => match line? {
                    Some(line) => node.snd(&agent, (line,))?,
                    None => {
                        client.kil(&KillReason::normal());
                        node.shutdown().await;
                        return Ok(());
                    }
                },
            }
        };
        println!("disconnected: {reason}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    node.shutdown().await;
    Ok(())
}
