//! A phase of a trial: the clock, the daemon's CPU and memory around what is measured.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{
    contender::Speaker,
    daemon::Daemon,
    load::{Fleet, Goal},
    record::{Measurement, Outcome},
    scenario::Trial,
};

/// Time in which sessions must be Established, where that is not measured.
const PATIENCE: Duration = Duration::from_secs(150);
/// The daemon is settled if for so long it sent nothing and used less CPU than that.
const SETTLED_FOR: Duration = Duration::from_millis(300);
const SETTLED_CPU: Duration = Duration::from_millis(8);
/// Sessions opened at once where that isn't measured: what BIRD's backlog holds.
const IN_FLIGHT: usize = 6;

/// A daemon and its load.
pub(super) struct Phases {
    pub daemon: Daemon,
    pub fleet: Fleet,
    /// After so long a phase is cut off.
    pub limit: Duration,
    /// Whether the daemon is a null reflector, which keeps nothing.
    pub forgetful: bool,
}

impl Phases {
    /// Creates the phases of a trial.
    pub(super) fn new(trial: &Trial<'_>, daemon: Daemon, fleet: Fleet) -> Self {
        Self { daemon, fleet, limit: trial.limit, forgetful: trial.contender.speaker == Speaker::Floor }
    }

    /// Has all clients connect and waits until they are Established and nothing goes on any more.
    pub(super) fn establish(&mut self) -> Result<()> {
        self.fleet.set_lasting(false);
        self.fleet.dial_all(IN_FLIGHT)?;
        let wanted = self.fleet.clients();
        let deadline = Instant::now() + PATIENCE;
        let all = self.fleet.run_until(deadline, |fleet| fleet.established() == wanted);
        if !self.explained(all)? {
            let (have, log) = (self.fleet.established(), self.daemon.log_tail());
            bail!("{have} of {wanted} sessions are Established after {PATIENCE:?}: {log}");
        }
        self.settle()?;
        self.fleet.set_lasting(true);
        Ok(())
    }

    /// Waits until the daemon sends nothing and does nothing.
    pub(super) fn settle(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = (self.fleet.updates(), self.daemon.cpu());
        while Instant::now() < deadline {
            let window = self.fleet.run_until(Instant::now() + SETTLED_FOR, |_| false);
            self.explained(window)?;
            let now = (self.fleet.updates(), self.daemon.cpu());
            if now.0 == before.0 && now.1.since(&before.1) < SETTLED_CPU {
                return Ok(());
            }
            before = now;
        }
        bail!("the daemon is still busy after {PATIENCE:?}")
    }

    /// Measures from `start` until every receiver has what it is to have.
    pub(super) fn measure(
        &mut self,
        row: &str,
        goal: Goal,
        start: impl FnOnce(&mut Fleet) -> Result<()>,
    ) -> Result<Measurement> {
        self.fleet.set_goal(goal);
        if self.fleet.is_complete() {
            bail!("{row}: all is as it is to be before anything was done");
        }
        let cpu = self.daemon.cpu();
        let began = Instant::now();
        let done = start(&mut self.fleet)
            .and_then(|()| self.fleet.run_until(began + self.limit, |fleet| fleet.is_complete()));
        let wall = began.elapsed();
        let spent = self.daemon.cpu().since(&cpu);
        let memory = self.daemon.memory();
        let done = self.explained(done).with_context(|| row.to_owned())?;
        Ok(Measurement {
            row: row.to_owned(),
            outcome: if done { Outcome::Done } else { Outcome::CutOff },
            wall_s: wall.as_secs_f64(),
            cpu_s: spent.as_secs_f64(),
            rss: memory.rss,
            peak_rss: memory.peak,
            more: [("percent".to_owned(), self.fleet.percent() as f64)]
                .into_iter()
                .filter(|_| !done)
                .collect(),
        })
    }

    /// Measures how long a receiver that went takes to have everything again, from the connect() of the
    /// attempt that succeeds: a daemon that refuses it for a while after an error isn't waited for.
    pub(super) fn measure_return(&mut self, row: &str, client: usize) -> Result<Measurement> {
        self.fleet.set_lasting(false);
        let began = Instant::now();
        let mut measured = self.measure(row, Goal::All, |fleet| fleet.dial(client))?;
        self.fleet.set_lasting(true);
        let refused = self.fleet.dialled(client).saturating_duration_since(began).as_secs_f64();
        measured.wall_s -= refused;
        Ok(measured)
    }

    /// A failure of the load is explained by a daemon that ended, if it did.
    fn explained<T>(&mut self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match self.daemon.check() {
            Ok(()) => match self.daemon.log_tail() {
                said if said.is_empty() => error,
                said => error.context(said),
            },
            Err(ended) => ended,
        })
    }
}
