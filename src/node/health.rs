//! What keeps a node from its work, or soon will: for load balancers, logs and people.

use super::Node;
use super::connection::tls::{DateWarning, Moment, Reminder};
use super::core::Shared;
use std::sync::Arc;
use std::time::Duration;

/// How often the dates of the certificates are looked at.
const LOOKING: Duration = Duration::from_secs(3600);

/// How many of the seeds that are down are named with the reason.
const MOST_REASONS: usize = 8;

/// Why a node cannot do its work at this moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unhealthy {
    /// It was shut down.
    #[error("the node was shut down")]
    Ended,
    /// The system lets it accept no more connections.
    #[error("connections cannot be accepted; are there too many open files?")]
    CannotAccept,
    /// It should listen, and listens nowhere: other nodes cannot connect to it.
    #[error("listens nowhere, so that no other node can connect to this one: {0}")]
    ListensNowhere(String),
    /// Its certificate, or an issuer of that, has expired or is not yet valid.
    #[error("{0}")]
    Certificate(DateWarning),
    /// It has seeds, is not global, and no global node serves it: others cannot find it.
    #[error("no global node is connected; of {seeds} configured seeds {up} are connected{why}")]
    NotJoined {
        /// Configured seeds.
        seeds: usize,
        /// Of these, connected ones.
        up: usize,
        /// The reason for each of the others, as far as it is known, each with `: ` or `; ` before it.
        why: String,
    },
}

impl Node {
    /// Whether the node can do its work: it listens and accepts connections (if it should), its
    /// certificate (if it has one) is valid, and it has joined a network, as it is global itself or
    /// a global node serves it. A node without seeds has nobody to join, and is fine by itself: it
    /// waits for those whose seed it is. What `/health` tells load balancers.
    ///
    /// # Errors
    /// The first reason why it cannot.
    pub fn health(&self) -> Result<(), Unhealthy> {
        match self.problems().into_iter().next() {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// All that keeps the node from its work, and what soon will, such as a certificate that
    /// expires within two weeks; one line each. What the status page and `aemp top` show.
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

    /// Why the last dial of each seed failed, if it has.
    fn why_seeds_are_down(&self) -> String {
        let seeds = self.shared().kernel(|kernel| kernel.seeds());
        let failed = seeds.iter().filter_map(|seed| {
            let error = seed.last_error.as_deref()?;
            let prefix = format!("cannot connect to {}: ", seed.address);
            Some((&seed.address, error.strip_prefix(&prefix).unwrap_or(error).to_owned()))
        });
        let mut why = String::new();
        for (address, error) in failed.take(MOST_REASONS) {
            let comma = if why.is_empty() { ": " } else { "; " };
            why.push_str(&format!("{comma}{address} ({error})"));
        }
        why
    }

    /// How many seeds are connected, or are this node, and how many there are.
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

    /// Logs warnings about the dates of the certificates, at the start and from then on.
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
                () = tokio::time::sleep(LOOKING) => {}
                () = self.ended.cancelled() => return,
            }
        }
    }
}
