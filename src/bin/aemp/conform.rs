//! `aemp conform`: tests any node and reports the statements of the protocol that it does not meet.

use crate::errors::CliError;
use crate::output::{print_line, print_octets};
use crate::secrets;
use aemp::config::coerce;
use aemp::config::octets::to_octets;
use aemp::conform::{
    Finding, Identity, Level, NetworkFinding, NetworkPlan, NetworkReport, Place, Plan, Position,
    Profile, Progress, Report, Start, State, Target, list, list_network, own_loopback, run,
    run_network,
};
use aemp::wire::framing::Framing;
use serde_json::Value;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What the command line asks for.
pub(crate) enum Request {
    List(Option<Position>),
    ListNetwork,
    Run(Box<Plan>, Output),
    RunNetwork(Box<NetworkPlan>, Output),
}

/// How the results are shown.
pub(crate) struct Output {
    json: bool,
    junit: Option<PathBuf>,
    /// Whether checks that passed are shown too.
    all: bool,
}

/// The options as given, before they are checked together.
#[derive(Default)]
struct Draft {
    address: Option<String>,
    listen: Option<IpAddr>,
    command: Option<String>,
    network: Option<PathBuf>,
    list: bool,
    json: bool,
    junit: Option<PathBuf>,
    all: bool,
    only: Vec<String>,
    level: Option<Level>,
    profile: Option<&'static Profile>,
    target: Target,
    /// The first option that applies only to a single node.
    of_one_node: Option<String>,
}

impl Request {
    pub(crate) fn prepare(arguments: &[Value]) -> Result<Self, CliError> {
        let mut draft = Draft::default();
        let mut words = arguments.iter().map(|word| coerce::to_text(word).unwrap_or_default());
        while let Some(word) = words.next() {
            let (name, mut value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => (word, None),
            };
            let mut argument = || {
                let value = value.take().or_else(|| words.next());
                value.ok_or_else(|| usage(format!("{name} needs an argument")))
            };
            if OF_ONE_NODE.contains(&&*name) {
                draft.of_one_node.get_or_insert_with(|| name.clone());
            }
            match &*name {
                "--network" => draft.network = Some(argument()?.into()),
                "--list" => draft.list = true,
                "--json" => draft.json = true,
                "--verbose" | "-v" => draft.all = true,
                "--listen" => draft.listen = Some(parsed("--listen", &argument()?)?),
                "--command" => draft.command = Some(argument()?),
                "--junit" => draft.junit = Some(argument()?.into()),
                "--only" => draft.only.extend(argument()?.split(',').map(str::to_owned)),
                "--level" => draft.level = Some(named("level", &argument()?, Level::from_name)?),
                "--profile" => {
                    draft.profile = Some(named("profile", &argument()?, Profile::named)?);
                }
                "--secret" => draft.target.secret = Some(argument()?.into_bytes()),
                "--secret-file" => {
                    let secret = secrets::read(&argument()?)?;
                    draft.target.secret = Some(to_octets(&secret).unwrap_or(secret.into()));
                }
                "--cert" => draft.target.identity = Some(read_identity(argument()?.into())?),
                "--framing" => {
                    let framing = named("framing", &argument()?, Framing::from_name)?;
                    draft.target.framing = Some(framing);
                }
                "--service" => draft.target.service = Some(argument()?),
                "--patience" => draft.target.patience = seconds("--patience", &argument()?)?,
                "--monitor-timeout" => {
                    draft.target.monitor_timeout = seconds("--monitor-timeout", &argument()?)?;
                }
                "--connect-interval" => {
                    draft.target.connect_interval = seconds("--connect-interval", &argument()?)?;
                }
                _ if name.starts_with('-') => return Err(CliError::UnknownOption { name }),
                _ if draft.address.is_none() => draft.address = Some(name),
                _ => return Err(usage(format!("{name:?} is one address too many"))),
            }
        }
        draft.finish()
    }
}

impl Draft {
    fn finish(mut self) -> Result<Request, CliError> {
        if let Some(file) = self.network.take() {
            return self.finish_network(&file);
        }
        if self.list {
            let position = match (&self.address, self.listen) {
                (Some(_), _) => Some(Position::Dial),
                (None, Some(_)) => Some(Position::Listen),
                (None, None) => None,
            };
            return Ok(Request::List(position));
        }
        let place = match (self.address, self.listen, self.command) {
            (Some(address), None, None) => Place::Dial(address),
            (None, Some(host), None) => Place::Listen { host, start: Start::ByHand },
            (None, host, Some(command)) => {
                if !command.contains("{seeds}") {
                    return Err(usage("--command has to contain {seeds}".to_owned()));
                }
                let host = host.unwrap_or_else(own_loopback);
                Place::Listen { host, start: Start::Command(command) }
            }
            (Some(_), _, _) => {
                return Err(usage("either HOST:PORT or --listen, not both".to_owned()));
            }
            (None, None, None) => {
                return Err(usage(
                    "HOST:PORT, --listen HOST, --command or --network is missing".to_owned(),
                ));
            }
        };
        let plan = Plan {
            place,
            target: self.target,
            only: self.only,
            level: self.level.unwrap_or(Level::Ours),
            profile: self.profile,
        };
        plan.checks()?;
        let Draft { json, junit, all, .. } = self;
        Ok(Request::Run(Box::new(plan), Output { json, junit, all }))
    }

    fn finish_network(self, file: &Path) -> Result<Request, CliError> {
        if let Some(option) = self.of_one_node.or(self.address) {
            return Err(usage(format!(
                "{option} cannot be used with --network, whose file describes the nodes"
            )));
        }
        if self.list {
            return Ok(Request::ListNetwork);
        }
        let mut plan = NetworkPlan::read(file)?;
        plan.only = self.only;
        plan.checks()?;
        let Draft { json, junit, all, .. } = self;
        Ok(Request::RunNetwork(Box::new(plan), Output { json, junit, all }))
    }
}

/// The options that apply only to a single node under test.
const OF_ONE_NODE: &[&str] = &[
    "--listen",
    "--command",
    "--level",
    "--profile",
    "--secret",
    "--secret-file",
    "--cert",
    "--framing",
    "--service",
    "--patience",
    "--monitor-timeout",
    "--connect-interval",
];

fn usage(problem: String) -> CliError {
    CliError::Conform { problem }
}

fn named<T>(what: &str, name: &str, find: fn(&str) -> Option<T>) -> Result<T, CliError> {
    find(name).ok_or_else(|| usage(format!("there is no {what} {name:?}")))
}

fn parsed<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, CliError> {
    text.parse().map_err(|_| usage(format!("{option} cannot be {text:?}")))
}

fn seconds(option: &str, text: &str) -> Result<Duration, CliError> {
    let seconds: f64 = parsed(option, text)?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && duration.as_secs() < 3600)
        .ok_or_else(|| usage(format!("{option} has to be seconds, more than 0 and below 3600")))
}

fn read_identity(path: PathBuf) -> Result<Arc<Identity>, CliError> {
    let pem = std::fs::read(&path).map_err(|source| CliError::CertUnreadable { path, source })?;
    let identity = Identity::from_pem(&pem).map_err(|error| usage(error.to_string()))?;
    Ok(Arc::new(identity))
}

/// Runs the request; fails if a check fails that was not expected to.
pub(crate) fn execute(request: Request) -> Result<(), CliError> {
    match request {
        Request::List(position) => print_octets(list(position).as_bytes()),
        Request::ListNetwork => print_octets(list_network().as_bytes()),
        Request::Run(plan, output) => {
            let profile = plan.profile;
            let show = !output.json;
            let findings = to_the_end(run(*plan, |progress| tell(progress, profile, show)))?;
            let report = Report::new(findings?, profile);
            output.write(|| report.junit(), || report.json(), |all| report.text(all))?;
            verdict(report.count(State::Missed))
        }
        Request::RunNetwork(plan, output) => {
            let (show, all) = (!output.json, output.all);
            let tell = move |finding: &NetworkFinding| {
                let state = NetworkReport::state(finding);
                if show && (all || state == State::Missed) {
                    let (first, second) = &finding.pair;
                    let (check, variant) = (finding.check.id, finding.variant);
                    let text = format!("{check}, {} x {}, {variant}", first.name, second.name);
                    print_line(&format!("{}: ", state.name()), &text);
                }
            };
            let report = NetworkReport::new(to_the_end(run_network(*plan, tell))??);
            output.write(|| report.junit(), || report.json(), |all| report.text(all))?;
            verdict(report.count(State::Missed))
        }
    }
}

fn to_the_end<T>(run: impl Future<Output = T>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let result = runtime.block_on(run);
    // Do not wait for connections that are still waiting for a node.
    runtime.shutdown_background();
    Ok(result)
}

fn verdict(missed: usize) -> Result<(), CliError> {
    match missed {
        0 => Ok(()),
        count => Err(CliError::Nonconforming { count }),
    }
}

impl Output {
    fn write(
        self,
        junit: impl FnOnce() -> String,
        json: impl FnOnce() -> Value,
        text: impl FnOnce(bool) -> String,
    ) -> Result<(), CliError> {
        if let Some(path) = self.junit {
            std::fs::write(&path, junit()).map_err(CliError::Output)?;
        }
        match self.json {
            true => print_octets(format!("{}\n", json()).as_bytes()),
            false => print_octets(text(self.all).as_bytes()),
        }
    }
}

/// Prints what somebody has to know during the run to standard error.
fn tell(progress: &Progress, profile: Option<&'static Profile>, show: bool) {
    match progress {
        Progress::StartWith(seeds) => {
            let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
            print_line("start the node with these seeds: ", &seeds.join(","));
        }
        Progress::Found(finding) if show && is_unexpected(finding, profile) => {
            print_line("missed: ", &finding.check.id);
        }
        Progress::Found(_) => {}
    }
}

fn is_unexpected(finding: &Finding, profile: Option<&'static Profile>) -> bool {
    Report::new(Vec::new(), profile).state(finding) == State::Missed
}
