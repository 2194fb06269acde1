//! `aemp conform`: tests a node, whoever wrote it, and says what it does not keep.

use crate::errors::CliError;
use crate::output::{print_line, print_octets};
use crate::secrets;
use aemp::config::coerce;
use aemp::config::octets::to_octets;
use aemp::conform::{
    Finding, Identity, Level, Place, Plan, Position, Profile, Progress, Report, Start, State,
    Target, list, run,
};
use aemp::wire::framing::Framing;
use serde_json::Value;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What there is to do.
pub(crate) enum Request {
    List(Option<Position>),
    Run(Box<Job>),
}

pub(crate) struct Job {
    plan: Plan,
    json: bool,
    junit: Option<PathBuf>,
    /// Whether checks that passed are shown too.
    all: bool,
}

/// What the options say, before it is known whether it makes sense.
#[derive(Default)]
struct Draft {
    address: Option<String>,
    listen: Option<IpAddr>,
    command: Option<String>,
    list: bool,
    json: bool,
    junit: Option<PathBuf>,
    all: bool,
    only: Vec<String>,
    level: Option<Level>,
    profile: Option<&'static Profile>,
    target: Target,
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
            match &*name {
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
                _ => return Err(usage(format!("{name:?} is one address too much"))),
            }
        }
        draft.finish()
    }
}

impl Draft {
    fn finish(self) -> Result<Request, CliError> {
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
                let host = host.unwrap_or(IpAddr::from([127, 0, 0, 1]));
                Place::Listen { host, start: Start::Command(command) }
            }
            (Some(_), _, _) => {
                return Err(usage("either HOST:PORT or --listen, not both".to_owned()));
            }
            (None, None, None) => {
                return Err(usage("HOST:PORT, --listen HOST or --command is missing".to_owned()));
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
        Ok(Request::Run(Box::new(Job { plan, json, junit, all })))
    }
}

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

/// Does it, and fails if the node misses what nobody expected.
pub(crate) fn execute(request: Request) -> Result<(), CliError> {
    let job = match request {
        Request::List(position) => return print_octets(list(position).as_bytes()),
        Request::Run(job) => job,
    };
    let profile = job.plan.profile;
    let runtime = tokio::runtime::Runtime::new().map_err(CliError::Runtime)?;
    let show = !job.json;
    let findings = runtime.block_on(run(job.plan, |progress| tell(progress, profile, show)));
    // Whatever still waits for the node is not waited for.
    runtime.shutdown_background();
    let report = Report::new(findings?, profile);
    if let Some(path) = job.junit {
        std::fs::write(&path, report.junit()).map_err(CliError::Output)?;
    }
    match job.json {
        true => print_octets(format!("{}\n", report.json()).as_bytes())?,
        false => print_octets(report.text(job.all).as_bytes())?,
    }
    match report.count(State::Missed) {
        0 => Ok(()),
        count => Err(CliError::Nonconforming { count }),
    }
}

/// What has to be known while it runs goes to standard error.
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
