//! One table for each load, with a line for each way.

use std::fmt::Write as _;

use crate::bench::figures::median;

/// What one way came to in one round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) rate: f64,
    /// Milliseconds.
    pub(super) p50: Option<f64>,
    /// Milliseconds.
    pub(super) p99: Option<f64>,
    /// Time of processors that the proxy took for each answer.
    pub(super) microseconds: Option<f64>,
    /// Memory of the proxy at the end of the load.
    pub(super) megabytes: Option<f64>,
}

type Ways = Vec<(&'static str, Vec<Row>)>;

/// Rows by load and way, one for each round.
#[derive(Debug, Default)]
pub(super) struct Tables(Vec<(&'static str, Ways)>);

impl Tables {
    /// Adds what a way came to. The first way of a load is what the others are compared with.
    pub(super) fn add(&mut self, load: &'static str, way: &'static str, row: Row) {
        within(&mut self.0, load, |ways| within(ways, way, |rows| rows.push(row)));
    }

    pub(super) fn print(&self) -> String {
        let tables: Vec<String> = self.0.iter().map(|(load, ways)| table(load, ways)).collect();
        tables.join("\n")
    }
}

/// Changes what stands under `name`, which is added where it is missing.
fn within<T: Default>(list: &mut Vec<(&'static str, T)>, name: &'static str, change: impl FnOnce(&mut T)) {
    if !list.iter().any(|(known, _)| *known == name) {
        list.push((name, T::default()));
    }
    if let Some((_, found)) = list.iter_mut().find(|(known, _)| *known == name) {
        change(found);
    }
}

fn table(load: &str, ways: &Ways) -> String {
    let mut out = format!(
        "{load}\n  {:<36} {:>8} {:>18} {:>9} {:>8} {:>8} {:>10} {:>6}\n",
        "", "median", "lowest to highest", "to direct", "p50 ms", "p99 ms", "CPU µs/req", "MB"
    );
    let direct = ways.first().map(|(_, rows)| rows.as_slice()).unwrap_or_default();
    for (way, rows) in ways {
        let rates: Vec<f64> = rows.iter().map(|row| row.rate).collect();
        // Round by round: what the host did to a round, it did to both.
        let ratios: Vec<f64> = rows
            .iter()
            .zip(direct)
            .map(|(here, direct)| here.rate / direct.rate)
            .collect();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let column = |of: fn(&Row) -> Option<f64>, digits: usize| {
            let figures: Option<Vec<f64>> = rows.iter().map(of).collect();
            figures.map_or(String::new(), |figures| format!("{:.digits$}", median(&figures)))
        };
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "  {way:<36} {:>8.0} {:>18} {:>9.3} {:>8} {:>8} {:>10} {:>6}",
            median(&rates),
            format!("{least:.0} to {most:.0}"),
            median(&ratios),
            column(|row| row.p50, 2),
            column(|row| row.p99, 2),
            column(|row| row.microseconds, 0),
            column(|row| row.megabytes, 0),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_is_compared_with_the_direct_one_of_its_round() {
        let mut tables = Tables::default();
        for rate in [100.0, 200.0, 400.0] {
            let row = Row {
                rate,
                p50: Some(1.0),
                p99: None,
                microseconds: None,
                megabytes: None,
            };
            tables.add("load", "direct", row);
            tables.add(
                "load",
                "through",
                Row {
                    rate: rate / 2.0,
                    ..row
                },
            );
        }
        let printed = tables.print();
        assert!(printed.contains("50 to 200"), "{printed}");
        assert!(printed.contains("0.500"), "{printed}");
    }
}
