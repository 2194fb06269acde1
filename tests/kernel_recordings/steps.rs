//! Applies the Perl code of the recorded steps to a kernel.

use crate::conversation::*;
use crate::replay::Replay;
use aemp::kernel::db::{Datum, Entries, QueryKind};
use aemp::value::{PortId, Str};
use serde_json::{Value as Json, json};

impl Replay<'_> {
    /// The first string that this side sent from now on and that is a port ID of its own.
    pub(crate) fn next_own_port(&self) -> String {
        let prefix = format!("{}#", self.recorded().node());
        let later = self.recorded().packets.iter().filter(|(ms, _)| *ms >= self.now - 1.0);
        let found = later.flat_map(|(_, packet)| strings_in(packet));
        found.into_iter().find(|text| text.starts_with(&prefix)).unwrap()
    }

    /// Applies the Perl code of a step to a kernel.
    pub(crate) fn act(&mut self, step: &Json) {
        let perl = step["perl"].as_str().unwrap().trim_end_matches("; 1");
        let result = |at: usize| step["result"][at].as_str().unwrap_or_default().to_owned();
        let event = |message: &Json| {
            let mut event = vec![json!("cb")];
            event.extend(message.as_array().unwrap().iter().cloned());
            Some(Json::Array(event))
        };
        let (fam, peer) = (Str::from("fam"), self.other().node());
        match perl {
            // Ports, and messages to the node port.
            _ if perl.starts_with("our $r = port { out(cb => @_) }; $r") => {
                let port = self.port(&result(0), event);
                self.variables.insert("r".into(), port);
            }
            _ if perl.starts_with("our $r = port { our @p=@_; out(cb => \"ports\") }") => {
                let port = self.port(&self.next_own_port(), |_| Some(json!(["cb", "ports"])));
                self.send(&peer.to_string(), &json!(["eval", "@main::p", port.to_string()]));
            }
            _ if perl.starts_with("our @p = grep") => {
                let answer =
                    self.other().packets.iter().find(|(_, packet)| packet[1] == "").unwrap();
                for at in 0..5 {
                    let port = PortId::parse(answer.1[at + 2].as_str().unwrap()).unwrap();
                    self.variables.insert(at.to_string(), port);
                }
            }
            _ if perl.starts_with("our @p = map { port { } } 1..5") => {
                for at in 0..5 {
                    let port = self.port(&result(at), |_| None);
                    self.variables.insert(at.to_string(), port);
                }
            }
            _ if perl.starts_with("snd \"") => self.snd(perl),
            _ if perl.starts_with("sub My::App::init") || perl.starts_with("eval {") => {}
            // Monitors.
            "mon $p[0], sub { out(cb => \"normal\", @_) }" => self.monitor_variable("0", "normal"),
            "mon $p[1], sub { out(cb => \"reason\", @_) }" => self.monitor_variable("1", "reason"),
            "our $g = mon $p[2], sub { out(cb => \"never\", @_) }" => {
                let port = self.variables["2"].clone();
                self.guard = Some(self.monitor(&port, "never"));
            }
            "undef $g" => match (self.guard.take(), self.family_monitor.take()) {
                (Some(guard), _) => self.kernel.unmonitor(guard),
                (None, Some(monitor)) => self.kernel.unmonitor_family(monitor),
                (None, None) => panic!("no guard"),
            },
            "mon \"perl-b#nonexistent\", sub { out(cb => \"nonexistent\", @_) }" => {
                self.monitor(&PortId::parse("perl-b#nonexistent").unwrap(), "nonexistent");
            }
            "mon $p[3], sub { out(cb => \"killed from a\", @_) }; kil $p[3], bye => 1" => {
                self.monitor_variable("3", "killed from a");
                self.kill("3", &json!(["bye", 1]));
            }
            _ if perl.contains("first of two") => {
                self.monitor_variable("4", "first of two");
                self.monitor_variable("4", "second of two");
            }
            "mon \"perl-b\", sub { out(cb => \"node port\", @_) }" => {
                self.monitor(&peer.node_port(), "node port");
            }
            "kil $p[0]" => self.kill("0", &json!([])),
            "kil $p[1], failure => \"too hot\", 42" => {
                self.kill("1", &json!(["failure", "too hot", 42]));
            }
            "kil $p[2]" => self.kill("2", &json!([])),
            "kil $p[4], x => undef" => self.kill("4", &json!(["x", null])),
            "kil $r, gone => \"away\"" => self.kill("r", &json!(["gone", "away"])),
            _ if perl.starts_with("mon \"perl-c#") => {
                let target = PortId::parse(perl.split('"').nth(1).unwrap()).unwrap();
                self.monitor(&target, "mon");
                self.send(target.to_string().as_str(), &json!([1, 2]));
            }
            _ if perl.starts_with("mon \"nobody#x\"") => {
                self.monitor(&PortId::parse("nobody#x").unwrap(), "nobody");
                self.send("nobody#x", &json!([1]));
            }
            // Spawning.
            _ if perl.starts_with("our $s = spawn") => {
                let port = self.spawn("My::App::init", &json!([7, "x"]), &result(0));
                self.monitor(&port, "mon");
                self.send(&port.to_string(), &json!(["ping", 1, 2]));
                self.variables.insert("s".into(), port);
            }
            _ if perl.starts_with("our $u = spawn") => {
                let port = self.spawn("No::Such::init", &json!([]), &result(0));
                self.monitor(&port, "mon unknown");
            }
            _ if perl.starts_with("our $d = spawn") => {
                let port = self.spawn("My::App::dies", &json!([]), &result(0));
                self.monitor(&port, "mon dies");
            }
            "snd $s, nosuchtag => 1" => {
                let port = self.variables["s"].to_string();
                self.send(&port, &json!(["nosuchtag", 1]));
            }
            // The database.
            _ if perl.starts_with("our $g = db_mon fam")
                || perl.starts_with("our $g2 = db_mon") =>
            {
                let mut words = perl.split('"');
                let label = words.nth(1).unwrap().to_owned();
                let family = if perl.contains("db_mon fam") { "fam" } else { "empty" };
                let monitor = self.kernel.monitor_family(&Str::from(family));
                self.views.insert(monitor, (label, Entries::new()));
                self.family_monitor = Some(monitor);
            }
            _ if perl.starts_with("db_set") => {
                let (family, key, value): (_, _, Json) = match perl {
                    "db_set fam => k2 => [1,{x=>undef}]" => {
                        ("fam", "k2", json!([1, { "x": null }]))
                    }
                    "db_set fam => \"k3\"" => ("fam", "k3", Json::Null),
                    _ => {
                        let parts: Vec<_> =
                            perl.trim_start_matches("db_set ").split(" => ").collect();
                        let value = parts[2].trim_matches('"');
                        let number = value.parse::<i64>().map(|number| json!(number));
                        (parts[0], parts[1], number.unwrap_or(json!(value)))
                    }
                };
                let value = Datum::of(&value).unwrap();
                self.kernel.set(&Str::from(family), Str::from(key), value).unwrap();
            }
            _ if perl.starts_with("db_del fam") => {
                let keys: Vec<Str> = perl.split('"').skip(1).step_by(2).map(Str::from).collect();
                self.kernel.delete(&fam, keys).unwrap();
            }
            _ if perl.starts_with("db_family") => self.query(QueryKind::Family, perl),
            _ if perl.starts_with("db_keys") => self.query(QueryKind::Keys, perl),
            _ if perl.starts_with("db_values") => self.query(QueryKind::Values, perl),
            "our $p = port { }; db_reg workers => $p, 3" => {
                let port = self.port(&self.next_own_port(), |_| None);
                let key = Str::from(port.to_string());
                self.kernel.set(&Str::from("workers"), key, Datum::int(3)).unwrap();
                self.variables.insert("p".into(), port);
            }
            "kil $p" => {
                // What registers a port removes it when the port dies.
                let key = Str::from(self.variables["p"].to_string());
                self.kill("p", &json!([]));
                self.kernel.delete(&Str::from("workers"), [key]).unwrap();
            }
            _ => panic!("nobody knows what this does: {perl}"),
        }
    }

    pub(crate) fn monitor_variable(&mut self, name: &str, label: &str) {
        let port = self.variables[name].clone();
        self.monitor(&port, label);
    }

    pub(crate) fn kill(&mut self, name: &str, reason: &Json) {
        let port = self.variables[name].clone();
        self.kernel.kill(&port, &packed(reason));
    }

    pub(crate) fn spawn(&mut self, function: &str, more: &Json, recorded: &str) -> PortId {
        let mut arguments = vec![json!(self.variables["r"].to_string())];
        arguments.extend(more.as_array().unwrap().iter().cloned());
        let arguments = packed(&Json::Array(arguments));
        let peer = self.other().node();
        let port = self.kernel.spawn(&peer, function, arguments.as_elements());
        // Its request is sent before what follows.
        self.settle();
        let name = recorded.split('#').nth(1).unwrap().to_owned();
        self.names.push((name, port.port().to_string()));
        // The request was noted under the name that was not known yet.
        let renamed: Vec<_> =
            self.sent.iter().map(|(ms, packet)| (*ms, self.to_recorded(packet))).collect();
        self.sent = renamed;
        port
    }

    pub(crate) fn query(&mut self, kind: QueryKind, perl: &str) {
        let family = perl.split(' ').nth(1).unwrap();
        let label = perl.split('"').nth(1).unwrap().to_owned();
        let query = self.kernel.query(kind, &Str::from(family));
        self.queries.insert(query, label);
    }

    /// `snd NODE, REQUEST...`, as Perl writes it.
    pub(crate) fn snd(&mut self, perl: &str) {
        let r = self.variables.get("r").map(ToString::to_string).unwrap_or_default();
        let message = match perl.split_once(", ").unwrap().1 {
            "snd => $r, \"echo\", 1, [2], {x=>3}" => {
                json!(["snd", r, "echo", 1, [2], { "x": 3 }])
            }
            "can => \"g_slave\", $r, \"can_known\"" => json!(["can", "g_slave", r, "can_known"]),
            "can => \"no_such\", $r, \"can_unknown\"" => {
                json!(["can", "no_such", r, "can_unknown"])
            }
            "eval => \"1+1, [1,2]\", $r, \"eval_ok\"" => {
                json!(["eval", "1+1, [1,2]", r, "eval_ok"])
            }
            "eval => \"die qq(oops\\n)\", $r, \"eval_die\"" => {
                json!(["eval", "die qq(oops\n)", r, "eval_die"])
            }
            "time => $r, \"time\"" => json!(["time", r, "time"]),
            "devnull => 1, 2, 3" => json!(["devnull", 1, 2, 3]),
            "\"\"" => json!([""]),
            "\"lost\"" => json!(["lost"]),
            "\"No::Such::Function\", 1" => json!(["No::Such::Function", 1]),
            "\"devnull\", 1" => json!(["devnull", 1]),
            "\"devnull\", 2" => json!(["devnull", 2]),
            other => panic!("nobody knows what this sends: {other}"),
        };
        let to = perl.split('"').nth(1).unwrap().to_owned();
        self.send(&to, &message);
    }
}
