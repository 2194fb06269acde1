//! Healing alone: who is asked, and who gets a master.

use super::*;

const START: Duration = Duration::from_secs(1000);

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

/// Healing of the global node `own`, with the Perl slave `slave` connected.
fn healing() -> (Healing, Random) {
    let mut healing = Healing::new(node("own"), true);
    healing.node_up(&node("slave"), &Str::text("AE-2.02"));
    (healing, Random::new([1; 32]))
}

/// The database's knowledge about a node whose addresses no node announces.
fn missing() -> DbStatus {
    DbStatus { is_missing: true, our_master: Some(node("own")), ..DbStatus::default() }
}

/// The database's knowledge about a slave of ours.
fn ours() -> DbStatus {
    let announcers = vec![node("slave")];
    DbStatus { is_slave: true, announcers, our_master: Some(node("own")), ..DbStatus::default() }
}

fn outputs(healing: &mut Healing) -> Vec<HealingOutput> {
    let outputs = healing.take_outputs();
    let important = |output: &HealingOutput| {
        !matches!(output, HealingOutput::Log { .. } | HealingOutput::Wake { .. })
    };
    outputs.into_iter().filter(important).collect()
}

fn adopts(outputs: &[HealingOutput]) -> bool {
    outputs.iter().any(|output| matches!(output, HealingOutput::Adopt { .. }))
}

/// The number of the question for the master that is asked now.
fn asked(healing: &mut Healing) -> u64 {
    match outputs(healing)[..] {
        [
            HealingOutput::AskMaster { number, .. },
            HealingOutput::AskSilence { number: same, .. },
        ] => {
            assert_eq!(number, same);
            number
        }
        ref other => panic!("{other:?}"),
    }
}

fn suspected() -> (Healing, u64) {
    let (mut healing, mut random) = healing();
    healing.suspect(&node("slave"), &missing(), START, &mut random);
    healing.look_at_due(&node("slave"), &missing(), START + Duration::from_secs(4));
    let number = asked(&mut healing);
    (healing, number)
}

/// The slave, whose addresses no node announces, answers that its master is `master`, and that it is
/// connected to `up`.
fn answer(healing: &mut Healing, number: u64, master: &str, up: &[&str], named: Option<&str>) {
    let answers: Vec<Str> = ["", master].iter().chain(up).map(|answer| Str::text(answer)).collect();
    let now = START + Duration::from_secs(5);
    healing.master_answered(&node("slave"), number, &answers, named.map(node), &missing(), now);
}

/// The slave, which is ours, answers at `now` that its master is `master`.
fn ours_answers(healing: &mut Healing, number: u64, master: &str, now: Duration) {
    let answers = ["", master, "own"].map(Str::text);
    healing.master_answered(&node("slave"), number, &answers, None, &ours(), now);
}

#[test]
fn a_slave_whose_master_is_gone_is_asked_twice_and_then_gets_ours() {
    let (mut healing, first) = suspected();
    answer(&mut healing, first, "dead", &["own"], None);
    let second = asked(&mut healing);
    answer(&mut healing, second, "dead", &["own"], None);
    let adopt = HealingOutput::Adopt { node: node("slave"), master: node("own") };
    assert_eq!(outputs(&mut healing), [adopt]);
    assert_eq!(healing.healed(), 1);
}

#[test]
fn a_slave_that_sees_its_master_is_left_alone() {
    let (mut healing, number) = suspected();
    answer(&mut healing, number, "other", &["own", "other"], None);
    assert_eq!(outputs(&mut healing), []);
}

#[test]
fn the_master_that_a_slave_names_gets_the_chance_to_speak_for_it() {
    let (mut healing, number) = suspected();
    answer(&mut healing, number, "global", &["own", "global"], Some("global"));
    let [HealingOutput::AskBarrier { node: ref asked_node, number }] = outputs(&mut healing)[..]
    else {
        panic!("no barrier");
    };
    assert_eq!(*asked_node, node("global"));
    assert_eq!(healing.waits_for_barrier(&node("other"), number), None);
    assert_eq!(healing.waits_for_barrier(&node("global"), number), Some(node("slave")));
    // It has announced it meanwhile.
    let located = DbStatus { is_missing: false, ..missing() };
    healing.barrier_passed(&node("slave"), &node("global"), &located, START);
    assert_eq!(outputs(&mut healing), []);
}

#[test]
fn a_slave_that_answers_nothing_is_asked_no_more() {
    let (mut healing, number) = suspected();
    healing.is_silent(&node("slave"), number, &missing());
    for minutes in 1..100 {
        healing.look_at_due(&node("slave"), &missing(), START + Duration::from_secs(60 * minutes));
    }
    assert_eq!(outputs(&mut healing), []);
}

#[test]
fn of_two_global_nodes_the_smaller_id_keeps_a_slave_that_does_not_tell_whose_it_is() {
    for (other, keeps) in [("z", true), ("a", false)] {
        let (mut healing, _) = healing();
        healing.has_conflict(&node("slave"), &node(other), START);
        let number = asked(&mut healing);
        let claimed = DbStatus {
            is_slave: true,
            announcers: vec![node("slave"), node(other)],
            ..DbStatus::default()
        };
        healing.is_silent(&node("slave"), number, &claimed);
        let outputs = outputs(&mut healing);
        assert_eq!(adopts(&outputs), keeps, "{outputs:?}");
        assert_eq!(outputs.contains(&HealingOutput::DropSlave(node("slave"))), !keeps);
    }
}

#[test]
fn a_slave_that_was_healed_is_asked_now_and_then_whether_it_is_still_ours() {
    let (mut healing, first) = suspected();
    answer(&mut healing, first, "dead", &["own"], None);
    let second = asked(&mut healing);
    answer(&mut healing, second, "dead", &["own"], None);
    assert!(adopts(&outputs(&mut healing)));
    healing.is_located(&node("slave"));
    let mut now = START;
    for _ in 0..3 {
        now += Duration::from_secs(100);
        healing.look_at_due(&node("slave"), &ours(), now);
        let number = asked(&mut healing);
        ours_answers(&mut healing, number, "own", now);
        assert_eq!(outputs(&mut healing), []);
    }
    healing.look_at_due(&node("slave"), &ours(), now + Duration::from_secs(100));
    let number = asked(&mut healing);
    ours_answers(&mut healing, number, "z", now);
    assert_eq!(outputs(&mut healing), [HealingOutput::DropSlave(node("slave"))]);
}

#[test]
fn a_slave_that_found_its_new_master_by_itself_is_asked_now_and_then_whether_it_is_still_ours() {
    let (mut healing, mut random) = healing();
    healing.is_unlocated(&node("slave"));
    healing.suspect(&node("slave"), &missing(), START, &mut random);
    healing.is_located(&node("slave"));
    healing.look_at_due(&node("slave"), &ours(), START + Duration::from_secs(4));
    let number = asked(&mut healing);
    ours_answers(&mut healing, number, "own", START);
    assert_eq!(outputs(&mut healing), []);
    // Another node has made it adopt another master without knowing.
    healing.look_at_due(&node("slave"), &ours(), START + Duration::from_secs(64));
    let number = asked(&mut healing);
    ours_answers(&mut healing, number, "z", START);
    assert_eq!(outputs(&mut healing), [HealingOutput::DropSlave(node("slave"))]);
}

#[test]
fn a_slave_that_never_needed_healing_is_not_asked_whose_it_is() {
    let (mut healing, mut random) = healing();
    healing.suspect(&node("slave"), &missing(), START, &mut random);
    healing.is_located(&node("slave"));
    for minutes in 1..100 {
        healing.look_at_due(&node("slave"), &ours(), START + Duration::from_secs(60 * minutes));
    }
    assert_eq!(outputs(&mut healing), []);
}

#[test]
fn a_slave_keeps_the_master_that_it_names_and_sees() {
    for (up, gets) in [(&["own", "global"][..], "global"), (&["own"], "own")] {
        let (mut healing, number) = suspected();
        answer(&mut healing, number, "global", up, Some("global"));
        let [HealingOutput::AskBarrier { number, .. }] = outputs(&mut healing)[..] else {
            panic!("no barrier");
        };
        assert_eq!(healing.waits_for_barrier(&node("global"), number), Some(node("slave")));
        healing.barrier_passed(&node("slave"), &node("global"), &missing(), START);
        let number = asked(&mut healing);
        answer(&mut healing, number, "global", up, Some("global"));
        let adopt = HealingOutput::Adopt { node: node("slave"), master: node(gets) };
        assert_eq!(outputs(&mut healing), [adopt]);
    }
}

#[test]
fn nodes_of_this_implementation_and_lost_ones_are_no_concern() {
    let (mut healing, mut random) = healing();
    healing.node_up(&node("ours"), &Str::text("aemp-0.1"));
    healing.node_down(&node("slave"));
    for id in ["ours", "slave", "unknown"] {
        assert!(!healing.knows(&node(id)));
        healing.suspect(&node(id), &missing(), START, &mut random);
        healing.has_conflict(&node(id), &node("z"), START);
    }
    assert!(healing.take_outputs().is_empty());
}
