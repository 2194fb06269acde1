//! A real Perl node with AnyEvent::MP, driven by the test.

use crate::dialogue::Dialogue;
use crate::perl;
use crate::process::{Process, Stream};
use serde_json::{Value, json};

/// The modules that it needs.
pub const MODULES: &[&str] = &["AnyEvent::MP", "EV", "JSON::XS", "Net::SSLeay"];

/// The running node. It is killed at the end of the test.
#[derive(Debug)]
pub struct PerlNode {
    dialogue: Dialogue,
    commands: u64,
    id: String,
    address: String,
}

impl PerlNode {
    /// Starts a node on a free port of 127.0.0.1 and waits until it listens.
    ///
    /// `settings` are arguments of Perl's `configure`; there are defaults for the secret, the
    /// binds, and where no rc file is to be read.
    pub fn start(id: &str, settings: Value) -> PerlNode {
        let mut all = json!({
            "nodeid": id,
            "secret": crate::node::SECRET,
            "binds": ["127.0.0.1:*"],
            "norc": 1,
        });
        for (key, value) in settings.as_object().expect("settings are an object") {
            all[key] = value.clone();
        }
        let verbosity = std::env::var("AEMP_PERL_VERBOSE").unwrap_or_else(|_| "5".to_owned());
        let process = perl::start(
            id,
            "node.pl",
            &[&all.to_string()],
            &[("AE_VERBOSE", &verbosity), ("PERL_ANYEVENT_MP_RC", "/nonexistent")],
        );
        let mut dialogue = Dialogue::new(process);
        let ready = dialogue.expect("readiness", |event| event["event"] == "ready");
        PerlNode {
            dialogue,
            commands: 0,
            id: ready["node"].as_str().unwrap().to_owned(),
            address: ready["binds"][0].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// Its node ID.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where it listens: `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs a command of `perl/node.pl` and returns its result.
    ///
    /// # Panics
    /// Fails the test if the command fails.
    pub fn run(&mut self, name: &str, mut arguments: Value) -> Value {
        self.commands += 1;
        let id = self.commands;
        arguments["do"] = name.into();
        arguments["id"] = id.into();
        self.dialogue.tell(&arguments);
        let answer = self.dialogue.expect(name, |event| {
            event["id"] == id && (event["event"] == "done" || event["event"] == "failed")
        });
        if answer["event"] == "failed" {
            self.dialogue.process().fail(&format!("{arguments} failed: {}", answer["error"]));
        }
        answer["result"].clone()
    }

    /// Makes a port that reports what it receives; returns its port ID. See [`PerlNode::message`].
    pub fn port(&mut self, label: &str) -> String {
        let port = self.run("port", json!({ "label": label }));
        port.as_str().unwrap().to_owned()
    }

    /// Sends a message.
    pub fn snd(&mut self, to: &str, message: Value) {
        self.run("snd", json!({ "to": to, "message": message }));
    }

    /// Evaluates Perl code; returns its list of results.
    pub fn eval(&mut self, code: &str) -> Value {
        self.run("eval", json!({ "code": code }))
    }

    /// The nodes that it is connected to.
    pub fn nodes(&mut self) -> Vec<String> {
        let nodes = self.run("nodes", json!({}));
        let nodes = nodes.as_array().unwrap().iter();
        nodes.map(|node| node.as_str().unwrap().to_owned()).collect()
    }

    /// Waits for an event of that kind and label that satisfies the test's condition.
    pub fn event(&mut self, kind: &str, label: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{kind} of `{label}`");
        self.dialogue.expect(&what, |event| {
            event["event"] == kind && event["label"] == label && wanted(event)
        })
    }

    /// Waits for the next message to the port with that label.
    pub fn message(&mut self, label: &str) -> Value {
        self.event("message", label, |_| true)["message"].clone()
    }

    /// Waits until it reports a node as up.
    pub fn sees_up(&mut self, node: &str) {
        self.dialogue.expect(&format!("{node} going up"), |event| {
            event["event"] == "node" && event["node"] == node && event["up"] == true
        });
    }

    /// Waits until it reports a node as down; returns the reason.
    pub fn sees_down(&mut self, node: &str) -> Value {
        let event = self.dialogue.expect(&format!("{node} going down"), |event| {
            event["event"] == "node" && event["node"] == node && event["up"] == false
        });
        event["reason"].clone()
    }

    /// Waits for any event.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.dialogue.expect(what, wanted)
    }

    /// Waits for a line on its standard error that contains `part`.
    pub fn log(&mut self, part: &str) -> String {
        self.dialogue.process().wait_for_log(part)
    }

    /// The underlying process.
    pub fn process(&mut self) -> &mut Process {
        self.dialogue.process()
    }

    /// Its output on standard error: warnings and errors, unless its log level is higher.
    pub fn complaints(&mut self) -> Vec<String> {
        let lines = self.process().lines().into_iter();
        lines.filter(|line| line.stream == Stream::Err).map(|line| line.text).collect()
    }

    /// Whether another node has made it change its master.
    pub fn was_healed(&mut self) -> bool {
        // Perl looks a function up once, when it is called for the first time.
        let code = "exists $AnyEvent::MP::Kernel::NODE_REQ{'AnyEvent::MP::Kernel::master_set'}";
        self.eval(&format!("{code} ? 1 : 0"))[0] == 1
    }

    /// Kills the process at once.
    pub fn kill(&mut self) {
        self.dialogue.process().kill();
    }
}
