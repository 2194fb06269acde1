//! The Perl expressions that a node without Perl answers: those that Perl's tools send.

use super::Kernel;
use super::effect::Builder;
use crate::value::Str;

/// What Perl's `aemp shell` puts before each line.
const SHELL_PACKAGE: &str = "package AnyEvent::MP::Kernel;";
const SHELL_ECHO: &str = "my $ECHO = '";

impl Kernel {
    /// The results of an expression that is known here, or `None`.
    pub(super) fn well_known(&self, expression: &Str) -> Option<Builder> {
        let expression = expression.to_text_lossy();
        let results = Builder::new();
        Some(match unwrap_shell(&expression) {
            "" => results,
            "AnyEvent::MP::Kernel::up_nodes"
            | "AnyEvent::MP::Kernel::up_nodes()"
            | "AnyEvent::MP::Kernel::up_nodes ()"
            | "up_nodes"
            | "up_nodes()"
            | "up_nodes ()" => {
                let up = self.up_nodes();
                up.iter().fold(results, |results, node| results.string(node.as_str()))
            }
            "$AnyEvent::MP::Kernel::NODE" | "AnyEvent::MP::Kernel::NODE" | "$NODE" | "NODE" => {
                results.string(self.config.node.as_str())
            }
            "$AnyEvent::MP::Kernel::MASTER" | "$MASTER" => match self.db.master() {
                Some(master) => results.string(master.as_str()),
                None => results.undef(),
            },
            super::service::MASTER_EXPRESSION => {
                let results = match self.db.master() {
                    Some(master) => results.string(master.as_str()),
                    None => results.undef(),
                };
                let up = self.up_nodes();
                up.iter().fold(results, |results, node| results.string(node.as_str()))
            }
            "$$" => results.text(&self.config.process_id.to_string()),
            _ => return None,
        })
    }
}

/// The line that a user typed, without what Perl's shell wraps around it.
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
    use super::unwrap_shell;

    #[test]
    fn the_shells_wrapping_is_taken_off() {
        let wrapped = "package AnyEvent::MP::Kernel; my $ECHO = 'a#b'; up_nodes\n";
        assert_eq!(unwrap_shell(wrapped), "up_nodes");
        assert_eq!(unwrap_shell(" $$ "), "$$");
        assert_eq!(unwrap_shell("package AnyEvent::MP::Kernel; my $ECHO = ''; "), "");
    }
}
