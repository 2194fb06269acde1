//! `relay` and `replay`: conversations of other nodes, live or recorded, in readable form.

mod relay;
mod replay;
mod tape;
mod transcript;
mod words;

use crate::errors::CliError;
use crate::grammar::{Invocation, Options};
use words::Words;

/// One of the two subcommands, with valid arguments.
pub(crate) enum Step {
    Relay(relay::Relay),
    Replay(replay::Replay),
}

impl Step {
    pub(crate) fn relay(invocation: &Invocation<'_>) -> Result<Self, CliError> {
        relay::Relay::prepare(Words::read(invocation)?).map(Self::Relay)
    }

    pub(crate) fn replay(invocation: &Invocation<'_>) -> Result<Self, CliError> {
        replay::Replay::prepare(Words::read(invocation)?).map(Self::Replay)
    }
}

pub(crate) fn execute(step: Step, options: Options) -> Result<(), CliError> {
    match step {
        Step::Relay(relay) => relay.execute(options),
        Step::Replay(replay) => replay.execute(options),
    }
}
