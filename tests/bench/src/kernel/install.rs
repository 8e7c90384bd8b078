//! S6: half a million blocks from one peer into the kernel's table; withdrawn; gone with the session.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    kernel_limit::{Form, Limit, Order},
    node::{self, Exits},
    route_count::{LOOK_AGAIN, Watch},
};
use crate::{
    contender::Speaker,
    daemon::Daemon,
    load::{Fleet, HOLD_TIME, NextHopLoad, Origin, Role, Universe},
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Next hops, and blocks behind each.
const NEXT_HOPS: u16 = 500;
const EACH: u32 = 1000;
/// The client that sends.
const SENDER: usize = 0;
/// Time in which the session must be Established.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns the scenario.
pub(super) fn scenario() -> Scenario {
    Scenario {
        name: "S6",
        about: "500k blocks behind 500 next hops from one peer into the kernel; withdrawal; session drop",
        speakers: &[Speaker::Routed, Speaker::Bird, Speaker::Floor],
        run: |trial| {
            let blocks = NextHopLoad {
                first: Ipv4Addr::new(20, 0, 0, 0),
                next_hops: Exits::next_hops(NEXT_HOPS),
                each: EACH,
            };
            Exits::wire(trial.bed)?;
            if trial.contender.speaker == Speaker::Floor { limits(&blocks) } else { daemon(trial, &blocks) }
        },
    }
}

/// The kernel alone, with next-hop objects as the floor of each row, and with plain gateways as rows of their own.
fn limits(blocks: &NextHopLoad) -> Result<Vec<Measurement>> {
    // routed sets it in its namespace: at 1 an event repeats what its object contains.
    std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").context("nexthop_compat_mode")?;
    let index = Exits::index()?;
    let mut measured = Vec::new();
    // The better order first: it is the limit that the bar is about.
    let mut limit = Limit::of(blocks, index, Form::Objects, Order::Scattered)?;
    let (install, remove) = (limit.install("S6 install")?, limit.remove("S6 withdraw")?);
    limit.end()?;
    let drop = Measurement { row: "S6 drop".to_owned(), ..remove.clone() };
    measured.extend([install, remove, drop]);
    for (form, text) in [(Form::Objects, "in sequence"), (Form::Gateways, "plain gateways")] {
        let mut limit = Limit::of(blocks, index, form, Order::Sequence)?;
        measured.push(limit.install(&format!("S6 install, {text}"))?);
        measured.push(limit.remove(&format!("S6 removal, {text}"))?);
        limit.end()?;
    }
    Ok(measured)
}

fn daemon(trial: &Trial<'_>, blocks: &NextHopLoad) -> Result<Vec<Measurement>> {
    let daemon = node::start(trial.contender, trial.bed, &node::plain(), &[node::DEVICE])?;
    let mut fleet = Fleet::new(Universe::new(&[], Origin::Senders), HOLD_TIME)?;
    fleet.add(Role::default());
    let mut trial = Install { daemon, fleet, watch: Watch::of(blocks)?, limit: trial.limit };
    let (announce, withdraw) = (blocks.announce(), blocks.withdraw());
    trial.establish()?;
    let mut measured = vec![trial.measure("S6 install", true, |fleet| fleet.send(SENDER, announce.clone()))?];
    if cut_off(&measured) {
        return Ok(measured);
    }
    trial.daemon.wait_until_quiet()?;
    measured.push(trial.measure("S6 withdraw", false, |fleet| fleet.send(SENDER, withdraw))?);
    if cut_off(&measured) {
        return Ok(measured);
    }
    trial.daemon.wait_until_quiet()?;
    let again = trial.measure("S6 again", true, |fleet| fleet.send(SENDER, announce))?;
    if again.outcome == Outcome::CutOff {
        bail!("the blocks don't come back after {:?}, so nothing can be dropped", trial.limit);
    }
    trial.daemon.wait_until_quiet()?;
    measured.push(trial.measure("S6 drop", false, |fleet| {
        fleet.hang_up(SENDER);
        Ok(())
    })?);
    Ok(measured)
}

fn cut_off(measured: &[Measurement]) -> bool {
    measured.last().is_some_and(|m| m.outcome == Outcome::CutOff)
}

/// A daemon, its one peer, and the kernel's table.
pub(super) struct Install {
    pub(super) daemon: Daemon,
    pub(super) fleet: Fleet,
    pub(super) watch: Watch,
    pub(super) limit: Duration,
}

impl Install {
    /// Has the peer connect.
    pub(super) fn establish(&mut self) -> Result<()> {
        self.fleet.dial_all(1)?;
        let done = self.fleet.run_until(Instant::now() + PATIENCE, |fleet| fleet.established() == 1)?;
        if !done {
            bail!("no session after {PATIENCE:?}: {}", self.daemon.log_tail());
        }
        self.daemon.wait_until_quiet()?;
        self.watch.begin_anew()
    }

    /// Measures from `start` until the kernel has all of the routes, or none.
    pub(super) fn measure(
        &mut self,
        row: &str,
        all: bool,
        start: impl FnOnce(&mut Fleet) -> Result<()>,
    ) -> Result<Measurement> {
        if self.watch.is(all)? {
            bail!("{row}: all is as it is to be before anything was done");
        }
        let cpu = self.daemon.cpu();
        let began = Instant::now();
        start(&mut self.fleet)?;
        let mut done = false;
        while !done && began.elapsed() < self.limit {
            self.fleet.turn(LOOK_AGAIN)?;
            done = self.watch.is(all)?;
        }
        let wall = began.elapsed();
        let spent = self.daemon.cpu().since(&cpu);
        self.daemon.check()?;
        let memory = self.daemon.memory();
        let mut more = std::collections::BTreeMap::new();
        if !done {
            more.insert("routes".to_owned(), self.watch.count()? as f64);
        }
        Ok(Measurement {
            row: row.to_owned(),
            outcome: if done { Outcome::Done } else { Outcome::CutOff },
            wall_s: wall.as_secs_f64(),
            cpu_s: spent.as_secs_f64(),
            rss: memory.rss,
            peak_rss: memory.peak,
            more,
        })
    }
}
