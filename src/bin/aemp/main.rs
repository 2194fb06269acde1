//! The `aemp` command: configuration and operation of nodes, with the grammar of Perl's tool.

mod chain;
mod commands;
mod complete;
mod completions;
mod config;
mod conform;
mod doctor;
mod errors;
mod findings;
mod grammar;
mod help;
mod links;
mod listening;
mod logging;
mod manual;
mod network;
mod node_args;
mod output;
mod parse;
mod profiles;
mod run;
mod secrets;
mod show;
mod signals;
mod stderr;
mod systemd;
mod table;
mod watchdog;

use errors::CliError;
use grammar::Grammar;
use output::{print_line, print_octets};
use parse::Request;
use std::process::ExitCode;
use std::time::Duration;

/// How long writing the last remarks may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    stderr::report_panics(|| {});
    let code = match std::panic::catch_unwind(answer) {
        Ok(Ok(code)) => code,
        Ok(Err(error)) => {
            print_line("", &error);
            error.exit_code()
        }
        // The panic itself has been reported already.
        Err(_) => ExitCode::from(watchdog::PANIC),
    };
    stderr::flush(FLUSH_TIMEOUT);
    code
}

fn answer() -> Result<ExitCode, CliError> {
    let grammar = Grammar::new(table::subcommands());
    if let Some(candidates) = completions::asked_for(&grammar) {
        print_octets(candidates.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    let words = parse::words(std::env::args_os().skip(1).collect())?;
    let (options, request) = parse::parse(&grammar, words)?;
    let text = match request {
        Request::Help(Some(subcommand)) => help::about(subcommand),
        Request::Help(None) => help::overview(&grammar),
        Request::Version => help::VERSION.into(),
        Request::Chain(chain) => return chain::execute(&chain, &grammar, options),
    };
    print_octets(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
