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

    /// Records that a child is running. One that is due to be stopped stays so.
    pub(super) fn started(&mut self, child: usize) {
        if let Some((_, state @ State::Starting)) = self.children.get_mut(child) {
            *state = State::Running;
        }
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

    #[test]
    fn a_child_that_starts_while_others_are_stopped_is_stopped_in_its_turn() {
        let mut plan = running(Strategy::OneForAll, &[Restart::Permanent; 3], 9);
        plan.died(1, false, SECOND).unwrap();
        assert_eq!(plan.next(SECOND), Some(Action::Stop(2)));
        plan.died(2, false, SECOND).unwrap();
        assert_eq!(plan.next(SECOND), Some(Action::Stop(0)));
        plan.died(0, false, SECOND).unwrap();
        for child in [0, 1] {
            assert_eq!(plan.next(SECOND), Some(Action::Start(child)));
            plan.started(child);
        }
        assert_eq!(plan.next(SECOND), Some(Action::Start(2)));
        plan.died(1, false, SECOND).unwrap();
        // It was told to start before the first one died.
        plan.started(2);
        let later = 9 * SECOND;
        assert_eq!(plan.next(later), Some(Action::Stop(2)));
        plan.died(2, false, later).unwrap();
        assert_eq!(plan.next(later), Some(Action::Stop(0)));
        plan.died(0, false, later).unwrap();
        assert_eq!(actions(&mut plan, later), [0, 1, 2].map(Action::Start));
    }

    /// A supervisor's children outside of its plan: what it was told to do with them, and what came
    /// of that.
    #[derive(Default)]
    struct Children {
        starting: BTreeSet<usize>,
        alive: BTreeSet<usize>,
        stopping: BTreeSet<usize>,
        now: Duration,
    }

    impl Children {
        /// Takes the actions that are due, until it has to wait for children.
        fn act(&mut self, plan: &mut Plan) {
            while let Some(action) = plan.next(self.now) {
                match action {
                    Action::Start(child) => {
                        assert!(!self.alive.contains(&child), "{child} runs");
                        assert!(self.starting.insert(child), "{child} is started twice");
                    }
                    Action::Stop(child) if self.starting.remove(&child) => {
                        plan.died(child, true, self.now).unwrap();
                    }
                    Action::Stop(child) => {
                        assert!(
                            self.alive.contains(&child),
                            "{child} is stopped though it is dead"
                        );
                        assert!(self.stopping.insert(child), "{child} is stopped twice");
                    }
                    Action::Wait(until) => self.now = until,
                }
            }
        }

        fn begin(&mut self, plan: &mut Plan, child: usize) {
            if self.starting.remove(&child) {
                self.alive.insert(child);
                plan.started(child);
            }
        }

        fn die(&mut self, plan: &mut Plan, child: usize) {
            if self.alive.remove(&child) || self.starting.remove(&child) {
                self.stopping.remove(&child);
                plan.died(child, false, self.now).unwrap();
            }
        }
    }

    proptest! {
        /// Whatever dies and whenever starts and stops come to an end, no permanent child is
        /// forgotten, and none is started while it is running.
        #[test]
        fn no_child_is_forgotten(
            strategy in 0..3_usize,
            events in proptest::collection::vec((0..4_usize, any::<bool>()), 0..60),
        ) {
            let strategies = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];
            let mut plan = plan(strategies[strategy], &[Restart::Permanent; 4], usize::MAX);
            let mut children = Children::default();
            for (child, is_death) in events {
                children.act(&mut plan);
                match is_death {
                    true => children.die(&mut plan, child),
                    false => children.begin(&mut plan, child),
                }
            }
            // Now all starts and stops come to an end, and nothing else dies.
            for _ in 0..100 {
                children.act(&mut plan);
                for child in children.starting.clone() {
                    children.begin(&mut plan, child);
                }
                for child in children.stopping.clone() {
                    children.die(&mut plan, child);
                }
            }
            prop_assert_eq!(children.alive.len(), 4);
            prop_assert_eq!(children.starting.len() + children.stopping.len(), 0);
        }
    }
}
