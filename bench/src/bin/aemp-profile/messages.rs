//! The paths of messages: typed values to octets and back, to ports of the same node, and calls.

use super::{BATCH, batches_of, iterations};
use aemp::value::packed;
use aemp::value::{Packed, put_elements};
use aemp::wire::framing::{Decoder, Framing, FramingLimits, Step, encode};
use aemp::wire::packet::Packet;
use aemp::{Context, Node};
use anyhow::{Result, bail};
use std::hint::black_box;

const PORT: &str = "aB3dE5gHab";

/// Encodes a typed message as octets of a connection.
pub(super) fn encode_all(framing: Framing) -> Result<()> {
    let (mut elements, mut wire) = (Vec::new(), Vec::new());
    for number in iterations() {
        elements.clear();
        wire.clear();
        packed::put_octets(&mut elements, PORT.as_bytes());
        let message = ("msg", black_box(1000 + number % 1000), "hello world");
        let packet = put_elements(&mut elements, &message)?.elements(1, &elements);
        encode(framing, packet, &mut wire)?;
        black_box(&wire);
    }
    Ok(())
}

/// Decodes octets of a connection into typed messages.
pub(super) fn decode_all(framing: Framing) -> Result<()> {
    let message = Packed::of(&(PORT, "msg", 1234, "hello world"))?;
    let mut wire = Vec::new();
    for _ in 0..100 {
        encode(framing, message.as_elements(), &mut wire)?;
    }
    let mut decoder = Decoder::new(framing, FramingLimits::default());
    let mut at = 0;
    for _ in iterations() {
        let Step::Packet { used, elements } = decoder.next(&wire[at..])? else {
            bail!("no packet");
        };
        let Packet::Message { port, elements } = Packet::read(elements)? else {
            bail!("a keepalive");
        };
        black_box(port);
        let (tag, number, text): (&str, u64, String) = elements.decode()?;
        black_box((tag, number, text));
        at = (at + used) % wire.len();
    }
    Ok(())
}

/// Runs a path on a node without a network.
fn alone(path: impl AsyncFnOnce(Node) -> Result<()>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        path(Node::builder().node_id("alone").secret("geheim").no_binds().start().await?).await
    })
}

/// Sends a message to a local callback port: already packed, or (`typed`) from a Rust value.
pub(super) fn dispatch(typed: bool) -> Result<()> {
    alone(async |node| {
        let port = node.port_of_tags();
        port.on("msg", |_: &Context<'_>, message: (u64, String)| {
            black_box(message);
        });
        let id = port.id();
        let message = Packed::of(&("msg", 1234, "hello world"))?;
        for number in iterations() {
            if typed {
                node.snd(&id, ("msg", 1000 + number % 1000, "hello world"))?;
            } else {
                node.snd(&id, &message)?;
            }
        }
        Ok(())
    })
}

/// Sends typed messages to a mailbox, and receives them in a task.
pub(super) fn mailbox() -> Result<()> {
    alone(async |node| {
        let mut port = node.port();
        let id = port.id();
        for _ in batches_of(BATCH) {
            for number in 0..BATCH {
                node.snd(&id, ("msg", 1000 + number, "hello world"))?;
            }
            for _ in 0..BATCH {
                let message = port.recv_message().await?;
                let (tag, number, text): (&str, u64, String) = message.decode()?;
                black_box((tag, number, text));
            }
        }
        Ok(())
    })
}

/// Calls a port of the same node, one call after another.
pub(super) fn call() -> Result<()> {
    alone(async |node| {
        let port = node.port_of_tags();
        port.on("add", |ctx: &Context<'_>, (number, reply): (usize, aemp::PortId)| {
            ctx.snd(&reply, (number + 1,))
        });
        let id = port.id();
        for number in iterations() {
            let (more,): (usize,) = node.call(&id, ("add", number)).await?;
            black_box(more);
        }
        Ok(())
    })
}
