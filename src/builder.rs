//! Starting a node: configuration, listeners, the kernel, and services.

use crate::config::address::{Endpoint, Host, interface_addresses};
use crate::config::args::{ArgsError, decode_command_line};
use crate::config::node_id::{node_name, unique_string};
use crate::config::octets::to_octets;
use crate::config::{Args, Effective, RcFile, Service, Settings, rc};
use crate::kernel::{Call, KernelConfig, PeerLimits};
use crate::lane::LaneLimits;
use crate::node::connection::streams;
use crate::node::connection::tls::Identity;
use crate::node::core::{NodeParts, Shared};
use crate::node::listen::Listeners;
use crate::node::settings::{NodeSettings, encryption, handshaker, identity};
use crate::node::trace::TraceSink;
use crate::node::{Context, Node, Outcome, StartError};
use crate::value::{NodeId, Packed, Str};
use crate::wire::framing::FramingLimits;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// The service that makes a Perl node global; it does the same here.
const GLOBAL_SERVICE: &str = "AnyEvent::MP::Global";

/// Configures and starts a [`Node`].
///
/// Without [`NodeBuilder::profile`] or [`NodeBuilder::rc_file`] no rc file is read. With one, its
/// values override those given here, as in Perl, unless [`NodeBuilder::force`] is set; see
/// `docs/protocol.md` §6.
///
/// ```
/// # async fn example() -> Result<(), aemp::StartError> {
/// let node = aemp::Node::builder()
///     .node_id("eg_receiver/%u")
///     .secret("the network's secret")
///     .bind("127.0.0.1:0")
///     .start()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Default)]
pub struct NodeBuilder {
    args: Args,
    settings: Option<Settings>,
    rc: RcSource,
    binds: Vec<serde_json::Value>,
    seeds: Vec<serde_json::Value>,
    functions: Vec<NamedFunction>,
    lane_limits: LaneLimits,
    framing_limits: FramingLimits,
    port_limit: Option<usize>,
    grace: Option<Duration>,
    no_healing: bool,
    trace: Option<TraceSink>,
    alone: bool,
    wrong_arguments: Option<ArgsError>,
}

/// Exposes a function once the node exists.
type NamedFunction = Box<dyn FnOnce(&Node) + Send>;

#[derive(Default)]
enum RcSource {
    #[default]
    None,
    Default,
    File(PathBuf),
}

impl Node {
    /// Begins a node; see [`NodeBuilder`].
    pub fn builder() -> NodeBuilder {
        NodeBuilder::new()
    }
}

impl NodeBuilder {
    fn new() -> Self {
        NodeBuilder::default()
    }

    /// Reads the rc file and uses this profile from it. The file is `$PERL_ANYEVENT_MP_RC`,
    /// otherwise `~/.perl-anyevent-mp`.
    #[must_use]
    pub fn profile(mut self, name: &str) -> Self {
        self.args.set("profile", name);
        if matches!(self.rc, RcSource::None) {
            self.rc = RcSource::Default;
        }
        self
    }

    /// Reads this rc file.
    #[must_use]
    pub fn rc_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.rc = RcSource::File(path.into());
        self
    }

    /// Lets the values given here override the rc file.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.args.set("force", true);
        self
    }

    /// The node ID. `%n` stands for the name of this machine, `%u` for a random unique string,
    /// which is also appended if the ID ends with `/`. The default is `PROFILE/`.
    #[must_use]
    pub fn node_id(self, id: &str) -> Self {
        self.set("nodeid", id)
    }

    /// The secret that all nodes of the network share; a string of octets.
    #[must_use]
    pub fn secret(self, secret: &str) -> Self {
        self.set("secret", secret)
    }

    /// A private key and certificates as one PEM text, with which connections are encrypted.
    #[must_use]
    pub fn cert(self, pem: &str) -> Self {
        self.set("cert", pem)
    }

    /// Adds an address to listen on: `host:port`, `4040`, `*:4040`, `*`; port 0 takes a free one.
    /// By default the node listens on all local addresses, with free ports.
    #[must_use]
    pub fn bind(mut self, address: &str) -> Self {
        self.binds.push(address.into());
        self
    }

    /// Does not listen at all, so that other nodes cannot connect to this one.
    #[must_use]
    pub fn no_binds(self) -> Self {
        self.set("binds", Vec::<String>::new())
    }

    /// Adds a seed through which to join the network: `host:port`.
    #[must_use]
    pub fn seed(mut self, address: &str) -> Self {
        self.seeds.push(address.into());
        self
    }

    /// Makes a node without a network, for messages within one program: it does not listen and
    /// needs no secret. It is global, with a database of its own. A Perl program has such a node
    /// until it calls `configure`.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let node = aemp::Node::builder().alone().start().await?;
    /// let mut port = node.port();
    /// node.snd(port.id(), ("test", 123))?;
    /// assert_eq!(port.recv::<(String, u32)>().await?.1, 123);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self.no_binds()
    }

    /// Sets any key that the rc file may contain, such as `monitor_timeout`.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<serde_json::Value>) -> Self {
        self.args.set(key, value);
        self
    }

    /// Serves metrics, a health check and a status page on this address, such as
    /// `127.0.0.1:9464`; see [`services::metrics`](crate::services::metrics). Needs the feature
    /// `metrics` of this crate; without it, the log warns.
    #[must_use]
    pub fn metrics(self, address: &str) -> Self {
        self.set("metrics", address)
    }

    /// Uses the arguments of the program's command line, as `aemp run` does: `[PROFILE] KEY
    /// VALUE...`. Values set before this call are the program's defaults, and the rc file is read
    /// unless the arguments contain `norc 1`. Invalid arguments make [`NodeBuilder::start`] fail.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let command_line = "nodeid mine secret geheim binds 127.0.0.1:0 norc 1".split(' ');
    /// let node = aemp::Node::builder()
    ///     .node_id("eg_receiver/%u") // unless the command line has another one
    ///     .arguments(command_line) // a program's: std::env::args_os().skip(1)
    ///     .start()
    ///     .await?;
    /// assert_eq!(node.id().to_string(), "mine");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn arguments<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        let values = decode_command_line(words.into_iter().map(Into::into));
        match values.and_then(|values| Args::from_run_arguments(&values)) {
            Ok(args) => self.add(args),
            Err(error) => self.wrong_arguments = Some(error),
        }
        self
    }

    fn add(&mut self, args: Args) {
        for (key, list) in [("binds", &mut self.binds), ("seeds", &mut self.seeds)] {
            if args.values().contains_key(key) {
                list.clear();
            }
        }
        for (key, value) in args.values() {
            self.args.set(key, value.clone());
        }
        self.args.profile = args.profile.or(self.args.profile.take());
        self.args.force |= args.force;
        self.args.norc |= args.norc;
        if matches!(self.rc, RcSource::None) {
            self.rc = RcSource::Default;
        }
    }

    /// Uses these settings, which have already been read and checked, and no others.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Exposes a function before other nodes can reach this one; see [`Node::expose`]. Services of
    /// the configuration can name it.
    #[must_use]
    pub fn expose<T, F, R>(mut self, name: &str, function: F) -> Self
    where
        T: serde::de::DeserializeOwned + 'static,
        F: Fn(&Context<'_>, T) -> R + Send + Sync + 'static,
        R: Outcome + 'static,
    {
        let name = name.to_owned();
        self.functions.push(Box::new(move |node| node.expose(&name, function)));
        self
    }

    /// Octets that may be queued for one node before [`Node::snd_wait`] waits; 8 MiB by default.
    #[must_use]
    pub fn soft_limit(mut self, octets: usize) -> Self {
        self.lane_limits.soft = octets;
        self
    }

    /// Octets that may be queued for one node before its connection is given up; 256 MiB by
    /// default.
    #[must_use]
    pub fn hard_limit(mut self, octets: usize) -> Self {
        self.lane_limits.hard = octets;
        self
    }

    /// Octets of messages that may be queued in a port before it is killed; 64 MiB by default.
    #[must_use]
    pub fn port_limit(mut self, octets: usize) -> Self {
        self.port_limit = Some(octets);
        self
    }

    /// Octets that one received packet may have; 256 MiB by default.
    #[must_use]
    pub fn packet_limit(mut self, octets: usize) -> Self {
        self.framing_limits.packet = octets;
        self
    }

    /// Octets that this node keeps on account of one peer in each of its tables; 16 MiB by default.
    /// `docs/reliability.md` says what happens beyond that.
    #[must_use]
    pub fn peer_limit(self, octets: usize) -> Self {
        self.set("peer_limit", octets)
    }

    /// Octets of database entries that this node, if it is global, keeps for one slave, or for all
    /// slaves of another global node; 1 GiB by default. Beyond that it refuses to set keys.
    #[must_use]
    pub fn database_limit(self, octets: usize) -> Self {
        self.set("database_limit", octets)
    }

    /// Connections from other machines that may be in the handshake at a time; 1024 by default, and
    /// never more than half of the files that the process may open. When there are more, the oldest
    /// one of the address with the most is closed; see `docs/reliability.md`.
    #[must_use]
    pub fn handshake_limit(self, connections: usize) -> Self {
        self.set("handshake_limit", connections)
    }

    /// How many of these may come from one address (IPv6: from one network of 64 bits); 128 by
    /// default. Connections from this machine do not count.
    #[must_use]
    pub fn handshake_limit_per_address(self, connections: usize) -> Self {
        self.set("handshake_limit_per_address", connections)
    }

    /// How long [`Node::shutdown`] may take to write what was sent; 5 s by default.
    #[must_use]
    pub fn shutdown_limit(self, limit: Duration) -> Self {
        self.set("shutdown", limit.as_secs_f64())
    }

    /// How long the entries of nodes whose master was lost are kept and not reported as deleted,
    /// since these nodes usually go to another master; 10 s by default. See
    /// [`Db::monitor`](crate::Db::monitor).
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = Some(grace);
        self
    }

    /// Does not repair Perl slaves that have lost their master for good; see `docs/protocol.md` §7.
    #[must_use]
    pub fn no_healing(mut self) -> Self {
        self.no_healing = true;
        self
    }

    /// Prints every message sent and received to standard error, as `PERL_ANYEVENT_MP_TRACE` does
    /// in Perl. Lines that cannot be written are lost; a slow reader slows the node down.
    #[must_use]
    pub fn trace(self) -> Self {
        self.trace_with(|line| {
            let _ = writeln!(std::io::stderr(), "{line}");
        })
    }

    /// Calls this function with a line of at most 64 KiB for every message sent and received. It must not
    /// block.
    #[must_use]
    pub fn trace_with(mut self, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.trace = Some(TraceSink::new(sink));
        self
    }

    fn read_settings(&mut self) -> Result<Settings, StartError> {
        if let Some(settings) = self.settings.take() {
            return Ok(settings);
        }
        if let Some(error) = self.wrong_arguments.take() {
            return Err(config(error));
        }
        for (key, list) in [("binds", &mut self.binds), ("seeds", &mut self.seeds)] {
            if !list.is_empty() {
                self.args.set(key, std::mem::take(list));
            }
        }
        if self.alone {
            // No peer is ever asked for it.
            self.args.set("secret", random_name()?);
        }
        let path = match &self.rc {
            _ if self.args.norc => None,
            RcSource::None => None,
            RcSource::Default => rc::default_path(),
            RcSource::File(path) => Some(path.clone()),
        };
        let file = path.map(RcFile::load).transpose().map_err(config)?;
        let effective =
            Effective::resolve(&self.args, file.as_ref(), &node_name()).map_err(config)?;
        let (settings, warnings) = effective.settings().map_err(config)?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        Ok(settings)
    }

    /// Starts the node: it listens, and dials its seeds.
    ///
    /// Must be called inside a tokio runtime, which then runs the node's tasks.
    ///
    /// # Errors
    /// Fails if the configuration cannot be used, with the key and the reason, or if listening on
    /// an address fails.
    pub async fn start(mut self) -> Result<Node, StartError> {
        let settings = self.read_settings()?;
        settings.check_credentials().map_err(config)?;
        let mut entropy = [0; 32];
        fill(&mut entropy)?;
        let node = node_id(&settings)?;
        let handshaker = handshaker(&settings, &node)?;
        let identity = identity(&settings)?;
        let encryption = encryption(identity.as_ref(), &handshaker);
        let machine = match settings.binds.is_empty() {
            true => Vec::new(),
            false => interface_addresses().unwrap_or_default(),
        };
        let listeners = Listeners::start(&settings, &machine).await?;
        let listening = listeners.state(&machine);
        let shared = Shared::new(NodeParts {
            settings: NodeSettings {
                handshaker,
                encryption,
                certificate_dates: identity.as_ref().map(Identity::dates),
                monitor_timeout: settings.monitor_timeout,
                lane_limits: self.lane_limits,
                framing_limits: self.framing_limits,
                handshake_limits: settings.handshake_limits,
                peer_limits: PeerLimits {
                    table: settings.peer_limit,
                    database: settings.database_limit,
                },
                port_limit: self.port_limit.unwrap_or(crate::node::port::DEFAULT_LIMIT),
                shutdown: settings.shutdown,
                nodelay: settings.nodelay,
                trace: self.trace,
            },
            kernel: KernelConfig {
                node,
                addresses: listening.addresses.clone(),
                seeds: seeds(&settings)?,
                monitor_timeout: settings.monitor_timeout,
                connect_interval: settings.connect_interval,
                secure: settings.secure,
                heal: settings.heal && !self.no_healing,
                grace: self.grace.unwrap_or(KernelConfig::DEFAULT_GRACE),
                process_id: std::process::id(),
                entropy,
            },
            listening,
            runtime: tokio::runtime::Handle::current(),
        });
        let node = Node::outer(shared.clone());
        if self.alone {
            // There is no other node whose database could be used.
            node.become_global();
        }
        streams::install(&node);
        crate::services::install(&node);
        node.offer_status();
        for function in self.functions.drain(..) {
            function(&node);
        }
        listeners.serve(&shared);
        shared.runtime.spawn(shared.clone().keep_time());
        shared.runtime.spawn(shared.clone().watch_certificate_dates());
        start_services(&node, &settings.services)?;
        serve_metrics(&node, &settings).await?;
        Ok(node)
    }
}

impl Node {
    /// The seeds in the settings, in the form that [`Node::set_seeds`] takes.
    ///
    /// # Errors
    /// Fails if a seed's address is not valid.
    pub fn configured_seeds(&self, settings: &Settings) -> Result<Vec<Str>, StartError> {
        seeds(settings)
    }
}

impl std::fmt::Debug for NodeBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeBuilder").field("args", &self.args).finish_non_exhaustive()
    }
}

fn config(error: impl std::error::Error + Send + Sync + 'static) -> StartError {
    StartError::Config(Box::new(error))
}

fn fill(octets: &mut [u8]) -> Result<(), StartError> {
    getrandom::fill(octets).map_err(|error| StartError::Randomness(error.to_string()))
}

fn random_name() -> Result<String, StartError> {
    let mut random = [0; 16];
    fill(&mut random)?;
    Ok(unique_string(u128::from_ne_bytes(random)))
}

fn node_id(settings: &Settings) -> Result<NodeId, StartError> {
    let unique = random_name()?;
    let expanded = settings.node_id.expand(&node_name(), &unique).map_err(config)?;
    let octets = to_octets(&expanded.id).map_err(config)?;
    NodeId::new(Str::octets(octets)).map_err(config)
}

fn seeds(settings: &Settings) -> Result<Vec<Str>, StartError> {
    // To list the machine's addresses takes longer than all the rest.
    let interfaces = match settings.seeds.iter().any(|seed| seed.host == Host::EveryLocal) {
        true => interface_addresses().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut seeds = Vec::new();
    for seed in &settings.seeds {
        for endpoint in seed.endpoints(&node_name(), &interfaces) {
            let address = match endpoint {
                Endpoint::Address(address) => address.to_string(),
                Endpoint::Name(host, port) => format!("{host}:{port}"),
            };
            seeds.push(Str::from(address));
        }
    }
    Ok(seeds)
}

fn start_services(node: &Node, services: &[Service]) -> Result<(), StartError> {
    for service in services {
        match service {
            Service::Module(name) if name.trim_end_matches("::") == GLOBAL_SERVICE => {
                node.become_global();
            }
            Service::Module(name) => return Err(StartError::Service(name.clone())),
            Service::Call { function, arguments } => {
                let function = Str::from(function.as_str());
                if !node.shared().functions.read().contains_key(&function) {
                    return Err(StartError::Service(function.to_string()));
                }
                let arguments = Packed::of(arguments).map_err(config)?;
                // A direct call, since requests are refused in `secure` mode.
                let call = Call { function, arguments, from: node.id().clone() };
                node.shared().call_soon(call);
            }
        }
    }
    Ok(())
}

#[cfg(feature = "metrics")]
async fn serve_metrics(node: &Node, settings: &Settings) -> Result<(), StartError> {
    if let Some(address) = &settings.metrics {
        crate::services::metrics::serve(node, address, settings.metrics_values).await?;
    }
    Ok(())
}

#[cfg(not(feature = "metrics"))]
async fn serve_metrics(node: &Node, settings: &Settings) -> Result<(), StartError> {
    if settings.metrics.is_some() {
        tracing::warn!(
            node = %node.id(),
            "`metrics` has no effect: the program is built without this crate's feature `metrics`"
        );
    }
    Ok(())
}
