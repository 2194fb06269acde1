//! The table with its goals: on standard output, as `target/bench.json`, and as Markdown in
//! `target/bench.md`.

use crate::cases::Figure;
use crate::goal::{Goal, Of};
use crate::sides::Side;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One line of the table.
struct Row {
    figure: &'static Figure,
    values: BTreeMap<Side, Vec<f64>>,
}

/// The results so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds the results of all rounds of a case.
    pub(crate) fn add(&mut self, figure: &'static Figure, values: BTreeMap<Side, Vec<f64>>) {
        self.0.push(Row { figure, values });
        if let Some(row) = self.0.last() {
            row.print();
        }
    }

    /// All rows, each followed by its goals.
    pub(crate) fn print(&self) {
        print!("\n{:<21} {:>4}", "figure", "unit");
        Side::ALL.iter().for_each(|side| print!(" {:>9}", side.name()));
        println!("  spread");
        let mut missed = Vec::new();
        for row in &self.0 {
            row.print();
            let measured = |of: Of| self.measured(row, of);
            let own = row.median(Side::Aemp);
            for goal in row.figure.goals {
                println!("    {}", goal.verdict(own, &measured));
                if own.and_then(|own| goal.is_reached(own, &measured)) == Some(false)
                    && missed.last() != Some(&row.figure.name)
                {
                    missed.push(row.figure.name);
                }
            }
        }
        match missed.as_slice() {
            [] => println!("\nno measured goal is missed"),
            missed => println!("\nmissed: {}", missed.join(", ")),
        }
    }

    /// Writes both files.
    pub(crate) fn write(&self) -> Result<()> {
        let rows: Vec<Value> = self.0.iter().map(|row| self.json(row)).collect();
        std::fs::create_dir_all("target")?;
        std::fs::write("target/bench.json", serde_json::to_string_pretty(&rows)? + "\n")?;
        std::fs::write("target/bench.md", self.markdown()?)?;
        println!("\nwritten to target/bench.json and target/bench.md");
        Ok(())
    }

    /// The table as `docs/performance.md` has it: the sides that measured something, the spread of aemp's
    /// rounds, and the verdicts.
    fn markdown(&self) -> Result<String> {
        let took_part = |side: &Side| self.0.iter().any(|row| row.values.contains_key(side));
        let sides: Vec<Side> = Side::ALL.into_iter().filter(took_part).collect();
        let mut text = "| case | unit |".to_owned();
        sides.iter().try_for_each(|side| write!(text, " {} |", side.name()))?;
        writeln!(text, " spread | goals |\n|---|---|{}---|---|", "---|".repeat(sides.len()))?;
        for row in &self.0 {
            write!(text, "| `{}` | {} |", row.figure.name, row.figure.unit)?;
            for side in &sides {
                write!(text, " {} |", row.median(*side).map(short).unwrap_or_default())?;
            }
            let spread = row.spread().map(|spread| format!("{:.0} %", spread * 100.0));
            let measured = |of: Of| self.measured(row, of);
            let verdict = |goal: &Goal| goal.verdict(row.median(Side::Aemp), &measured);
            let verdicts: Vec<String> = row.figure.goals.iter().map(verdict).collect();
            writeln!(text, " {} | {} |", spread.unwrap_or_default(), verdicts.join("; "))?;
        }
        Ok(text)
    }

    /// What a bound of this row's goals refers to.
    fn measured(&self, row: &Row, of: Of) -> Option<f64> {
        match of {
            Of::Unit => Some(1.0),
            Of::Side(side) => row.median(side),
            Of::Figure(name) => {
                self.0.iter().find(|row| row.figure.name == name)?.median(Side::Aemp)
            }
        }
    }

    fn json(&self, row: &Row) -> Value {
        let mut object = Map::new();
        object.insert("case".into(), json!(row.figure.name));
        object.insert("unit".into(), json!(row.figure.unit));
        for side in Side::ALL {
            object.insert(side.name().into(), json!(row.median(side)));
        }
        object.insert("spread".into(), json!(row.spread()));
        let measured = |of: Of| self.measured(row, of);
        let goals = row.figure.goals.iter().map(|goal| {
            let reached = row.median(Side::Aemp).and_then(|own| goal.is_reached(own, &measured));
            json!({ "goal": goal.to_string(), "reached": reached })
        });
        object.insert("goals".into(), goals.collect());
        Value::Object(object)
    }
}

impl Row {
    fn median(&self, side: Side) -> Option<f64> {
        let mut values = self.values.get(&side)?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    /// The difference between aemp's best and worst round, relative to the median.
    fn spread(&self) -> Option<f64> {
        let values = self.values.get(&Side::Aemp)?;
        let least = values.iter().copied().reduce(f64::min)?;
        let most = values.iter().copied().reduce(f64::max)?;
        Some((most - least) / self.median(Side::Aemp)?)
    }

    fn print(&self) {
        print!("{:<21} {:>4}", self.figure.name, self.figure.unit);
        for side in Side::ALL {
            match self.median(side) {
                Some(value) => print!(" {:>9}", short(value)),
                None => print!(" {:>9}", "-"),
            }
        }
        println!("  {:>5.0}%", self.spread().unwrap_or(0.0) * 100.0);
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::goal::at_least;

    #[test]
    fn the_markdown_table_has_the_medians_of_the_sides_that_took_part_and_the_verdicts() {
        static FIGURE: Figure = Figure {
            name: "oneway",
            unit: "M/s",
            goals: &[Goal::Is(at_least(0.25).times(Side::Raw)), Goal::Is(at_least(8.0))],
        };
        let rounds = [(Side::Aemp, vec![9.0, 10.0, 12.0]), (Side::Raw, vec![40.0, 50.0, 30.0])];
        let mut report = Report::default();
        report.add(&FIGURE, BTreeMap::from(rounds));
        assert_eq!(
            report.markdown().unwrap(),
            "| case | unit | aemp | raw | spread | goals |\n\
             |---|---|---|---|---|---|\n\
             | `oneway` | M/s | 10.0 | 40.0 | 30 % | >= 25 % of raw: reached (25 %); >= 8: reached |\n"
        );
    }
}
