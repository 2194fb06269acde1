//! The README's sender, exactly as printed there.

use aemp::Node;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let node = Node::builder()
        .node_id("eg_sender/%u")
        .seed("127.0.0.1:4040")
        .secret("geheim")
        .start()
        .await?;
    let mut answers = node.port();
    if let Some(receiver) = node.db().wait_for_key("eg_receivers").await {
        node.snd(receiver, ("test", 42, answers.id()))?;
        let (_tag, data): (String, u32) = answers.recv().await?;
        println!("Answer: {data}");
    }
    Ok(())
}
