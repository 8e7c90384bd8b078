//! S5, S5f: a sender of 100,000 blocks drops its connection, without a second path and with one.

use anyhow::Result;

use super::phase::Phases;
use crate::{
    contender::Speaker,
    daemon::Reflector,
    load::{Fleet, Goal, HOLD_TIME, Role, Senders},
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Blocks of the sender that drops.
const BLOCKS: u32 = 100_000;
/// Receivers, after the two senders.
const RECEIVERS: usize = 10;
const FIRST: usize = 0;
const SECOND: usize = 1;

const SPEAKERS: &[Speaker] =
    &[Speaker::Routed, Speaker::Bird, Speaker::Frr, Speaker::Openbgpd, Speaker::Gobgp];

/// They.
pub(super) fn scenarios() -> [Scenario; 2] {
    [
        Scenario {
            name: "S5",
            about: "a sender of 100k blocks drops, until 10 receivers have all withdrawals",
            speakers: SPEAKERS,
            run: |trial| drop_sender(trial, "S5", false),
        },
        Scenario {
            name: "S5f",
            about: "the same where another has worse paths to all, until 10 receivers have those",
            speakers: SPEAKERS,
            run: |trial| drop_sender(trial, "S5f", true),
        },
    ]
}

fn drop_sender(trial: &Trial<'_>, row: &str, second: bool) -> Result<Vec<Measurement>> {
    let Senders { universe, first, worse } = Senders::of_blocks(BLOCKS);
    let daemon = Reflector { clients: 2 + RECEIVERS }.start(trial.contender, trial.bed)?;
    let mut fleet = Fleet::new(universe, HOLD_TIME)?;
    for client in 0..2 + RECEIVERS {
        fleet.add(Role { receives: client > SECOND, first_words: None });
    }
    let mut phases = Phases::new(trial, daemon, fleet);
    phases.establish()?;
    let loaded = phases.measure(row, Goal::All, |fleet| fleet.send(FIRST, first))?;
    if loaded.outcome == Outcome::CutOff {
        // The load was not reached, so nothing can be dropped.
        return Ok(vec![loaded]);
    }
    if second {
        phases.fleet.send(SECOND, worse)?;
    }
    phases.settle()?;
    let goal = if second { Goal::Second } else { Goal::Nothing };
    let dropped = phases.measure(row, goal, |fleet| {
        fleet.hang_up(FIRST);
        Ok(())
    })?;
    Ok(vec![dropped])
}
