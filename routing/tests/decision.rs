//! The decision process: the best path, the reasons for the others, and independence of the order
//! of arrival.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};

use bgp::RouterId;
use bgp::wire::attribute::{code, flag, push};
use proptest::prelude::*;
use routing::AttrSet;
use routing::decide::{PathCandidate, PathReason, Rank, select};

#[derive(Clone, Debug)]
struct Spec {
    rank: Rank,
    local_pref: u32,
    path: Vec<u32>,
    origin: u8,
    med: u32,
    external: bool,
    id: u32,
    originator: Option<u32>,
    clusters: usize,
    address: u32,
}

const BASE: Spec = Spec {
    rank: Rank::Bgp,
    local_pref: 100,
    path: Vec::new(),
    origin: 0,
    med: 0,
    external: false,
    id: 5,
    originator: None,
    clusters: 0,
    address: 5,
};

impl Spec {
    fn attrs(&self) -> AttrSet {
        let mut out = Vec::new();
        push(&mut out, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(self.origin));
        push(&mut out, flag::WELL_KNOWN, code::AS_PATH, |out| {
            if !self.path.is_empty() {
                out.extend([2, self.path.len() as u8]);
                self.path.iter().for_each(|asn| out.extend(asn.to_be_bytes()));
            }
        });
        push(&mut out, flag::OPTIONAL, code::MULTI_EXIT_DISC, |out| out.extend(self.med.to_be_bytes()));
        push(&mut out, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend(self.local_pref.to_be_bytes()));
        if let Some(id) = self.originator {
            push(&mut out, flag::OPTIONAL, code::ORIGINATOR_ID, |out| out.extend(id.to_be_bytes()));
        }
        if self.clusters > 0 {
            push(&mut out, flag::OPTIONAL, code::CLUSTER_LIST, |out| out.extend(vec![1; self.clusters * 4]));
        }
        AttrSet::from_canonical(&out, IpAddr::from([192, 168, 0, 1]))
    }
}

fn decide(specs: &[Spec]) -> (Option<usize>, Vec<Option<PathReason>>) {
    let sets: Vec<_> = specs.iter().map(Spec::attrs).collect();
    let candidates: Vec<_> = specs
        .iter()
        .zip(&sets)
        .map(|(spec, attrs)| PathCandidate {
            source: 0,
            rank: spec.rank,
            attrs,
            external: spec.external,
            router_id: RouterId(Ipv4Addr::from_bits(spec.id)),
            address: Ipv4Addr::from_bits(spec.address).into(),
        })
        .collect();
    let mut reasons = vec![None; specs.len()];
    let best = select(&candidates, &mut Vec::new(), |index, reason| {
        assert_eq!(reasons[index].replace(reason), None, "one reason per losing path");
    });
    (best, reasons)
}

#[test]
fn each_step_decides_when_all_before_it_are_equal() {
    let cases = [
        (Spec { rank: Rank::Static, ..BASE }, BASE, PathReason::StaticBelowBgp),
        (BASE, Spec { rank: Rank::Local, id: 9, ..BASE }, PathReason::LocalBlock),
        (Spec { local_pref: 99, ..BASE }, Spec { path: vec![1, 2], ..BASE }, PathReason::LocalPref),
        (
            Spec { path: vec![1, 2], ..BASE },
            Spec { path: vec![3], origin: 2, ..BASE },
            PathReason::AsPathLength,
        ),
        (Spec { origin: 1, ..BASE }, Spec { med: 9, ..BASE }, PathReason::Origin),
        (Spec { med: 1, external: true, ..BASE }, BASE, PathReason::Med),
        (Spec { id: 1, ..BASE }, Spec { external: true, ..BASE }, PathReason::ExternalPreferred),
        (BASE, Spec { id: 4, clusters: 3, ..BASE }, PathReason::RouterId),
        (Spec { id: 1, originator: Some(7), ..BASE }, Spec { clusters: 3, ..BASE }, PathReason::RouterId),
        (
            Spec { clusters: 2, address: 1, ..BASE },
            Spec { clusters: 1, ..BASE },
            PathReason::ClusterListLength,
        ),
        (Spec { address: 6, ..BASE }, BASE, PathReason::PeerAddress),
    ];
    for (loser, winner, reason) in cases {
        let (best, reasons) = decide(&[loser.clone(), winner.clone()]);
        assert_eq!((best, reasons), (Some(1), vec![Some(reason), None]), "{loser:?} against {winner:?}");
    }
}

#[test]
fn med_of_different_neighbours_is_not_compared() {
    let paths = [
        Spec { path: vec![1], med: 50, id: 1, ..BASE },
        Spec { path: vec![2], med: 10, id: 2, ..BASE },
        Spec { path: vec![1], med: 20, id: 3, ..BASE },
    ];
    let (best, reasons) = decide(&paths);
    assert_eq!(best, Some(1));
    assert_eq!(reasons, [Some(PathReason::Med), None, Some(PathReason::RouterId)]);
}

fn spec() -> impl Strategy<Value = Spec> {
    let rank = prop_oneof![Just(Rank::Static), Just(Rank::Bgp), Just(Rank::Bgp), Just(Rank::Bgp)];
    (
        rank,
        99..=101u32,
        prop::collection::vec(1..3u32, 0..3),
        0..2u8,
        0..3u32,
        any::<bool>(),
        1..4u32,
        0..3usize,
    )
        .prop_map(|(rank, local_pref, path, origin, med, external, id, clusters)| Spec {
            rank,
            local_pref,
            path,
            origin,
            med,
            external,
            id,
            clusters,
            ..BASE
        })
}

proptest! {
    #[test]
    fn the_best_path_does_not_depend_on_the_order(
        (specs, shuffled) in prop::collection::vec(spec(), 1..8).prop_flat_map(|mut specs| {
            // Every session has an address of its own.
            specs.iter_mut().zip(1..).for_each(|(spec, address)| spec.address = address);
            (Just(specs.clone()), Just(specs).prop_shuffle())
        })
    ) {
        let (best, reasons) = decide(&specs);
        let (other, other_reasons) = decide(&shuffled);
        let address = |specs: &[Spec], best: Option<usize>| specs[best.unwrap()].address;
        prop_assert_eq!(address(&specs, best), address(&shuffled, other));
        for (spec, reason) in specs.iter().zip(&reasons) {
            let at = shuffled.iter().position(|other| other.address == spec.address).unwrap();
            prop_assert_eq!(reason, &other_reasons[at]);
        }
        prop_assert_eq!(reasons.iter().filter(|reason| reason.is_none()).count(), 1);
    }
}
