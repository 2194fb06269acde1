//! `doctor`: finds out, and says in plain words, what keeps a node from working.

use crate::errors::CliError;
use crate::findings::{Findings, State};
use crate::grammar::Options;
use crate::links::{Links, LinksError};
use crate::node_args::NodeArgs;
use crate::show;
use aemp::NodeId;
use aemp::config::Settings;
use aemp::config::address::{Endpoint, interface_addresses};
use aemp::config::node_id::{node_name, unique_string};
use aemp::node::probe::{Probe, ProbeError, probe};
use aemp::node::tls::{Identity, Moment, Refusal, TlsError};
use aemp::wire::auth::AuthMethod;
use aemp::wire::protection::Protection;
use aemp::wire::session::HandshakeError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

const TIMEOUT: Duration = Duration::from_secs(5);
/// A difference of clocks beyond this many seconds is reported.
const MAX_CLOCK_DIFFERENCE: f64 = 5.0;

const NOT_HERE: &str = "is no address of this machine now";

/// Examines the configuration that `aemp run` would use with the same arguments.
pub(crate) fn execute(request: &NodeArgs, options: Options) -> Result<(), CliError> {
    let settings = request.settings()?;
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(examine(settings, options));
    // Do not wait for names that are still being resolved.
    runtime.shutdown_background();
    outcome
}

async fn examine(settings: Settings, options: Options) -> Result<(), CliError> {
    let mut findings = Findings::new(options.json);
    examine_configuration(&settings, &mut findings)?;
    examine_methods(&settings, &mut findings)?;
    let identity = examine_certificate(&settings, &mut findings)?;
    let doctor = Arc::new(Doctor { settings, identity, patience: TIMEOUT });
    let listeners = doctor.examine_binds(&mut findings).await?;
    doctor.examine_seeds(&listeners, &mut findings).await?;
    if options.links {
        // The asking node does not listen, but one that listens here may be its own seed.
        drop(listeners);
        let links = Links::of_network(&doctor.settings, &visitor()?).await;
        examine_links(links, &mut findings)?;
    }
    findings.finish()
}

/// A unique node ID for each visit, as several visits may reach the same node at the same time.
fn visitor() -> Result<NodeId, CliError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(CliError::Random)?;
    let text = format!("doctor/{}/{}", node_name(), unique_string(u128::from_ne_bytes(random)));
    NodeId::new(text.as_str()).map_err(|error| CliError::InvalidId {
        what: "node ID",
        text,
        problem: error.to_string(),
    })
}

fn examine_configuration(settings: &Settings, findings: &mut Findings) -> Result<(), CliError> {
    let secret = match &settings.secret {
        Some(secret) => format!("a secret of {} octets", secret.expose().len()),
        None => "no secret".into(),
    };
    let certificate = if settings.cert.is_some() { "a certificate" } else { "no certificate" };
    let (profile, id) = (&settings.profile, settings.node_id.as_str());
    let text = format!("profile {profile}, node ID {id}, {secret}, {certificate}");
    findings.add(State::Fine, "configuration", &text)
}

/// Whether any method is left by which other nodes can authenticate to this one.
fn examine_methods(settings: &Settings, findings: &mut Findings) -> Result<(), CliError> {
    let can_be_checked = |method: &AuthMethod| match method.needs_certificate() {
        true => settings.cert.is_some(),
        false => settings.secret.is_some(),
    };
    if settings.auth_accept.iter().any(can_be_checked) {
        return Ok(());
    }
    let accepted: Vec<&str> = settings.auth_accept.iter().map(|method| method.name()).collect();
    let needed = if settings.cert.is_some() { "a secret" } else { "a certificate" };
    let text = format!(
        "no node can authenticate here: others may only use {}, which needs {needed} here \
         (setauth_accept, setsecret, setcert)",
        accepted.join(", ")
    );
    findings.add(State::Wrong, "auth_accept", &text)
}

fn examine_certificate(
    settings: &Settings,
    findings: &mut Findings,
) -> Result<Option<Identity>, CliError> {
    const WHAT: &str = "certificate";
    let Some(pem) = &settings.cert else {
        return Ok(None);
    };
    let identity = match Identity::from_pem(pem.expose().as_bytes()) {
        Ok(identity) => identity,
        Err(error) => {
            findings.add(State::Wrong, WHAT, &error.to_string())?;
            return Ok(None);
        }
    };
    let (fingerprint, validity) = (identity.fingerprint(), identity.validity());
    let text = format!(
        "SHA-256 {fingerprint}, valid from {} to {}",
        validity.not_before, validity.not_after
    );
    findings.add(State::Fine, WHAT, &text)?;
    for warning in identity.dates().warnings(Moment::now()) {
        let state = if warning.is_fatal() { State::Wrong } else { State::Note };
        findings.add(state, WHAT, &warning.to_string())?;
    }
    Ok(Some(identity))
}

/// Examines which connections of the network are encrypted.
fn examine_links(
    links: Result<Links, LinksError>,
    findings: &mut Findings,
) -> Result<(), CliError> {
    const WHAT: &str = "links";
    let links = match links {
        Ok(links) => links,
        Err(error) => return findings.add(State::Wrong, WHAT, &error.to_string()),
    };
    let (bound, by_certificate) = (links.count("bound"), links.count("certificates"));
    let text = format!(
        "{} of {} connections are encrypted ({bound} bound to the secret, {by_certificate} by \
         certificate), {} plain",
        bound + by_certificate,
        links.len(),
        links.count("plain"),
    );
    findings.add(State::Fine, WHAT, &text)?;
    for (why, ends) in links.plain() {
        let text = format!("{} plain ({why}): {}", ends.len(), beginning(&ends));
        findings.add(State::Note, WHAT, &text)?;
    }
    if !links.silent.is_empty() {
        let text = format!(
            "{} of {} nodes do not report theirs (Perl nodes, and nodes in secure mode), so \
             connections between them are not counted: {}",
            links.silent.len(),
            links.silent.len() + links.tellers,
            beginning(&links.silent),
        );
        findings.add(State::Note, WHAT, &text)?;
    }
    Ok(())
}

/// The first of several things, and the number of the others.
fn beginning(things: &[String]) -> String {
    const MAX_NAMED: usize = 10;
    let shown = things.iter().take(MAX_NAMED).cloned().collect::<Vec<_>>().join(", ");
    match things.len().saturating_sub(MAX_NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The finding about one address or name.
type Diagnosis = (State, String);

struct Doctor {
    settings: Settings,
    identity: Option<Identity>,
    /// How long an address may take to answer.
    patience: Duration,
}

impl Doctor {
    /// Listens on the addresses on which the node would.
    async fn examine_binds(&self, findings: &mut Findings) -> Result<Vec<TcpListener>, CliError> {
        let interfaces = interface_addresses().unwrap_or_default();
        let mut listeners = Vec::new();
        let mut without_address = Vec::new();
        let mut is_running = false;
        for bind in &self.settings.binds {
            let what = format!("bind {bind}");
            let endpoints = bind.endpoints(&node_name(), &interfaces);
            if endpoints.is_empty() {
                without_address.push(what.clone());
            }
            for endpoint in endpoints {
                match self.resolve(&endpoint).await {
                    Err(error) => findings.add(State::Wrong, &what, &unresolved(&error))?,
                    Ok(addresses) => {
                        let mut diagnoses = Vec::new();
                        for address in addresses {
                            diagnoses.push(match TcpListener::bind(address).await {
                                Ok(listener) => {
                                    listeners.push(listener);
                                    let text = format!("{address} can be listened on");
                                    (State::Fine, text)
                                }
                                Err(error) => self.taken(address, &error).await?,
                            });
                        }
                        let some = diagnoses.iter().any(|(state, _)| *state == State::Fine);
                        is_running |= some;
                        for (state, text) in diagnoses {
                            // It is enough that one of the addresses of a name works.
                            let is_spare =
                                some && state == State::Wrong && text.ends_with(NOT_HERE);
                            let state = if is_spare { State::Note } else { state };
                            findings.add(state, &what, &text)?;
                        }
                    }
                }
            }
        }
        for what in without_address {
            let state = if is_running { State::Note } else { State::Wrong };
            let text = "this machine has no such address now (loopback and fe80:: do not count): \
                        nothing listens there until it has one";
            findings.add(state, &what, text)?;
        }
        if self.settings.binds.is_empty() {
            let text = "none: other nodes cannot connect to this node, it only connects to them";
            findings.add(State::Note, "binds", text)?;
        }
        Ok(listeners)
    }

    /// The reason why an address cannot be listened on.
    async fn taken(&self, address: SocketAddr, error: &io::Error) -> Result<Diagnosis, CliError> {
        let wrong = |text| Ok((State::Wrong, text));
        match error.kind() {
            io::ErrorKind::AddrInUse => {}
            io::ErrorKind::AddrNotAvailable => {
                return wrong(format!("{address} {NOT_HERE}"));
            }
            io::ErrorKind::PermissionDenied => {
                return wrong("ports below 1024 need root: choose another one".into());
            }
            _ => return wrong(format!("{address}: {error}")),
        }
        let template = self.settings.node_id.as_str();
        match self.probe(address).await? {
            Ok(found) if show::plain(found.node.as_str()) == template => {
                Ok((State::Fine, format!("node {} runs there already", found.node)))
            }
            Ok(found) => wrong(format!(
                "taken by node {}: if that is not this node, choose another port",
                found.node
            )),
            Err(_) => wrong(format!(
                "the port of {address} is taken by another program, or by a node of another \
                 network: choose another port"
            )),
        }
    }

    async fn probe(&self, address: SocketAddr) -> Result<Result<Probe, ProbeError>, CliError> {
        let address = address.to_string();
        Ok(probe(&self.settings, &visitor()?, &address, self.patience).await)
    }

    /// Visits all seeds at the same time, and reports them in the configured order.
    async fn examine_seeds(
        self: &Arc<Self>,
        listeners: &[TcpListener],
        findings: &mut Findings,
    ) -> Result<(), CliError> {
        let own: Vec<SocketAddr> =
            listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let own: Arc<[SocketAddr]> = own.into();
        let interfaces = interface_addresses().unwrap_or_default();
        let mut visits = Vec::new();
        for seed in &self.settings.seeds {
            for endpoint in seed.endpoints(&node_name(), &interfaces) {
                let visit = self.clone().visit(endpoint, own.clone());
                visits.push((format!("seed {seed}"), tokio::spawn(visit)));
            }
        }
        for (what, visit) in visits {
            for (state, text) in visit.await.map_err(|error| CliError::Runtime(error.into()))?? {
                findings.add(state, &what, &text)?;
            }
        }
        if self.settings.seeds.is_empty() {
            let text = "none: this node cannot find a network; other nodes have to connect to it";
            findings.add(State::Note, "seeds", text)?;
        }
        Ok(())
    }

    /// The findings about a seed's endpoint, from all its addresses at the same time.
    async fn visit(
        self: Arc<Self>,
        endpoint: Endpoint,
        own: Arc<[SocketAddr]>,
    ) -> Result<Vec<Diagnosis>, CliError> {
        let addresses = match self.resolve(&endpoint).await {
            Ok(addresses) => addresses,
            Err(error) => return Ok(vec![(State::Wrong, unresolved(&error))]),
        };
        if addresses.is_empty() {
            return Ok(vec![(State::Wrong, "the name has no address".into())]);
        }
        if addresses.iter().any(|address| own.contains(address)) {
            let text = "this is the node itself, which will be a global node".into();
            return Ok(vec![(State::Fine, text)]);
        }
        let visits: Vec<_> = addresses
            .into_iter()
            .map(|address| {
                let doctor = self.clone();
                tokio::spawn(async move {
                    let found = doctor.probe(address).await?;
                    Ok::<_, CliError>(doctor.diagnose(&address, found))
                })
            })
            .collect();
        let mut diagnoses = Vec::new();
        for visit in visits {
            diagnoses.push(visit.await.map_err(|error| CliError::Runtime(error.into()))??);
        }
        Ok(diagnoses)
    }

    async fn resolve(&self, endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        match endpoint {
            Endpoint::Address(address) => Ok(vec![*address]),
            Endpoint::Name(host, port) => {
                let lookup = tokio::net::lookup_host((host.as_str(), *port));
                match tokio::time::timeout(self.patience, lookup).await {
                    Ok(found) => Ok(found?.collect()),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
            }
        }
    }

    /// Explains the result of a handshake.
    fn diagnose(&self, address: &SocketAddr, found: Result<Probe, ProbeError>) -> Diagnosis {
        let error = match found {
            Ok(found) => return healthy(&found),
            Err(error) => error,
        };
        let ours = self.identity.as_ref().map(|identity| identity.fingerprint().to_string());
        let ours = ours.unwrap_or_default();
        let text = match &error {
            ProbeError::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => {
                    format!("nothing listens at {address}: is the seed running, is the port right?")
                }
                io::ErrorKind::TimedOut => {
                    format!("{address} does not answer: is there a firewall, is the address right?")
                }
                _ => format!("{address} cannot be reached: {error}"),
            },
            ProbeError::Timeout(limit) => format!(
                "{address} accepts connections, but there is no handshake within {} s: is it an \
                 AEMP node?",
                limit.as_secs()
            ),
            ProbeError::Handshake(HandshakeError::WrongBoundToken) => {
                "wrong secret: the seed has another one than this node (setsecret); or something \
                 on the way terminates the encryption"
                    .into()
            }
            ProbeError::Handshake(HandshakeError::WrongSecret { .. }) => {
                "wrong secret: the seed has another one than this node (setsecret)".into()
            }
            ProbeError::Handshake(HandshakeError::ClosedInAuthentication) => {
                let hint = match self.identity {
                    Some(_) => "",
                    None => {
                        "; or it requires a certificate, which this node does not have \
                             (setcert)"
                    }
                };
                format!(
                    "wrong secret, most likely: the seed closed the connection when this node \
                     authenticated (setsecret){hint}; or its auth_accept excludes the methods that \
                     this node offers"
                )
            }
            ProbeError::Handshake(
                HandshakeError::NoCommonAuth { .. }
                | HandshakeError::MethodRefused { .. }
                | HandshakeError::EncryptionRequired { .. },
            ) => format!("no common method: {error} (auth_offer, auth_accept, cert, secret)"),
            ProbeError::Tls(TlsError::Certificate { fingerprint, reason }) => match reason {
                Refusal::UnknownIssuer => format!(
                    "certificate of another network: the seed's is SHA-256 {fingerprint}, this \
                     node's SHA-256 {ours} (setcert)"
                ),
                reason => format!(
                    "the seed's certificate (SHA-256 {fingerprint}) cannot be used: {reason}"
                ),
            },
            ProbeError::Tls(TlsError::Closed | TlsError::Alert { .. }) => {
                format!(
                    "{error}; ours is SHA-256 {ours}: does it belong to another network \
                         (setcert)?"
                )
            }
            error => error.to_string(),
        };
        (State::Wrong, text)
    }
}

fn healthy(found: &Probe) -> Diagnosis {
    let (node, provider) = (&found.node, show::text(found.provider.as_ref()));
    let cipher = found.tls.as_deref().unwrap_or_default();
    let tls = match found.protection {
        Protection::Certificates => format!("encrypted by certificate ({cipher})"),
        Protection::Bound => format!("encrypted and bound to the secret ({cipher})"),
        Protection::Plain(why) => format!("not encrypted: {}", why.name()),
    };
    let reached =
        format!("node {node} ({provider}) answers: {}, {}, {tls}", found.method, found.framing);
    match found.clock_ahead {
        Some(ahead) if ahead.abs() > MAX_CLOCK_DIFFERENCE => {
            let way = if ahead > 0.0 { "ahead of" } else { "behind" };
            let text = format!("{reached}; but its clock is {:.0} s {way} this one", ahead.abs());
            (State::Wrong, text)
        }
        _ => (State::Fine, reached),
    }
}

fn unresolved(error: &io::Error) -> String {
    format!("the name does not resolve ({error}): is it right, does DNS work?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use aemp::config::{Args, Effective};
    use serde_json::Value;

    /// If they were visited one after another, the first would wait for its answer for ever.
    #[tokio::test]
    async fn all_seeds_are_visited_before_the_first_has_answered() {
        let mut listeners = Vec::new();
        for _ in 0..5 {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<String> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        let args = ["x", "norc", "1", "seeds", &addresses.join(",")].map(Value::from);
        let args = Args::from_run_arguments(&args);
        let (settings, _) =
            Effective::resolve(&args.unwrap(), None, "x").unwrap().settings().unwrap();
        let patience = Duration::from_secs(3600);
        let doctor = Arc::new(Doctor { settings, identity: None, patience });
        let mut findings = Findings::new(true);
        let none_answers = async {
            let mut visitors = Vec::new();
            for listener in &listeners {
                visitors.push(listener.accept().await.unwrap());
            }
            while visitors.pop().is_some() {
                tokio::task::yield_now().await;
            }
        };
        let (seen, ()) = tokio::join!(doctor.examine_seeds(&[], &mut findings), none_answers);
        seen.unwrap();
        let configured: Vec<String> =
            addresses.iter().map(|address| format!("seed {address}")).collect();
        assert!(findings.subjects().eq(configured.iter().map(String::as_str)));
    }
}
