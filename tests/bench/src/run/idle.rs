//! The usage of a daemon whose only peer never connects (without any, BIRD does not listen).

use std::time::Instant;

use anyhow::Result;

use crate::{
    daemon::Reflector,
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Returns the scenario.
pub(super) fn scenario() -> Scenario {
    Scenario {
        name: "idle",
        about: "memory with one peer, which never comes; the time is from the start until it has nothing more to do",
        speakers: super::EVERYBODY,
        run,
    }
}

fn run(trial: &Trial<'_>) -> Result<Vec<Measurement>> {
    let began = Instant::now();
    let daemon = Reflector { clients: 1 }.start(trial.contender, trial.bed)?;
    let memory = daemon.memory();
    Ok(vec![Measurement {
        row: "idle".into(),
        outcome: Outcome::Done,
        wall_s: began.elapsed().as_secs_f64(),
        cpu_s: daemon.cpu().since(&crate::daemon::Cpu::default()).as_secs_f64(),
        rss: memory.rss,
        peak_rss: memory.peak,
        more: [].into(),
    }])
}
