//! Runs a case on all sides, round by round.

use crate::cases::{Case, Sized};
use crate::process::Group;
use crate::report::Report;
use crate::sides::{Role, Side, Sides};
use crate::{idle, nats_server, node_loss};
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Measures a case on all sides, round by round; a side that fails has no figure in that round.
pub(crate) fn measure(case: &Case, sides: &Sides, rounds: usize, quick: bool, report: &mut Report) {
    let mut figures = vec![BTreeMap::<Side, Vec<f64>>::new(); case.figures.len()];
    let first = case.figures.first().map_or("", |figure| figure.name);
    for _ in 0..rounds {
        for Sized { side, size } in case.sizes() {
            if !sides.measures(side, first) {
                continue;
            }
            let size = if quick && size > 20_000 { size / 10 } else { size };
            match measure_once(case, sides, side, size) {
                Ok(values) => {
                    for (figure, value) in figures.iter_mut().zip(values) {
                        figure.entry(side).or_default().push(value);
                    }
                }
                Err(error) => eprintln!("{} of {}: {error:#}", case.name, side.name()),
            }
        }
    }
    for (figure, values) in case.figures.iter().zip(figures) {
        report.add(figure, values);
    }
}

fn measure_once(case: &Case, sides: &Sides, side: Side, size: usize) -> Result<Vec<f64>> {
    match (case.name, side) {
        ("idle", _) => return idle::measure(sides, side),
        ("db_node_loss", Side::Before) => return sides.before()?.run_alone(case.name),
        ("db_node_loss", _) => return node_loss::measure(size),
        _ => {}
    }
    let mut group = Group::new(Duration::from_secs(60));
    let mut said = Vec::new();
    if side == Side::Nats {
        said.extend(nats_server::start(&mut group)?);
    }
    for part in case.parts {
        let role = Role { case: case.name, part, size, arguments: &said };
        // If two systems are combined, the receiver is Perl's.
        let side = match (case.name, *part) {
            ("to_perl", "receiver") => Side::Perl,
            _ => side,
        };
        group.start(part, sides.command(side, &role)?).context(side.name())?;
        if Some(part) != case.parts.last() {
            said.extend(group.expect("READY")?);
        }
    }
    let result = group.expect("RESULT")?;
    result.iter().map(|value| Ok(value.parse()?)).collect()
}
