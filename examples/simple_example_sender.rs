//! Sends the time to all receivers once a second, and prints their answers.
//!
//! It is configured like `aemp run`: by the rc file and by `[PROFILE] KEY VALUE...` on the command
//! line. With `--once` as the first argument it ends after the first answer.

use aemp::Node;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1).peekable();
    let once = arguments.next_if(|word| word == "--once").is_some();
    let node = Node::builder().node_id("eg_sender/%u").arguments(arguments).start().await?;

    let mut answers = node.port();
    node.db().wait_for_key("eg_receivers").await;
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            _ = second.tick() => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
                for receiver in node.db().keys("eg_receivers").await? {
                    println!("Sending {now} to {receiver}");
                    node.snd(&receiver, ("test", now, answers.id()))?;
                }
            }
            answer = answers.recv() => {
                let (tag, data): (String, u64) = answer?;
                println!("Answer: {tag} {data}");
                if once {
                    node.shutdown().await;
                    return Ok(());
                }
            }
        }
    }
}
