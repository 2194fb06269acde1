//! The network as this node and its peers see it, for the diagram of the status page.

use super::shown::shown;
use crate::kernel::db::{GLOBALS, LOCATIONS};
use crate::node::{Metrics, Node, Status};
use crate::value::{NodeId, Str, Value};
use crate::wire::greeting;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The maximum number of nodes in the diagram.
const MAX_NODES: usize = 300;
/// The maximum number of connected nodes that are asked.
const MAX_CONCURRENT_QUESTIONS: usize = 64;
/// The age of answers after which the next viewer causes new questions.
const MAX_AGE: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Nodes, and the connections between them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Picture {
    nodes: Vec<Drawn>,
    /// Pairs of indices.
    links: Vec<(usize, usize)>,
    /// The number of nodes that are left out.
    left_out: usize,
}

#[derive(Debug, Serialize)]
struct Drawn {
    id: String,
    software: String,
    global: Option<bool>,
    /// Whether this node is connected to it.
    linked: bool,
}

/// The answers of other nodes.
#[derive(Debug, Clone, Default)]
pub(super) struct Network(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    statuses: Vec<Status>,
    /// The global nodes, Perl ones too.
    globals: BTreeSet<Str>,
    /// The nodes of the whole network, if this one is global.
    located: Vec<Str>,
}

impl Network {
    /// Asks the others again if their answers are too old; does not wait for the new answers.
    pub(super) fn refresh(&self, node: &Node, metrics: &Metrics) {
        {
            let mut told = self.0.lock();
            if told.at.is_some_and(|at| at.elapsed() < MAX_AGE) {
                return;
            }
            told.at = Some(Instant::now());
        }
        // Perl nodes do not know this request; untrusted nodes could answer anything.
        let asked = metrics.links.iter().filter(|link| {
            !link.untrusted && link.software.to_text_lossy().starts_with(greeting::PROVIDER_PREFIX)
        });
        let mut asked: Vec<NodeId> =
            asked.filter_map(|link| NodeId::new(link.node.clone()).ok()).collect();
        let (node, told, global) = (node.inside(), self.0.clone(), metrics.global);
        let runtime = node.shared().runtime.clone();
        let ended = node.shared().ended.clone();
        let task = async move {
            let globals = tokio::time::timeout(ANSWER_TIMEOUT, node.db().keys(GLOBALS)).await;
            let globals: BTreeSet<Str> =
                globals.ok().and_then(Result::ok).into_iter().flatten().collect();
            // They have most connections.
            asked.sort_by_cached_key(|peer| !globals.contains(&Str::from(peer.clone())));
            let mut asking = tokio::task::JoinSet::new();
            for peer in asked.into_iter().take(MAX_CONCURRENT_QUESTIONS) {
                let node = node.inside();
                asking.spawn(async move { node.status_of(&peer, ANSWER_TIMEOUT).await });
            }
            let statuses = asking.join_all().await.into_iter().flatten().collect();
            let located = match global {
                true => node.db().keys(LOCATIONS).await.unwrap_or_default(),
                false => Vec::new(),
            };
            let mut told = told.lock();
            (told.statuses, told.globals, told.located) = (statuses, globals, located);
        };
        runtime.spawn(async move {
            tokio::select! {
                () = task => {}
                () = ended.cancelled() => {}
            }
        });
    }

    pub(super) fn picture(&self, metrics: &Metrics) -> Picture {
        let told = self.0.lock();
        let mut all = Nodes::default();
        let own = all.add(&metrics.node, true);
        all.describe(own, &Str::text(greeting::PROVIDER), Some(metrics.global));
        for link in &metrics.links {
            let index = all.add(&link.node, true);
            all.describe(index, &link.software, None);
            all.link(own, index);
        }
        for status in &told.statuses {
            let index = all.add(&status.node, false);
            all.describe(index, &status.provider, Some(status.global));
            for link in &status.links {
                let other = all.add(&link.node, false);
                all.describe(other, &link.software, None);
                // Our own knowledge of our connections is newer.
                if index != own && other != own {
                    all.link(index, other);
                }
            }
        }
        for node in &told.globals {
            let index = all.add(node, false);
            all.describe(index, &Str::default(), Some(true));
        }
        for node in &told.located {
            all.add(node, false);
        }
        Picture {
            nodes: all.drawn,
            links: all.links.into_iter().collect(),
            left_out: all.left_out.len(),
        }
    }
}

#[derive(Default)]
struct Nodes {
    drawn: Vec<Drawn>,
    by_id: HashMap<Str, usize>,
    links: BTreeSet<(usize, usize)>,
    left_out: BTreeSet<Str>,
}

impl Nodes {
    /// The index of a node; `None` if there are too many nodes.
    fn add(&mut self, id: &Str, linked: bool) -> Option<usize> {
        if let Some(index) = self.by_id.get(id) {
            return Some(*index);
        }
        if self.drawn.len() >= MAX_NODES {
            self.left_out.insert(id.clone());
            return None;
        }
        let index = self.drawn.len();
        self.by_id.insert(id.clone(), index);
        self.drawn.push(Drawn { id: shown(id), software: String::new(), global: None, linked });
        Some(index)
    }

    fn describe(&mut self, index: Option<usize>, software: &Str, global: Option<bool>) {
        let Some(drawn) = index.and_then(|index| self.drawn.get_mut(index)) else { return };
        if !software.is_empty() {
            drawn.software = shown(software);
        }
        drawn.global = global.or(drawn.global);
    }

    fn link(&mut self, one: Option<usize>, other: Option<usize>) {
        if let (Some(one), Some(other)) = (one, other)
            && one != other
        {
            self.links.insert((one.min(other), one.max(other)));
        }
    }
}

/// The first keys and values of a family, as text.
pub(super) async fn family(node: &Node, name: &Str, most: usize) -> Vec<(String, String)> {
    let entries = node.db().family::<Value>(name.clone()).await;
    let entries: BTreeMap<Str, Value> = entries.unwrap_or_default().into_iter().collect();
    let text = |value: &Value| shown(&Str::text(&value.to_string()));
    entries.iter().take(most).map(|(key, value)| (shown(key), text(value))).collect()
}
