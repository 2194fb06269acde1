//! Random networks with random faults keep their promises.

use aemp_sim::chaos::{Failure, Plan};

/// How many plans the tests below try, unless `SEEDS` says otherwise: `FIRST..LAST`, or a number of
/// plans. Each test takes its share.
const PLANS: u64 = 100;
/// Number of tests, which the runner distributes over the processors.
const SHARES: u64 = 6;

fn seeds() -> std::ops::Range<u64> {
    let all = PLANS * SHARES;
    let Ok(told) = std::env::var("SEEDS") else {
        return 0..all;
    };
    match told.split_once("..") {
        Some((first, last)) => first.parse().unwrap_or(0)..last.parse().unwrap_or(all),
        None => 0..told.parse().unwrap_or(all),
    }
}

fn run(plan: &Plan) -> Option<Box<Failure>> {
    let seed = plan.seed;
    let outcome = std::panic::catch_unwind(|| plan.run());
    outcome.unwrap_or_else(|_| panic!("the plan of seed {seed} panicked")).err()
}

fn report(first: &Failure) -> ! {
    eprintln!("seed {}: {}", first.plan.seed, first.what);
    if std::env::var_os("AEMP_SIM_SHRINK").is_some_and(|wanted| wanted == "0") {
        panic!("{first}");
    }
    match first.plan.shrink().run() {
        Err(shrunk) => panic!("seed {} failed; shrunk:\n{shrunk}", first.plan.seed),
        Ok(_) => panic!("a run is not reproducible:\n{first}"),
    }
}

/// Runs every plan whose seed modulo the number of shares is `share`.
fn keeps_its_promises(share: u64) {
    for seed in seeds().filter(|seed| seed % SHARES == share) {
        if let Some(failure) = run(&Plan::new(seed)) {
            report(&failure);
        }
    }
}

macro_rules! shares {
    ($($name:ident: $share:literal,)*) => {$(
        #[test]
        fn $name() {
            keeps_its_promises($share);
        }
    )*};
}

shares! {
    networks_keep_their_promises_whatever_happens_1: 0,
    networks_keep_their_promises_whatever_happens_2: 1,
    networks_keep_their_promises_whatever_happens_3: 2,
    networks_keep_their_promises_whatever_happens_4: 3,
    networks_keep_their_promises_whatever_happens_5: 4,
    networks_keep_their_promises_whatever_happens_6: 5,
}

/// A lookup whose master had just been lost waited for a connection that nothing made.
#[test]
fn a_request_of_the_database_to_a_node_that_is_gone_is_not_left_waiting() {
    if let Some(failure) = run(&Plan::new(2_035_919)) {
        report(&failure);
    }
}

/// A writer that had been woken for a connection took what was meant for the next one.
#[test]
fn what_waits_for_a_new_connection_is_not_written_to_the_old_one() {
    if let Some(failure) = run(&Plan::new(7_043_677)) {
        report(&failure);
    }
}

/// Five connections claimed to be the same node: each then has less time to prove it than a single
/// one.
#[test]
fn connections_take_turns_in_authenticating_however_many_there_are() {
    if let Some(failure) = run(&Plan::new(7_060_471)) {
        report(&failure);
    }
}

/// Two global nodes healed one Perl slave at the same time, and the one that it took was lost.
#[test]
fn a_perl_slave_that_two_nodes_healed_at_once_is_not_kept_by_the_wrong_one() {
    if let Some(failure) = run(&Plan::new(20_525_954)) {
        report(&failure);
    }
}

/// A node's questions as a slave replaced the question whether it needs healing, and delayed
/// healing for as long as global nodes came and went.
#[test]
fn healing_is_not_put_off_by_global_nodes_that_come_and_go() {
    if let Some(failure) = run(&Plan::new(30_100_250)) {
        report(&failure);
    }
}

/// The slave's entries were still on their way to its master when another node healed it.
#[test]
fn a_perl_slave_whose_entries_come_late_has_one_master() {
    if let Some(failure) = run(&Plan::new(30_201_138)) {
        report(&failure);
    }
}

/// The slave found a new master by itself, between its answer to a node that wanted to heal it and that
/// node's request.
#[test]
fn a_perl_slave_that_is_healed_just_after_it_found_a_master_is_given_up_by_that_one() {
    if let Some(failure) = run(&Plan::new(46_210_933)) {
        report(&failure);
    }
}

/// A node that has lost its master has no known address for a while; failing to dial it then does
/// not mean that it is dead.
#[test]
fn entries_of_a_node_that_cannot_be_dialled_stay_for_the_grace() {
    for plan in [48_006_217, 48_007_272] {
        if let Some(failure) = run(&Plan::new(plan)) {
            report(&failure);
        }
    }
}

/// An owner that has dropped its master has another one before the first master notices the loss
/// and deletes its entries, as for any lost slave. The rule did not consider that.
#[test]
fn a_former_master_may_notice_late_that_it_has_lost_the_owner_of_an_entry() {
    for plan in [48_002_759, 48_006_470, 48_009_712] {
        if let Some(failure) = run(&Plan::new(plan)) {
            report(&failure);
        }
    }
}

/// A global node had lost another one twice within seconds before it ever dialled one. The delay
/// between its retries, which had never been increased, stayed zero, and the kernel dialled for
/// ever.
#[test]
fn the_pause_between_retries_is_never_zero() {
    for plan in [51_001_848, 51_002_333] {
        if let Some(failure) = run(&Plan::new(plan)) {
            report(&failure);
        }
    }
}

/// The last octets of a handshake were slow, and the simulated system did not count their arrival:
/// a node that had just connected seemed to make no progress.
#[test]
fn octets_of_a_handshake_are_progress() {
    if let Some(failure) = run(&Plan::new(54_008_092)) {
        report(&failure);
    }
}

/// Two nodes had the same key. One was lost just after the other one's master, and the loss counted as its
/// deletion of what both had.
#[test]
fn the_loss_of_a_node_deletes_no_key_of_another_one() {
    for plan in [56_020_454, 56_086_920] {
        if let Some(failure) = run(&Plan::new(plan)) {
            report(&failure);
        }
    }
}

/// Once silence had made a connection doubtful, octets that the peer acknowledged after that did not end
/// the doubt, and the next connection that proved to be the node's took its place.
#[test]
fn octets_that_are_acknowledged_end_the_doubt() {
    if let Some(failure) = run(&Plan::new(56_182_146)) {
        report(&failure);
    }
}

/// The simulated system acknowledged octets that arrived at a host without power.
#[test]
fn nobody_acknowledges_what_arrives_at_a_host_that_is_gone() {
    if let Some(failure) = run(&Plan::new(56_110_391)) {
        report(&failure);
    }
}

/// A second node with the ID of one that was connected took on another ID while its connection was made.
#[test]
fn who_dials_in_the_name_of_a_node_keeps_to_that_name() {
    if let Some(failure) = run(&Plan::new(57_093_471)) {
        report(&failure);
    }
}

/// A global node lost the connections to an owner and to the owner's master, both alive, at the same time.
/// The rule did not know that they look as if they had ended together.
#[test]
fn an_owner_and_its_master_that_are_lost_together_seem_to_have_ended() {
    if let Some(failure) = run(&Plan::new(58_020_149)) {
        report(&failure);
    }
}

/// A node wrote a key that another node had too, just when that one's master was lost: its write was taken
/// for a claim, as it has to be, and the rule for deletions did not know that.
#[test]
fn a_key_that_another_node_writes_after_the_loss_is_claimed() {
    if let Some(failure) = run(&Plan::new(59_122_042)) {
        report(&failure);
    }
}

/// A global node was connected again with the owner's master only just before the grace ended, so that the
/// owner's entries could not reach it in time. The rule for deletions looked only at whether they were connected.
#[test]
fn entries_of_a_master_that_comes_back_at_the_end_of_the_grace_may_be_late() {
    if let Some(failure) = run(&Plan::new(64_433_061)) {
        report(&failure);
    }
}

/// A connection was in doubt when the last other one that claimed to be its node went away. Nobody looked at it
/// any more, so that much later the next one took its place although octets had come.
#[test]
fn a_doubt_does_not_outlast_the_connections_that_raised_it() {
    for seed in [60_027_688, 61_078_450] {
        if let Some(failure) = run(&Plan::new(seed)) {
            report(&failure);
        }
    }
}

/// A global node of eleven Perl slaves has a timer for each of them, which is not a leak.
#[test]
fn looks_at_perl_slaves_are_no_leftovers() {
    if let Some(failure) = run(&Plan::new(60_010_350)) {
        report(&failure);
    }
}

/// The simulated program sent more messages before it had looked at the monitors that had fired.
#[test]
fn a_sender_that_waits_for_room_hears_of_the_loss_before_it_sends_on() {
    if let Some(failure) = run(&Plan::new(40_007_344)) {
        report(&failure);
    }
}

#[test]
fn a_network_of_two_hundred_nodes_keeps_its_promises() {
    let mut plan = Plan::of_nodes(3, 200);
    plan.ops.truncate(400);
    if let Some(failure) = run(&plan) {
        report(&failure);
    }
}

#[test]
fn one_seed_reproduces_a_run() {
    for seed in 1_000..1_005 {
        let plan = Plan { traced: true, ..Plan::new(seed) };
        assert_eq!(plan.run().ok(), plan.run().ok(), "seed {seed}");
    }
}

/// A node that had just become global had the database of one other global node, which deleted a key that a
/// third one, whose database was still on its way, had too: the key was reported as deleted, and as added
/// 50 ms later.
#[test]
fn a_node_that_has_just_become_global_waits_for_all_databases_before_it_reports_a_deletion() {
    if let Some(failure) = run(&Plan::new(64_982_620)) {
        report(&failure);
    }
}

/// A seed was started again, and the grace ended before a global node dialled it again. The rule took the
/// short loss that an earlier process of the seed had seen for the last one.
#[test]
fn a_node_that_was_started_again_has_not_met_a_global_node_before_that_dials_it() {
    if let Some(failure) = run(&Plan::new(80_034_126)) {
        report(&failure);
    }
}
