//! Which connections of a whole network are encrypted, as reported by its nodes.

use aemp::config::Settings;
use aemp::node::Status;
use aemp::{Node, NodeId, StartError};
use std::collections::BTreeMap;
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinSet;

/// Nodes that are asked at the same time. Most of them have to be connected first.
const MAX_CONCURRENT: usize = 64;
/// How long joining, the database query and each node may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why the connections of a network could not be determined.
#[derive(Debug, Error)]
pub(crate) enum LinksError {
    #[error("cannot start the node that asks for them: {0}")]
    Start(#[from] StartError),
    #[error("this node could not join through any seed within {} s", TIMEOUT.as_secs())]
    NotJoined,
    #[error("cannot get the list of nodes from a global node: {0}")]
    Unknown(String),
}

/// The connections of a network.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Links {
    /// The connections, keyed by their ends, the smaller node ID first.
    links: BTreeMap<(String, String), Link>,
    /// Number of nodes that have reported their connections.
    pub(crate) tellers: usize,
    /// Nodes that have not.
    pub(crate) silent: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Link {
    /// The end that reported the connection, and its peer.
    ends: (String, String),
    protection: String,
    plain_because: String,
}

impl Links {
    /// Joins the network with these settings, under another ID, and asks every node.
    pub(crate) async fn of_network(settings: &Settings, id: &NodeId) -> Result<Self, LinksError> {
        let mut settings = settings.clone();
        settings.metrics = None;
        settings.services = Vec::new();
        let builder = Node::builder().settings(settings).node_id(&id.to_string());
        let node = builder.no_binds().no_healing().start().await?;
        let links = Self::asked_by(&node).await;
        node.shutdown().await;
        links
    }

    async fn asked_by(node: &Node) -> Result<Self, LinksError> {
        let joined = tokio::time::timeout(TIMEOUT, node.joined()).await;
        joined.map_err(|_| LinksError::NotJoined)?;
        let unknown = |why: String| LinksError::Unknown(why);
        let keys = tokio::time::timeout(TIMEOUT, node.db().keys("'l")).await;
        let keys =
            keys.map_err(|_| unknown(format!("no answer within {} s", TIMEOUT.as_secs())))?;
        let keys = keys.map_err(|error| unknown(error.to_string()))?;
        let mut nodes = keys
            .into_iter()
            .filter_map(|key| NodeId::new(key).ok())
            .filter(|other| other != node.id());
        let mut links = Self::default();
        let mut asked = JoinSet::new();
        loop {
            while asked.len() < MAX_CONCURRENT
                && let Some(other) = nodes.next()
            {
                let node = node.clone();
                asked.spawn(async move {
                    let status = node.status_of(&other, TIMEOUT).await;
                    (other, status)
                });
            }
            match asked.join_next().await {
                None => return Ok(links),
                Some(Ok((_, Ok(status)))) => links.told(&status, node.id()),
                Some(Ok((other, Err(_)))) => links.silent.push(other.to_string()),
                Some(Err(_)) => {}
            }
        }
    }

    /// Adds the connections that a node reports, except the one with the asking node.
    fn told(&mut self, status: &Status, asking: &NodeId) {
        self.tellers += 1;
        let node = status.node.to_text_lossy().into_owned();
        for link in status.links.iter().filter(|link| link.node.as_ref() != asking.as_str()) {
            let other = link.node.to_text_lossy().into_owned();
            let ends = (node.clone(), other);
            let sorted = match ends.0 < ends.1 {
                true => ends.clone(),
                false => (ends.1.clone(), ends.0.clone()),
            };
            let text = |text: &aemp::value::Str| text.to_text_lossy().into_owned();
            let link = Link {
                ends,
                protection: text(&link.protection),
                plain_because: text(&link.plain_because),
            };
            self.links.entry(sorted).or_insert(link);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Number of connections with this protection, named as in [`Status`].
    pub(crate) fn count(&self, protection: &str) -> usize {
        self.links.values().filter(|link| link.protection == protection).count()
    }

    /// The connections that are not encrypted, grouped by the reason that their first end gives.
    pub(crate) fn plain(&self) -> BTreeMap<&str, Vec<String>> {
        let mut reasons: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for link in self.links.values() {
            if link.protection == "plain" {
                let (one, peer) = &link.ends;
                reasons.entry(&link.plain_because).or_default().push(format!("{one} with {peer}"));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_connection_counts_once_though_both_ends_tell_of_it() {
        let asking = NodeId::new("doctor").unwrap();
        let mut links = Links::default();
        let why = "peer is a Perl node";
        for (node, others) in [
            (
                "a",
                json!([{ "node": "b", "protection": "bound" },
                         { "node": "p", "protection": "plain", "plain_because": why },
                         { "node": "doctor", "protection": "bound" }]),
            ),
            (
                "b",
                json!([{ "node": "a", "protection": "bound" },
                         { "node": "c", "protection": "certificates" },
                         { "node": "p", "protection": "plain", "plain_because": why }]),
            ),
        ] {
            let status: Status =
                serde_json::from_value(json!({ "node": node, "links": others })).unwrap();
            links.told(&status, &asking);
        }
        assert_eq!((links.len(), links.tellers), (4, 2));
        assert_eq!((links.count("bound"), links.count("certificates")), (1, 1));
        let plain = links.plain();
        assert_eq!(
            plain.into_iter().collect::<Vec<_>>(),
            [(why, vec!["a with p".into(), "b with p".into()])]
        );
    }
}
