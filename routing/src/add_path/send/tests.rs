//! Random histories: a peer with ADD-PATH always holds all paths that others have sent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::session::{Retention, StaleAction};
use bgp::wire::attribute::{Context, code, flag, push};
use bgp::wire::encode::UpdateFormat;
use bgp::wire::frame::{self, MAX_LEN, MessageKind};
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, Family, PeerId, RouterId};
use bytes::Bytes;
use ipnet::IpNet;
use proptest::prelude::*;

use crate::outbox::Delivery;
use crate::query::RibCounts;
use crate::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch};

/// Peers 1 and 2 send several paths; peers 2, 3 and 4 receive them.
const SENDERS: [u8; 2] = [1, 2];
const RECEIVERS: [u8; 3] = [2, 3, 4];

#[derive(Default)]
struct Wire {
    /// MEDs by prefix and path identifier.
    advertised: HashMap<PeerId, BTreeMap<(IpNet, u32), u32>>,
    unrefreshed: HashMap<PeerId, BTreeSet<(IpNet, u32)>>,
    ended: HashMap<PeerId, usize>,
    capacity: HashMap<PeerId, usize>,
}

impl Delivery for Wire {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        match self.capacity.get_mut(&peer) {
            Some(0) => return false,
            Some(capacity) => *capacity -= 1,
            None => {}
        }
        let state = self.advertised.entry(peer).or_default();
        let unrefreshed = self.unrefreshed.entry(peer).or_default();
        let mut rest = &chunk[..];
        let add_path_peers = RECEIVERS.iter().any(|receiver| id(*receiver) == peer);
        let add_path = if add_path_peers { Families::BOTH } else { Families::NONE };
        let context = Context { add_path, ..Context::INTERNAL };
        while let Some(message) = frame::next(rest, MAX_LEN).unwrap() {
            rest = &rest[message.len()..];
            if message.kind == MessageKind::RouteRefresh {
                match RouteRefresh::parse(message.body).unwrap().subtype {
                    1 => *unrefreshed = state.keys().copied().filter(|(p, _)| Family::of(p) == V4).collect(),
                    _ => std::mem::take(unrefreshed).iter().for_each(|key| _ = state.remove(key)),
                }
                continue;
            }
            let update = UpdateView::parse(message.body).unwrap().read(&context).unwrap();
            assert_eq!(update.fault, None);
            *self.ended.entry(peer).or_default() += usize::from(update.end_of_rib().is_some());
            for (id, prefix) in update.withdrawals().flat_map(|list| list.paths()) {
                state.remove(&(prefix, id));
            }
            for (_, list) in update.announcements() {
                for (id, prefix) in list.paths() {
                    state.insert((prefix, id), update.attributes.med.unwrap());
                    unrefreshed.remove(&(prefix, id));
                }
            }
        }
        assert!(rest.is_empty(), "whole messages only");
        true
    }
}

const V4: Family = Family::Ipv4Unicast;

#[derive(Clone, Debug)]
enum Step {
    /// Peer, block, path identifier, MED.
    Announce(u8, u8, u32, u8),
    Withdraw(u8, u8, u32),
    Down(u8),
    Lost(u8),
    Up(u8),
    EndOfRib(u8),
    SelectScratch(u8, usize),
    Refresh(u8),
    Cluster(u8),
    Run(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let sender = || prop::sample::select(&SENDERS[..]);
    let receiver = || prop::sample::select(&RECEIVERS[..]);
    prop_oneof![
        8 => (sender(), 0..8u8, 0..4u32, 0..3u8).prop_map(|(p, b, i, m)| Step::Announce(p, b, i, m)),
        4 => (sender(), 0..8u8, 0..4u32).prop_map(|(p, b, i)| Step::Withdraw(p, b, i)),
        1 => (1..5u8).prop_map(Step::Down),
        1 => sender().prop_map(Step::Lost),
        2 => (1..5u8).prop_map(Step::Up),
        1 => sender().prop_map(Step::EndOfRib),
        2 => (receiver(), 0..4usize).prop_map(|(p, n)| Step::SelectScratch(p, n)),
        1 => receiver().prop_map(Step::Refresh),
        1 => (1..3u8).prop_map(Step::Cluster),
        6 => (1..8usize).prop_map(Step::Run),
    ]
}

fn block(number: u8) -> IpNet {
    match number.is_multiple_of(4) {
        true => format!("fd00:{number}::/64").parse().unwrap(),
        false => format!("10.1.{number}.0/26").parse().unwrap(),
    }
}

fn config(cluster: u8) -> RibConfig {
    RibConfig {
        local_as: Asn(64512),
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, 100)),
        cluster_id: Some(Ipv4Addr::new(10, 0, 0, cluster)),
        local_addresses: vec![IpAddr::from([192, 168, 0, 100])],
        multipath: 16,
    }
}

fn session(peer: u8) -> PeerSession {
    PeerSession {
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, peer)),
        address: IpAddr::from([192, 168, 0, peer]),
        internal: true,
        client: true,
        form: UpdateFormat::default(),
        families: Families::BOTH,
        sends_add_path: if RECEIVERS.contains(&peer) { Families::BOTH } else { Families::NONE },
        restarts: true,
        restarting: false,
        long_lived: true,
        marks_refresh: true,
    }
}

fn id(peer: u8) -> PeerId {
    PeerId(peer.into())
}

struct Bed {
    rib: Rib,
    wire: Wire,
    up: BTreeSet<u8>,
    /// Paths sent by each sender: the MED, and whether the path is stale.
    sent: BTreeMap<(u8, IpNet, u32), (u8, bool)>,
}

impl Bed {
    fn batch(peer: u8, prefix: IpNet, path_id: u32, med: Option<u8>) -> RouteBatch {
        let mut batch = RouteBatch::default();
        let attrs = med.map(|med| {
            let mut canonical = Vec::new();
            push(&mut canonical, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
            push(&mut canonical, flag::WELL_KNOWN, code::AS_PATH, |_| {});
            push(&mut canonical, flag::OPTIONAL, code::MULTI_EXIT_DISC, |out| out.extend([0, 0, 0, med]));
            let next_hop = match Family::of(&prefix) {
                V4 => IpAddr::from([192, 168, 0, peer]),
                Family::Ipv6Unicast => format!("fd00::{peer}").parse().unwrap(),
            };
            Arc::new(AttrSet::from_canonical(&canonical, next_hop))
        });
        batch.push_paths(attrs.as_ref(), [(path_id, prefix)]);
        batch
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Announce(peer, number, path_id, med) => {
                let prefix = block(number);
                if self.up.contains(&peer) {
                    self.supersede(peer, prefix);
                    self.sent.insert((peer, prefix, path_id), (med, false));
                }
                self.rib.routes(id(peer), &Bed::batch(peer, prefix, path_id, Some(med)));
            }
            Step::Withdraw(peer, number, path_id) => {
                let prefix = block(number);
                if self.up.contains(&peer) {
                    self.supersede(peer, prefix);
                    self.sent.remove(&(peer, prefix, path_id));
                }
                self.rib.routes(id(peer), &Bed::batch(peer, prefix, path_id, None));
            }
            Step::Down(peer) => {
                self.up.remove(&peer);
                self.sent.retain(|(from, ..), _| *from != peer);
                self.rib.peer_down(id(peer), Retention::default());
                self.rib.stale(id(peer), StaleAction::Drop(Families::BOTH));
            }
            Step::Lost(peer) => {
                if self.up.remove(&peer) {
                    self.sent.retain(|(from, ..), (_, stale)| *from != peer || !*stale);
                    let own = self.sent.iter_mut().filter(|((from, ..), _)| *from == peer);
                    own.for_each(|(_, (_, stale))| *stale = true);
                    let retain = Retention { families: Families::BOTH, older: false, silent: false };
                    self.rib.peer_down(id(peer), retain);
                }
            }
            Step::Up(peer) => {
                if self.up.contains(&peer) {
                    return;
                }
                self.up.insert(peer);
                self.wire.advertised.remove(&id(peer));
                self.wire.unrefreshed.remove(&id(peer));
                self.wire.ended.remove(&id(peer));
                self.rib.peer_up(id(peer), session(peer));
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::EndOfRib(peer) => {
                if self.up.contains(&peer) {
                    self.sent.retain(|(from, ..), (_, stale)| *from != peer || !*stale);
                }
                self.rib.end_of_rib(id(peer), V4);
                self.rib.end_of_rib(id(peer), Family::Ipv6Unicast);
            }
            Step::SelectScratch(peer, chunks) => {
                self.wire.capacity.insert(id(peer), chunks);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Refresh(peer) => {
                self.rib.refresh(id(peer), V4);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Cluster(cluster) => self.rib.configure(config(cluster)),
            Step::Run(budget) => _ = self.rib.run(budget, &mut self.wire),
        }
    }

    fn supersede(&mut self, peer: u8, prefix: IpNet) {
        self.sent.retain(|(from, of, _), (_, stale)| (*from, *of) != (peer, prefix) || !*stale);
    }

    fn settle(&mut self) {
        self.wire.capacity.clear();
        while !self.rib.run(2, &mut self.wire) {}
        for peer in &self.up {
            assert!(self.rib.resume(id(*peer), &mut self.wire));
        }
        self.rib.best_changes(usize::MAX, &mut Vec::new());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_a_peer_holds_every_path_of_the_others(steps in prop::collection::vec(step(), 1..80)) {
        let mut bed =
            Bed { rib: Rib::new(config(1)), wire: Wire::default(), up: BTreeSet::new(), sent: BTreeMap::new() };
        (1..5).for_each(|peer| bed.apply(Step::Up(peer)));
        steps.into_iter().for_each(|step| bed.apply(step));
        bed.settle();
        for peer in RECEIVERS.iter().filter(|peer| bed.up.contains(peer)) {
            let mut expected: BTreeMap<IpNet, Vec<u32>> = BTreeMap::new();
            for ((_, prefix, _), (med, _)) in bed.sent.iter().filter(|((from, ..), _)| from != peer) {
                expected.entry(*prefix).or_default().push(u32::from(*med));
            }
            let mut advertised: BTreeMap<IpNet, Vec<u32>> = BTreeMap::new();
            for ((prefix, _), med) in bed.wire.advertised.remove(&id(*peer)).unwrap_or_default() {
                advertised.entry(prefix).or_default().push(med);
            }
            expected.values_mut().for_each(|meds| meds.sort_unstable());
            advertised.values_mut().for_each(|meds| meds.sort_unstable());
            let count: usize = expected.values().map(Vec::len).sum();
            prop_assert_eq!(bed.rib.peer_counts(id(*peer)).all().advertised, count);
            let (shown, _) = bed.rib.advertised_from(id(*peer), 0, usize::MAX, |_| true);
            let shown: BTreeMap<IpNet, Vec<u32>> = shown
                .into_iter()
                .map(|route| (route.prefix, route.paths.iter().map(|path| path.med).collect()))
                .map(|(prefix, mut meds): (IpNet, Vec<u32>)| {
                    meds.sort_unstable();
                    (prefix, meds)
                })
                .collect();
            prop_assert_eq!(&shown, &expected, "reported advertisements of peer {}", peer);
            prop_assert_eq!(advertised, expected, "peer {}", peer);
            prop_assert_eq!(bed.wire.ended[&id(*peer)], 2);
        }
        prop_assert_eq!(bed.sent.len(), bed.rib.counts().paths);
        (1..5).for_each(|peer| bed.apply(Step::Down(peer)));
        bed.settle();
        prop_assert_eq!(RibCounts { removed: 0, ..bed.rib.counts() }, RibCounts::default());
        prop_assert_eq!(bed.rib.sources.len(), 0);
        prop_assert!(bed.rib.path_ids.is_empty() && bed.rib.add_path_peers.is_empty());
    }
}

#[test]
fn paths_beyond_the_maximum_are_counted() {
    let mut bed =
        Bed { rib: Rib::new(config(1)), wire: Wire::default(), up: BTreeSet::new(), sent: BTreeMap::new() };
    bed.apply(Step::Up(1));
    for path_id in 0..20 {
        bed.apply(Step::Announce(1, 1, path_id, 0));
    }
    assert_eq!((bed.rib.counts().paths, bed.rib.ignored_paths), (16, 4));
}
