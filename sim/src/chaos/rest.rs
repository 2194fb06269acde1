//! Checks of the state after everything was repaired and time has passed.

use super::oracle::{Call, PortFate};
use super::run::Run;
use crate::{HostId, Node};
use aemp::kernel::db::{Datum, Entries, GLOBALS, LOCATIONS};
use aemp::value::{NodeId, PortId, Str};
use std::collections::{BTreeMap, BTreeSet};

impl Run<'_> {
    pub(super) fn check_rest(&self) -> Result<(), String> {
        for host in self.world.hosts() {
            if let Some(node) = self.world.running(host) {
                self.check_connections(host, node)?;
                self.check_nothing_is_left(host, node)?;
                self.check_roles(host, node)?;
                self.check_database(host, node)?;
            }
            self.check_perl(host)?;
        }
        self.check_monitors()?;
        self.check_streams()?;
        self.check_views()?;
        self.check_calls()?;
        match self.oracle.queries.first() {
            Some((life, query)) => Err(format!("{life:?} still waits for the answer of {query:?}")),
            None => Ok(()),
        }
    }

    /// Strangers must not change which nodes are global or which master a node has: only seeds, and
    /// nodes whose program asked for it, are global, and a master is one of the node's seeds. (Perl
    /// nodes believe greetings before authentication, and spread what these say.)
    fn check_roles(&self, host: HostId, node: &Node) -> Result<(), String> {
        if self.plan.setup.perl != 0 {
            return Ok(());
        }
        let (kernel, spec) = (node.kernel(), self.world.spec(host));
        if kernel.is_global() {
            let is_seed = host.0 < self.plan.setup.seeds;
            let is_meant = is_seed || spec.global || self.oracle.made_global.contains(&host);
            return is_meant.then_some(()).ok_or_else(|| format!("{host:?} became global"));
        }
        let is_seed = |master: &NodeId| {
            let master = self.host_of(master).map(|host| self.world.spec(host));
            master.is_some_and(|master| master.addresses.iter().any(|at| spec.seeds.contains(at)))
        };
        if self.oracle.got_other_seeds.contains(&host) || kernel.master().is_none_or(is_seed) {
            return Ok(());
        }
        Err(format!("the master {:?} of {host:?} is none of its seeds", kernel.master()))
    }

    fn running_nodes(&self) -> impl Iterator<Item = (HostId, &Node)> {
        let hosts = self.world.hosts();
        hosts.filter_map(|host| Some((host, self.world.running(host)?)))
    }

    fn node_of(&self, id: &NodeId) -> Option<&Node> {
        self.running_nodes().map(|(_, node)| node).find(|node| node.kernel().node() == id)
    }

    /// The place where a node runs, whether it is ours or a Perl node.
    pub(super) fn host_of(&self, id: &NodeId) -> Option<HostId> {
        let mut hosts = self.world.hosts();
        hosts.find(|&host| self.world.is_running(host) && self.world.spec(host).node == *id)
    }

    /// The place of a node that may have ended.
    pub(super) fn place_of(&self, id: &NodeId) -> Option<HostId> {
        self.host_of(id)
            .or_else(|| self.world.hosts().find(|&host| self.world.spec(host).node == *id))
    }

    fn is_connected(&self, host: HostId, to: &NodeId) -> bool {
        match self.world.perl(host) {
            Some(perl) => perl.up_nodes().any(|node| node == to),
            None => self.world.running(host).is_some_and(|node| node.kernel().is_up(to)),
        }
    }

    fn lives(&self, port: &PortId) -> bool {
        let Some(host) = self.host_of(&port.node()) else { return false };
        match self.world.perl(host) {
            Some(perl) => perl.ports().any(|name| name.as_ref() == port.port()),
            None => self.world.node(host).ports().any(|name| name.as_ref() == port.port()),
        }
    }

    /// Checks that a Perl slave is in the database, as the slave of exactly one global node.
    fn check_perl(&self, host: HostId) -> Result<(), String> {
        let Some(perl) = self.world.perl(host) else { return Ok(()) };
        let id = &self.world.spec(host).node;
        if perl.database().is_global() {
            return Ok(());
        }
        let speakers: Vec<String> = self
            .world
            .hosts()
            .filter(|&other| {
                let global = self.world.database(other).and_then(|database| database.global());
                global.is_some_and(|global| global.is_slave(id))
            })
            .map(|other| self.world.spec(other).node.to_string())
            .collect();
        let master: Vec<String> = perl.master().map(ToString::to_string).into_iter().collect();
        if speakers != master || master.is_empty() {
            return Err(format!("{id} of Perl has {master:?} as master, and {speakers:?} have it"));
        }
        Ok(())
    }

    fn check_connections(&self, host: HostId, node: &Node) -> Result<(), String> {
        let kernel = node.kernel();
        let mut seen = BTreeSet::new();
        for peer in node.established() {
            if !seen.insert(peer) {
                return Err(format!("{host:?} has two connections to {peer}"));
            }
        }
        let up = kernel.up_nodes();
        if up.iter().collect::<BTreeSet<_>>() != seen || node.connections() != up.len() {
            return Err(format!(
                "{host:?} sees {up:?}, is connected to {seen:?}, and has {} connections",
                node.connections()
            ));
        }
        for peer in &up {
            let other = self.host_of(peer).ok_or_else(|| format!("{host:?} sees {peer}"))?;
            if !self.is_connected(other, kernel.node()) {
                return Err(format!("{host:?} sees {peer}, which does not see it"));
            }
        }
        for (seed, spec) in self.world.hosts().map(|host| (host, self.world.spec(host))) {
            let known = &self.world.spec(host).seeds;
            if self.world.is_running(seed)
                && spec.addresses.iter().any(|address| known.contains(address))
                && !kernel.is_up(&spec.node)
            {
                return Err(format!("{host:?} is not connected to its seed {}", spec.node));
            }
        }
        Ok(())
    }

    fn check_nothing_is_left(&self, host: HostId, node: &Node) -> Result<(), String> {
        let kernel = node.kernel();
        let counts = kernel.resource_counts();
        let up: BTreeSet<NodeId> = kernel.up_nodes().into_iter().collect();
        let stale: Vec<_> = counts.nodes.difference(&up).collect();
        if !stale.is_empty() {
            return Err(format!("{host:?} keeps something of {stale:?}: {counts:?}"));
        }
        if counts.connections != up.len() || counts.attempts + counts.queries + counts.finds > 0 {
            return Err(format!("{host:?} with {} nodes up keeps {counts:?}", up.len()));
        }
        let monitors = self.oracle.monitors.iter().filter(|((life, _), monitored)| {
            life.0 == host && self.is_alive(*life) && monitored.fate == PortFate::Set
        });
        let silent = monitors.clone().filter(|(_, monitored)| monitored.is_silent).count();
        let loud = monitors.count() - silent;
        if !(loud..=loud + silent).contains(&counts.monitors) {
            return Err(format!(
                "{host:?} has {} monitors, {loud} or up to {silent} more are set",
                counts.monitors
            ));
        }
        let monitors = self.oracle.monitors.iter().filter(|((life, _), monitored)| {
            monitored.fate == PortFate::Set
                && life.0 != host
                && self.is_alive(*life)
                && monitored.target.node() == *kernel.node()
                && !monitored.target.is_node_port()
                && self.lives(&monitored.target)
        });
        let pairs = |silent: bool| -> BTreeSet<(HostId, &PortId)> {
            let monitors = monitors.clone().filter(|(_, monitored)| silent || !monitored.is_silent);
            monitors.map(|((life, _), monitored)| (life.0, &monitored.target)).collect()
        };
        let (least, most) = (pairs(false).len(), pairs(true).len());
        if !(least..=most).contains(&counts.monitors_of_peers) {
            return Err(format!(
                "peers have set {} monitors at {host:?}, and it should be {least} to {most}",
                counts.monitors_of_peers
            ));
        }
        if let Some((peer, lane)) = node.lanes().find(|(peer, _)| !up.contains(*peer)) {
            return Err(format!("{host:?} has a lane to {peer}: {lane:?}"));
        }
        if let Some((peer, lane)) = node.lanes().find(|(_, lane)| lane.waiting() > 0) {
            return Err(format!("{host:?} never wrote what waits for {peer}: {lane:?}"));
        }
        // Two for each Perl node: its next check, and a postponed one.
        if counts.agenda > 20 + 2 * up.len() {
            return Err(format!("{host:?} has {} things to do", counts.agenda));
        }
        Ok(())
    }

    /// The owners of each key, with their values.
    fn owned(&self, family: &Str) -> BTreeMap<Str, Vec<Datum>> {
        let mut owned: BTreeMap<Str, Vec<Datum>> = BTreeMap::new();
        let databases = self.world.hosts().filter_map(|host| self.world.database(host));
        for database in databases {
            let own = database.own();
            for (key, value) in own.get(family).into_iter().flatten() {
                owned.entry(key.clone()).or_default().push(value.clone());
            }
        }
        owned
    }

    fn check_database(&self, host: HostId, node: &Node) -> Result<(), String> {
        let kernel = node.kernel();
        let master = kernel.master().ok_or_else(|| format!("{host:?} has no master"))?;
        let of_master = self.node_of(master).ok_or_else(|| format!("{host:?} has {master}"))?;
        if !of_master.kernel().is_global() {
            return Err(format!("the master {master} of {host:?} is not global"));
        }
        let Some(global) = kernel.database().global() else {
            return Ok(());
        };
        let slave = of_master.kernel().database().global();
        if slave.is_some_and(|master| !master.is_slave(kernel.node())) {
            return Err(format!("{master} does not know that {host:?} is its slave"));
        }
        for family in ["f0", "f1"].map(Str::from) {
            let content: Entries = global
                .merge()
                .family(&family)
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            self.check_family(&family, &content).map_err(|what| format!("{host:?}: {what}"))?;
        }
        let ids = |family: &str| -> Vec<String> {
            let family = Str::from(family);
            global.merge().family(&family).map(|(key, _)| key.to_string()).collect()
        };
        let name = |host: HostId| self.world.spec(host).node.to_string();
        let all = self.world.hosts().filter(|&host| self.world.is_running(host));
        let mut all: Vec<String> = all.map(name).collect();
        all.sort();
        if ids(LOCATIONS) != all {
            return Err(format!("{host:?} knows the addresses of {:?}", ids(LOCATIONS)));
        }
        let globals = self
            .world
            .hosts()
            .filter(|&host| self.world.database(host).is_some_and(|database| database.is_global()));
        let mut globals: Vec<String> = globals.map(name).collect();
        globals.sort();
        if ids(GLOBALS) != globals {
            return Err(format!("{host:?} knows the globals {:?} of {globals:?}", ids(GLOBALS)));
        }
        Ok(())
    }

    fn check_family(&self, family: &Str, content: &Entries) -> Result<(), String> {
        let owned = self.owned(family);
        if !content.keys().eq(owned.keys()) {
            return Err(format!("{family} is {content:?}; owned are {owned:?}"));
        }
        for ((key, value), owners) in content.iter().zip(owned.values()) {
            if !owners.iter().any(|owner| owner.perl_eq(value)) {
                return Err(format!("{family}.{key} is {value:?}; owned are {owners:?}"));
            }
        }
        Ok(())
    }

    fn check_monitors(&self) -> Result<(), String> {
        for ((life, monitor), monitored) in &self.oracle.monitors {
            if monitored.fate != PortFate::Set || monitored.is_silent || !self.is_alive(*life) {
                continue;
            }
            let target = &monitored.target;
            let fine = if target.is_node_port() {
                self.world.node(life.0).kernel().is_up(&target.node())
            } else {
                self.lives(target)
            };
            if !fine {
                return Err(format!(
                    "{life:?}: {monitor:?} of {target}, which is gone, did not fire"
                ));
            }
        }
        Ok(())
    }

    fn check_streams(&self) -> Result<(), String> {
        for (index, stream) in self.oracle.streams.iter().enumerate() {
            let monitored = self.oracle.monitors.get(&(stream.from, stream.monitor));
            if monitored.is_some_and(|monitored| monitored.fate == PortFate::Set)
                && self.lives(&stream.to)
                && stream.received != stream.sent
            {
                return Err(format!("stream {index} is not complete: {stream:?}"));
            }
        }
        Ok(())
    }

    fn check_calls(&self) -> Result<(), String> {
        let waits = |call: &&Call| !call.ended && self.is_alive(call.life);
        if let Some(call) = self.oracle.calls.iter().find(waits) {
            return Err(format!("neither an answer nor a loss ended {call:?}"));
        }
        match self.oracle.waiting_streams.first_key_value() {
            Some((stream, left)) => Err(format!("{left} messages of stream {stream} still wait")),
            None => Ok(()),
        }
    }

    fn check_views(&self) -> Result<(), String> {
        for ((life, _), view) in &self.oracle.views {
            if !self.is_alive(*life) {
                continue;
            }
            let Some(content) = &view.content else {
                return Err(format!("{life:?} never heard of {}", view.family));
            };
            if !aemp::kernel::db::is_internal(&view.family) {
                self.check_family(&view.family, content)
                    .map_err(|what| format!("{life:?} believes: {what}"))?;
            }
            let master = self.world.node(life.0).kernel().master();
            let held = master
                .and_then(|master| self.world.database(self.host_of(master)?)?.global())
                .map(|global| global.merge().family(&view.family).collect::<Vec<_>>());
            let same = held.is_some_and(|held| {
                held.len() == content.len()
                    && held
                        .iter()
                        .zip(content)
                        .all(|((key, value), seen)| *key == seen.0 && value.perl_eq(seen.1))
            });
            if !same {
                return Err(format!("{life:?} believes {view:?}; its master knows better"));
            }
        }
        Ok(())
    }
}
