//! Where a node listens, and which addresses it announces: both follow the addresses of the
//! machine.

use super::connection::{self, socket};
use super::core::{Listening, Shared};
use super::error::StartError;
use super::{Node, Unhealthy};
use crate::config::Settings;
use crate::config::address::{AdvertiseSpec, BindSpec, Endpoint, Host, public_addresses};
use crate::config::node_id::node_name;
use crate::value::Str;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The listeners of a node, and the configuration that they serve.
#[derive(Debug)]
pub(crate) struct Listeners {
    binds: Vec<BindSpec>,
    advertise: Vec<AdvertiseSpec>,
    /// Interval at which the machine's addresses are read.
    interval: Duration,
    open: Vec<OpenListener>,
    /// Addresses of `*` that cannot be listened on, with the reasons.
    failed: HashMap<SocketAddr, String>,
}

/// One listener.
#[derive(Debug)]
struct OpenListener {
    /// The configured address; port 0 stands for any free one.
    wanted: SocketAddr,
    local: SocketAddr,
    /// Whether it was opened for `*`, and is closed when the machine loses the address.
    of_star: bool,
    /// Whether the system lists its address, or has listed it before, so that losing it can be
    /// noticed.
    can_be_lost: bool,
    is_lost: bool,
    /// Whether it accepts both IPv4 and IPv6.
    is_dual: bool,
    /// The listener until it is served, then `None`.
    listener: Option<TcpListener>,
    closed: CancellationToken,
}

impl Listeners {
    /// Listens on all configured addresses that this machine has.
    ///
    /// # Errors
    /// Fails if an address is in use, or if this machine does not have a configured address or
    /// name.
    pub(crate) async fn start(settings: &Settings, machine: &[IpAddr]) -> Result<Self, StartError> {
        let mut listeners = Listeners {
            binds: settings.binds.clone(),
            advertise: settings.advertise.clone(),
            interval: settings.connect_interval,
            open: Vec::new(),
            failed: HashMap::new(),
        };
        for bind in &settings.binds {
            if bind.host == Host::EveryLocal {
                for (address, error) in listeners.open_star(bind, machine) {
                    // An address that is very new, or was just lost, cannot be used at this moment.
                    if !is_not_here(&error) {
                        return Err(StartError::bind(address, error));
                    }
                }
                continue;
            }
            for endpoint in bind.endpoints(&node_name(), machine) {
                match endpoint {
                    Endpoint::Address(address) => {
                        let opened = listeners.open(address, machine, false);
                        opened.map_err(|error| StartError::bind(address, error))?;
                    }
                    Endpoint::Name(host, port) => {
                        listeners.open_name(&host, port, machine).await?;
                    }
                }
            }
        }
        Ok(listeners)
    }

    /// Listens on all addresses of a name that this machine has, which must be at least one.
    async fn open_name(
        &mut self,
        host: &str,
        port: u16,
        machine: &[IpAddr],
    ) -> Result<(), StartError> {
        let name = format!("{host}:{port}");
        let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| StartError::Resolve { address: name.clone(), source })?
            .collect();
        if host.eq_ignore_ascii_case("localhost") {
            // Some hosts files map localhost only to IPv6, even on machines without IPv6.
            addresses.push((Ipv4Addr::LOCALHOST, port).into());
        }
        let mut missing = None;
        let mut opened = 0;
        for address in addresses {
            if self.open.iter().any(|open| open.wanted == address) {
                opened += 1;
                continue;
            }
            match self.open(address, machine, false) {
                Ok(()) => opened += 1,
                Err(error) if is_not_here(&error) => missing = Some((address, error)),
                Err(error) => return Err(StartError::bind(format!("{name} ({address})"), error)),
            }
        }
        match missing {
            Some((address, error)) if opened == 0 => {
                Err(StartError::bind(format!("{name} ({address})"), error))
            }
            _ => Ok(()),
        }
    }

    /// Listens on those addresses of `*` that are not listened on yet. Returns those that cannot
    /// be.
    fn open_star(&mut self, bind: &BindSpec, machine: &[IpAddr]) -> Vec<(SocketAddr, io::Error)> {
        let mut failures = Vec::new();
        for wanted in star_addresses(bind, machine) {
            if self.open.iter().any(|open| open.wanted == wanted) {
                continue;
            }
            match self.open(wanted, machine, true) {
                Ok(()) => drop(self.failed.remove(&wanted)),
                Err(error) => failures.push((wanted, error)),
            }
        }
        failures
    }

    fn open(&mut self, wanted: SocketAddr, machine: &[IpAddr], of_star: bool) -> io::Result<()> {
        let listener = socket::listen(wanted)?;
        let local = listener.local_addr()?;
        let is_dual = wanted.ip() == Ipv6Addr::UNSPECIFIED
            && !socket2::SockRef::from(&listener).only_v6().unwrap_or(true);
        self.open.push(OpenListener {
            wanted,
            local,
            of_star,
            can_be_lost: machine.contains(&local.ip()),
            is_lost: false,
            is_dual,
            listener: Some(listener),
            closed: CancellationToken::new(),
        });
        Ok(())
    }

    /// Follows a change of the machine's addresses. Returns lines for the log.
    fn follow(&mut self, machine: &[IpAddr]) -> Vec<String> {
        let mut lines = Vec::new();
        let stars: Vec<BindSpec> =
            self.binds.iter().filter(|bind| bind.host == Host::EveryLocal).cloned().collect();
        let wanted: Vec<SocketAddr> =
            stars.iter().flat_map(|bind| star_addresses(bind, machine)).collect();
        self.failed.retain(|address, _| wanted.contains(address));
        self.open.retain(|open| {
            let stays = !open.of_star || wanted.contains(&open.wanted);
            if !stays {
                open.closed.cancel();
                lines.push(format!("no longer listening on {}: the address is gone", open.local));
            }
            stays
        });
        for open in &mut self.open {
            let is_listed = machine.contains(&open.local.ip());
            open.can_be_lost |= is_listed;
            let is_lost = open.can_be_lost && !is_listed;
            if is_lost != open.is_lost {
                open.is_lost = is_lost;
                let what = if is_lost { "has lost" } else { "has again" };
                lines.push(format!("this machine {what} {}", open.local.ip()));
            }
        }
        for bind in &stars {
            for (address, error) in self.open_star(bind, machine) {
                let reason = error.to_string();
                if self.failed.get(&address) != Some(&reason) {
                    let hint = hint(&error);
                    lines.push(format!("cannot listen on {address}: {reason}{hint}"));
                    self.failed.insert(address, reason);
                }
            }
        }
        lines
    }

    /// The state to announce, given these addresses of the machine.
    pub(crate) fn state(&self, machine: &[IpAddr]) -> Listening {
        let usable = || self.open.iter().filter(|open| !open.is_lost);
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for open in usable() {
            for address in open.reachable_at(machine) {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        let port = usable().next().map(|open| open.local.port());
        let announced = |spec: &AdvertiseSpec| match (spec.port, port) {
            (None, None) => None,
            (_, port) => Some(Str::from(spec.with_port(port.unwrap_or_default()))),
        };
        let nowhere = !self.binds.is_empty() && usable().next().is_none();
        Listening {
            addresses: match self.advertise.is_empty() {
                true => addresses.iter().map(|address| address.to_string().into()).collect(),
                false => self.advertise.iter().filter_map(announced).collect(),
            },
            nowhere: nowhere.then(|| self.why_nowhere()),
        }
    }

    fn why_nowhere(&self) -> String {
        let binds: Vec<String> = self.binds.iter().map(ToString::to_string).collect();
        let mut failed: Vec<String> =
            self.failed.iter().map(|(address, why)| format!("{address}: {why}")).collect();
        failed.sort();
        let why = match failed.is_empty() {
            true => {
                "this machine has no such address now (loopback and fe80:: do not count)".into()
            }
            false => failed.join(", "),
        };
        format!("{}: {why}", binds.join(", "))
    }

    /// Serves all listeners, and follows the machine's addresses until the node ends.
    pub(crate) fn serve(mut self, shared: &Arc<Shared>) {
        self.serve_new(shared);
        let state = shared.listening.borrow().clone();
        report(shared, &state);
        let is_fixed = |open: &OpenListener| open.local.ip().is_loopback();
        let has_star = self.binds.iter().any(|bind| bind.host == Host::EveryLocal);
        if !has_star && self.open.iter().all(is_fixed) {
            return;
        }
        let shared = shared.clone();
        shared.runtime.clone().spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(self.interval) => {}
                    () = shared.ended.cancelled() => return,
                }
                // Without a list nothing is known to be lost.
                if let Ok(machine) = crate::config::address::interface_addresses() {
                    self.look_again(&shared, &machine);
                }
            }
        });
    }

    fn look_again(&mut self, shared: &Arc<Shared>, machine: &[IpAddr]) {
        for line in self.follow(machine) {
            tracing::warn!(node = %shared.id, "{line}");
        }
        self.serve_new(shared);
        let state = self.state(machine);
        let before = shared.listening.borrow().clone();
        if before == state {
            return;
        }
        if before.addresses != state.addresses {
            shared.kernel(|kernel| kernel.set_addresses(&state.addresses));
        }
        if before.nowhere != state.nowhere {
            report(shared, &state);
        }
        shared.listening.send_replace(state);
    }

    fn serve_new(&mut self, shared: &Arc<Shared>) {
        for open in &mut self.open {
            if let Some(listener) = open.listener.take() {
                tracing::info!(node = %shared.id, "listening on {}", open.local);
                let served = connection::accept(shared.clone(), listener, open.closed.clone());
                shared.runtime.spawn(served);
            }
        }
    }
}

impl OpenListener {
    /// The addresses by which others can reach it.
    fn reachable_at(&self, machine: &[IpAddr]) -> Vec<SocketAddr> {
        let ip = self.local.ip();
        if !ip.is_unspecified() {
            return vec![self.local];
        }
        let fits = |address: &IpAddr| self.is_dual || address.is_ipv4() == ip.is_ipv4();
        let mut addresses: Vec<IpAddr> =
            public_addresses(machine).into_iter().filter(fits).collect();
        if addresses.is_empty() {
            // Only nodes on this machine can reach it.
            addresses.push(match ip.is_ipv4() || self.is_dual {
                true => Ipv4Addr::LOCALHOST.into(),
                false => Ipv6Addr::LOCALHOST.into(),
            });
        }
        addresses.into_iter().map(|ip| SocketAddr::new(ip, self.local.port())).collect()
    }
}

fn star_addresses(bind: &BindSpec, machine: &[IpAddr]) -> Vec<SocketAddr> {
    let endpoints = bind.endpoints("", machine).into_iter();
    endpoints
        .filter_map(|endpoint| match endpoint {
            Endpoint::Address(address) => Some(address),
            Endpoint::Name(..) => None,
        })
        .collect()
}

/// Logs that a node that should listen does not.
fn report(shared: &Shared, state: &Listening) {
    if let Some(why) = &state.nowhere {
        let why = Unhealthy::ListensNowhere(why.clone());
        tracing::warn!(node = %shared.id, "{why}");
    }
}

/// Whether an address cannot be listened on because this machine does not have it.
fn is_not_here(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

/// A hint what to do about an address that cannot be listened on.
pub(crate) fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; is another node running there? (port 0 takes any free one)",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need root: choose another one",
        _ if is_not_here(error) => {
            "; this machine does not have the address, or not now (for IPv6: is that switched off?)"
        }
        _ => "",
    }
}

impl StartError {
    pub(crate) fn bind(address: impl ToString, source: io::Error) -> Self {
        StartError::Bind { address: address.to_string(), hint: hint(&source), source }
    }
}

impl Node {
    /// The addresses that others are told to dial at present, as `host:port`. They follow the
    /// machine's addresses if the node listens on `*`, `0.0.0.0` or `[::]`.
    pub fn addresses(&self) -> Vec<Str> {
        self.shared().listening.borrow().addresses.clone()
    }

    /// Waits until the node listens on at least one address, if it should listen: `*` stands for no
    /// address on a machine without a network.
    pub async fn listening(&self) {
        let mut listening = self.shared().listening.subscribe();
        // The sender lives as long as the node.
        let _ = listening.wait_for(|state| state.nowhere.is_none()).await;
    }
}
