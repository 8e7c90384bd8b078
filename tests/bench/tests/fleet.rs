//! The load tool with the null reflector, in a real namespace: as root.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use bench::{
    bed::Bed,
    contender::{self, Contender},
    daemon::{Daemon, Reflector},
    load::{Fleet, HOLD_TIME, Role, blocks},
    record::Outcome,
    scenario::{self, Trial},
};

/// For what has to happen, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what must not happen.
const A_WHILE: Duration = Duration::from_millis(300);

fn floor() -> Contender {
    let mut all = contender::all("routed".as_ref(), None).expect("the contenders");
    let mut floor = all.pop().expect("the floor, which is the last");
    assert_eq!(floor.name, "floor");
    floor.program = env!("CARGO_BIN_EXE_bench").into();
    floor
}

/// The messages of the clients, in their order.
type Scripts = Vec<Rc<[u8]>>;

/// Ten Established clients of a null reflector with two blocks each.
fn ten(bed: &Bed) -> anyhow::Result<(Daemon, Fleet, Scripts)> {
    let (universe, scripts) = blocks(10, 2);
    let daemon = Reflector { clients: 10 }.start(&floor(), bed)?;
    let mut fleet = Fleet::new(universe, HOLD_TIME)?;
    scripts.iter().for_each(|_| fleet.add(Role { receives: true, first_words: None }));
    fleet.dial_all(usize::MAX)?;
    assert!(
        fleet.run_until(Instant::now() + PATIENCE, |fleet| fleet.established() == 10)?,
        "all Established"
    );
    Ok((daemon, fleet, scripts))
}

#[test]
fn a_cluster_is_complete_only_when_the_last_client_has_announced_its_blocks() {
    let result = Bed::with(|bed| {
        let (_daemon, mut fleet, scripts) = ten(bed)?;
        for (client, script) in scripts.iter().enumerate().skip(1) {
            fleet.send(client, script.clone())?;
        }
        assert!(!fleet.run_until(Instant::now() + A_WHILE, |fleet| fleet.is_complete())?, "one is missing");
        assert_eq!(fleet.percent(), 90);
        fleet.send(0, scripts[0].clone())?;
        assert!(
            fleet.run_until(Instant::now() + PATIENCE, |fleet| fleet.is_complete())?,
            "nobody is missing"
        );
        Ok(())
    });
    result.expect("a bed, as root");
}

#[test]
fn a_session_that_ends_fails_the_trial() {
    let result = Bed::with(|bed| {
        let (daemon, mut fleet, _) = ten(bed)?;
        drop(daemon);
        Ok(fleet.run_until(Instant::now() + PATIENCE, |_| false).expect_err("the daemon is gone").to_string())
    });
    let error = result.expect("a bed, as root");
    assert!(
        error.starts_with("client 10.1.0.") && error.contains("clos") || error.contains("reset"),
        "{error}"
    );
}

#[test]
fn a_scenario_measures_the_floor() {
    let scenario = scenario::all().into_iter().find(|scenario| scenario.name == "S1").expect("S1");
    let contender = floor();
    let result = Bed::with(|bed| (scenario.run)(&Trial { contender: &contender, bed, limit: PATIENCE }));
    let measured = result.expect("a bed, as root");
    assert_eq!((measured.len(), measured[0].row.as_str(), measured[0].outcome), (1, "S1", Outcome::Done));
    assert!(measured[0].wall_s > 0.0 && measured[0].cpu_s > 0.0 && measured[0].peak_rss > 1_000_000);
}
