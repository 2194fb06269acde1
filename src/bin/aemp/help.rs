//! The output of `aemp help`, made from the table.

use crate::errors::CliError;
use crate::grammar::{Action, Grammar, Invocation, Section, Subcommand};
use aemp::config::coerce;

pub(crate) const VERSION: &str = concat!("aemp ", env!("CARGO_PKG_VERSION"), "\n");

pub(crate) const WIDTH: usize = 80;

/// Commands for a first network of two nodes that talk to each other.
pub(crate) const FIRST_STEPS: &[(&str, &str)] = &[
    ("aemp gensecret", "make the secret of the network"),
    ("aemp run nodeid seed binds 127.0.0.1:4040 seeds 127.0.0.1:4040", "the first node"),
    (
        "aemp run nodeid worker binds '127.0.0.1:*' seeds 127.0.0.1:4040",
        "the second one, in another terminal",
    ),
    (
        "aemp profile aemp setbinds '127.0.0.1:*' setseeds 127.0.0.1:4040",
        "in a third one: where the subcommands below join the network",
    ),
    ("aemp trace seed", "who is connected to whom"),
    ("aemp cal worker time", "ask the second node for its time"),
    ("aemp cal seed snd worker time", "let the first node ask the second one"),
];

pub(crate) const GRAMMAR_NOTES: &[&str] = &[
    "Several subcommands can be given on one line; if one of them is not valid, nothing is \
     changed. The prefix `set` can be left out, except in seteval.",
    "An argument that begins with [, { or \" is JSON, so a text that begins with one of these has \
     to be written as JSON itself: '\"[::1]:4040\"'. A single argument that begins with [ is a \
     JSON list of all arguments.",
];

pub(crate) const OPTIONS: &[(&str, &str)] = &[
    ("-v, --verbose", "Log more; -vv logs even more."),
    ("--json", "Print JSON, for subcommands that support it."),
    ("--format FORMAT", "The format of `trace`: text, tree, dot, svg or json."),
    ("--no-watchdog", "Make `run` start no process that restarts the node after a crash."),
    ("--links", "Let `doctor` count the connections of the whole network that are not encrypted."),
    ("-h, --help", "Explain the subcommand before or after it, or all."),
    ("-V, --version", "Print the version."),
];

pub(crate) const FILES: &[(&str, &str)] = &[
    (
        "~/.perl-anyevent-mp",
        "The configuration, shared with Perl's tool and nodes. PERL_ANYEVENT_MP_RC names another \
         file.",
    ),
    ("~/.perl-anyevent-mp~", "The version before the last change."),
];

pub(crate) const ENVIRONMENT: &[(&str, &str)] = &[
    ("PERL_ANYEVENT_MP_RC", "The configuration file."),
    (
        "PERL_ANYEVENT_MP_TRACE",
        "If it is set, `run` and the subcommands that talk to the network print each message that \
         they send or receive.",
    ),
    (
        "AE_VERBOSE, PERL_ANYEVENT_VERBOSE",
        "How much is logged, as AnyEvent's number; -v overrides it, and the longer name overrides \
         the shorter one.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_USEC",
        "Set by a service manager, to which `run` then reports its \
                                      state.",
    ),
];

pub(crate) const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Something failed."),
    ("2", "The command line or the configuration is wrong; nothing was done."),
];

/// An overview of everything.
pub(crate) fn overview(grammar: &Grammar) -> String {
    let mut text = String::from(
        "aemp - networks of nodes that pass messages, together with Perl's AnyEvent::MP\n\n\
         Usage: aemp [OPTIONS] SUBCOMMAND [ARGUMENTS] [SUBCOMMAND [ARGUMENTS]...]\n\n\
         Two nodes on this machine:\n\n",
    );
    for (command, meaning) in FIRST_STEPS {
        text.push_str(&format!("   # {meaning}\n   {command}\n"));
    }
    text.push('\n');
    for note in GRAMMAR_NOTES {
        text.push_str(&wrapped(note, 0));
        text.push('\n');
    }
    for section in Section::ALL {
        text.push_str(&format!("{}:\n", section.title()));
        let rows = grammar.subcommands.iter().filter(|s| s.section == section);
        let mut rows: Vec<_> =
            rows.filter(|s| !is_plain_delete(s)).map(|s| (s.usage(), s.summary.as_str())).collect();
        if section == Section::Settings {
            let summary = "Remove a key: delnodeid, delsecret and so on.";
            rows.push(("delKEY".into(), summary));
        }
        push_rows(&mut text, rows.iter().map(|(usage, summary)| (usage.as_str(), *summary)));
    }
    for (title, rows) in [
        ("Options", OPTIONS),
        ("Files", FILES),
        ("Environment", ENVIRONMENT),
        ("Exit status", EXIT_STATUS),
    ] {
        text.push_str(&format!("{title}:\n"));
        push_rows(&mut text, rows.iter().copied());
    }
    text.push_str("`aemp help SUBCOMMAND` explains one of them with an example.\n");
    text
}

/// Every key has such a subcommand; the overview shows one row for all of them.
fn is_plain_delete(subcommand: &Subcommand) -> bool {
    subcommand.section == Section::Settings && matches!(subcommand.action, Action::Delete { .. })
}

/// The full help for one subcommand.
pub(crate) fn about(subcommand: &Subcommand) -> String {
    let mut text = format!("Usage: aemp {}\n", subcommand.usage());
    if let Some(alias) = &subcommand.alias {
        text.push_str(&format!("Also:  aemp {}{}\n", alias, arguments(subcommand)));
    }
    text.push_str(&format!("\n{}\n", wrapped(&subcommand.summary, 0)));
    text.push_str(&wrapped(&subcommand.details, 0));
    text.push_str(&format!("\nExample:\n   {}\n", subcommand.example));
    text
}

/// The output of `help`, with or without a subcommand.
pub(crate) fn asked_for(
    invocation: &Invocation<'_>,
    grammar: &Grammar,
) -> Result<String, CliError> {
    let Some(topic) = invocation.arguments.first() else {
        return Ok(overview(grammar));
    };
    let name = coerce::to_text(topic).unwrap_or_default();
    let subcommand = grammar.find(&name).ok_or_else(|| grammar.unknown(&name, None))?;
    Ok(about(subcommand))
}

fn arguments(subcommand: &Subcommand) -> String {
    let placeholders = subcommand.arguments.iter().map(|a| format!(" {}", a.placeholder()));
    placeholders.collect()
}

fn push_rows<'a>(text: &mut String, rows: impl Iterator<Item = (&'a str, &'a str)>) {
    const INDENT: usize = 33;
    for (name, summary) in rows {
        let summary = wrapped(summary, INDENT);
        let column = format!("   {name}");
        // A name that is too long gets a line of its own.
        match column.len() + 1 < INDENT {
            true => text.push_str(&format!("{column:INDENT$}{}", summary.trim_start())),
            false => text.push_str(&format!("{column}\n{summary}")),
        }
    }
    text.push('\n');
}

/// Wraps text into lines of at most [`WIDTH`] characters, each with this indentation.
fn wrapped(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let mut out = String::new();
    let mut line = margin.clone();
    for word in text.split(' ') {
        let is_first = line.len() == indent;
        if !is_first && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = margin.clone();
        } else if !is_first {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_is_explained_with_an_example_that_is_a_command_line() {
        let grammar = Grammar::new(crate::table::subcommands());
        for subcommand in &grammar.subcommands {
            let name = &subcommand.name;
            assert!(subcommand.summary.ends_with('.'), "{name}");
            assert!(subcommand.details.ends_with('.'), "{name}");
            assert!(
                subcommand.example.contains(&format!("aemp {name}"))
                    || subcommand.example.contains(&format!(" {name}")),
                "{name}"
            );
            assert!(
                is_plain_delete(subcommand) || overview(&grammar).contains(&subcommand.usage()),
                "{name}"
            );
        }
    }

    #[test]
    fn no_line_of_the_help_is_wider_than_a_terminal() {
        let grammar = Grammar::new(crate::table::subcommands());
        let texts = grammar.subcommands.iter().map(about);
        for text in texts.chain([overview(&grammar)]) {
            for line in text.lines() {
                assert!(line.chars().count() <= WIDTH, "{line}");
            }
        }
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let grammar = Grammar::new(crate::table::subcommands());
        let mut names: Vec<_> = grammar.names().collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
