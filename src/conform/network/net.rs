//! One network: the common properties of its nodes, their addresses and commands, and timeouts.

use super::hosts::{Hosts, Side};
use super::plan::{Common, Implementation, Pair, Variant};
use super::relay::Relay;
use super::wiring::Wiring;
use crate::conform::context::{Ctx, Reach, Target};
use crate::conform::host::{Host, own_loopback};
use crate::conform::stop::{Stop, Verdict, late, skip};
use crate::conform::transcript::{Speaker, Transcript};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The first port of nodes; below the ports that systems choose themselves.
const FIRST_PORT: u16 = 10_000;
/// The number of ports to try.
const PORTS: u16 = 20_000;
/// The pause between two queries of a database.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A network under test; cheap to clone.
#[derive(Clone)]
pub(super) struct Net {
    pub(super) common: Arc<Common>,
    pub(super) pair: Pair,
    pub(super) variant: Variant,
    /// Part of every node ID, so that networks do not use each other's nodes.
    pub(super) label: Arc<str>,
    pub(super) transcript: Transcript,
    hosts: Option<Arc<Hosts>>,
    /// The address of all nodes if there are no hosts.
    loopback: Host,
    next_port: Arc<AtomicU16>,
}

impl Net {
    pub(super) async fn new(
        common: &Arc<Common>,
        pair: &Pair,
        variant: Variant,
        label: &str,
        wiring: &Wiring,
    ) -> Verdict<Net> {
        let hosts = match wiring {
            Wiring::Loopback { .. } => None,
            Wiring::Namespaces => match Hosts::new().await {
                Ok(hosts) => Some(Arc::new(hosts)),
                Err(why) => return skip(format!("no hosts for the nodes: {why}")),
            },
        };
        let mut random = [0; 2];
        // Only matters where all networks have the same address.
        let _ = getrandom::fill(&mut random);
        Ok(Net {
            common: common.clone(),
            pair: pair.clone(),
            variant,
            label: label.into(),
            transcript: Transcript::new(),
            hosts,
            loopback: Host { ip: own_loopback(), namespace: None },
            next_port: Arc::new(AtomicU16::new(u16::from_ne_bytes(random))),
        })
    }

    /// The hosts of the two halves, if they are separate.
    pub(super) fn hosts(&self) -> Option<&Hosts> {
        self.hosts.as_deref()
    }

    /// The host of the nodes of a half.
    pub(super) fn host(&self, side: Side) -> Host {
        self.hosts().map_or_else(|| self.loopback.clone(), |hosts| hosts.host(side))
    }

    /// The host of the suite.
    fn suite(&self) -> Host {
        self.hosts().map_or_else(|| self.loopback.clone(), Hosts::router)
    }

    /// An address on which nobody listens, a different one for each node.
    pub(super) fn free_address(&self, host: &Host) -> Verdict<SocketAddr> {
        for _ in 0..PORTS {
            let port = FIRST_PORT + self.next_port.fetch_add(1, Ordering::Relaxed) % PORTS;
            if host.listen(port).is_ok() {
                return Ok(SocketAddr::new(host.ip, port));
            }
        }
        skip(format!("all ports of {} are in use", host.ip))
    }

    /// A relay to an address.
    pub(super) fn relay(&self, to: SocketAddr) -> Verdict<Relay> {
        let host = self.suite();
        let relay = Relay::to(to, &host);
        relay.map_err(|error| Stop::Skip(format!("cannot listen on {}: {error}", host.ip)))
    }

    /// What is known about each node.
    pub(super) fn target(&self) -> Arc<Target> {
        let common = &self.common;
        let identity = common.cert.as_ref().filter(|_| self.variant.tls);
        Arc::new(Target {
            secret: Some(common.secret.clone().into()),
            identity: identity.map(|(_, identity)| identity.clone()),
            framing: Some(self.variant.framing),
            patience: common.patience,
            monitor_timeout: common.monitor_timeout,
            connect_interval: common.connect_interval,
            service: Some(common.service.clone()),
        })
    }

    /// The command that starts a node.
    pub(super) fn command(
        &self,
        implementation: &Implementation,
        node: &str,
        bind: SocketAddr,
        seeds: &[SocketAddr],
    ) -> String {
        let common = &self.common;
        let tls = implementation.tls.as_deref().filter(|_| self.variant.tls).unwrap_or_default();
        let cert = common.cert.as_ref().map(|(path, _)| path.to_string_lossy().into_owned());
        let seeds: Vec<String> = seeds.iter().map(SocketAddr::to_string).collect();
        implementation
            .command
            .replace("{tls}", tls)
            .replace("{cert}", &cert.unwrap_or_default())
            .replace("{node}", node)
            .replace("{bind}", &bind.to_string())
            .replace("{seeds}", &seeds.join(","))
            .replace("{secret}", &common.secret)
            .replace("{framing}", self.variant.framing.name())
            .replace("{monitor_timeout}", &common.monitor_timeout.as_secs_f64().to_string())
    }

    /// The timeout for a node to listen and greet.
    pub(super) fn until_started(&self) -> Duration {
        self.common.patience * 4
    }

    /// The timeout for the network to settle: seeds are dialled again at least every `monitor_timeout`.
    pub(super) fn settle(&self) -> Duration {
        self.common.monitor_timeout + self.common.connect_interval + self.common.patience * 2
    }

    /// A wait for a state that the network reaches by itself.
    pub(super) fn wait(&self) -> Wait {
        self.wait_after(Duration::ZERO)
    }

    /// The same after a silence of this length.
    pub(super) fn wait_after(&self, silence: Duration) -> Wait {
        let within = self.settle() + silence;
        Wait { within, deadline: Instant::now() + within }
    }

    /// Adds a remark to the transcript.
    pub(super) fn note(&self, text: String) {
        self.transcript.add(&"network".into(), Speaker::Nobody, text, &[]);
    }

    /// A context for connections of the suite with the node at an address; `shown` says whether they
    /// appear in the transcript.
    pub(super) fn ctx(&self, address: SocketAddr, name: &str, shown: bool) -> Ctx {
        let reach = Reach::From(self.suite(), address);
        let label = format!("{}-{name}", self.label);
        let mut ctx = Ctx::new(self.target(), reach, label, Arc::default(), Arc::default());
        if shown {
            ctx.transcript = self.transcript.clone();
        }
        ctx
    }
}

/// A wait until the network must have settled.
pub(super) struct Wait {
    within: Duration,
    deadline: Instant,
}

impl Wait {
    /// Pauses before the next attempt. After the timeout, the last observation is the miss.
    pub(super) async fn after(&self, seen: impl FnOnce() -> String) -> Verdict {
        if Instant::now() >= self.deadline {
            return late(format!("{} after {:?}", seen(), self.within));
        }
        sleep(POLL_INTERVAL).await;
        Ok(())
    }
}
