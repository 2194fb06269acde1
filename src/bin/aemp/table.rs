//! The table of all subcommands, from which everything that lists them is made.

use crate::commands::node_subcommands;
use crate::grammar::{
    Action, Argument, Form, Kind, Section, Subcommand, optional, required, rest, row,
};

/// All subcommands, in the order in which the help shows them.
pub(crate) fn subcommands() -> Vec<Subcommand> {
    let mut table = node_subcommands();
    for key in KEYS {
        table.extend(key.subcommands());
    }
    table.extend(profile_subcommands());
    table.extend(help_subcommands());
    table
}

/// One key of the configuration, with the subcommands that change it.
struct Key {
    name: &'static str,
    value: Argument,
    form: Form,
    item: Option<Item>,
    /// Whether `NAME` alone stands for `setNAME`.
    has_alias: bool,
    /// Completes the sentence "Set ...".
    what: &'static str,
    details: &'static str,
    /// Completes the sentence "If neither a parent nor the file's defaults set it, ...".
    without: &'static str,
    example_value: &'static str,
}

/// How single items of a list are added and removed.
struct Item {
    name: &'static str,
    argument: Argument,
    /// Whether an item may be in the list only once.
    once: bool,
    example_value: &'static str,
}

const fn address_item(name: &'static str, example_value: &'static str) -> Option<Item> {
    Some(Item { name, argument: required("ADDRESS", Kind::Anything), once: true, example_value })
}

/// A key with default properties; each row sets the ones that differ.
const PLAIN: Key = Key {
    name: "",
    value: required("VALUE", Kind::Anything),
    form: Form::AsGiven,
    item: None,
    has_alias: true,
    what: "",
    details: "",
    without: "",
    example_value: "",
};

const KEYS: &[Key] = &[
    Key {
        name: "nodeid",
        value: required("NODEID", Kind::Anything),
        what: "the node ID",
        details: "%n stands for the name of this machine and %u for a random unique text, which is \
                  also appended to an ID that ends in a slash. Every node of a network needs an ID \
                  of its own.",
        without: "it is PROFILE/: the profile's name with a random text.",
        example_value: "seed1",
        ..PLAIN
    },
    Key {
        name: "secret",
        value: required("SECRET", Kind::Anything),
        form: Form::Secret,
        what: "the secret that all nodes of the network share",
        details: "Whoever knows it can run code on Perl nodes. Other users of this machine can see \
                  it on the command line while the command runs; - reads it from standard input \
                  instead, and `aemp gensecret` makes one without showing it.",
        without: "nodes authenticate with certificates only.",
        example_value: "'correct horse battery staple'",
        ..PLAIN
    },
    Key {
        name: "cert",
        value: required("FILE", Kind::File),
        form: Form::FileContent,
        what: "the key and the certificate, from a PEM file",
        details: "The file holds a private key and certificates, in any order. Its content is \
                  copied into the configuration, so the file is not needed later. All nodes with \
                  the same certificate trust each other and use TLS.",
        without: "there is no TLS with certificates.",
        example_value: "/etc/aemp/network.pem",
        ..PLAIN
    },
    Key {
        name: "seeds",
        value: required("ADDRESSES", Kind::Anything),
        form: Form::List,
        item: address_item("seed", "10.0.0.2:4040"),
        what: "the addresses of the nodes that are dialled first",
        details: "A comma-separated or JSON list of HOST:PORT or [IPV6]:PORT. An argument that \
                  begins with [ has to be JSON: '[\"[2001:db8::1]:4040\"]'.",
        without: "the node dials no other node and waits for others to connect.",
        example_value: "10.0.0.1:4040,10.0.0.2:4040",
        ..PLAIN
    },
    Key {
        name: "binds",
        value: required("ADDRESSES", Kind::Anything),
        form: Form::List,
        item: address_item("bind", "10.0.0.1:4040"),
        what: "the addresses to listen on",
        details: "A comma-separated or JSON list: HOST:PORT, [IPV6]:PORT, HOST (any free port), \
                  4040 (this machine's name with that port), *:4040 (every address of this machine \
                  except loopback), * (the same with any free port). With an empty list [] the \
                  node does not listen.",
        without: "it is *.",
        example_value: "'*:4040'",
        ..PLAIN
    },
    Key {
        name: "services",
        value: required("SERVICES", Kind::Anything),
        form: Form::List,
        item: Some(Item {
            name: "service",
            argument: required("SERVICE", Kind::Anything),
            once: false,
            example_value: "'[\"Chat::start\",\"lobby\"]'",
        }),
        what: "the services that the node starts",
        details: "A comma-separated or JSON list: Module:: loads a Perl module, Module::name calls \
                  a function, [\"Module::name\", ARGUMENTS...] calls it with arguments. Nodes that \
                  are not written in Perl start the functions that are registered under that \
                  name.",
        without: "nothing is started.",
        example_value: "AnyEvent::MP::Global::",
        ..PLAIN
    },
    Key {
        name: "eval",
        value: required("PERL", Kind::Anything),
        has_alias: false,
        what: "the Perl code that a Perl node evaluates after its start",
        details: "Nodes that are not written in Perl know only a few expressions.",
        without: "nothing is evaluated.",
        example_value: "'warn \"started\"'",
        ..PLAIN
    },
    Key {
        name: "monitor_timeout",
        value: required("SECONDS", Kind::Anything),
        what: "how long a silent node counts as alive",
        details: "A handshake may take as long, too. Between two nodes the larger value applies.",
        without: "it is 30.",
        example_value: "10",
        ..PLAIN
    },
    Key {
        name: "connect_interval",
        value: required("SECONDS", Kind::Anything),
        what: "how long one address of a node is tried before the next",
        details: "A node can have several addresses, not all of which may be reachable from here.",
        without: "it is 2.",
        example_value: "5",
        ..PLAIN
    },
    Key {
        name: "framing_format",
        value: required("LIST", Kind::Framings),
        what: "the framings to use, the preferred one first",
        details: "A JSON list of cbor, json and storable (Perl nodes accept only a JSON list).",
        without: "it is [\"cbor\",\"json\",\"storable\"].",
        example_value: "'[\"cbor\",\"json\"]'",
        ..PLAIN
    },
    Key {
        name: "auth_offer",
        value: required("LIST", Kind::AuthOffer),
        what: "how this node proves that it belongs to the network",
        details: "A JSON list of tls_sha3_512 (certificate) and hmac_sha3_512 (secret), the \
                  preferred one first.",
        without: "it is [\"tls_sha3_512\",\"hmac_sha3_512\"].",
        example_value: "'[\"hmac_sha3_512\"]'",
        ..PLAIN
    },
    Key {
        name: "auth_accept",
        value: required("LIST", Kind::AuthAccept),
        what: "how others may prove that they belong to the network",
        details: "A JSON list of tls_sha3_512, hmac_sha3_512, tls_anon (anybody who uses TLS) and \
                  cleartext (the secret itself).",
        without: "it has all four.",
        example_value: "'[\"tls_sha3_512\",\"hmac_sha3_512\"]'",
        ..PLAIN
    },
    Key {
        name: "autocork",
        value: required("BOOL", Kind::Bool),
        what: "whether small writes are combined (0 or 1)",
        details: "Combining them costs less processor time, but adds latency.",
        without: "it is 0.",
        example_value: "1",
        ..PLAIN
    },
    Key {
        name: "nodelay",
        value: required("BOOL", Kind::Bool),
        what: "whether TCP sends without delay (0 or 1)",
        details: "Sets TCP_NODELAY on all connections.",
        without: "it is 1.",
        example_value: "0",
        ..PLAIN
    },
    Key {
        name: "secure",
        value: required("BOOL", Kind::Bool),
        what: "whether other nodes are kept from running code here (0 or 1)",
        details: "With 1 nothing is evaluated or started for other nodes, unless it is registered \
                  for them. Nodes still have to be trusted.",
        without: "it is 0.",
        example_value: "1",
        ..PLAIN
    },
    Key {
        name: "tls_required",
        value: required("BOOL", Kind::Bool),
        what: "whether connections that would not be encrypted are refused (0 or 1)",
        details: "This needs a secret or a certificate. With 1, connections on loopback are \
                  encrypted too, and Perl nodes without a certificate are refused. Perl nodes do \
                  not know this key and ignore it.",
        without: "it is 0.",
        example_value: "1",
        ..PLAIN
    },
    Key {
        name: "encrypt",
        value: required("WHEN", Kind::Encrypt),
        what: "when connections are encrypted with the secret (auto, 1 or 0)",
        details: "If both nodes know the secret and offer encryption, their connection is \
                  encrypted and bound to the secret, without a certificate. auto excludes \
                  connections with both ends on loopback; with 0 the node never offers encryption. \
                  Perl nodes do not know this key and ignore it.",
        without: "it is auto.",
        example_value: "1",
        ..PLAIN
    },
    Key {
        name: "advertise",
        value: required("ADDRESSES", Kind::Anything),
        form: Form::List,
        what: "the addresses that others are told to dial",
        details: "A comma-separated or JSON list of HOST or HOST:PORT, for nodes behind address \
                  translation or in containers. Perl nodes do not know this key and ignore it.",
        without: "the node announces the addresses on which it listens.",
        example_value: "node7.example.org:4040",
        ..PLAIN
    },
    Key {
        name: "metrics",
        value: required("ADDRESS", Kind::Anything),
        what: "the address on which metrics and the status page are served",
        details: "PORT (on 127.0.0.1), HOST:PORT or [IPV6]:PORT. Prometheus reads /metrics, load \
                  balancers /health, browsers /. There is no password: anybody who can reach the \
                  address sees everything. Perl nodes do not know this key and ignore it.",
        without: "nothing is served.",
        example_value: "127.0.0.1:9464",
        ..PLAIN
    },
    Key {
        name: "metrics_values",
        value: required("BOOL", Kind::Anything),
        what: "whether the status page shows what is in the database (0 or 1)",
        details: "With 0 the page shows only how many keys each family has.",
        without: "it is 0.",
        example_value: "1",
        ..PLAIN
    },
    Key {
        name: "handshake_limit",
        value: required("COUNT", Kind::Anything),
        what: "how many incoming connections may be unauthenticated",
        details: "When there are more, the oldest is closed. Connections from this machine are not \
                  counted. Perl nodes do not know this key and ignore it.",
        without: "it is 1024.",
        example_value: "4096",
        ..PLAIN
    },
    Key {
        name: "handshake_limit_per_address",
        value: required("COUNT", Kind::Anything),
        what: "how many of these connections may come from one address",
        details: "An IPv6 network of 64 bits counts as one address. Perl nodes do not know this \
                  key and ignore it.",
        without: "it is 128.",
        example_value: "1000",
        ..PLAIN
    },
    Key {
        name: "peer_limit",
        value: required("OCTETS", Kind::Anything),
        what: "how many octets the node keeps for one peer in each of its tables",
        details: "Tables: subscriptions, reasons of failed spawns, relayed messages to nodes that \
                  are being looked for, and expected data connections. Requests beyond that are \
                  refused. Perl nodes do not know this key and ignore it.",
        without: "it is 16777216 (16 MiB).",
        example_value: "67108864",
        ..PLAIN
    },
    Key {
        name: "database_limit",
        value: required("OCTETS", Kind::Anything),
        what: "how many octets of database entries a global node keeps for one peer",
        details: "This counts the entries of one slave, or of all slaves of another global node. \
                  Requests to set keys beyond that are refused. Perl nodes do not know this key \
                  and ignore it.",
        without: "it is 1073741824 (1 GiB).",
        example_value: "4294967295",
        ..PLAIN
    },
    Key {
        name: "heal",
        value: required("BOOL", Kind::Bool),
        what: "whether Perl nodes that have lost their master are repaired (0 or 1)",
        details: "A Perl node recovers from the loss of only one master. A global Rust node finds \
                  Perl nodes that have lost another one, asks them, and becomes their master. Perl \
                  nodes do not know this key and ignore it.",
        without: "it is 1.",
        example_value: "0",
        ..PLAIN
    },
    Key {
        name: "heartbeat",
        value: required("SECONDS", Kind::Anything),
        what: "after how many seconds without a sign of life `aemp run` restarts a node",
        details: "The node regularly reports to its watchdog that it is alive. If no report \
                  arrives for this time, the watchdog kills the node and starts it again. 0 turns \
                  this off. Perl nodes do not know this key and ignore it.",
        without: "it is 60.",
        example_value: "300",
        ..PLAIN
    },
    Key {
        name: "shutdown",
        value: required("SECONDS", Kind::Anything),
        what: "how long a node that ends may take to send what is queued",
        details: "After SIGTERM or SIGINT, and after `aemp restart`. What has not been sent by \
                  then is lost, as when a connection breaks. Perl nodes do not know this key and \
                  ignore it.",
        without: "it is 5.",
        example_value: "30",
        ..PLAIN
    },
    Key {
        name: "log_level",
        value: required("LEVEL", Kind::LogLevel),
        what: "how much `aemp run` logs",
        details: "error, warn, note, info, debug, trace, or AnyEvent's number. -v and AE_VERBOSE \
                  override it; without them, a running node applies a new level on SIGHUP. Perl \
                  nodes do not know this key and ignore it.",
        without: "it is info.",
        example_value: "debug",
        ..PLAIN
    },
];

impl Key {
    fn subcommands(&self) -> impl Iterator<Item = Subcommand> {
        let items = self.item.iter().flat_map(|item| self.item_subcommands(item));
        let generate = match self.name {
            "secret" => Some(generate_secret()),
            "cert" => Some(generate_cert()),
            _ => None,
        };
        [self.set(), self.delete()].into_iter().chain(items).chain(generate)
    }

    fn set(&self) -> Subcommand {
        let Self { name: key, form, .. } = *self;
        let action = Action::Set { key, form };
        Subcommand {
            alias: self.has_alias.then(|| key.to_owned()),
            arguments: vec![self.value],
            summary: format!("Set {}.", self.what),
            details: self.details.into(),
            example: format!("aemp set{key} {}", self.example_value),
            ..row(format!("set{key}"), Section::Settings, action)
        }
    }

    fn delete(&self) -> Subcommand {
        let key = self.name;
        Subcommand {
            summary: format!("Remove `{key}`."),
            details: format!(
                "If neither a parent nor the file's defaults set it, {}",
                self.without
            ),
            example: format!("aemp profile worker del{key}"),
            ..row(format!("del{key}"), Section::Settings, Action::Delete { key })
        }
    }

    fn item_subcommands(&self, item: &Item) -> [Subcommand; 2] {
        let key = self.name;
        let Item { name, once, example_value, .. } = *item;
        let every = once;
        let add = Subcommand {
            arguments: vec![item.argument],
            summary: format!("Append one {name} to `{key}`."),
            details: match once {
                true => "If it is already in the list, it moves to the end.".into(),
                false => "If it is already in the list, it is then listed twice.".into(),
            },
            example: format!("aemp add{name} {example_value}"),
            ..row(format!("add{name}"), Section::Settings, Action::Add { key, once })
        };
        let remove = Subcommand {
            arguments: vec![item.argument],
            summary: format!("Remove one {name} from `{key}`."),
            details: match every {
                true => {
                    "Write it as it is in the list. The list remains, even if it is empty.".into()
                }
                false => {
                    "Write it as it is in the list; only the first occurrence is removed. The \
                          list remains, even if it is empty."
                        .into()
                }
            },
            example: format!("aemp del{name} {example_value}"),
            ..row(format!("del{name}"), Section::Settings, Action::Remove { key, every })
        };
        [add, remove]
    }
}

fn generate_secret() -> Subcommand {
    Subcommand {
        summary: "Make a random secret.".into(),
        details: "180 letters and digits, about 1071 bits. Nothing is printed; copy the file, or \
                  what `aemp showconfig` shows, to the other nodes of the network."
            .into(),
        example: "aemp gensecret".into(),
        ..row("gensecret", Section::Settings, Action::GenerateSecret)
    }
}

fn generate_cert() -> Subcommand {
    Subcommand {
        summary: "Make a key and a certificate.".into(),
        details: "It is self-signed and valid for ten years. Nothing is printed; all nodes of the \
                  network need the same one, so copy the file, or what `aemp showconfig` shows, \
                  to the others."
            .into(),
        example: "aemp gencert".into(),
        ..row("gencert", Section::Settings, Action::GenerateCert)
    }
}

fn profile_subcommands() -> Vec<Subcommand> {
    let name = required("PROFILE", Kind::Profile);
    let section = Section::Profiles;
    vec![
        Subcommand {
            arguments: vec![name],
            summary: "Let the rest of the line change this profile.".into(),
            details: "Without it, subcommands change the defaults of all profiles. The profile is \
                      created if it does not exist."
                .into(),
            example: "aemp profile worker setnodeid worker/%n/ setbinds '127.0.0.1:*'".into(),
            ..row("profile", section, Action::SelectProfile)
        },
        Subcommand {
            arguments: vec![name],
            summary: "Delete a profile and all its values.".into(),
            details: "A profile that was selected with `profile` does not matter here.".into(),
            example: "aemp delprofile worker".into(),
            ..row("delprofile", section, Action::DeleteProfile)
        },
        Subcommand {
            alias: Some("parent".into()),
            arguments: vec![name],
            summary: "Let the selected profile inherit from another one.".into(),
            details: "Keys that the profile itself does not set are taken from its parent, and \
                      otherwise from the defaults of all profiles."
                .into(),
            example: "aemp profile worker setparent cluster".into(),
            ..row("setparent", section, Action::Set { key: "parent", form: Form::AsGiven })
        },
        Subcommand {
            summary: "Let the selected profile inherit only the defaults.".into(),
            details: "The parent itself is not changed.".into(),
            example: "aemp profile worker delparent".into(),
            ..row("delparent", section, Action::Delete { key: "parent" })
        },
        Subcommand {
            arguments: vec![name],
            summary: "Show a profile's own values, as JSON.".into(),
            details: "Secrets are shown. With --json it is one line of ASCII.".into(),
            example: "aemp showprofile worker".into(),
            ..row("showprofile", section, Action::ShowProfile)
        },
        Subcommand {
            arguments: vec![optional("PROFILE", Kind::Profile), rest("KEY VALUE", Kind::Pairs)],
            summary: "Show the effective values of a profile, as JSON.".into(),
            details: "Combines built-in defaults, the keys and values given here, the file's \
                      defaults, the profile's parents and the profile itself; later ones override \
                      earlier ones. With `force 1` the built-in defaults and what is given here \
                      override the file, `norc 1` ignores the file. By default the profile is \
                      named like this machine. Secrets are shown. With --json it is one line of \
                      ASCII."
                .into(),
            example: "aemp showconfig worker".into(),
            ..row("showconfig", section, Action::ShowConfig)
        },
        Subcommand {
            summary: "List the names of all profiles, one per line.".into(),
            details: "With --json it is a JSON list.".into(),
            example: "aemp profiles".into(),
            ..row("profiles", section, Action::ListProfiles)
        },
    ]
}

fn help_subcommands() -> Vec<Subcommand> {
    let section = Section::Help;
    vec![
        Subcommand {
            arguments: vec![optional("SUBCOMMAND", Kind::Subcommand)],
            summary: "Explain a subcommand, or list all of them.".into(),
            details: "`aemp SUBCOMMAND --help` is the same.".into(),
            example: "aemp help setbinds".into(),
            ..row("help", section, Action::Help)
        },
        Subcommand {
            arguments: vec![required("SHELL", Kind::Shell)],
            summary: "Print completions for bash, zsh or fish.".into(),
            details:
                "They complete subcommands (including later ones on a line), profiles, keys and \
                 files."
                    .into(),
            example: "source <(aemp completions bash)".into(),
            ..row("completions", section, Action::Completions)
        },
        Subcommand {
            summary: "Print the manual page.".into(),
            details: "The output is roff, for `man`.".into(),
            example: "aemp man > /usr/local/share/man/man1/aemp.1".into(),
            ..row("man", section, Action::Manual)
        },
        Subcommand {
            summary: "Print the version.".into(),
            details: "`aemp --version` is the same.".into(),
            example: "aemp version".into(),
            ..row("version", section, Action::Version)
        },
    ]
}
