//! The manual page, made from the table.

use crate::grammar::{Grammar, Section};
use crate::help::{ENVIRONMENT, EXIT_STATUS, FILES, FIRST_STEPS, GRAMMAR_NOTES, OPTIONS};

/// The page as roff, for section 1.
pub(crate) fn page(grammar: &Grammar) -> String {
    let mut page = format!(
        ".TH AEMP 1 \"\" \"aemp {}\" \"User Commands\"\n\
         .SH NAME\n\
         aemp \\- networks of nodes that pass messages, together with Perl's AnyEvent::MP\n\
         .SH SYNOPSIS\n\
         .B aemp\n\
         [\\fIOPTIONS\\fR] \\fISUBCOMMAND\\fR [\\fIARGUMENTS\\fR] [\\fISUBCOMMAND\\fR \
         [\\fIARGUMENTS\\fR]...]\n",
        env!("CARGO_PKG_VERSION")
    );
    page.push_str(".SH DESCRIPTION\n");
    for note in GRAMMAR_NOTES {
        page.push_str(&format!("{}\n.PP\n", escaped(note)));
    }
    for section in Section::ALL {
        page.push_str(&format!(".SH {}\n", section.title().to_uppercase()));
        let rows = grammar.subcommands.iter().filter(|s| s.section == section);
        for subcommand in rows {
            page.push_str(&format!(".TP\n.B {}\n", escaped(&subcommand.usage())));
            page.push_str(&format!("{}\n", escaped(&subcommand.summary)));
            page.push_str(&format!("{}\n", escaped(&subcommand.details)));
            if let Some(alias) = &subcommand.alias {
                page.push_str(&format!("Also written\n.BR {} .\n", escaped(alias)));
            }
            page.push_str(&format!(".br\nExample:\n.B {}\n", escaped(&subcommand.example)));
        }
    }
    for (title, rows) in [
        ("OPTIONS", OPTIONS),
        ("FILES", FILES),
        ("ENVIRONMENT", ENVIRONMENT),
        ("EXIT STATUS", EXIT_STATUS),
    ] {
        page.push_str(&format!(".SH {title}\n"));
        for (name, meaning) in rows {
            page.push_str(&format!(".TP\n.B {}\n{}\n", escaped(name), escaped(meaning)));
        }
    }
    page.push_str(".SH EXAMPLE\nTwo nodes on this machine, and what they say:\n.PP\n.nf\n");
    for (command, meaning) in FIRST_STEPS {
        page.push_str(&format!("# {}\n{}\n", escaped(meaning), escaped(command)));
    }
    page.push_str(".fi\n");
    page
}

/// Escapes text for roff. Quotes are kept, also in arguments of macros.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    if text.starts_with(['.', '\'']) {
        out.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\e"),
            '-' => out.push_str("\\-"),
            '"' => out.push_str("\\(dq"),
            '\'' => out.push_str("\\(aq"),
            '`' => out.push_str("\\(ga"),
            '~' => out.push_str("\\(ti"),
            '^' => out.push_str("\\(ha"),
            _ => out.push(c),
        }
    }
    out
}
