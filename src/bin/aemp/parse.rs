//! Parses the words of a command line into invocations of subcommands.
//!
//! The grammar is that of Perl's tool: any number of subcommands in one line, each taking its own
//! arguments. Options (which Perl's tool does not have) may stand where a subcommand could, or right
//! after one; a word that was written as JSON is never an option.

use crate::errors::CliError;
use crate::grammar::{
    Action, Argument, Arity, Format, Grammar, Invocation, Kind, Options, SECRET_FILE, Subcommand,
};
use aemp::config::args::{ArgsError, decode_command_line};
use aemp::config::coerce;
use serde_json::Value;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// One word of the command line.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    value: Value,
    /// Whether it was written literally, not as JSON. Only such a word can be an option.
    literal: bool,
}

/// The words of the command line, where words in JSON are decoded.
pub(crate) fn words(arguments: Vec<OsString>) -> Result<Vec<Word>, ArgsError> {
    let is_json =
        |argument: &OsString| matches!(argument.as_bytes().first(), Some(b'[' | b'{' | b'"'));
    let literal: Vec<bool> = arguments.iter().map(|argument| !is_json(argument)).collect();
    let values = decode_command_line(arguments)?;
    let replaced_by_list = literal.as_slice() == [false];
    let words = values.into_iter().enumerate().map(|(index, value)| Word {
        value,
        literal: !replaced_by_list && literal.get(index).copied().unwrap_or_default(),
    });
    Ok(words.collect())
}

/// The request that a line makes.
#[derive(Debug)]
pub(crate) enum Request<'g> {
    /// Help about everything or about one subcommand; nothing else is done.
    Help(Option<&'g Subcommand>),
    Version,
    Chain(Vec<Invocation<'g>>),
}

enum Flag {
    Verbose(u8),
    Json,
    NoWatchdog,
    Links,
    /// The format, if it is in the same word.
    Format(Option<String>),
    Help,
    Version,
}

fn flag(word: &Word) -> Option<Flag> {
    if !word.literal {
        return None;
    }
    match word.value.as_str()? {
        "--verbose" => Some(Flag::Verbose(1)),
        "--json" => Some(Flag::Json),
        "--no-watchdog" => Some(Flag::NoWatchdog),
        "--links" => Some(Flag::Links),
        "--format" => Some(Flag::Format(None)),
        "--help" | "-h" => Some(Flag::Help),
        "--version" | "-V" => Some(Flag::Version),
        text => {
            if let Some(format) = text.strip_prefix("--format=") {
                return Some(Flag::Format(Some(format.into())));
            }
            let letters = text.strip_prefix('-').filter(|letters| !letters.is_empty())?;
            let count = u8::try_from(letters.len()).ok()?;
            letters.bytes().all(|letter| letter == b'v').then_some(Flag::Verbose(count))
        }
    }
}

/// A word that looks like an option where a profile could be named. A profile with such a name can
/// be written as JSON.
fn unknown_option(argument: &Argument, word: &Word) -> Option<String> {
    let text = word.value.as_str().filter(|_| word.literal && argument.kind == Kind::Profile)?;
    (text.starts_with('-') && text != SECRET_FILE).then(|| text.to_owned())
}

/// Parses a whole line. Nothing is executed before that.
pub(crate) fn parse(
    grammar: &Grammar,
    words: Vec<Word>,
) -> Result<(Options, Request<'_>), CliError> {
    let mut parser = Parser {
        grammar,
        words: words.into_iter().peekable(),
        options: Options::default(),
        chain: Vec::new(),
    };
    let solo = parser.read()?;
    let Parser { options, chain, .. } = parser;
    match solo {
        Some(request) => Ok((options, request)),
        None if chain.is_empty() => Err(CliError::NoSubcommand),
        None => Ok((options, Request::Chain(chain))),
    }
}

struct Parser<'g> {
    grammar: &'g Grammar,
    words: std::iter::Peekable<std::vec::IntoIter<Word>>,
    options: Options,
    chain: Vec<Invocation<'g>>,
}

impl<'g> Parser<'g> {
    /// Fills the chain, unless the line makes a request that stands alone.
    fn read(&mut self) -> Result<Option<Request<'g>>, CliError> {
        while let Some(word) = self.words.next() {
            match flag(&word) {
                Some(Flag::Version) => return Ok(Some(Request::Version)),
                Some(Flag::Help) => return Ok(Some(Request::Help(self.help_topic()))),
                Some(flag) => self.apply(flag)?,
                None => {
                    if let Some(request) = self.read_subcommand(&word)? {
                        return Ok(Some(request));
                    }
                }
            }
        }
        Ok(None)
    }

    /// `--help` applies to the following subcommand, or else to the one before.
    fn help_topic(&mut self) -> Option<&'g Subcommand> {
        let grammar = self.grammar;
        let next = self.words.next();
        let following = next.and_then(|word| grammar.find(word.value.as_str()?));
        following.or_else(|| self.chain.last().map(|invocation| invocation.subcommand))
    }

    fn read_subcommand(&mut self, word: &Word) -> Result<Option<Request<'g>>, CliError> {
        let name = coerce::to_text(&word.value).unwrap_or_else(|| word.value.to_string());
        if word.literal && name.starts_with('-') {
            return Err(CliError::UnknownOption { name });
        }
        let previous = self.chain.last().map(|invocation| invocation.subcommand);
        let Some(subcommand) = self.grammar.find(&name) else {
            return Err(self.grammar.unknown(&name, previous));
        };
        match subcommand.action {
            Action::Run if previous.is_some() => return Err(CliError::RunNotFirst),
            Action::Version => return Ok(Some(Request::Version)),
            _ => {}
        }
        if self.take_leading_options(subcommand)? {
            return Ok(Some(Request::Help(Some(subcommand))));
        }
        let mut invocation = Invocation { subcommand, arguments: Vec::new() };
        for argument in &subcommand.arguments {
            match argument.arity {
                Arity::Rest => {
                    if self.take_rest(&mut invocation.arguments)? {
                        return Ok(Some(Request::Help(Some(subcommand))));
                    }
                }
                Arity::Verbatim => {
                    invocation.arguments.extend(self.words.by_ref().map(|word| word.value));
                }
                Arity::Optional => {
                    let next = self.words.next_if(|word| flag(word).is_none());
                    if let Some(name) =
                        next.as_ref().and_then(|word| unknown_option(argument, word))
                    {
                        return Err(CliError::UnknownOption { name });
                    }
                    invocation.arguments.extend(next.map(|word| word.value));
                }
                Arity::Required => match self.words.next() {
                    Some(word) => invocation.arguments.push(word.value),
                    None => return Err(invocation.missing()),
                },
            }
        }
        self.chain.push(invocation);
        Ok(None)
    }

    /// Takes options right after the name. Returns whether help is requested.
    fn take_leading_options(&mut self, subcommand: &Subcommand) -> Result<bool, CliError> {
        while let Some(flag) = self.words.peek().and_then(flag) {
            match flag {
                Flag::Help if self.words.peek().is_some_and(|word| word.value == "--help") => {
                    return Ok(true);
                }
                // It has options of its own, including these.
                _ if subcommand.action == Action::Conform => return Ok(false),
                Flag::Json if subcommand.prints_json() => {}
                Flag::Help | Flag::Version => return Ok(false),
                _ if subcommand.takes_options() => {}
                _ => return Ok(false),
            }
            self.words.next();
            self.apply(flag)?;
        }
        Ok(false)
    }

    /// Takes all remaining words except options. Returns whether help is requested.
    fn take_rest(&mut self, arguments: &mut Vec<Value>) -> Result<bool, CliError> {
        while let Some(word) = self.words.next() {
            match flag(&word) {
                Some(Flag::Help) if word.value == "--help" => return Ok(true),
                Some(Flag::Help | Flag::Version) | None => arguments.push(word.value),
                Some(flag) => self.apply(flag)?,
            }
        }
        Ok(false)
    }

    /// Applies an option that changes how something is done.
    fn apply(&mut self, flag: Flag) -> Result<(), CliError> {
        match flag {
            Flag::Verbose(count) => {
                self.options.verbosity = self.options.verbosity.saturating_add(count);
            }
            Flag::Json => {
                self.options.json = true;
                self.options.format = Format::Json;
            }
            Flag::NoWatchdog => self.options.no_watchdog = true,
            Flag::Links => self.options.links = true,
            Flag::Format(name) => {
                let next = || self.words.next().and_then(|word| coerce::to_text(&word.value));
                let name = name.or_else(next).unwrap_or_default();
                self.options.format =
                    Format::from_name(&name).ok_or(CliError::UnknownFormat { name })?;
            }
            Flag::Help | Flag::Version => {}
        }
        Ok(())
    }
}
