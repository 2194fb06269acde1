//! Messages within one program: a port receives what is sent to it.

use aemp::Node;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().alone().start().await?;
    let mut port = node.port();
    node.snd(port.id(), ("test", 123))?;
    let (_tag, data): (String, u32) = port.recv().await?;
    println!("Ending with: {data}");
    Ok(())
}
