//! The `aemp` command: configuration and operation of nodes, with the grammar of Perl's tool.

mod chain;
mod commands;
mod complete;
mod completions;
mod config;
mod conform;
mod doctor;
mod errors;
mod grammar;
mod help;
mod listening;
mod logging;
mod manual;
mod network;
mod profiles;
mod run;
mod secrets;
mod systemd;
mod table;
mod watchdog;

use errors::{CliError, print_line};
use grammar::{Grammar, Request};
use std::process::ExitCode;

fn main() -> ExitCode {
    match answer() {
        Ok(code) => code,
        Err(error) => {
            print_line("", &error);
            error.exit_code()
        }
    }
}

fn answer() -> Result<ExitCode, CliError> {
    let grammar = Grammar::new();
    if let Some(candidates) = completions::asked_for(&grammar) {
        chain::print_octets(candidates.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let words = grammar::words(std::env::args_os().skip(1).collect())?;
    let (options, request) = grammar::parse(&grammar, words)?;
    let text = match request {
        Request::Help(Some(subcommand)) => help::about(subcommand),
        Request::Help(None) => help::overview(&grammar),
        Request::Version => help::VERSION.into(),
        Request::Chain(chain) => return chain::execute(&chain, &grammar, options),
    };
    chain::print_octets(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
