//! A node of a network: a process with its address, and the suite's connections with it.

use super::hosts::Side;
use super::net::Net;
use super::plan::Implementation;
use crate::conform::context::Ctx;
use crate::conform::host::Host;
use crate::conform::node_process::NodeProcess;
use crate::conform::pattern::{self, ANY, REST};
use crate::conform::session::{Packet, Session, show_packet};
use crate::conform::stop::{Seen, Stop, Verdict, late, miss};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// The name of the service's port on each node.
const PORT: &str = "Service0a";
/// How long to wait for an answer before the question is repeated.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait until a node that does not answer yet is dialled again.
const REDIAL_DELAY: Duration = Duration::from_millis(50);

/// A node of the network under test. Dropping it kills its process.
pub(super) struct Member {
    /// Its role, which is its name in transcripts.
    pub(super) role: &'static str,
    /// Its node ID.
    pub(super) node: String,
    /// Where it listens.
    pub(super) address: SocketAddr,
    host: Host,
    implementation: Arc<Implementation>,
    net: Net,
    seeds: Vec<SocketAddr>,
    process: Option<NodeProcess>,
    up: Option<Up>,
    questions: u32,
}

/// The suite's connections with a node that runs.
struct Up {
    /// The connection that has the port of the test service.
    service: Session,
    /// The connection for questions, which would fill the transcript.
    eye: Session,
}

impl Member {
    /// A node of the first implementation of the pair, which is not started yet.
    pub(super) fn first(net: &Net, role: &'static str, side: Side) -> Verdict<Member> {
        Member::new(net, role, side, &net.pair.0)
    }

    /// A node of the second implementation of the pair.
    pub(super) fn second(net: &Net, role: &'static str, side: Side) -> Verdict<Member> {
        Member::new(net, role, side, &net.pair.1)
    }

    fn new(
        net: &Net,
        role: &'static str,
        side: Side,
        implementation: &Arc<Implementation>,
    ) -> Verdict<Member> {
        let host = net.host(side);
        Ok(Member {
            role,
            node: format!("{}-{role}", net.label),
            address: net.free_address(&host)?,
            host,
            implementation: implementation.clone(),
            net: net.clone(),
            seeds: Vec::new(),
            process: None,
            up: None,
            questions: 0,
        })
    }

    /// Starts its process.
    pub(super) fn start(&mut self, seeds: &[SocketAddr]) {
        self.seeds = seeds.to_vec();
        self.start_again();
    }

    /// Starts its process with the same seeds as before.
    pub(super) fn start_again(&mut self) {
        let command = self.net.command(&self.implementation, &self.node, self.address, &self.seeds);
        self.net.note(format!("{} starts: {}", self.role, self.implementation.name));
        let directory = Some(&*self.net.common.directory);
        let namespace = self.host.namespace.as_deref();
        self.process = Some(NodeProcess::start(&command, directory, namespace, Stdio::piped()));
    }

    /// Starts a node of another implementation, with the same ID, address and seeds.
    pub(super) fn start_as(&mut self, implementation: &Arc<Implementation>) {
        self.implementation = implementation.clone();
        self.start_again();
    }

    /// Kills its process at once.
    pub(super) fn kill(&mut self) {
        self.net.note(format!("{} is killed", self.role));
        self.up = None;
        self.process = None;
    }

    /// Suspends its process.
    pub(super) fn stop(&self) {
        self.net.note(format!("{} is stopped", self.role));
        self.process.iter().for_each(NodeProcess::stop);
    }

    /// Continues its process.
    pub(super) fn go_on(&self) {
        self.net.note(format!("{} goes on", self.role));
        self.process.iter().for_each(NodeProcess::go_on);
    }

    /// Waits until it listens, and has a port of the test service.
    pub(super) async fn ready(&mut self) -> Verdict {
        let deadline = Instant::now() + self.net.until_started();
        let Some(process) = &mut self.process else {
            return miss(format!("{} has not been started", self.role));
        };
        let contexts =
            (self.net.ctx(self.address, "service", true), self.net.ctx(self.address, "eye", false));
        let met = async {
            let service = meets(&contexts.0, self.role, deadline).await?;
            Ok::<_, Stop>((service, meets(&contexts.1, self.role, deadline).await?))
        };
        let (mut service, eye) = tokio::select! {
            met = met => met?,
            ended = process.failed() => return miss(ended.of_command()),
        };
        if service.node != self.node {
            let (found, node) = (&service.node, &self.node);
            return miss(format!("the node that was started as {node} calls itself {found}"));
        }
        let (function, to) = (&*self.net.common.service, service.port("up"));
        service.send(json!(["", "AnyEvent::MP::_spawn", PORT, function, to, "up"])).await?;
        if service.expect(json!(["up", "up"])).await.is_err() {
            return miss(format!(
                "its function {function:?} does not make the test service's port"
            ));
        }
        self.up = Some(Up { service, eye });
        Ok(())
    }

    fn up(&mut self) -> Verdict<&mut Up> {
        match &mut self.up {
            Some(up) => Ok(up),
            None => miss(format!("{} does not run", self.role)),
        }
    }

    pub(super) fn service(&mut self) -> Verdict<&mut Session> {
        Ok(&mut self.up()?.service)
    }

    /// The timeout for the network to settle.
    pub(super) fn settle(&self) -> Duration {
        self.net.settle()
    }

    /// The ID of its service's port.
    pub(super) fn port(&self) -> String {
        format!("{}#{PORT}", self.node)
    }

    /// Sends messages to the service's port, in one write.
    pub(super) async fn lets_all(&mut self, messages: &[Json]) -> Verdict {
        let addressed = |message: &Json| {
            let elements = message.as_array().into_iter().flatten().cloned();
            [json!(PORT)].into_iter().chain(elements).collect()
        };
        let packets: Vec<Json> = messages.iter().map(addressed).collect();
        self.service()?.send_all(&packets).await
    }

    /// Sends the service's port a message: a tag and its arguments.
    pub(super) async fn lets(&mut self, message: Json) -> Verdict {
        self.lets_all(&[message]).await
    }

    /// Sets an entry.
    pub(super) async fn sets(&mut self, family: &str, key: &str, value: &str) -> Verdict {
        self.lets(json!(["db_set", family, key, value])).await
    }

    /// The ID of a port of the suite to which the service can report.
    pub(super) fn suite_port(&mut self, name: &str) -> Verdict<String> {
        Ok(self.service()?.port(name))
    }

    /// Makes the service monitor a port, and report under the label when the monitor fires.
    pub(super) async fn monitors(&mut self, label: &str, port: &str) -> Verdict {
        let to = self.suite_port("fired")?;
        self.lets(json!(["mon", label, port, to])).await
    }

    /// Waits until a monitor fires, with this beginning of its reason.
    pub(super) async fn fires(&mut self, label: &str, reason: &[&str]) -> Verdict {
        let within = self.net.settle();
        let mut wanted = vec![json!("fired"), json!(label)];
        wanted.extend(reason.iter().map(|word| json!(word)));
        wanted.push(json!(REST));
        let any = json!(["fired", label, REST]);
        let packet = self.service()?.expect_within(any, within).await?;
        match pattern::matches_packet(&json!(wanted), &packet) {
            true => Ok(()),
            false => {
                miss(format!("the monitor of {} fired with {}", self.role, show_packet(&packet)))
            }
        }
    }

    /// How often a monitor has fired, which must be for the loss of that node, when everything sent before has
    /// taken effect.
    pub(super) async fn times_fired(&mut self, label: &str, lost: &str) -> Verdict<usize> {
        let all = self.all(json!(["fired", label, REST])).await?;
        let wanted = json!(["fired", label, "transport_error", lost, REST]);
        match all.iter().find(|packet| !pattern::matches_packet(&wanted, packet)) {
            None => Ok(all.len()),
            Some(packet) => {
                miss(format!("the monitor of {} fired with {}", self.role, show_packet(packet)))
            }
        }
    }

    /// Checks that the monitor has not fired, or not again, after everything sent before has taken
    /// effect.
    pub(super) async fn fires_not(&mut self, label: &str) -> Verdict {
        let unwanted = json!(["fired", label, REST]);
        let role = self.role;
        let nothing = self.service()?.nothing(unwanted).await;
        nothing.map_err(|stop| stop.about(|what| format!("a monitor of {role}: {what}")))
    }

    /// All packets of a kind that have arrived at the suite.
    pub(super) async fn all(&mut self, kind: Json) -> Verdict<Vec<Packet>> {
        self.service()?.all(kind).await
    }

    /// A family in its database; `None` if it does not answer, since it is not global yet.
    async fn database(&mut self, family: &str) -> Verdict<Option<Json>> {
        self.questions += 1;
        let id = format!("q{}", self.questions);
        let eye = &mut self.up()?.eye;
        eye.send(json!(["", "g_db_family", family, id])).await?;
        match eye.expect_within(json!(["", "g_reply", id, ANY]), ANSWER_TIMEOUT).await {
            Ok(reply) => Ok(Some(reply.get(3).map(pattern::to_json).unwrap_or_default())),
            Err(Stop::Late(_)) => Ok(None),
            Err(stop) => Err(stop),
        }
    }

    /// The content of a family that its service has received.
    pub(super) async fn sees(&mut self, family: &str) -> Verdict<Json> {
        self.questions += 1;
        let port = format!("q{}", self.questions);
        let up = self.up()?;
        let request = json!([PORT, "db_family", family, up.eye.port(&port)]);
        up.eye.send(request).await?;
        let answer = up.eye.expect(json!([port, ANY])).await?;
        Ok(answer.get(1).map(pattern::to_json).unwrap_or_default())
    }
}

/// A connection with a node that is being started; retries until the timeout.
async fn meets(ctx: &Ctx, role: &str, deadline: Instant) -> Verdict<Session> {
    let mut seen = Seen::Late("nobody listens".to_owned());
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return late(format!("no connection with {role}: {seen}"));
        }
        match timeout(left, ctx.try_meet(role, &ctx.shake("suite"))).await {
            Ok(Ok(session)) => return Ok(session),
            Ok(Err(error)) => seen = error,
            Err(_) => {}
        }
        sleep(REDIAL_DELAY).await;
    }
}

/// Waits until the databases of all these global nodes have exactly these entries of a family.
pub(super) async fn hold(
    net: &Net,
    globals: &mut [&mut Member],
    family: &str,
    wanted: &Json,
) -> Verdict {
    hold_after(net, Duration::ZERO, globals, family, wanted).await
}

/// The same after a silence of this length: TCP sends again what was lost in it after at most as long a time.
pub(super) async fn hold_after(
    net: &Net,
    silence: Duration,
    globals: &mut [&mut Member],
    family: &str,
    wanted: &Json,
) -> Verdict {
    net.note(format!("the databases of all global nodes should have {wanted}"));
    let wait = net.wait_after(silence);
    for global in globals {
        loop {
            let role = global.role;
            let seen = global.database(family).await?.map(sorted);
            if seen.as_ref() == Some(wanted) {
                break;
            }
            let seen = seen.map_or("no answer".to_owned(), |seen| seen.to_string());
            wait.after(|| format!("the database of {role} has {seen}, not {wanted}")).await?;
        }
    }
    Ok(())
}

/// Sorted entries; null counts as an empty hash.
pub(super) fn sorted(entries: Json) -> Json {
    match entries {
        Json::Object(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(entries.into_iter().collect())
        }
        Json::Null => Json::Object(serde_json::Map::new()),
        other => other,
    }
}
