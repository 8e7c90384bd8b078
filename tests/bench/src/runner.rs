//! Runs scenarios: contenders in turn, round after round, each trial in a bed of its own.

use std::{path::Path, time::Duration};

use anyhow::Result;

use crate::{
    bed::Bed,
    contender::Contender,
    record::{Outcome, Results, Round},
    scenario::{Scenario, Trial},
};

/// A peer that takes this many times as long as the best peer is not run again.
const HOPELESS: f64 = 20.0;
/// Nor is one whose phase takes this long, in seconds.
const TOO_LONG: f64 = 30.0;

/// Progress of a run.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A trial begins; it may take a minute.
    Begins(&'a str),
    /// A line that stays: how a trial went.
    Said(&'a str),
}

/// The trials to be run.
pub struct Order<'a> {
    /// The scenarios.
    pub scenarios: &'a [Scenario],
    /// The contenders; in each scenario those that it applies to.
    pub contenders: &'a [Contender],
    /// The number of rounds.
    pub rounds: usize,
    /// After so long a phase is cut off.
    pub limit: Duration,
    /// The file for results after each scenario.
    pub file: Option<&'a Path>,
    /// Whether finished scenarios are left out.
    pub leave_finished: bool,
}

/// Runs all trials; results are added to `results`, in place of earlier ones of the same scenario
/// and contender. `progress` is called when a trial begins and ends.
///
/// # Errors
/// When the file can't be written. Trials that fail are results too.
pub fn run(order: &Order<'_>, results: &mut Results, mut progress: impl FnMut(Progress<'_>)) -> Result<()> {
    for scenario in order.scenarios {
        let contenders: Vec<&Contender> =
            order.contenders.iter().filter(|c| scenario.speakers.contains(&c.speaker)).collect();
        let names: Vec<&str> = contenders.iter().map(|contender| contender.name.as_str()).collect();
        if order.leave_finished && results.has(scenario.name, &names, order.rounds) {
            progress(Progress::Said(&format!("{}: done earlier", scenario.name)));
            continue;
        }
        let again = |round: &Round| {
            round.scenario == scenario.name && contenders.iter().any(|c| c.name == round.contender)
        };
        results.rounds.retain(|round| !again(round));
        let (mut rounds, mut told) = (Vec::new(), Vec::new());
        for number in 1..=order.rounds {
            for contender in &contenders {
                if let Some(reason) = enough(&rounds, contender, &contenders) {
                    if !told.contains(&&contender.name) {
                        told.push(&contender.name);
                        let line = format!("{} {}: not repeated ({reason})", scenario.name, contender.name);
                        progress(Progress::Said(&line));
                    }
                    continue;
                }
                let trial = format!("{} {}/{} {}", scenario.name, number, order.rounds, contender.name);
                progress(Progress::Begins(&trial));
                let round = once(scenario, contender, order.limit);
                progress(Progress::Said(&format!("{trial}: {}", said(&round))));
                rounds.push(round);
            }
        }
        results.rounds.extend(rounds);
        // The order of `bench list`.
        let all = crate::scenario::all();
        results.rounds.sort_by_key(|round| all.iter().position(|scenario| scenario.name == round.scenario));
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
        let megabytes = m.peak_rss as f64 / 1e6;
        let more: String = m.more.iter().map(|(name, value)| format!(", {name} {value:.1}")).collect();
        format!("{} {over}{:.3} s, CPU {:.3} s, peak {megabytes:.0} MB{more}", m.row, m.wall_s, m.cpu_s)
    });
    phases.collect::<Vec<_>>().join("; ")
}

/// Why a contender is not run again; its first run stands.
fn enough(rounds: &[Round], contender: &Contender, contenders: &[&Contender]) -> Option<&'static str> {
    fn runs<'a>(rounds: &'a [Round], name: &'a str) -> impl Iterator<Item = &'a Round> {
        rounds.iter().filter(move |round| round.contender == name)
    }
    if runs(rounds, &contender.name).filter(|round| round.failure.is_some()).count() > 1 {
        return Some("it failed twice");
    }
    let own = runs(rounds, &contender.name).find(|round| round.failure.is_none())?;
    if own.measurements.iter().any(|m| m.outcome == Outcome::CutOff) {
        return Some("it was cut off");
    }
    // Ours are always repeated.
    if !contender.speaker.is_peer() {
        return None;
    }
    let is_peer = |name: &str| contenders.iter().any(|c| c.name == name && c.speaker.is_peer());
    let peers = || rounds.iter().filter(|round| is_peer(&round.contender));
    let best = |row: &str| {
        let all = peers().flat_map(|round| &round.measurements).filter(|m| m.row == row);
        all.filter(|m| m.outcome == Outcome::Done).map(|m| m.wall_s).fold(f64::INFINITY, f64::min)
    };
    if own.measurements.iter().any(|m| m.wall_s > TOO_LONG) {
        return Some("it takes too long");
    }
    if own.measurements.iter().any(|m| m.wall_s > HOPELESS * best(&m.row)) {
        return Some("others are far quicker");
    }
    let total = |round: &Round| round.measurements.iter().map(|m| m.wall_s).sum::<f64>();
    let twins = contenders.iter().filter(|c| c.speaker == contender.speaker && c.name != contender.name);
    let mut first_runs =
        twins.filter_map(|twin| runs(rounds, &twin.name).find(|round| round.failure.is_none()));
    first_runs
        .any(|twin| twin.measurements.len() >= own.measurements.len() && total(twin) < total(own))
        .then_some("its other configuration is quicker")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{contender::Speaker, record::Measurement};

    fn contender(name: &str, speaker: Speaker) -> Contender {
        Contender { name: name.into(), speaker, tuned: false, program: "/bin/true".into() }
    }

    fn round(name: &str, wall_s: f64, outcome: Outcome) -> Round {
        let (row, more) = ("S1".into(), [].into());
        let measured = Measurement { row, outcome, wall_s, cpu_s: 0.0, rss: 0, peak_rss: 0, more };
        let (scenario, contender) = ("S1".into(), name.into());
        Round { scenario, contender, measurements: vec![measured], failure: None }
    }

    #[test]
    fn the_hopeless_are_not_repeated_and_ours_always_is() {
        let all = [
            contender("routed", Speaker::Routed),
            contender("bird", Speaker::Bird),
            contender("frr", Speaker::Frr),
            contender("frr-tuned", Speaker::Frr),
            contender("gobgp", Speaker::Gobgp),
            contender("openbgpd", Speaker::Openbgpd),
            contender("floor", Speaker::Floor),
        ];
        let all: Vec<&Contender> = all.iter().collect();
        let mut failed = round("openbgpd", 0.0, Outcome::Done);
        (failed.failure, failed.measurements) = (Some("it broke".into()), Vec::new());
        let rounds = [
            round("routed", 40.0, Outcome::Done),
            round("bird", 0.1, Outcome::Done),
            round("frr", 1.5, Outcome::Done),
            round("frr-tuned", 0.2, Outcome::Done),
            round("gobgp", 2.1, Outcome::Done),
            failed.clone(),
            round("floor", 0.001, Outcome::Done),
        ];
        let reasons: Vec<_> = all.iter().map(|contender| enough(&rounds, contender, &all)).collect();
        let (twin, slow) = (Some("its other configuration is quicker"), Some("others are far quicker"));
        assert_eq!(reasons, [None, None, twin, None, slow, None, None]);
        assert_eq!(enough(&[failed.clone(), failed], all[5], &all), Some("it failed twice"));
        assert_eq!(enough(&[round("bird", 60.0, Outcome::CutOff)], all[1], &all), Some("it was cut off"));
    }
}
