//! The README's receiver, exactly as printed there.

use aemp::{Node, PortId};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let node = Node::builder()
        .node_id("eg_receiver/%u")
        .bind("127.0.0.1:4040")
        .secret("geheim")
        .start()
        .await?;
    let port = node.port_of_tags();
    port.on("test", |ctx, (data, reply): (String, Option<PortId>)| {
        println!("Received data: {data}");
        reply.map_or(Ok(()), |reply| ctx.snd(&reply, ("received", data)))
    });
    let _entry = node.db().register("eg_receivers", &port)?;
    node.ended().await;
    Ok(())
}
