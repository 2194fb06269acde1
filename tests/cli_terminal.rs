//! The interactive subcommands on a terminal.

// Test helpers may panic, but clippy only exempts functions that are marked as tests.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cli_support;

use cli_support::terminal::Terminal;
use cli_support::{Network, Running, SECRET};

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";

fn joins(network: &Network, name: &str) -> Running {
    let settings = ["nodeid", name, "secret", SECRET, "binds", "127.0.0.1:0", "seeds"];
    Running::node(&[&settings[..], &[&network.address]].concat())
}

fn top(network: &Network, size: (u16, u16)) -> Terminal {
    let top = Terminal::start(&network.command(&["top"]), size);
    top.shows("the seed is there and answers", |screen| {
        screen.lines().any(|line| line.starts_with("seed ") && line.ends_with(" ms"))
    });
    top
}

#[test]
fn top_draws_again_when_a_node_joins_and_when_one_leaves() {
    let network = Network::start();
    let top = top(&network, (80, 24));
    let joined = joins(&network, "joiner");
    let screen = top.shows_text("joiner is there");
    assert!(screen.lines().any(|line| line.starts_with("joiner ")), "{screen}");
    assert!(screen.contains(" 2 nodes, "), "{screen}");
    drop(joined);
    let screen = top.shows_text("joiner is gone");
    assert!(!screen.lines().any(|line| line.starts_with("joiner ")), "{screen}");
}

#[test]
fn top_leaves_the_terminal_as_it_was() {
    let network = Network::start();
    for key in ["q", CTRL_C] {
        let mut top = top(&network, (80, 24));
        assert!(!top.is_as_usual(), "keys come one by one");
        top.types(key);
        assert_eq!(top.exit_code(), Some(0));
        assert!(top.is_as_usual());
        top.shows("the screen is empty", |screen| screen.trim().is_empty());
    }
}

#[test]
fn top_leaves_the_terminal_as_it_was_when_a_signal_ends_it() {
    let network = Network::start();
    for name in ["INT", "TERM", "HUP"] {
        let mut top = top(&network, (80, 24));
        cli_support::signal(name, top.command_id());
        assert_eq!(top.exit_code(), Some(0), "{name}");
        assert!(top.is_as_usual(), "{name}");
        top.shows("the screen is empty", |screen| screen.trim().is_empty());
    }
}

#[test]
fn top_keeps_its_headings_whole_in_a_window_that_becomes_narrow() {
    let network = Network::start();
    let mut top = top(&network, (120, 30));
    let headings = |screen: &str| -> Vec<String> {
        let line = screen.lines().find(|line| line.starts_with("NODE ")).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect()
    };
    top.shows("all headings", |screen| headings(screen).len() == 10);
    top.resize((60, 24));
    // Output for the wide window may come first.
    top.shows("headings as fit", |screen| {
        headings(screen) == ["NODE", "ROLE", "PKT/S", "OCTETS/S", "ANSWER"]
    });
}

fn shell(network: &Network) -> Terminal {
    let shell = Terminal::start(&network.command(&["shell", "seed"]), (80, 40));
    shell.shows_text("seed AnyEvent::MP::Kernel>");
    shell
}

#[test]
fn the_shell_asks_and_answers_until_its_input_ends() {
    let network = Network::start();
    let mut shell = shell(&network);
    shell.types("$NODE\n");
    shell.shows("the answer and a new prompt", |screen| {
        screen.contains("seed: $NODE") && screen.trim_end().ends_with("Kernel>")
    });
    shell.shows_text("\"seed\"");
    shell.types(CTRL_D);
    assert_eq!(shell.exit_code(), Some(0));
    assert!(shell.is_as_usual());
}

#[test]
fn an_interrupt_discards_the_line_and_the_shell_goes_on() {
    let network = Network::start();
    let mut shell = shell(&network);
    shell.types("no such thing");
    shell.shows_text("Kernel> no such thing");
    shell.types(CTRL_C);
    shell.shows("a new prompt", |screen| {
        screen.contains("no such thing^C\n") && screen.trim_end().ends_with("Kernel>")
    });
    shell.types("$NODE\n");
    let screen = shell.shows_text("seed: $NODE");
    assert!(!screen.contains("seed: no such thing"), "{screen}");
    shell.types(CTRL_D);
    assert_eq!(shell.exit_code(), Some(0));
}
