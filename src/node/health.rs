//! What prevents a node from working, or soon will: for load balancers, logs and people.

use super::Node;
use super::connection::tls::{DateWarning, Moment, Reminder};
use super::core::Shared;
use std::sync::Arc;
use std::time::Duration;

/// Interval at which the dates of the certificates are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// At most this many seeds that are down are named with the reason.
const MAX_REASONS: usize = 8;

/// Why a node cannot work at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unhealthy {
    /// It was shut down.
    #[error("the node was shut down")]
    Ended,
    /// The system lets it accept no more connections.
    #[error("connections cannot be accepted; are there too many open files?")]
    CannotAccept,
    /// It should listen but does not listen anywhere, so other nodes cannot connect to it.
    #[error("listens nowhere, so that no other node can connect to this one: {0}")]
    ListensNowhere(String),
    /// Its certificate, or an issuer of that, has expired or is not yet valid.
    #[error("{0}")]
    Certificate(DateWarning),
    /// It has seeds, is not global, and no global node is its master, so others cannot find it.
    #[error("no global node is connected; of {seeds} configured seeds {up} are connected{why}")]
    NotJoined {
        /// Number of configured seeds.
        seeds: usize,
        /// Number of these that are connected.
        up: usize,
        /// The reason for each of the others, if known, each preceded by `: ` or `; `.
        why: String,
    },
}

impl Node {
    /// Whether the node can work: it listens and accepts connections (if it should), its
    /// certificate (if it has one) is valid, and it has joined a network, as a global node or with
    /// a global node as its master. A node without seeds has no network to join and counts as
    /// healthy: it waits for the nodes whose seed it is. `/health` reports this to load balancers.
    ///
    /// # Errors
    /// The first problem found.
    pub fn health(&self) -> Result<(), Unhealthy> {
        match self.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// Everything that prevents the node from working, or soon will, such as a certificate that
    /// expires within two weeks; one line each, as shown by the status page and `aemp top`.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.problems().iter().map(|problem| problem.to_string()).collect();
        let dates = self.shared().date_warnings().into_iter();
        warnings.extend(dates.filter(|date| !date.is_fatal()).map(|date| date.to_string()));
        warnings
    }

    fn problems(&self) -> Vec<Unhealthy> {
        let shared = self.shared();
        if shared.is_over() {
            return vec![Unhealthy::Ended];
        }
        let mut problems = Vec::new();
        if shared.counters.cannot_accept() {
            problems.push(Unhealthy::CannotAccept);
        }
        let nowhere = shared.listening.borrow().nowhere.clone();
        problems.extend(nowhere.map(Unhealthy::ListensNowhere));
        let dates = shared.date_warnings().into_iter().filter(DateWarning::is_fatal);
        problems.extend(dates.map(Unhealthy::Certificate));
        if self.master().is_none()
            && let (up, seeds) = self.seeds_up()
            && seeds > 0
        {
            problems.push(Unhealthy::NotJoined { seeds, up, why: self.why_seeds_are_down() });
        }
        problems
    }

    /// Why the last dial of each seed failed.
    fn why_seeds_are_down(&self) -> String {
        let seeds = self.shared().kernel(|kernel| kernel.seeds());
        let failed = seeds.iter().filter_map(|seed| {
            let error = seed.last_error.as_deref()?;
            let prefix = format!("cannot connect to {}: ", seed.address);
            Some((&seed.address, error.strip_prefix(&prefix).unwrap_or(error).to_owned()))
        });
        let mut why = String::new();
        for (address, error) in failed.take(MAX_REASONS) {
            let comma = if why.is_empty() { ": " } else { "; " };
            why.push_str(&format!("{comma}{address} ({error})"));
        }
        why
    }

    /// Number of seeds that are connected or are this node, and number of all seeds.
    pub(super) fn seeds_up(&self) -> (usize, usize) {
        self.shared().kernel(|kernel| {
            let seeds = kernel.seeds();
            let up = seeds.iter().filter(|seed| {
                seed.is_ourselves || seed.node.as_ref().is_some_and(|node| kernel.is_up(node))
            });
            (up.count(), seeds.len())
        })
    }
}

impl Shared {
    fn date_warnings(&self) -> Vec<DateWarning> {
        let dates = self.settings.certificate_dates.as_ref();
        dates.map(|dates| dates.warnings(Moment::now())).unwrap_or_default()
    }

    /// Logs warnings about the dates of the certificates, at the start and then regularly.
    pub(crate) async fn watch_certificate_dates(self: Arc<Self>) {
        let Some(dates) = self.settings.certificate_dates.clone() else {
            return;
        };
        let mut reminder = Reminder::default();
        loop {
            for warning in reminder.due(&dates, Moment::now()) {
                tracing::warn!(node = %self.id, "{warning}");
            }
            tokio::select! {
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
                () = self.ended.cancelled() => return,
            }
        }
    }
}
