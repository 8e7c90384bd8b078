//! After any history everybody holds what the best paths say, and nothing is left behind.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::attribute::{Context, code, flag, push};
use bgp::wire::encode::Form;
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, Family, PeerId, RouterId};
use bytes::Bytes;
use ipnet::IpNet;
use proptest::prelude::*;

use crate::outbox::Delivery;
use crate::query::RibCounts;
use crate::{AttrSet, Best, PeerSession, Rib, RibConfig, RouteBatch, Source, SourceKind};

/// The peers' ends: what their messages add up to, and how many chunks they have room for.
#[derive(Default)]
struct Wire {
    told: HashMap<PeerId, BTreeMap<IpNet, IpAddr>>,
    ended: HashMap<PeerId, usize>,
    room: HashMap<PeerId, usize>,
}

impl Delivery for Wire {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        match self.room.get_mut(&peer) {
            Some(0) => return false,
            Some(room) => *room -= 1,
            None => {}
        }
        let state = self.told.entry(peer).or_default();
        let mut rest = &chunk[..];
        let context = Context {
            families: Families::BOTH,
            internal: true,
            first_as: None,
            as_width: Form::default().as_width,
        };
        while let Some(message) = frame::next(rest, MAX_LEN).unwrap() {
            let update = UpdateView::parse(message.body).unwrap().read(&context).unwrap();
            assert_eq!(update.fault, None);
            *self.ended.entry(peer).or_default() += usize::from(update.end_of_rib().is_some());
            update.withdrawals().flatten().for_each(|prefix| _ = state.remove(&prefix));
            for (next_hop, list) in update.announcements() {
                list.iter().for_each(|prefix| _ = state.insert(prefix, next_hop));
            }
            rest = &rest[message.len()..];
        }
        assert!(rest.is_empty(), "whole messages only");
        true
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Peer, block, MED, blocks in the same message.
    Announce(u8, u8, u8, u8),
    Withdraw(u8, u8),
    Down(u8),
    Up(u8),
    /// The peer takes so many more chunks.
    Room(u8, usize),
    Refresh(u8),
    /// Whether the peer is our client.
    Client(u8, bool),
    Own(Vec<u8>),
    Cluster(u8),
    /// Decides on so many prefixes.
    Run(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 1..6u8;
    prop_oneof![
        6 => (peer(), 0..20u8, 0..3u8, 1..6u8).prop_map(|(p, b, m, n)| Step::Announce(p, b, m, n)),
        3 => (peer(), 0..20u8).prop_map(|(p, b)| Step::Withdraw(p, b)),
        1 => peer().prop_map(Step::Down),
        2 => peer().prop_map(Step::Up),
        2 => (peer(), 0..4usize).prop_map(|(p, n)| Step::Room(p, n)),
        1 => peer().prop_map(Step::Refresh),
        1 => (peer(), any::<bool>()).prop_map(|(p, c)| Step::Client(p, c)),
        1 => prop::collection::vec(0..20u8, 0..4).prop_map(Step::Own),
        1 => (1..3u8).prop_map(Step::Cluster),
        6 => (1..8usize).prop_map(Step::Run),
    ]
}

/// Blocks of both families.
fn block(number: u8) -> IpNet {
    let text =
        if number.is_multiple_of(4) { format!("fd00:{number}::/64") } else { format!("10.1.{number}.0/26") };
    text.parse().unwrap()
}

fn next_hop(peer: u8, prefix: &IpNet) -> IpAddr {
    match Family::of(prefix) {
        Family::Ipv4Unicast => IpAddr::from([192, 168, 0, peer]),
        Family::Ipv6Unicast => format!("fd00::{peer}").parse().unwrap(),
    }
}

fn config(cluster: u8) -> RibConfig {
    RibConfig {
        local_as: Asn(64512),
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, 100)),
        cluster_id: Some(Ipv4Addr::new(10, 0, 0, cluster)),
        local_addresses: vec![IpAddr::from([192, 168, 0, 100]), "fd00::100".parse().unwrap()],
    }
}

/// Peer 5 is external, 1 and 2 are clients at first.
fn session(peer: u8) -> PeerSession {
    PeerSession {
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, peer)),
        address: IpAddr::from([192, 168, 0, peer]),
        internal: peer != 5,
        client: peer < 3,
        form: Form::default(),
        families: Families::BOTH,
    }
}

fn id(peer: u8) -> PeerId {
    PeerId(peer.into())
}

struct Bed {
    rib: Rib,
    wire: Wire,
    best: BTreeMap<IpNet, Best>,
    sessions: BTreeMap<u8, PeerSession>,
}

impl Bed {
    fn apply(&mut self, step: Step) {
        match step {
            Step::Announce(peer, first, med, count) => {
                let mut batch = RouteBatch::default();
                for number in first..first + count {
                    let mut canonical = Vec::new();
                    push(&mut canonical, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(0));
                    push(&mut canonical, flag::WELL_KNOWN, code::AS_PATH, |_| {});
                    push(&mut canonical, flag::OPTIONAL, code::MULTI_EXIT_DISC, |out| {
                        out.extend([0, 0, 0, med]);
                    });
                    let prefix = block(number);
                    let attrs = AttrSet::from_canonical(&canonical, next_hop(peer, &prefix));
                    batch.push(Some(&Arc::new(attrs)), [prefix]);
                }
                self.rib.routes(id(peer), &batch);
            }
            Step::Withdraw(peer, number) => {
                let mut batch = RouteBatch::default();
                batch.push(None, [block(number)]);
                self.rib.routes(id(peer), &batch);
            }
            Step::Down(peer) => {
                self.sessions.remove(&peer);
                self.rib.peer_down(id(peer));
            }
            Step::Up(peer) => {
                self.sessions.insert(peer, session(peer));
                self.wire.told.remove(&id(peer));
                self.wire.ended.remove(&id(peer));
                self.rib.peer_up(id(peer), session(peer));
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Room(peer, chunks) => {
                self.wire.room.insert(id(peer), chunks);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Refresh(peer) => {
                self.rib.refresh(id(peer), Family::Ipv4Unicast);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Client(peer, client) => {
                if let Some(session) = self.sessions.get_mut(&peer) {
                    session.client = client && session.internal;
                    self.rib.set_client(id(peer), client);
                    self.rib.resume(id(peer), &mut self.wire);
                }
            }
            Step::Own(blocks) => {
                let own: Vec<_> =
                    blocks.into_iter().map(block).map(|prefix| (prefix, next_hop(100, &prefix))).collect();
                self.rib.originate(Source::Local, &own);
            }
            Step::Cluster(cluster) => self.rib.configure(config(cluster)),
            Step::Run(budget) => _ = self.rib.run(budget, &mut self.wire),
        }
    }

    fn settle(&mut self) {
        self.wire.room.clear();
        while !self.rib.run(2, &mut self.wire) {}
        for peer in self.sessions.keys() {
            assert!(self.rib.resume(id(*peer), &mut self.wire));
        }
        let mut changes = Vec::new();
        self.rib.best_changes(usize::MAX, &mut changes);
        for change in changes {
            match change.best {
                Some(best) => _ = self.best.insert(change.prefix, best),
                None => _ = self.best.remove(&change.prefix),
            }
        }
    }

    /// What a peer is to hold, by the rules and the best paths alone.
    fn expected(&self, peer: u8) -> BTreeMap<IpNet, IpAddr> {
        let to = self.sessions[&peer];
        let reflected = |from: u8| self.sessions[&from].client || to.client;
        let goes = |best: &Best| match best.source {
            Source::Peer(PeerId(from)) if from == u32::from(peer) => false,
            Source::Peer(PeerId(from)) => {
                let from = u8::try_from(from).unwrap();
                !self.sessions[&from].internal || !to.internal || reflected(from)
            }
            Source::Local => true,
            Source::Static => false,
        };
        let sent =
            |prefix: &IpNet, best: &Best| if to.internal { best.next_hop } else { next_hop(100, prefix) };
        self.best
            .iter()
            .filter(|(_, best)| goes(best))
            .map(|(prefix, best)| (*prefix, sent(prefix, best)))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_everybody_holds_what_the_best_paths_say(steps in prop::collection::vec(step(), 1..80)) {
        let mut bed = Bed {
            rib: Rib::new(config(1)),
            wire: Wire::default(),
            best: BTreeMap::new(),
            sessions: BTreeMap::new(),
        };
        for peer in 1..4 {
            bed.apply(Step::Up(peer));
        }
        steps.into_iter().for_each(|step| bed.apply(step));
        bed.settle();
        for (peer, session) in &bed.sessions {
            let told = bed.wire.told.remove(&id(*peer)).unwrap_or_default();
            let expected = bed.expected(*peer);
            prop_assert_eq!(bed.rib.peer_counts(id(*peer)).advertised, expected.len());
            prop_assert_eq!(told, expected, "peer {}", peer);
            prop_assert_eq!(bed.wire.ended[&id(*peer)], session.families.iter().count());
        }
        let kinds = bed.best.values().map(|best| best.kind);
        prop_assert!(kinds.into_iter().all(|kind| kind != SourceKind::Static));
        let held: usize = bed.sessions.keys().map(|peer| bed.rib.peer_counts(id(*peer)).received).sum();
        let own = bed.best.values().filter(|best| best.source == Source::Local).count();
        prop_assert_eq!(held + own, bed.rib.counts().paths);
        for peer in 1..6 {
            bed.apply(Step::Down(peer));
        }
        bed.apply(Step::Own(Vec::new()));
        bed.settle();
        prop_assert_eq!(RibCounts { removed: 0, ..bed.rib.counts() }, RibCounts::default());
        prop_assert!(bed.best.is_empty());
        prop_assert!(bed.rib.groups.is_empty());
        prop_assert_eq!(bed.rib.sources.len(), 0);
    }
}
