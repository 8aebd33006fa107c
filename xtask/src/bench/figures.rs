//! Figures of several rounds: medians, spread, and what they are to the bare host's of the same round.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is measured, in which unit, and whether less of it is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Quantity {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// Digits behind the point.
    pub(super) digits: usize,
}

/// Figures by quantity and circumstance, one for each round.
#[derive(Debug, Default)]
pub(super) struct Figures {
    rounds: BTreeMap<Quantity, Vec<(&'static str, Vec<f64>)>>,
    order: Vec<Quantity>,
}

impl Figures {
    /// Adds the figure of one round.
    pub(super) fn add(&mut self, quantity: Quantity, circumstance: &'static str, figure: f64) {
        if !self.order.contains(&quantity) {
            self.order.push(quantity);
        }
        let rows = self.rounds.entry(quantity).or_default();
        match rows.iter_mut().find(|(known, _)| *known == circumstance) {
            Some((_, figures)) => figures.push(figure),
            None => rows.push((circumstance, vec![figure])),
        }
    }

    /// One table for each quantity. The first circumstance of each is what the others are compared with, round by round.
    pub(super) fn tables(&self) -> String {
        self.order
            .iter()
            .filter_map(|quantity| Some(table(*quantity, self.rounds.get(quantity)?)))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn table(quantity: Quantity, rows: &[(&'static str, Vec<f64>)]) -> String {
    let digits = quantity.digits;
    let mut out = format!(
        "{:<44} {:>9} {:>19} {:>8}\n",
        format!("{} ({})", quantity.name, quantity.unit),
        "median",
        "lowest to highest",
        "to bare"
    );
    let bare = rows
        .first()
        .map(|(_, figures)| figures.as_slice())
        .unwrap_or_default();
    for (circumstance, figures) in rows {
        let ratios: Vec<f64> = figures.iter().zip(bare).map(|(here, bare)| here / bare).collect();
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        let range = format!("{least:.digits$} to {most:.digits$}");
        let (median, ratio) = (median(figures), median(&ratios));
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "  {circumstance:<42} {median:>9.digits$} {range:>19} {ratio:>8.2}"
        );
    }
    out
}

/// The one in the middle; NaN of none.
pub(super) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (
        sorted.len() % 2,
        middle.checked_sub(1).and_then(|below| sorted.get(below)),
        sorted.get(middle),
    ) {
        (0, Some(below), Some(above)) => f64::midpoint(*below, *above),
        (_, _, Some(middle)) => *middle,
        _ => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn figures_are_compared_with_the_bare_ones_of_their_round() {
        const LATENCY: Quantity = Quantity {
            name: "connect",
            unit: "µs",
            digits: 1,
        };
        let mut figures = Figures::default();
        // The host became twice as slow on the way; what is added stays a tenth.
        for bare in [10.0, 20.0, 40.0] {
            figures.add(LATENCY, "bare", bare);
            figures.add(LATENCY, "with", bare * 1.1);
        }
        let table = figures.tables();
        assert!(table.contains("22.0"), "{table}");
        assert!(table.contains("11.0 to 44.0"), "{table}");
        assert!(table.contains("1.10"), "{table}");
    }
}
