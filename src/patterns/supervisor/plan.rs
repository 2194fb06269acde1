//! The decisions of a supervisor, without tasks and clocks: which children to stop and start, and
//! when to give up.

use super::{Restart, Strategy};
use std::collections::VecDeque;
use std::time::Duration;

/// The next action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Start this child.
    Start(usize),
    /// Stop this child, and report its death.
    Stop(usize),
    /// Do nothing before this time.
    Wait(Duration),
}

/// There were too many restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is due to be started.
    Down,
    Starting,
    Running,
    /// It is due to be stopped, because others are restarted.
    Doomed,
    Stopping,
    /// It is not started again.
    Ended,
}

/// The children of a supervisor, in the order in which they are started.
#[derive(Debug)]
pub(super) struct Plan {
    strategy: Strategy,
    children: Vec<(Restart, State)>,
    /// The number of restarts within `period` that is still allowed.
    intensity: usize,
    period: Duration,
    first_pause: Duration,
    longest_pause: Duration,
    /// The times of the restarts within the last period.
    restarts: VecDeque<Duration>,
    resume_at: Duration,
}

impl Plan {
    pub(super) fn new(
        strategy: Strategy,
        children: impl IntoIterator<Item = Restart>,
        (intensity, period): (usize, Duration),
        (first_pause, longest_pause): (Duration, Duration),
    ) -> Self {
        Plan {
            strategy,
            children: children.into_iter().map(|restart| (restart, State::Down)).collect(),
            intensity,
            period,
            first_pause,
            longest_pause,
            restarts: VecDeque::new(),
            resume_at: Duration::ZERO,
        }
    }

    /// The next action; `None` means to wait for an event. This changes the child's state, so the
    /// action must be performed.
    pub(super) fn next(&mut self, now: Duration) -> Option<Action> {
        let one_by_one = self.strategy != Strategy::OneForOne;
        let is_in = |state| move |&(_, found): &(Restart, State)| found == state;
        // Children are stopped in reverse order, each after the death of the one before.
        if one_by_one && self.children.iter().any(is_in(State::Stopping)) {
            return None;
        }
        if let Some(last) = self.children.iter().rposition(is_in(State::Doomed)) {
            self.set(last, State::Stopping);
            return Some(Action::Stop(last));
        }
        if one_by_one && self.children.iter().any(is_in(State::Starting)) {
            return None;
        }
        let first = self.children.iter().position(is_in(State::Down))?;
        if now < self.resume_at {
            return Some(Action::Wait(self.resume_at));
        }
        self.set(first, State::Starting);
        Some(Action::Start(first))
    }

    /// Records that a child is running.
    pub(super) fn started(&mut self, child: usize) {
        self.set(child, State::Running);
    }

    /// Records that a child has died or could not be started.
    pub(super) fn died(
        &mut self,
        child: usize,
        is_normal: bool,
        now: Duration,
    ) -> Result<(), TooMany> {
        let Some(&(restart, state)) = self.children.get(child) else { return Ok(()) };
        match (state, restart) {
            (State::Down | State::Ended, _) => return Ok(()),
            (State::Stopping | State::Doomed, Restart::Temporary) => {
                self.set(child, State::Ended);
                return Ok(());
            }
            (State::Stopping | State::Doomed, _) => {
                self.set(child, State::Down);
                return Ok(());
            }
            (_, Restart::Temporary) => {
                self.set(child, State::Ended);
                return Ok(());
            }
            (_, Restart::Transient) if is_normal => {
                self.set(child, State::Ended);
                return Ok(());
            }
            _ => {}
        }
        self.set(child, State::Down);
        let too_old = |at: &Duration| *at + self.period < now;
        while self.restarts.front().is_some_and(too_old) {
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        if self.restarts.len() > self.intensity {
            return Err(TooMany);
        }
        self.resume_at = now + self.pause();
        for (other, (_, state)) in self.children.iter_mut().enumerate() {
            let is_affected = match self.strategy {
                Strategy::OneForOne => false,
                Strategy::OneForAll => true,
                Strategy::RestForOne => other > child,
            };
            if is_affected && matches!(state, State::Running | State::Starting) {
                *state = State::Doomed;
            }
        }
        Ok(())
    }

    /// The pause before the next restart: none for the first within the period, then twice as long
    /// each time.
    fn pause(&self) -> Duration {
        match self.restarts.len().checked_sub(2) {
            None => Duration::ZERO,
            Some(doublings) => {
                let doublings = u32::try_from(doublings).unwrap_or(u32::MAX).min(30);
                self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause)
            }
        }
    }

    fn set(&mut self, child: usize, state: State) {
        if let Some(found) = self.children.get_mut(child) {
            found.1 = state;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};
    use std::collections::BTreeSet;

    const SECOND: Duration = Duration::from_secs(1);

    fn plan(strategy: Strategy, children: &[Restart], intensity: usize) -> Plan {
        let pauses = (SECOND, 3 * SECOND);
        Plan::new(strategy, children.iter().copied(), (intensity, 10 * SECOND), pauses)
    }

    /// The actions that are due at once, in order. Started children are marked as running; the test
    /// stops the others.
    fn actions(plan: &mut Plan, now: Duration) -> Vec<Action> {
        let mut done = Vec::new();
        while let Some(action) = plan.next(now) {
            done.push(action);
            match action {
                Action::Start(child) => plan.started(child),
                Action::Stop(_) => {}
                Action::Wait(_) => break,
            }
        }
        done
    }

    fn running(strategy: Strategy, children: &[Restart], intensity: usize) -> Plan {
        let mut plan = plan(strategy, children, intensity);
        let starts: Vec<_> = (0..children.len()).map(Action::Start).collect();
        assert_eq!(actions(&mut plan, Duration::ZERO), starts);
        plan
    }

    #[test]
    fn a_strategy_says_who_is_restarted_with_a_child() {
        use Action::{Start, Stop};
        for (strategy, stops, starts) in [
            (Strategy::OneForOne, vec![], vec![Start(1)]),
            (Strategy::OneForAll, vec![2, 0], vec![Start(0), Start(1), Start(2)]),
            (Strategy::RestForOne, vec![2], vec![Start(1), Start(2)]),
        ] {
            let mut plan = running(strategy, &[Restart::Permanent; 3], 1);
            plan.died(1, false, SECOND).unwrap();
            for child in stops {
                assert_eq!(actions(&mut plan, SECOND), [Stop(child)]);
                plan.died(child, false, SECOND).unwrap();
            }
            assert_eq!(actions(&mut plan, SECOND), starts);
        }
    }

    #[test]
    fn a_restart_type_says_which_ends_are_final() {
        use Restart::{Permanent, Temporary, Transient};
        for (restart, is_normal, again) in [
            (Permanent, true, true),
            (Permanent, false, true),
            (Transient, true, false),
            (Transient, false, true),
            (Temporary, true, false),
            (Temporary, false, false),
        ] {
            let mut plan = running(Strategy::OneForOne, &[restart], 1);
            plan.died(0, is_normal, SECOND).unwrap();
            assert_eq!(actions(&mut plan, SECOND).len(), usize::from(again), "{restart:?}");
        }
    }

    #[test]
    fn a_temporary_child_is_stopped_with_the_others_and_stays_away() {
        let children = [Restart::Temporary, Restart::Permanent];
        let mut plan = running(Strategy::OneForAll, &children, 1);
        plan.died(1, false, SECOND).unwrap();
        assert_eq!(actions(&mut plan, SECOND), [Action::Stop(0)]);
        plan.died(0, false, SECOND).unwrap();
        assert_eq!(actions(&mut plan, SECOND), [Action::Start(1)]);
    }

    #[test]
    fn more_restarts_than_the_intensity_are_too_many_and_pauses_grow_up_to_then() {
        let mut plan = running(Strategy::OneForOne, &[Restart::Permanent], 4);
        let mut now = Duration::ZERO;
        for pause in [0, 1, 2, 3] {
            plan.died(0, false, now).unwrap();
            if pause > 0 {
                let until = now + pause * SECOND;
                assert_eq!(actions(&mut plan, now), [Action::Wait(until)]);
                now = until;
            }
            assert_eq!(actions(&mut plan, now), [Action::Start(0)]);
        }
        assert_eq!(plan.died(0, false, now), Err(TooMany));
        let mut plan = running(Strategy::OneForOne, &[Restart::Permanent], 1);
        for n in 0..10 {
            plan.died(0, false, 11 * n * SECOND).unwrap();
            assert_eq!(actions(&mut plan, 11 * n * SECOND), [Action::Start(0)]);
        }
    }

    proptest! {
        /// Whatever dies, and in whatever order starts succeed, no permanent child is forgotten,
        /// and none is started while it is running.
        #[test]
        fn no_child_is_forgotten(
            strategy in 0..3_usize,
            events in proptest::collection::vec((0..4_usize, any::<bool>()), 0..60),
        ) {
            let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
            let mut plan = plan(strategies[strategy], &[Restart::Permanent; 4], usize::MAX);
            let (mut alive, mut stopping) = (BTreeSet::new(), Vec::new());
            let mut now = Duration::ZERO;
            let mut settle = |plan: &mut Plan, alive: &mut BTreeSet<usize>, all: bool, now: &mut Duration| {
                // Some died by themselves before they were stopped.
                stopping.retain(|child| alive.contains(child));
                loop {
                    while let Some(action) = plan.next(*now) {
                        match action {
                            Action::Start(child) => {
                                assert!(alive.insert(child), "started twice");
                                plan.started(child);
                            }
                            Action::Stop(child) => {
                                assert!(alive.contains(&child), "stopped though it is dead");
                                stopping.push(child);
                            }
                            Action::Wait(until) => *now = until,
                        }
                    }
                    if !all {
                        return;
                    }
                    let Some(child) = stopping.pop() else { return };
                    alive.remove(&child);
                    plan.died(child, false, *now).unwrap();
                }
            };
            for (child, all) in events {
                settle(&mut plan, &mut alive, all, &mut now);
                if alive.remove(&child) {
                    plan.died(child, false, now).unwrap();
                }
            }
            settle(&mut plan, &mut alive, true, &mut now);
            settle(&mut plan, &mut alive, true, &mut now);
            prop_assert_eq!(alive.len(), 4);
        }
    }
}
