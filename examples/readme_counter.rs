//! The README's counter, exactly as printed there.

use aemp::patterns::replica::{Counter, Replica};
use aemp::patterns::supervisor::{Child, Strategy, Supervisor};
use aemp::{Node, PortId};
use std::env::args_os;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let node = Node::builder().secret("geheim").arguments(args_os().skip(1)).start().await?;
    node.become_global();
    let count = Replica::<Counter>::join(&node, "eg_counts").await?;
    let counter = Child::port("counter", move |port| {
        let count = count.clone();
        port.on("add", move |ctx, (n, reply): (i64, PortId)| {
            count.add(n)?;
            ctx.snd(reply, count.value())
        });
    });
    let supervisor = Supervisor::new(Strategy::OneForOne).child(counter.registered("eg_counters"));
    Err(supervisor.start(&node).monitor().await.into())
}
