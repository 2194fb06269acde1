//! One round: a new node, a member that waits for echoes, and an attack: one of a seed, or any other.

use super::figures::{Bound, Figures, Outcome, Sent};
use super::helper::Helper;
use super::node::DATABASE_LIMIT;
use super::{database, member, strangers};
use anyhow::Result;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use std::net::{Shutdown, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

/// How long others may wait for an echo at most, at the 99th percentile.
const MAX_WAIT: Duration = Duration::from_millis(50);

/// Octets that a node may keep for each peer besides database entries, and after it is gone.
const MAX_KEPT: u64 = 64 << 20;

/// Log lines that are allowed at once, 20 for each of 8 sources and levels, and later on in each second.
const LINES_AT_ONCE: u64 = 20 * 8;
const LINES_PER_SECOND: u64 = 4;

/// Octets of a log line, on average.
const MAX_LINE: u64 = 1100;

/// Echoes before the attack, which do not count.
const WARM_UP: Duration = Duration::from_millis(500);

/// Time for the work that the node still has to do for the attackers; others wait meanwhile too.
const AFTERMATH: Duration = Duration::from_secs(1);

/// How long memory may take to be freed: entries of a lost global node are kept for 10 s, and deleted in pieces.
const FREEING: Duration = Duration::from_secs(30);

/// How much lower the priority of attackers is than that of the node.
const LOWER_PRIORITY: i32 = 10;

/// Who attacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    OneMember,
    TwoMembers,
    LargeDatabase,
    Strangers,
}

impl Attack {
    pub(super) const ALL: [Attack; 4] =
        [Attack::OneMember, Attack::TwoMembers, Attack::LargeDatabase, Attack::Strangers];

    /// The attack of a seed's round.
    pub(super) const fn of(seed: u64) -> Attack {
        match seed % 10 {
            0 | 5 => Attack::Strangers,
            7 => Attack::LargeDatabase,
            digit if digit % 2 == 0 => Attack::TwoMembers,
            _ => Attack::OneMember,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Attack::OneMember => "one member",
            Attack::TwoMembers => "two members",
            Attack::LargeDatabase => "a database of 320 MiB",
            Attack::Strangers => "10,000 strangers",
        }
    }
}

/// What the node reports about itself.
struct State {
    in_use: u64,
    log_lines: u64,
    log_octets: u64,
    /// Log lines with characters that should have been escaped.
    unescaped: u64,
}

impl State {
    fn of(node: &mut Helper) -> Result<State> {
        let [in_use, log_lines, log_octets, unescaped] = node.figures()?;
        Ok(State { in_use, log_lines, log_octets, unescaped })
    }
}

/// What an attack has sent, and connections that are still open.
#[derive(Default)]
pub(super) struct Attacked {
    pub(super) sent: Sent,
    pub(super) open: Vec<TcpStream>,
}

impl Attacked {
    /// Two attacks together.
    pub(super) fn and(mut self, other: Attacked) -> Attacked {
        self.sent.packets += other.sent.packets;
        self.sent.octets += other.sent.octets;
        self.sent.closed += other.sent.closed;
        self.sent.unanswered += other.sent.unanswered;
        self.open.extend(other.open);
        self
    }

    fn leave(self) {
        for stream in self.open {
            // The node may have closed it already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Attacks a new node with some packets of a seed's sequence.
pub(super) fn round(seed: u64, packets: Range<usize>) -> Result<Outcome> {
    let attack = Attack::of(seed);
    let carry_out = move |address: &str| carry_out(attack, address, seed, packets);
    let mut outcome = besieged(DATABASE_LIMIT, carry_out)?;
    let is_held = outcome.figures.held > DATABASE_LIMIT as u64 + MAX_KEPT;
    if attack == Attack::LargeDatabase && is_held && outcome.broken != Some(Bound::Waiting) {
        outcome.broken = Some(Bound::Database);
    }
    Ok(outcome)
}

/// Carries out an attack on a new node, given its address, in a thread of its own. The node keeps so many
/// octets of database entries for a member.
pub(super) fn besieged(
    database_limit: usize,
    attack: impl FnOnce(&str) -> Result<Attacked> + Send + 'static,
) -> Result<Outcome> {
    let (mut node, address) = Helper::start(&["node", &database_limit.to_string()])?;
    let (mut watcher, _) = Helper::start(&["watcher", &address])?;
    std::thread::sleep(WARM_UP);
    let before = State::of(&mut node)?;
    let _: [u64; 3] = watcher.figures()?;
    let begun = Instant::now();
    let attacker = std::thread::spawn(move || {
        lower_priority();
        attack(&address)
    });
    let attacked = attacker.join().map_err(|_| anyhow::anyhow!("the attack panicked"))??;
    let sent = attacked.sent;
    let held = State::of(&mut node)?.in_use;
    attacked.leave();
    std::thread::sleep(AFTERMATH);
    let waited = watcher.figures()?.map(Duration::from_micros);
    let after = freed(&mut node, before.in_use + MAX_KEPT)?;
    let figures = Figures {
        waited,
        held: held.saturating_sub(before.in_use),
        kept: after.in_use.saturating_sub(before.in_use),
        log_lines: after.log_lines - before.log_lines,
        log_octets: after.log_octets - before.log_octets,
    };
    let is_escaped = after.unescaped == before.unescaped;
    Ok(Outcome { sent, figures, broken: broken(&figures, begun.elapsed(), is_escaped) })
}

/// The node's state as soon as no more octets than that are in use, or after some time.
fn freed(node: &mut Helper, in_use: u64) -> Result<State> {
    let patience = Instant::now() + FREEING;
    loop {
        let state = State::of(node)?;
        if state.in_use <= in_use || Instant::now() >= patience {
            return Ok(state);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The bound that an attack has broken, which took that time.
fn broken(figures: &Figures, time: Duration, is_escaped: bool) -> Option<Bound> {
    let lines = LINES_AT_ONCE + LINES_PER_SECOND * time.as_secs();
    let [_, p99, _] = figures.waited;
    if p99 > MAX_WAIT {
        Some(Bound::Waiting)
    } else if figures.kept > MAX_KEPT {
        Some(Bound::Memory)
    } else if figures.log_lines > lines || figures.log_octets > MAX_LINE * lines {
        Some(Bound::Log)
    } else if !is_escaped {
        Some(Bound::Escaping)
    } else {
        None
    }
}

/// Carries out the attack of a seed's round in the calling thread.
fn carry_out(attack: Attack, address: &str, seed: u64, packets: Range<usize>) -> Result<Attacked> {
    let mut open = Vec::new();
    let sent = match attack {
        Attack::OneMember | Attack::TwoMembers => member::besiege(address, seed, &packets)?,
        Attack::LargeDatabase => {
            let (sent, stream) = database::offer(address, seed / 10, packets)?;
            open.push(stream);
            sent
        }
        Attack::Strangers => strangers::claim(address, strangers::claimed(seed / 5), packets)?,
    };
    Ok(Attacked { sent, open })
}

/// Lowers the priority of the calling thread, and of those that it starts.
fn lower_priority() {
    let priority = getpriority_process(None).unwrap_or(0) + LOWER_PRIORITY;
    // At the same priority a round is harder, and just as true.
    let _ = setpriority_process(Some(gettid()), priority.min(19));
}
