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
        summary: "Run a node until it is told to end.".into(),
        details: "With an odd number of arguments the first one is the profile; without one the \
                  name of this machine is. What the file says goes before the keys and values of \
                  the command line, unless `force 1` is among them; `norc 1` ignores the file. \
                  --secret-file FILE reads the secret from a file, where `secret` could be \
                  seen by others of this machine. `run` is the first subcommand or none, and takes the rest of the line. SIGTERM \
                  and SIGINT end the node; on SIGHUP it reads its seeds, log_level and \
                  heartbeat again. A second process restarts it after a crash, if it hangs \
                  (setheartbeat), and when `aemp restart` asks for it; --no-watchdog, or a \
                  service manager that sets NOTIFY_SOCKET, does without."
            .into(),
        example: "aemp run seed binds 127.0.0.1:4040 seeds 127.0.0.1:4040".into(),
        ..row("run", Section::Nodes, Action::Run)
    }
}

fn doctor() -> Subcommand {
    Subcommand {
        arguments: vec![optional("PROFILE", Kind::Profile), rest("KEY VALUE", Kind::Pairs)],
        summary: "Find out what keeps a node from working.".into(),
        details: "With the arguments of `run`: reads the configuration, checks the certificate, \
                  listens where the node would, and shakes hands with each seed; says in plain \
                  words what is wrong. The exit status is 0 if nothing is, 1 if something is, 2 \
                  if the configuration itself cannot be used. `aemp doctor aemp` looks at what \
                  the subcommands use that talk to the network. With --links it joins the network, \
                  asks every node for its connections, and says which are not encrypted, and why."
            .into(),
        example: "aemp doctor worker".into(),
        ..row("doctor", Section::Nodes, Action::Doctor)
    }
}

fn conform() -> Subcommand {
    Subcommand {
        arguments: vec![verbatim("OPTION")],
        summary: "Test whether a node, in whatever language, keeps the protocol.".into(),
        details: "HOST:PORT is where the node listens; with --listen HOST the suite is its seed \
                  instead, and says which seeds to give it; with --command 'CMD {seeds}' it starts \
                  the node itself; with --network FILE it starts networks of several nodes, and \
                  cuts, stops, kills and restarts them. --secret SECRET and --cert FILE are those of the network. \
                  --framing, --service, --patience, --monitor-timeout and --connect-interval tell \
                  more about the node; --level must or should leaves out the rest; --only ID,... \
                  runs these checks, where ID may end in *; --profile perl-2.02 expects what that \
                  implementation is known to miss. --list lists the checks, --json and --junit \
                  FILE are for machines, -v also shows what passed. The exit status is 1 if the \
                  node misses what nobody expected. docs/conformance.md tells more."
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
            details: "The arguments are its elements. Says whether the node got it, which is not \
                      to say that somebody received it; whether it has a function that is called by \
                      name only its log tells. All subcommands of this kind join the \
                      network for a moment, as a node with the profile `aemp`: `aemp profile aemp \
                      setseeds HOST:PORT` tells where, and the secret has to be that of the \
                      network."
                .into(),
            example: "aemp snd seed#chat say hello".into(),
            ..network("snd", Network::Snd, vec![port, verbatim("ELEMENT")])
        },
        Subcommand {
            summary: "Send a message with a reply port behind it, and print the reply.".into(),
            details: "The reply is printed as JSON without brackets around it. Waits for it as \
                      long as the port lives."
                .into(),
            example: "aemp cal seed time".into(),
            ..network("cal", Network::Cal, vec![port, verbatim("ELEMENT")])
        },
        Subcommand {
            summary: "Wait until a port dies, and print why.".into(),
            details: "Of a node it is the connection with it that is watched. A port that ended \
                      as planned has no reason, and an empty line is printed."
                .into(),
            example: "aemp mon worker#abc".into(),
            ..network("mon", Network::Mon, vec![port])
        },
        Subcommand {
            summary: "Evaluate Perl on a node, and print the results.".into(),
            details: "The rest of the line is the expression. Results are printed as JSON without \
                      brackets around them. Nodes that are not written in Perl know only a few \
                      expressions, such as AnyEvent::MP::Kernel::up_nodes and $$; nodes in secure \
                      mode know none."
                .into(),
            example: "aemp eval worker 'scalar localtime'".into(),
            ..network("eval", Network::Eval, vec![node, verbatim("EXPRESSION")])
        },
        Subcommand {
            summary: "Evaluate line after line on nodes.".into(),
            details: "Without a node it begins with the one that the command itself is. Lines \
                      that begin with = list or switch nodes, and `package NAME` changes the \
                      package; the rest is evaluated. It ends where its input does (Ctrl-D), \
                      after the answers; Ctrl-C throws away the line that is being typed."
                .into(),
            example: "aemp shell seed".into(),
            ..network("shell", Network::Shell, vec![optional("NODE", Kind::Anything)])
        },
        Subcommand {
            summary: "Restart a node, Perl's or ours.".into(),
            details: "It has to have been started by `aemp run`, with its watchdog.".into(),
            example: "aemp restart worker".into(),
            ..network("restart", Network::Restart, vec![node])
        },
        Subcommand {
            summary: "Tell how long an echo from a node takes.".into(),
            details: "Three of them, one after the other.".into(),
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
            summary: "Stand between two nodes, and print what they say to each other.".into(),
            details: "Every connection to LISTEN goes on to TARGET (HOST:PORT), octet for octet, \
                      until it is interrupted; what dials gets LISTEN as its seed. Each line has \
                      the milliseconds since the first octet, who said it (a dialled, b listens) \
                      and what it means. --record FILE writes it in the form of the project's \
                      recordings, further connections to FILE-2 and so on. --secret SECRET \
                      (or --secret-file FILE, - for standard input) is for checking \
                      authentications, and is recorded too; without it that of the \
                      profile `aemp` is taken, and not recorded. --once ends with the first \
                      connection. Of what is encrypted only the length is shown."
                .into(),
            example: "aemp relay 127.0.0.1:4041 127.0.0.1:4040 --record talk.jsonl".into(),
            ..row("relay", Section::Network, Action::Relay)
        },
        Subcommand {
            arguments: vec![required("FILE", Kind::File), verbatim("OPTION")],
            summary: "Show a recorded conversation as `relay` shows a live one.".into(),
            details: "The secret of the recording, that of --secret SECRET or of the profile \
                      `aemp` is used to check authentications. With --json each line is an object."
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
            summary: "Print which node is connected to which, beginning at one.".into(),
            details: "Every node that can be reached is asked. A node that does not answer, as \
                      those in secure mode, is printed as such, and the exit status is 1. \
                      --format draws: text is one line a node, tree is for the eye, dot is for \
                      Graphviz, svg is a picture, json (also --json) is for programs."
                .into(),
            example: "aemp trace seed --format tree".into(),
            ..network("trace", Network::Trace, vec![node])
        },
        Subcommand {
            summary: "Print the log lines of all other nodes as they come.".into(),
            details: "Each with its time, node, level and origin. Without a level it is info; \
                      error, warn, note, debug and trace are others, or AnyEvent's numbers. \
                      Nodes in secure mode do not send theirs."
                .into(),
            example: "aemp logs debug".into(),
            ..network("logs", Network::Logs, vec![optional("LEVEL", Kind::LogLevel)])
        },
        Subcommand {
            summary: "Watch the network on a screen.".into(),
            details: "Nodes with their software, role, links and time to answer, the links of the \
                      selected node, the database and what happened lately. Only nodes that are \
                      not written in Perl and not in secure mode tell rates, queues and ports. \
                      With --json it is printed once."
                .into(),
            example: "aemp top".into(),
            ..network("top", Network::Top, vec![])
        },
        Subcommand {
            summary: "Look into the database, or take part in it.".into(),
            details: "get FAMILY KEY prints a value, get FAMILY all of them, keys FAMILY and \
                      values FAMILY what their names say, watch FAMILY every change until it is \
                      interrupted. set FAMILY KEY VALUE makes an entry that lives as long as the \
                      command does. del FAMILY KEY deletes what this command set itself, and \
                      fails if the key is still there: entries belong to the nodes that set \
                      them. Families 'l, 'g and 's are \
                      the network's own: addresses, global nodes and so on."
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
