//! S3: a full table from one sender to ten receivers; its withdrawal; a receiver that comes back.

use anyhow::Result;

use super::{EVERYBODY, phase::Phases};
use crate::{
    daemon::Reflector,
    load::{Fleet, Goal, HOLD_TIME, Role, full_table},
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Prefixes and attribute sets of the table.
pub(super) const PREFIXES: u32 = 1_000_000;
pub(super) const ATTRIBUTE_SETS: u32 = 148_000;
/// Receivers of it.
pub(super) const RECEIVERS: usize = 10;
/// The client that sends it; receivers come after it.
const SENDER: usize = 0;
/// The receiver that goes and comes back.
const RETURNING: usize = 5;

/// Returns the scenario.
pub(super) fn scenario() -> Scenario {
    Scenario {
        name: "S3",
        about: "1M prefixes with 148k attribute sets to 10 receivers; one comes back; withdrawal of all",
        speakers: EVERYBODY,
        run: |trial| {
            let mut phases = prepare(trial, PREFIXES, ATTRIBUTE_SETS)?;
            run(&mut phases)
        },
    }
}

/// The phases of one full table, the daemon running and all sessions idle.
pub(super) struct TablePhases {
    phases: Phases,
    announce: std::rc::Rc<[u8]>,
    withdraw: std::rc::Rc<[u8]>,
}

/// Starts the daemon and establishes the sessions.
pub(super) fn prepare(trial: &Trial<'_>, prefixes: u32, sets: u32) -> Result<TablePhases> {
    let table = full_table(prefixes, sets);
    let daemon = Reflector { clients: 1 + RECEIVERS }.start(trial.contender, trial.bed)?;
    let mut fleet = Fleet::new(table.universe, HOLD_TIME)?;
    for client in 0..=RECEIVERS {
        fleet.add(Role { receives: client != SENDER, first_words: None });
    }
    let mut phases = Phases::new(trial, daemon, fleet);
    phases.establish()?;
    Ok(TablePhases { phases, announce: table.announce, withdraw: table.withdraw })
}

/// Measures the load alone.
pub(super) fn load(table: &mut TablePhases, row: &str) -> Result<Measurement> {
    let script = table.announce.clone();
    table.phases.measure(row, Goal::All, |fleet| fleet.send(SENDER, script))
}

fn run(table: &mut TablePhases) -> Result<Vec<Measurement>> {
    let mut measured = vec![load(table, "S3")?];
    let phases = &mut table.phases;
    let cut_off = |measured: &[Measurement]| measured.last().is_some_and(|m| m.outcome == Outcome::CutOff);
    if cut_off(&measured) {
        return Ok(measured);
    }
    phases.settle()?;
    // A null reflector has nothing for a receiver that returns.
    if !phases.forgetful {
        phases.fleet.hang_up(RETURNING);
        phases.settle()?;
        measured.push(phases.measure_return("S3 flap", RETURNING)?);
        if cut_off(&measured) {
            return Ok(measured);
        }
        phases.settle()?;
    }
    let script = table.withdraw.clone();
    measured.push(phases.measure("S3 withdraw", Goal::Nothing, |fleet| fleet.send(SENDER, script))?);
    Ok(measured)
}
