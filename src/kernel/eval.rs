//! The Perl expressions that a node without Perl answers: those that the tools of Perl's AnyEvent::MP
//! and of this project send.

use super::question::MASTER_EXPRESSION;
use crate::value::Str;

/// The beginning of each line that Perl's `aemp shell` sends.
const SHELL_PACKAGE: &str = "package AnyEvent::MP::Kernel;";
const SHELL_ECHO: &str = "my $ECHO = '";

/// The maximum length of a known expression, including what a shell adds to it.
const MAX_EXPRESSION_LEN: usize = 4096;

/// The meaning of a known expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    Nothing,
    UpNodes,
    OwnNode,
    Master,
    MasterAndUpNodes,
    ProcessId,
    /// Whether a function of this name exists.
    IsFunction(Str),
}

impl Known {
    /// The meaning of an expression, if it is known.
    pub(super) fn of(expression: &Str) -> Option<Known> {
        if expression.as_ref().data().len() > MAX_EXPRESSION_LEN {
            return None;
        }
        let expression = expression.to_text_lossy();
        Some(match unwrap_shell(&expression) {
            "" => Known::Nothing,
            "AnyEvent::MP::Kernel::up_nodes"
            | "AnyEvent::MP::Kernel::up_nodes()"
            | "AnyEvent::MP::Kernel::up_nodes ()"
            | "up_nodes"
            | "up_nodes()"
            | "up_nodes ()" => Known::UpNodes,
            "$AnyEvent::MP::Kernel::NODE" | "AnyEvent::MP::Kernel::NODE" | "$NODE" | "NODE" => {
                Known::OwnNode
            }
            "$AnyEvent::MP::Kernel::MASTER" | "$MASTER" => Known::Master,
            MASTER_EXPRESSION => Known::MasterAndUpNodes,
            "$$" => Known::ProcessId,
            other => Known::IsFunction(function_asked_for(other)?),
        })
    }
}

/// The Perl expression that tells whether a function is defined.
pub fn is_function(name: &str) -> String {
    let quoted = name.replace('\\', r"\\").replace('\'', r"\'");
    format!("{DEFINED}{quoted}{DEFINED_END}")
}

const DEFINED: &str = "defined &{'";
const DEFINED_END: &str = "'}";

fn function_asked_for(expression: &str) -> Option<Str> {
    let quoted = expression.strip_prefix(DEFINED)?.strip_suffix(DEFINED_END)?;
    let mut name = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.push(characters.next()?),
            '\'' => return None,
            _ => name.push(character),
        }
    }
    Some(Str::text(&name))
}

/// The line that a user typed, without what Perl's shell adds.
fn unwrap_shell(expression: &str) -> &str {
    let trimmed = expression.trim();
    let Some(rest) = trimmed.strip_prefix(SHELL_PACKAGE) else {
        return trimmed;
    };
    let rest = rest.trim_start();
    let line = rest
        .strip_prefix(SHELL_ECHO)
        .and_then(|rest| rest.split_once("';"))
        .map_or(rest, |(_, line)| line);
    line.trim().trim_end_matches(';').trim_end()
}

#[cfg(test)]
mod tests {
    use super::{Known, unwrap_shell};
    use crate::value::Str;

    #[test]
    fn the_shells_wrapping_is_taken_off() {
        let wrapped = "package AnyEvent::MP::Kernel; my $ECHO = 'a#b'; up_nodes\n";
        assert_eq!(unwrap_shell(wrapped), "up_nodes");
        assert_eq!(unwrap_shell(" $$ "), "$$");
        assert_eq!(unwrap_shell("package AnyEvent::MP::Kernel; my $ECHO = ''; "), "");
    }

    #[test]
    fn what_perls_tools_ask_is_known_and_nothing_else() {
        let known = |expression| Known::of(&Str::text(expression));
        assert_eq!(known("package AnyEvent::MP::Kernel; up_nodes\n"), Some(Known::UpNodes));
        assert_eq!(known(super::MASTER_EXPRESSION), Some(Known::MasterAndUpNodes));
        assert_eq!(known("$$"), Some(Known::ProcessId));
        assert_eq!(known("exit"), None);
    }

    #[test]
    fn whether_a_function_is_defined_can_be_asked_for_every_name() {
        let known = |expression: &str| Known::of(&Str::text(expression));
        for name in ["My::App::init", "", "it's", r"back\slash", "'}; exit; {'"] {
            let asked = Known::IsFunction(Str::text(name));
            assert_eq!(known(&super::is_function(name)), Some(asked));
        }
        assert_eq!(known("defined &{'a'}; exit; {'b'}"), None);
    }
}
