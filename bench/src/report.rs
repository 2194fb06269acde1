//! The table, and `target/bench.json`.

use crate::sides::Side;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One line of the table.
struct Row {
    case: String,
    unit: &'static str,
    goal: &'static str,
    values: BTreeMap<Side, Vec<f64>>,
}

/// The results so far.
#[derive(Default)]
pub(crate) struct Report(Vec<Row>);

impl Report {
    /// Adds the results of all rounds of a case.
    pub(crate) fn add(
        &mut self,
        case: &str,
        unit: &'static str,
        goal: &'static str,
        values: BTreeMap<Side, Vec<f64>>,
    ) {
        self.0.push(Row { case: case.to_owned(), unit, goal, values });
        if let Some(row) = self.0.last() {
            row.print();
        }
    }

    pub(crate) fn print(&self) {
        println!(
            "\n{:<18} {:>6} {:>10} {:>10} {:>10} {:>10} {:>10}  spread  ratios",
            "case", "unit", "aemp", "raw", "erlang", "ractor", "perl"
        );
        for row in &self.0 {
            row.print();
        }
    }

    pub(crate) fn write(&self, path: &str) -> Result<()> {
        let rows: Vec<Value> = self.0.iter().map(Row::json).collect();
        if let Some(dir) = std::path::Path::new(path).parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_string_pretty(&rows)? + "\n")?;
        println!("\nwritten to {path}");
        Ok(())
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
        print!("{:<18} {:>6}", self.case, self.unit);
        for side in Side::ALL {
            match self.median(side) {
                Some(value) => print!(" {:>10}", short(value)),
                None => print!(" {:>10}", "-"),
            }
        }
        print!("  {:>5.0}%  ", self.spread().unwrap_or(0.0) * 100.0);
        for side in Side::ALL.into_iter().skip(1) {
            if let (Some(own), Some(other)) = (self.median(Side::Aemp), self.median(side)) {
                print!("{}x {} ", short(own / other), side.name());
            }
        }
        println!(" (goal: {})", self.goal);
    }

    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("case".into(), json!(self.case));
        row.insert("unit".into(), json!(self.unit));
        for side in Side::ALL {
            row.insert(side.name().into(), json!(self.median(side)));
        }
        row.insert("spread".into(), json!(self.spread()));
        Value::Object(row)
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
