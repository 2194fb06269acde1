//! Runs a chain of subcommands: all of it is checked first, then carried out in order.
//!
//! Consecutive changes are one change of the file, under one lock: either all of them are written
//! or none. Output of the subcommands is printed after that.

use crate::config::Edit;
use crate::errors::CliError;
use crate::grammar::{Action, Grammar, Invocation, Options};
use crate::node_args::NodeArgs;
use crate::output::{print_line, print_octets};
use crate::profiles::{Show, check_parents};
use crate::{completions, conform, doctor, help, listening, manual, network, run};
use aemp::config::rc::{self, RcError, RcFile, Scope};
use std::path::PathBuf;
use std::process::ExitCode;

/// The action of a subcommand, with everything that can be checked beforehand already checked.
enum Step {
    Edit(Edit),
    Select(String),
    DeleteProfile(String),
    Show(Show),
    Print(String),
    Run(NodeArgs),
    Doctor(NodeArgs),
    Conform(conform::Request),
    Listening(listening::Step),
    Network(network::Step),
}

impl Step {
    fn prepare(invocation: &Invocation<'_>, grammar: &Grammar) -> Result<Self, CliError> {
        if let Some(edit) = Edit::prepare(invocation)? {
            return Ok(Self::Edit(edit));
        }
        if let Some(show) = Show::prepare(invocation)? {
            return Ok(Self::Show(show));
        }
        Ok(match invocation.subcommand.action {
            Action::SelectProfile => Self::Select(invocation.text()?),
            Action::DeleteProfile => Self::DeleteProfile(invocation.text()?),
            Action::Run => Self::Run(NodeArgs::of_run(&invocation.arguments)?),
            Action::Doctor => Self::Doctor(NodeArgs::prepare(&invocation.arguments)?),
            Action::Conform => Self::Conform(conform::Request::prepare(&invocation.arguments)?),
            Action::Relay => Self::Listening(listening::Step::relay(invocation)?),
            Action::Replay => Self::Listening(listening::Step::replay(invocation)?),
            Action::Network(network) => Self::Network(network::Step::prepare(network, invocation)?),
            Action::Completions => Self::Print(completions::script(&invocation.text()?)?),
            Action::Manual => Self::Print(manual::page(grammar)),
            _ => Self::Print(help::asked_for(invocation, grammar)?),
        })
    }

    const fn changes_file(&self) -> bool {
        matches!(self, Self::Edit(_) | Self::Select(_) | Self::DeleteProfile(_))
    }
}

/// Carries out all subcommands, or none if any of them is not valid.
pub(crate) fn execute(
    chain: &[Invocation<'_>],
    grammar: &Grammar,
    options: Options,
) -> Result<ExitCode, CliError> {
    let prepared = chain.iter().map(|invocation| Step::prepare(invocation, grammar));
    let mut steps = prepared.collect::<Result<Vec<_>, _>>()?;
    if matches!(steps.as_slice(), [Step::Run(_)])
        && let Some(Step::Run(request)) = steps.pop()
    {
        return run::execute(&request, options);
    }
    let outcome = work_on_file(&steps, options)?;
    for warning in &outcome.warnings {
        print_line("warning: ", warning);
    }
    print_octets(&outcome.output)?;
    let mut network = Vec::new();
    for step in steps {
        match step {
            Step::Network(step) => network.push(step),
            Step::Doctor(request) => doctor::execute(&request, options)?,
            Step::Conform(request) => conform::execute(request)?,
            Step::Listening(step) => listening::execute(step, options)?,
            _ => {}
        }
    }
    network::execute(network, options)?;
    Ok(ExitCode::SUCCESS)
}

/// Applies all steps to the file.
fn work_on_file(steps: &[Step], options: Options) -> Result<PendingOutput, CliError> {
    let path = rc::default_path();
    if steps.iter().any(Step::changes_file) {
        let path = path.ok_or(RcError::NoPath)?;
        let outcome = RcFile::update(path.clone(), |rc| Draft::new(rc, options).apply(steps))?;
        if options.verbosity > 0 {
            print_line("", &format!("wrote {}", path.display()));
        }
        return Ok(outcome);
    }
    let reads_file = steps.iter().any(|step| matches!(step, Step::Show(_)));
    let mut rc = match path {
        Some(path) if reads_file => RcFile::load(path)?,
        _ => RcFile::empty(PathBuf::new()),
    };
    Draft::new(&mut rc, options).apply(steps)
}

/// The output and warnings to print once everything is written.
#[derive(Default)]
struct PendingOutput {
    output: Vec<u8>,
    warnings: Vec<String>,
}

/// The file while a chain changes it.
struct Draft<'a> {
    rc: &'a mut RcFile,
    options: Options,
    /// The selected profile; `None` is the top level.
    profile: Option<String>,
    outcome: PendingOutput,
}

impl<'a> Draft<'a> {
    fn new(rc: &'a mut RcFile, options: Options) -> Self {
        Self { rc, options, profile: None, outcome: PendingOutput::default() }
    }

    fn apply(mut self, steps: &[Step]) -> Result<PendingOutput, CliError> {
        for step in steps {
            match step {
                Step::Edit(edit) => self.edit(edit)?,
                Step::Select(name) => {
                    self.rc.create_profile(name);
                    self.profile = Some(name.clone());
                }
                Step::DeleteProfile(name) => {
                    self.rc.delete_profile(name);
                }
                Step::Show(show) => {
                    let shown = show.output(self.rc, self.options.json)?;
                    self.outcome.output.extend(shown);
                }
                Step::Print(text) => self.outcome.output.extend_from_slice(text.as_bytes()),
                // These run after the file is written.
                Step::Network(_) | Step::Doctor(_) | Step::Conform(_) | Step::Listening(_) => {}
                // The grammar allows nothing beside it.
                Step::Run(_) => return Err(CliError::RunNotFirst),
            }
        }
        Ok(self.outcome)
    }

    fn edit(&mut self, edit: &Edit) -> Result<(), CliError> {
        let scope = self.profile.as_deref().map_or(Scope::Defaults, Scope::Profile);
        edit.apply(self.rc, scope)?;
        self.outcome.warnings.extend(edit.warnings());
        match (edit, &self.profile) {
            (Edit::Set { key: "parent", .. }, Some(profile)) => check_parents(self.rc, profile)?,
            (Edit::Set { key: "parent", .. }, None) => self.outcome.warnings.push(
                "`parent` can only be set in a profile; write `aemp profile PROFILE setparent \
                 PARENT`"
                    .into(),
            ),
            _ => {}
        }
        Ok(())
    }
}
