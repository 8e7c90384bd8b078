//! Results of all rounds, brought together: one line for each row and contender.

use crate::{
    record::{Measurement, Outcome, Results},
    statistics::{Spread, spread},
};

/// The figures of a contender in one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The row, such as `S3 withdraw`.
    pub row: String,
    /// The contender's name.
    pub contender: String,
    /// The number of rounds.
    pub rounds: usize,
    /// Whether it was cut off: all figures are lower limits.
    pub cut_off: bool,
    /// Seconds.
    pub wall: Spread,
    /// Seconds of the daemon's CPU.
    pub cpu: Spread,
    /// Bytes.
    pub peak: Spread,
    /// Bytes, at the end.
    pub rss: Spread,
    /// Further figures by name; medians.
    pub more: Vec<(String, f64)>,
}

/// All lines, in the order in which rows and contenders first appeared.
#[must_use]
pub fn lines(results: &Results) -> Vec<Line> {
    let all: Vec<(&str, &Measurement)> = results
        .rounds
        .iter()
        .flat_map(|round| round.measurements.iter().map(|measured| (round.contender.as_str(), measured)))
        .collect();
    let mut rows: Vec<&str> = Vec::new();
    for (_, measured) in &all {
        if !rows.contains(&measured.row.as_str()) {
            rows.push(&measured.row);
        }
    }
    let mut lines = Vec::new();
    for row in rows {
        let mut contenders: Vec<&str> = Vec::new();
        for (contender, _) in all.iter().filter(|(_, measured)| measured.row == row) {
            if !contenders.contains(contender) {
                contenders.push(contender);
            }
        }
        for contender in contenders {
            let these = all.iter().filter(|(name, measured)| *name == contender && measured.row == row);
            lines.extend(line(row, contender, &these.map(|(_, measured)| *measured).collect::<Vec<_>>()));
        }
    }
    lines
}

fn line(row: &str, contender: &str, measured: &[&Measurement]) -> Option<Line> {
    let of = |value: fn(&Measurement) -> f64| spread(&measured.iter().map(|m| value(m)).collect::<Vec<_>>());
    let first = measured.first()?;
    let more = first.more.keys().filter_map(|name| {
        let values: Vec<f64> = measured.iter().filter_map(|m| m.more.get(name).copied()).collect();
        Some((name.clone(), spread(&values)?.median))
    });
    Some(Line {
        row: row.to_owned(),
        contender: contender.to_owned(),
        rounds: measured.len(),
        cut_off: measured.iter().any(|m| m.outcome == Outcome::CutOff),
        wall: of(|m| m.wall_s)?,
        cpu: of(|m| m.cpu_s)?,
        peak: of(|m| m.peak_rss as f64)?,
        rss: of(|m| m.rss as f64)?,
        more: more.collect(),
    })
}
