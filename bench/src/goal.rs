//! What a figure should reach: a number, or a multiple of another side's or another case's figure.

use crate::sides::Side;
use std::fmt;

/// What a bound is a multiple of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Of {
    Unit,
    Side(Side),
    /// Our own figure of this name, of the same run.
    Figure(&'static str),
}

/// The least or the most that a figure may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bound {
    is_least: bool,
    factor: f64,
    of: Of,
}

/// Each of its bounds has to be kept, or for the alternatives one of them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    Is(Bound),
    Either(Bound, Bound),
}

pub(crate) const fn at_least(factor: f64) -> Bound {
    Bound { is_least: true, factor, of: Of::Unit }
}

pub(crate) const fn at_most(factor: f64) -> Bound {
    Bound { is_least: false, factor, of: Of::Unit }
}

impl Bound {
    pub(crate) const fn times(self, side: Side) -> Bound {
        Bound { of: Of::Side(side), ..self }
    }

    pub(crate) const fn times_figure(self, name: &'static str) -> Bound {
        Bound { of: Of::Figure(name), ..self }
    }

    /// Whether the figure keeps the bound; nothing if what it refers to was not measured.
    fn is_kept(&self, figure: f64, measured: &dyn Fn(Of) -> Option<f64>) -> Option<bool> {
        let bound = self.factor * measured(self.of)?;
        Some(if self.is_least { figure >= bound } else { figure <= bound })
    }

    /// The figure as a multiple of what the bound refers to.
    fn share(&self, figure: f64, measured: &dyn Fn(Of) -> Option<f64>) -> Option<String> {
        let of = measured(self.of)?;
        match self.of {
            Of::Unit => None,
            Of::Side(_) | Of::Figure(_) => Some(multiple(figure / of)),
        }
    }
}

impl Goal {
    /// Whether the figure reaches the goal; nothing if that cannot be said.
    pub(crate) fn is_reached(
        &self,
        figure: f64,
        measured: &dyn Fn(Of) -> Option<f64>,
    ) -> Option<bool> {
        match self {
            Goal::Is(bound) => bound.is_kept(figure, measured),
            Goal::Either(one, other) => {
                match (one.is_kept(figure, measured), other.is_kept(figure, measured)) {
                    (Some(true), _) | (_, Some(true)) => Some(true),
                    (Some(false), Some(false)) => Some(false),
                    _ => None,
                }
            }
        }
    }

    /// The goal and whether it is reached, for people.
    pub(crate) fn verdict(
        &self,
        figure: Option<f64>,
        measured: &dyn Fn(Of) -> Option<f64>,
    ) -> String {
        let Some(figure) = figure else { return format!("{self}: not measured") };
        let outcome = match self.is_reached(figure, measured) {
            Some(true) => "reached",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let bounds = match self {
            Goal::Is(bound) => vec![bound],
            Goal::Either(one, other) => vec![one, other],
        };
        let shares: Vec<String> =
            bounds.iter().filter_map(|bound| bound.share(figure, measured)).collect();
        match shares.is_empty() {
            true => format!("{self}: {outcome}"),
            false => format!("{self}: {outcome} ({})", shares.join(", ")),
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Goal::Is(bound) => bound.fmt(f),
            Goal::Either(one, other) => write!(f, "{one} or {other}"),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_least { ">=" } else { "<=" };
        match self.of {
            Of::Unit => write!(f, "{sign} {}", self.factor),
            Of::Side(side) => write!(f, "{sign} {} {}", multiple_of(self.factor), side.name()),
            Of::Figure(name) => write!(f, "{sign} {} {name}", multiple_of(self.factor)),
        }
    }
}

/// `25 %` or `1.5 times`.
fn multiple(factor: f64) -> String {
    if factor <= 1.0 {
        format!("{:.0} %", factor * 100.0)
    } else {
        let rounded = format!("{factor:.2}");
        format!("{} times", rounded.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// `25 % of` or `1.5 times`.
fn multiple_of(factor: f64) -> String {
    let of = if factor <= 1.0 { " of" } else { "" };
    multiple(factor) + of
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(of: Of) -> Option<f64> {
        match of {
            Of::Unit => Some(1.0),
            Of::Side(Side::Raw) => Some(40.0),
            Of::Side(_) | Of::Figure(_) => None,
        }
    }

    #[test]
    fn a_goal_is_reached_missed_or_not_measured() {
        let goal = Goal::Is(at_least(0.25).times(Side::Raw));
        assert_eq!(goal.verdict(Some(12.0), &measured), ">= 25 % of raw: reached (30 %)");
        assert_eq!(goal.verdict(Some(8.0), &measured), ">= 25 % of raw: MISSED (20 %)");
        assert_eq!(goal.verdict(None, &measured), ">= 25 % of raw: not measured");
        let goal = Goal::Is(at_most(1.5).times_figure("rtt"));
        assert_eq!(goal.verdict(Some(8.0), &measured), "<= 1.5 times rtt: not measured");
    }

    #[test]
    fn one_of_two_alternatives_is_enough() {
        let goal = Goal::Either(at_least(20.0), at_least(2.0).times(Side::Raw));
        assert_eq!(goal.is_reached(25.0, &measured), Some(true));
        assert_eq!(goal.is_reached(15.0, &measured), Some(false));
        let unknown = Goal::Either(at_least(20.0), at_least(2.0).times(Side::Before));
        assert_eq!(unknown.is_reached(25.0, &measured), Some(true));
        assert_eq!(unknown.is_reached(15.0, &measured), None);
    }
}
