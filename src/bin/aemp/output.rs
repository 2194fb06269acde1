//! Output of the command: results, whose loss is an error, and remarks, which may be lost.

use crate::errors::CliError;
use crate::stderr;
use std::io::{self, Write};

/// Prints to standard output. It is not an error if the reader has closed the pipe.
pub(crate) fn print_octets(octets: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(octets).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::Output(error)),
        _ => Ok(()),
    }
}

/// Prints a line to standard output.
pub(crate) fn say(line: &str) -> Result<(), CliError> {
    print_octets(format!("{line}\n").as_bytes())
}

/// Prints one line to standard error, with control characters escaped.
pub(crate) fn print_line(kind: &str, text: &impl ToString) {
    let mut line = format!("aemp: {kind}");
    for c in text.to_string().chars() {
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    stderr::write_line(line);
}
