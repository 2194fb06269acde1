//! One round: a new node, a member that waits for echoes, and an attack.

use super::figures::{Bound, Figures, Outcome, Sent};
use super::helper::Helper;
use super::node::DATABASE_LIMIT;
use super::{database, member, strangers};
use anyhow::Result;
use rustix::process::{getpriority_process, setpriority_process};
use rustix::thread::gettid;
use std::net::TcpStream;
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

/// Attacks a new node with some packets of a seed's sequence.
pub(super) fn round(seed: u64, packets: Range<usize>) -> Result<Outcome> {
    let attack = Attack::of(seed);
    let (mut node, address) = Helper::start(&["node"])?;
    let (mut watcher, _) = Helper::start(&["watcher", &address])?;
    std::thread::sleep(WARM_UP);
    let before = State::of(&mut node)?;
    let _: [u64; 3] = watcher.figures()?;
    let begun = Instant::now();
    let attacker = std::thread::spawn(move || {
        lower_priority();
        carry_out(attack, &address, seed, packets)
    });
    let carried_out = attacker.join().map_err(|_| anyhow::anyhow!("the attack panicked"))?;
    let (sent, open) = carried_out?;
    let held = State::of(&mut node)?.in_use;
    drop(open);
    std::thread::sleep(AFTERMATH);
    let waited = watcher.figures()?.map(Duration::from_micros);
    let mut after = State::of(&mut node)?;
    let patience = Instant::now() + FREEING;
    while after.in_use > before.in_use + MAX_KEPT && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(100));
        after = State::of(&mut node)?;
    }
    let figures = Figures {
        waited,
        held: held.saturating_sub(before.in_use),
        kept: after.in_use.saturating_sub(before.in_use),
        log_lines: after.log_lines - before.log_lines,
        log_octets: after.log_octets - before.log_octets,
    };
    let is_escaped = after.unescaped == before.unescaped;
    let lines = LINES_AT_ONCE + LINES_PER_SECOND * begun.elapsed().as_secs();
    let [_, p99, _] = waited;
    let broken = if p99 > MAX_WAIT {
        Some(Bound::Waiting)
    } else if attack == Attack::LargeDatabase && figures.held > DATABASE_LIMIT as u64 + MAX_KEPT {
        Some(Bound::Database)
    } else if figures.kept > MAX_KEPT {
        Some(Bound::Memory)
    } else if figures.log_lines > lines || figures.log_octets > MAX_LINE * lines {
        Some(Bound::Log)
    } else if !is_escaped {
        Some(Bound::Escaping)
    } else {
        None
    };
    Ok(Outcome { sent, figures, broken })
}

/// Carries out an attack in the calling thread. Returns what was sent, and a connection that ends when it
/// is dropped.
fn carry_out(
    attack: Attack,
    address: &str,
    seed: u64,
    packets: Range<usize>,
) -> Result<(Sent, Option<TcpStream>)> {
    match attack {
        Attack::OneMember | Attack::TwoMembers => {
            Ok((member::besiege(address, seed, &packets)?, None))
        }
        Attack::LargeDatabase => {
            let (sent, stream) = database::offer(address, seed / 10, packets)?;
            Ok((sent, Some(stream)))
        }
        Attack::Strangers => Ok((strangers::claim(address, seed / 5, packets)?, None)),
    }
}

/// Lowers the priority of the calling thread, and of those that it starts.
fn lower_priority() {
    let priority = getpriority_process(None).unwrap_or(0) + LOWER_PRIORITY;
    // At the same priority a round is harder, and just as true.
    let _ = setpriority_process(Some(gettid()), priority.min(19));
}
