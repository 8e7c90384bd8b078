//! The load of a full table: distinct prefixes of many lengths with many attribute sets.

use std::{collections::HashSet, net::Ipv4Addr, rc::Rc};

use super::{
    client::client_address,
    random::Random,
    universe::{Origin, Universe},
    wire::{self, Attributes},
};

/// Prefixes of each length in a thousand, about as in the Internet's table.
const LENGTHS: [(u8, u32); 9] =
    [(24, 600), (23, 100), (22, 120), (21, 50), (20, 50), (19, 30), (18, 15), (17, 15), (16, 20)];
/// The first prefix of each length; less specific ones cover more specific ones, as in real tables.
const BASE: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);
/// Neighbouring prefixes of one length that share their attributes.
const CLUSTER: u32 = 4;
/// The seed: the table is the same in every run.
const SEED: u64 = 20_261_121;

/// The load of the sender of a full table.
pub struct FullTable {
    /// The prefixes.
    pub universe: Universe,
    /// UPDATEs that announce them all, those of each attribute set together.
    pub announce: Rc<[u8]>,
    /// UPDATEs that withdraw them all, in the same order.
    pub withdraw: Rc<[u8]>,
}

/// Creates a table of `prefixes` with `sets` attribute sets: a few sets have thousands of prefixes,
/// most have one or two.
///
/// # Panics
/// There are more sets than prefixes.
#[must_use]
pub fn full_table(prefixes: u32, sets: u32) -> FullTable {
    assert!((1..=prefixes).contains(&sets), "at least one prefix for each attribute set");
    let mut random = Random::new(SEED);
    let mut regions: Vec<_> = LENGTHS
        .iter()
        .map(|&(length, share)| (BASE, length, (u64::from(prefixes) * u64::from(share) / 1000) as u32))
        .collect();
    let given: u32 = regions.iter().map(|region| region.2).sum();
    regions[0].2 += prefixes - given;
    let universe = Universe::new(&regions, Origin::Senders);

    let mut clusters: Vec<u32> = (0..prefixes.div_ceil(CLUSTER)).collect();
    random.shuffle(&mut clusters);
    let order: Vec<u32> = clusters
        .iter()
        .flat_map(|cluster| cluster * CLUSTER..((cluster + 1) * CLUSTER).min(prefixes))
        .collect();

    let mut runs = runs(prefixes, sets);
    random.shuffle(&mut runs);
    let (mut announce, mut withdraw) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let mut rest = &order[..];
    for run in runs {
        let attributes = loop {
            let attributes = attributes(&mut random).encode(client_address(0));
            if seen.insert(attributes.clone()) {
                break attributes;
            }
        };
        let (these, others) = rest.split_at(run as usize);
        rest = others;
        wire::announce(&attributes, these.iter().map(|number| universe.prefix(*number)), &mut announce);
    }
    wire::withdraw(order.iter().map(|number| universe.prefix(*number)), &mut withdraw);
    FullTable { universe, announce: announce.into(), withdraw: withdraw.into() }
}

/// Returns the number of prefixes of each set: at least one; beyond that, the k-th largest as `(k +
/// 20)^-0.9`.
fn runs(prefixes: u32, sets: u32) -> Vec<u32> {
    let weight = |set: u32| (f64::from(set) + 20.0).powf(-0.9);
    let sum: f64 = (0..sets).map(weight).sum();
    let spare = f64::from(prefixes - sets);
    let mut runs: Vec<u32> = (0..sets).map(|set| 1 + (spare * weight(set) / sum) as u32).collect();
    // Rounding down left less than one for each.
    let left = prefixes - runs.iter().sum::<u32>();
    runs.iter_mut().take(left as usize).for_each(|run| *run += 1);
    runs
}

fn attributes(random: &mut Random) -> Attributes {
    /// AS numbers of transit networks, of which there are few, and of the others.
    const TRANSIT: u32 = 8_000;
    const OTHERS: u32 = 70_000;
    let hops = 2 + random.below(5);
    let mut as_path: Vec<u32> = (1..hops).map(|_| 1_000 + random.below(TRANSIT)).collect();
    as_path.push(100_000 + random.below(OTHERS));
    let mut communities = Vec::new();
    if random.chance(70) {
        let first = as_path[0] << 16;
        communities.extend((0..=random.below(6)).map(|_| first | random.below(4_000)));
        communities.sort_unstable();
        communities.dedup();
    }
    Attributes {
        origin: if random.chance(85) { 0 } else { 2 },
        as_path,
        med: random.chance(30).then(|| random.below(200)),
        local_pref: [100, 100, 100, 200, 150][random.below(5) as usize],
        communities,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{ReceivedPrefixes, scan};

    #[test]
    fn a_table_announces_each_prefix_once_and_withdraws_it_again() {
        let table = full_table(10_000, 1_480);
        let mut held = ReceivedPrefixes::new(10_000, 10_000, 0..0);
        let scanned = scan(&table.announce, &table.universe, &mut held).expect("a table that can be read");
        assert_eq!(scanned.bytes, table.announce.len());
        assert_eq!((scanned.prefixes, held.count()), (10_000, 10_000));
        let scanned =
            scan(&table.withdraw, &table.universe, &mut held).expect("withdrawals that can be read");
        assert_eq!((scanned.prefixes, held.count()), (10_000, 0));
    }

    #[test]
    fn there_are_as_many_attribute_sets_as_wanted_and_few_are_large() {
        let runs = runs(1_000_000, 148_000);
        assert_eq!((runs.len(), runs.iter().sum::<u32>()), (148_000, 1_000_000));
        assert!(runs[0] > 1_000 && runs[147_999] < 3, "{} {}", runs[0], runs[147_999]);
    }
}
