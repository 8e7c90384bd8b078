//! Runs scenarios: contenders in turn, round after round, each trial in a bed of its own.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    bed::Bed,
    contender::Contender,
    record::{Outcome, Results, Round},
    scenario::{Scenario, Trial},
};

/// A contender that takes this many times as long as the best so far is not run again.
const HOPELESS: f64 = 20.0;
/// Nor is one whose phase takes this long, in seconds.
const TOO_LONG: f64 = 30.0;

/// What is to be run.
pub struct Order<'a> {
    /// The scenarios.
    pub scenarios: &'a [Scenario],
    /// Who takes part; in each scenario those that it is for.
    pub contenders: &'a [Contender],
    /// How many rounds.
    pub rounds: usize,
    /// After so long a phase is cut off.
    pub limit: Duration,
    /// Where results are written after each scenario.
    pub file: Option<&'a Path>,
}

/// Runs everything; results are added to what `results` has, in place of earlier ones of the same
/// scenario and contender. `progress` is told one line for each trial.
///
/// # Errors
/// When the file can't be written. Trials that fail are results too.
pub fn run(order: &Order<'_>, results: &mut Results, mut progress: impl FnMut(&str)) -> Result<()> {
    for scenario in order.scenarios {
        let contenders: Vec<&Contender> =
            order.contenders.iter().filter(|c| scenario.speakers.contains(&c.speaker)).collect();
        let again = |round: &Round| {
            round.scenario == scenario.name && contenders.iter().any(|c| c.name == round.contender)
        };
        results.rounds.retain(|round| !again(round));
        let mut rounds = Vec::new();
        for number in 1..=order.rounds {
            for contender in &contenders {
                if let Some(reason) = enough(&rounds, contender) {
                    if number == 2 {
                        progress(&format!("{} {}: not repeated ({reason})", scenario.name, contender.name));
                    }
                    continue;
                }
                let round = once(scenario, contender, order.limit);
                let said = said(&round);
                progress(&format!(
                    "{} {}/{} {}: {said}",
                    scenario.name, number, order.rounds, contender.name
                ));
                rounds.push(round);
            }
        }
        results.rounds.extend(rounds);
        if let Some(file) = order.file {
            results.write(file)?;
        }
    }
    Ok(())
}

fn once(scenario: &Scenario, contender: &Contender, limit: Duration) -> Round {
    let result = Bed::with(|bed| (scenario.run)(&Trial { contender, bed, limit }));
    let (measurements, failure) = match result {
        Ok(measurements) => (measurements, None),
        Err(error) => (Vec::new(), Some(format!("{error:#}"))),
    };
    Round { scenario: scenario.name.into(), contender: contender.name.clone(), measurements, failure }
}

fn said(round: &Round) -> String {
    if let Some(failure) = &round.failure {
        return format!("failed: {failure}");
    }
    let phases = round.measurements.iter().map(|m| {
        let over = if m.outcome == Outcome::CutOff { ">" } else { "" };
        let mib = m.peak_rss as f64 / f64::from(1 << 20);
        let more: String = m.more.iter().map(|(name, value)| format!(", {name} {value:.1}")).collect();
        format!("{} {over}{:.3} s, CPU {:.3} s, peak {mib:.0} MiB{more}", m.row, m.wall_s, m.cpu_s)
    });
    phases.collect::<Vec<_>>().join("; ")
}

/// Why a contender is not run again; its first run stands.
fn enough(rounds: &[Round], contender: &Contender) -> Option<&'static str> {
    let own = rounds.iter().find(|round| round.contender == contender.name)?;
    if own.failure.is_some() {
        return Some("it failed");
    }
    let best = |row: &str| {
        let all = rounds.iter().flat_map(|round| &round.measurements);
        all.filter(|m| m.row == row && m.outcome == Outcome::Done).map(|m| m.wall_s).min_by(f64::total_cmp)
    };
    own.measurements.iter().find_map(|m| {
        if m.outcome == Outcome::CutOff {
            Some("it was cut off")
        } else if m.wall_s > TOO_LONG {
            Some("it takes too long")
        } else if best(&m.row).is_some_and(|best| m.wall_s > HOPELESS * best) {
            Some("others are far quicker")
        } else {
            None
        }
    })
}
