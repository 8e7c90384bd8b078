//! Five nodes on a virtual clock: random latency, connections that drop or go silent, restarts,
//! partitions, and blocks that come and go. After the faults every RIB must be right. A failure
//! prints its seed; `SEED=n cargo test -p tests --test simulation` runs that one alone and prints
//! its events.
#![allow(clippy::unwrap_used)]

mod convergence;
mod faults;
mod links;
mod node_names;
mod random;
mod world;

use world::{Event, Topology, World};

fn run_seeds(topology: Topology, graceful: bool, seeds: u64) {
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
                        let mut world = World::new(topology, *seed, graceful, only.is_some());
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
    run_seeds(Topology::Mesh, false, 1000);
}

#[test]
fn a_reflector_and_its_clients_converge_for_three_hundred_seeds() {
    run_seeds(Topology::Reflector, false, 300);
}

#[test]
fn in_a_mesh_no_route_is_lost_to_a_restart_for_five_hundred_seeds() {
    run_seeds(Topology::Mesh, true, 500);
}

#[test]
fn no_route_is_lost_to_a_restart_of_the_reflector_or_of_a_client_for_five_hundred_seeds() {
    run_seeds(Topology::Reflector, true, 500);
}

#[test]
fn the_check_finds_a_node_that_never_starts() {
    let mut world = World::new(Topology::Mesh, 1, false, false);
    world.events.values_mut().for_each(|event| {
        if matches!(event, Event::Start { node: 4 }) {
            *event = Event::Wake { node: 4 };
        }
    });
    world.run();
    assert!(world.check().is_err(), "the check can fail");
}
