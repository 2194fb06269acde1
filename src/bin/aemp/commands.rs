//! The rows of the table for subcommands that run a node or talk to running nodes.

use crate::grammar::{
    Action, Argument, Arity, Kind, Network, Section, Subcommand, optional, required, rest, row,
};

const fn verbatim(name: &'static str) -> Argument {
    Argument { name, arity: Arity::Verbatim, kind: Kind::Anything }
}

pub(crate) fn node_subcommands() -> Vec<Subcommand> {
    let mut rows = vec![run(), doctor(), conform()];
    rows.extend(talking());
    rows.extend(looking());
    rows.extend(listening());
    rows
}

fn run() -> Subcommand {
    Subcommand {
        arguments: vec![optional("PROFILE", Kind::Profile), rest("KEY VALUE", Kind::Pairs)],
        summary: "Run a node until it is told to stop.".into(),
        details: "With an odd number of arguments the first one is the profile; otherwise the \
                  profile is named like this machine. The file overrides the keys and values of \
                  the command line, unless these include `force 1`; `norc 1` ignores the file. \
                  --secret-file FILE reads the secret from a file, since other users of this \
                  machine can see a `secret` on the command line. `run` has to be the first \
                  subcommand, and takes the rest of the line. SIGTERM and SIGINT end the node; on \
                  SIGHUP it reads its seeds, log_level and heartbeat again. A second process \
                  restarts it after a crash, if it hangs (setheartbeat), and when `aemp restart` \
                  asks for it. There is no such process with --no-watchdog, or under a service \
                  manager that sets NOTIFY_SOCKET."
            .into(),
        example: "aemp run seed binds 127.0.0.1:4040 seeds 127.0.0.1:4040".into(),
        ..row("run", Section::Nodes, Action::Run)
    }
}

fn doctor() -> Subcommand {
    Subcommand {
        arguments: vec![optional("PROFILE", Kind::Profile), rest("KEY VALUE", Kind::Pairs)],
        summary: "Find out what keeps a node from working.".into(),
        details: "Takes the arguments of `run`: reads the configuration, checks the certificate, \
                  listens where the node would, performs a handshake with each seed, and says in \
                  plain words what is wrong. The exit status is 0 if nothing is, 1 if something \
                  is, 2 if the configuration itself cannot be used. `aemp doctor aemp` examines \
                  the configuration of the subcommands that talk to the network. With --links it \
                  joins the network, asks every node for its connections, and says which are not \
                  encrypted, and why."
            .into(),
        example: "aemp doctor worker".into(),
        ..row("doctor", Section::Nodes, Action::Doctor)
    }
}

fn conform() -> Subcommand {
    Subcommand {
        arguments: vec![verbatim("OPTION")],
        summary: "Test whether a node, in any language, follows the protocol.".into(),
        details: "HOST:PORT is the address of the node; with --listen HOST the suite acts as its \
                  seed instead, and prints which seeds to give it; with --command 'CMD {seeds}' \
                  the suite starts the node itself; with --network FILE it starts networks of \
                  several nodes, cuts their connections, and stops, kills and restarts them. \
                  --secret SECRET and --cert FILE are those of the network. --framing, --service, \
                  --patience, --monitor-timeout and --connect-interval describe the node; --level \
                  must or should excludes checks of lower levels; --only ID,... runs only these \
                  checks, where ID may end in *; --profile perl-2.02 expects the known failures of \
                  that implementation. --list lists the checks, --json and --junit FILE write \
                  results for programs, and -v also shows checks that passed. The exit status is 1 \
                  if a check fails that was not expected to. See docs/conformance.md."
            .into(),
        example: "aemp conform 127.0.0.1:4040 --secret geheim".into(),
        ..row("conform", Section::Nodes, Action::Conform)
    }
}

fn network(name: &str, action: Network, arguments: Vec<Argument>) -> Subcommand {
    Subcommand { arguments, ..row(name, Section::Network, Action::Network(action)) }
}

fn talking() -> Vec<Subcommand> {
    let port = required("PORT", Kind::Anything);
    let node = required("NODE", Kind::Anything);
    vec![
        Subcommand {
            summary: "Send a message to a port.".into(),
            details: "The arguments are its elements. Prints whether the node received it, which \
                      does not mean that a port did. If the message calls a function by name that \
                      the node does not have, some nodes report that only in their log. All \
                      subcommands of this kind join the network for a moment, as a node with the \
                      profile `aemp`: `aemp profile aemp setseeds HOST:PORT` says where, and the \
                      secret has to be that of the network."
                .into(),
            example: "aemp snd seed#chat say hello".into(),
            ..network("snd", Network::Snd, vec![port, verbatim("ELEMENT")])
        },
        Subcommand {
            summary: "Send a message with a reply port as its last element, and print the reply."
                .into(),
            details: "The reply is printed as JSON without the outer brackets. The command waits \
                      for as long as the port lives."
                .into(),
            example: "aemp cal seed time".into(),
            ..network("cal", Network::Cal, vec![port, verbatim("ELEMENT")])
        },
        Subcommand {
            summary: "Wait until a port dies, and print why.".into(),
            details: "For a node, the connection to it is monitored. A port that ended normally \
                      has no reason; an empty line is printed."
                .into(),
            example: "aemp mon worker#abc".into(),
            ..network("mon", Network::Mon, vec![port])
        },
        Subcommand {
            summary: "Evaluate Perl on a node, and print the results.".into(),
            details: "The rest of the line is the expression. Results are printed as JSON without \
                      the outer brackets. Nodes that are not written in Perl know only a few \
                      expressions, such as AnyEvent::MP::Kernel::up_nodes and $$; nodes in secure \
                      mode know none."
                .into(),
            example: "aemp eval worker 'scalar localtime'".into(),
            ..network("eval", Network::Eval, vec![node, verbatim("EXPRESSION")])
        },
        Subcommand {
            summary: "Evaluate lines of input on nodes.".into(),
            details: "By default it begins with the command's own node. Lines that begin with = \
                      list or switch nodes, and `package NAME` changes the package; all other \
                      lines are evaluated. It ends with its input (Ctrl-D), after the last \
                      answers; Ctrl-C discards the line being typed."
                .into(),
            example: "aemp shell seed".into(),
            ..network("shell", Network::Shell, vec![optional("NODE", Kind::Anything)])
        },
        Subcommand {
            summary: "Restart a Perl or Rust node.".into(),
            details: "The node must have been started by `aemp run`, with its watchdog.".into(),
            example: "aemp restart worker".into(),
            ..network("restart", Network::Restart, vec![node])
        },
        Subcommand {
            summary: "Measure the round-trip time to a node.".into(),
            details: "It is measured three times, one after the other.".into(),
            example: "aemp ping worker".into(),
            ..network("ping", Network::Ping, vec![node])
        },
    ]
}

fn listening() -> [Subcommand; 2] {
    [
        Subcommand {
            arguments: vec![
                required("LISTEN", Kind::Anything),
                required("TARGET", Kind::Anything),
                verbatim("OPTION"),
            ],
            summary: "Relay between two nodes, and print what they say to each other.".into(),
            details:
                "Passes every connection to LISTEN on to TARGET (HOST:PORT), octet for octet, \
                      until it is interrupted; give LISTEN as a seed to the node that dials. Each \
                      line has the milliseconds since the first octet, the speaker (a dialled, b \
                      listens) and the meaning. --record FILE records the first connection in the \
                      format of the project's fixtures, further ones go to FILE-2 and so on. \
                      --secret SECRET (or --secret-file FILE, - for standard input) is used to \
                      check authentications, and is recorded too; by default the secret of the \
                      profile `aemp` is used, and not recorded. --once ends with the first \
                      connection. Of encrypted data only the length is shown."
                    .into(),
            example: "aemp relay 127.0.0.1:4041 127.0.0.1:4040 --record talk.jsonl".into(),
            ..row("relay", Section::Network, Action::Relay)
        },
        Subcommand {
            arguments: vec![required("FILE", Kind::File), verbatim("OPTION")],
            summary: "Show a recorded conversation as `relay` shows a live one.".into(),
            details: "Authentications are checked with the secret of the recording, of --secret \
                      SECRET, or of the profile `aemp`. With --json each line is an object."
                .into(),
            example: "aemp replay talk.jsonl".into(),
            ..row("replay", Section::Network, Action::Replay)
        },
    ]
}

fn looking() -> Vec<Subcommand> {
    let node = required("NODE", Kind::Anything);
    vec![
        Subcommand {
            summary: "Print which nodes are connected, starting from one node.".into(),
            details: "Asks every node that can be reached. A node that does not answer, such as \
                      one in secure mode, is marked, and the exit status is 1. --format is text \
                      (one line per node), tree (easier to read), dot (for Graphviz), svg (a \
                      picture), or json (for programs, also --json)."
                .into(),
            example: "aemp trace seed --format tree".into(),
            ..network("trace", Network::Trace, vec![node])
        },
        Subcommand {
            summary: "Print the log lines of all other nodes as they come.".into(),
            details: "Each line has its time, node, level and origin. The level is error, warn, \
                      note, info, debug, trace, or AnyEvent's number; the default is info. Nodes \
                      in secure mode do not send theirs."
                .into(),
            example: "aemp logs debug".into(),
            ..network("logs", Network::Logs, vec![optional("LEVEL", Kind::LogLevel)])
        },
        Subcommand {
            summary: "Watch the network on a screen.".into(),
            details: "Shows the nodes with their software, role, links and response time, the \
                      links of the selected node, the database and recent events. Only Rust nodes \
                      that are not in secure mode report rates, queues and ports. With --json it \
                      prints the network once and ends."
                .into(),
            example: "aemp top".into(),
            ..network("top", Network::Top, vec![])
        },
        Subcommand {
            summary: "Read, watch and change the database.".into(),
            details: "get FAMILY KEY prints a value; get FAMILY prints all keys and values, keys \
                      FAMILY and values FAMILY only these; watch FAMILY prints every change until \
                      it is interrupted. set FAMILY KEY VALUE makes an entry that exists until the \
                      command ends. del FAMILY KEY deletes an entry that this command has set, and \
                      fails if the key still exists: entries belong to the nodes that set them. \
                      The families 'l, 'g and 's belong to the network itself: addresses, global \
                      nodes and so on."
                .into(),
            example: "aemp db watch chat_rooms".into(),
            ..network(
                "db",
                Network::Db,
                vec![
                    required("OPERATION", Kind::DbOperation),
                    required("FAMILY", Kind::Anything),
                    verbatim("KEY"),
                ],
            )
        },
    ]
}
