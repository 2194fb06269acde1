//! A process that takes commands and reports events as JSON, one per line.

use crate::process::{Process, Stream};
use serde_json::Value;
use std::collections::VecDeque;

/// The test's end of such a process.
#[derive(Debug)]
pub struct Dialogue {
    process: Process,
    lines_read: usize,
    unclaimed: VecDeque<Value>,
}

impl Dialogue {
    /// Talks to `process`.
    pub fn new(process: Process) -> Self {
        Dialogue { process, lines_read: 0, unclaimed: VecDeque::new() }
    }

    /// The underlying process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Gives a command.
    pub fn tell(&mut self, command: &Value) {
        self.process.send_line(&command.to_string());
    }

    /// Waits for the first unclaimed event that `wanted` accepts, and claims it.
    ///
    /// # Panics
    /// Fails the test, with everything that the process printed, if no such event comes.
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.unclaimed.iter().position(&wanted) {
            return self.unclaimed.remove(at).unwrap();
        }
        let (lines_read, unclaimed) = (&mut self.lines_read, &mut self.unclaimed);
        self.process.wait_for(what, |lines| {
            while let Some(line) = lines.get(*lines_read) {
                *lines_read += 1;
                if line.stream == Stream::Err {
                    continue;
                }
                let event: Value = serde_json::from_str(&line.text)
                    .unwrap_or_else(|error| panic!("{error} in the event {}", line.text));
                if wanted(&event) {
                    return Some(event);
                }
                unclaimed.push_back(event);
            }
            None
        })
    }
}
