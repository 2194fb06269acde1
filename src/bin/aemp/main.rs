//! The `aemp` command: configuration and operation of nodes, with the grammar of Perl's tool.

mod chain;
mod commands;
mod completions;
mod config;
mod errors;
mod grammar;
mod help;
mod logging;
mod manual;
mod network;
mod profiles;
mod run;
mod secrets;
mod table;

use errors::{CliError, print_line};
use grammar::{Grammar, Request};
use std::process::ExitCode;

fn main() -> ExitCode {
    match answer() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            print_line("", &error);
            error.exit_code()
        }
    }
}

fn answer() -> Result<(), CliError> {
    let grammar = Grammar::new();
    let words = grammar::words(std::env::args_os().skip(1).collect())?;
    let (options, request) = grammar::parse(&grammar, words)?;
    match request {
        Request::Help(Some(subcommand)) => chain::print_octets(help::about(subcommand).as_bytes()),
        Request::Help(None) => chain::print_octets(help::overview(&grammar).as_bytes()),
        Request::Version => chain::print_octets(help::VERSION.as_bytes()),
        Request::Chain(chain) => chain::execute(&chain, &grammar, options),
    }
}
