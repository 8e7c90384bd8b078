//! S1, S2, S2k: a reflector's clients announce their blocks, from idle or as they connect.

use std::time::Duration;

use anyhow::Result;

use super::{EVERYBODY, phase::Phases};
use crate::{
    daemon::Reflector,
    load::{Fleet, Goal, HOLD_TIME, Role, blocks},
    record::Measurement,
    scenario::{Scenario, Trial},
};

/// A daemon that accepts a handful of connections at a time takes minutes.
const COLD_LIMIT: Duration = Duration::from_secs(60);

/// They.
pub(super) fn scenarios() -> [Scenario; 5] {
    let scenario = |name, about, run| Scenario { name, about, speakers: EVERYBODY, run };
    [
        scenario("S1", "reflector, 100 clients announce 4 blocks each", |trial| {
            announce(trial, "S1", 100, 4)
        }),
        scenario("S2", "reflector, 500 clients announce 2 blocks each", |trial| {
            announce(trial, "S2", 500, 2)
        }),
        scenario("S2k", "reflector, 1,000 clients announce 2 blocks each", |trial| {
            announce(trial, "S2k", 1000, 2)
        }),
        scenario("S2-cold", "500 clients connect and announce, all at once", |trial| {
            cold(trial, "S2 cold", 500, 2)
        }),
        scenario("S2k-cold", "1,000 clients connect and announce, all at once", |trial| {
            cold(trial, "S2k cold", 1000, 2)
        }),
    ]
}

/// All sessions are Established and idle; then all clients announce at once.
pub(super) fn announce(
    trial: &Trial<'_>,
    row: &str,
    clients: u32,
    per_client: u32,
) -> Result<Vec<Measurement>> {
    let (universe, scripts) = blocks(clients, per_client);
    let daemon = Reflector { clients: clients as usize }.start(trial.contender, trial.bed)?;
    let mut fleet = Fleet::new(universe, HOLD_TIME)?;
    for _ in &scripts {
        fleet.add(Role { receives: true, first_words: None });
    }
    let mut phases = Phases::new(trial, daemon, fleet);
    phases.establish()?;
    let measured = phases.measure(row, Goal::All, |fleet| {
        scripts.into_iter().enumerate().try_for_each(|(client, script)| fleet.send(client, script))
    })?;
    Ok(vec![measured])
}

/// All clients connect at once, and announce as soon as their sessions are Established.
fn cold(trial: &Trial<'_>, row: &str, clients: u32, per_client: u32) -> Result<Vec<Measurement>> {
    let (universe, scripts) = blocks(clients, per_client);
    let daemon = Reflector { clients: clients as usize }.start(trial.contender, trial.bed)?;
    let mut fleet = Fleet::new(universe, HOLD_TIME)?;
    for script in scripts {
        fleet.add(Role { receives: true, first_words: Some(script) });
    }
    let mut phases = Phases { limit: trial.limit.max(COLD_LIMIT), ..Phases::new(trial, daemon, fleet) };
    let mut measured = phases.measure(row, Goal::All, |fleet| {
        fleet.set_lasting(false);
        fleet.dial_all(usize::MAX)
    })?;
    measured.more.insert("retried".into(), phases.fleet.retried() as f64);
    Ok(vec![measured])
}
