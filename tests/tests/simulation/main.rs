//! Five nodes on a virtual clock: random latency, connections that drop or go silent, restarts, and
//! blocks that come and go. After the trouble has ended every RIB must be right. A failure prints its
//! seed; `SEED=n cargo test -p tests --test simulation` runs that one alone, and says what happened.
#![allow(clippy::unwrap_used)]

mod chance;
mod names;
mod world;

use world::{Event, Topology, World};

fn run_seeds(topology: Topology, seeds: u64) {
    let only = std::env::var("SEED").ok().map(|seed| seed.parse::<u64>().unwrap());
    let seeds: Vec<u64> = only.map_or_else(|| (0..seeds).collect(), |seed| vec![seed]);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let seeds = &seeds;
                scope.spawn(move || {
                    let mut failures = Vec::new();
                    for seed in seeds.iter().skip(worker).step_by(threads) {
                        let mut world = World::new(topology, *seed, only.is_some());
                        world.run();
                        if let Err(error) = world.check() {
                            failures.push(format!("seed {seed}: {error}"));
                        }
                    }
                    failures
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    println!("{topology:?}: {} seeds, {} failed", seeds.len(), failures.len());
    assert!(failures.is_empty(), "{topology:?}: {}", failures.join("\n"));
}

#[test]
fn a_mesh_converges_for_a_thousand_seeds() {
    run_seeds(Topology::Mesh, 1000);
}

#[test]
fn a_reflector_and_its_clients_converge_for_three_hundred_seeds() {
    run_seeds(Topology::Reflector, 300);
}

#[test]
fn a_node_that_never_starts_is_found_missing() {
    let mut world = World::new(Topology::Mesh, 1, false);
    world.events.values_mut().for_each(|event| {
        if matches!(event, Event::Start { node: 4 }) {
            *event = Event::Wake { node: 4 };
        }
    });
    world.run();
    assert!(world.check().is_err(), "the check can fail");
}
