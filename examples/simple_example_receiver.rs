//! Prints the messages that it receives, and answers those that carry a reply port.
//!
//! It is configured like `aemp run`: by the rc file and by `[PROFILE] KEY VALUE...` on the command
//! line.

use aemp::{Node, PortId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = std::env::args_os().skip(1);
    let node = Node::builder().node_id("eg_receiver/%u").arguments(arguments).start().await?;
    let port = node.port_of_tags();
    port.on("test", |ctx, (data, reply): (String, Option<PortId>)| {
        println!("Received data: {data}");
        reply.map_or(Ok(()), |reply| ctx.snd(&reply, ("received", data)))
    });
    let _entry = node.db().register("eg_receivers", &port)?;
    node.ended().await;
    Ok(())
}
