//! The table with its goals, and `target/bench.json`.

use crate::cases::Figure;
use crate::goal::Of;
use crate::sides::Side;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

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
                if own.and_then(|own| goal.is_reached(own, &measured)) == Some(false) {
                    missed.push(row.figure.name);
                }
            }
        }
        match missed.as_slice() {
            [] => println!("\nno measured goal is missed"),
            missed => println!("\nmissed: {}", missed.join(", ")),
        }
    }

    pub(crate) fn write(&self, path: &str) -> Result<()> {
        let rows: Vec<Value> = self.0.iter().map(|row| self.json(row)).collect();
        if let Some(dir) = std::path::Path::new(path).parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
        println!("\nwritten to {path}");
        Ok(())
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
