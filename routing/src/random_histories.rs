//! Random histories of the RIB: after each, all peers hold exactly what the best paths and their
//! policies imply, and no resources are left behind.

mod multipath;
mod policies;
mod step;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::session::{Retention, StaleAction};
use bgp::wire::attribute::{code, flag, push};
use bgp::wire::encode::UpdateFormat;
use bgp::{Asn, Families, Family, PeerId, RouterId};
use ipnet::IpNet;
use proptest::prelude::*;

use crate::query::RibCounts;
use crate::{AttrSet, Best, PeerSession, Rib, RibConfig, RouteBatch, Source, SourceKind};
use policies::{
    LIMIT, LLGR_STALE, NO_EXPORT, ONE, added, cluster, communities, is_low, is_pooled, policy, third,
};
use step::{Step, step};
use wire::{AdvertisedRoute, Wire};

/// Returns a block of either family.
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
        multipath: 3,
    }
}

/// Returns a session: peer 5 is external, 1 and 2 are clients at first.
fn session(peer: u8) -> PeerSession {
    PeerSession {
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, peer)),
        address: IpAddr::from([192, 168, 0, peer]),
        internal: peer != 5,
        client: peer < 3,
        form: UpdateFormat::default(),
        families: Families::BOTH,
        sends_add_path: Families::NONE,
        restarts: true,
        restarting: false,
        long_lived: peer != 3,
        marks_refresh: true,
    }
}

fn id(peer: u8) -> PeerId {
    PeerId(peer.into())
}

struct Bed {
    rib: Rib,
    wire: Wire,
    best: BTreeMap<IpNet, Best>,
    /// Multipath exits in addition to those of the best paths.
    others: BTreeMap<IpNet, Box<[IpAddr]>>,
    /// Last session of each peer.
    sessions: BTreeMap<u8, PeerSession>,
    up: BTreeSet<u8>,
    roles: BTreeMap<u8, bool>,
    policies: BTreeMap<u8, u8>,
    cluster: u8,
    /// MED of each accepted announcement.
    received: BTreeMap<(u8, IpNet), u8>,
    /// Announcements among them that are stale.
    stale: BTreeSet<(u8, IpNet)>,
    /// Announcements among them that are long-lived stale.
    last: BTreeSet<(u8, IpNet)>,
    /// Peers that exceeded their prefix limit.
    over: BTreeSet<u8>,
}

fn family(v4: bool) -> Family {
    if v4 { Family::Ipv4Unicast } else { Family::Ipv6Unicast }
}

impl Bed {
    /// Returns whether the maximum number of sources is kept for a peer.
    fn is_full(&self, peer: u8) -> bool {
        self.rib.sources.retained(id(peer)).len() >= 4
    }

    fn drop_stale(&mut self, peer: u8, families: Families) {
        let dropped = |(from, prefix): &(u8, IpNet)| *from == peer && families.contains(Family::of(prefix));
        for key in self.stale.extract_if(.., dropped).collect::<Vec<_>>() {
            self.received.remove(&key);
            self.last.remove(&key);
        }
    }

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
                    let carried = communities(med);
                    if !carried.is_empty() {
                        push(&mut canonical, flag::OPTIONAL | flag::TRANSITIVE, code::COMMUNITIES, |out| {
                            carried.iter().for_each(|one| out.extend(one.to_be_bytes()));
                        });
                    }
                    let prefix = block(number);
                    let attrs = AttrSet::from_canonical(&canonical, next_hop(peer, &prefix));
                    batch.push(Some(&Arc::new(attrs)), [prefix]);
                    self.note(peer, prefix, med);
                }
                self.rib.routes(id(peer), &batch);
            }
            Step::Withdraw(peer, number) => {
                let mut batch = RouteBatch::default();
                batch.push(None, [block(number)]);
                if self.up.contains(&peer) && !self.over.contains(&peer) {
                    self.received.remove(&(peer, block(number)));
                    self.stale.remove(&(peer, block(number)));
                    self.last.remove(&(peer, block(number)));
                }
                self.rib.routes(id(peer), &batch);
            }
            Step::Down(peer) => {
                if self.up.remove(&peer) {
                    self.forget(peer);
                } else {
                    self.drop_stale(peer, Families::BOTH);
                }
                self.rib.peer_down(id(peer), Retention::default());
                self.rib.stale(id(peer), StaleAction::Drop(Families::BOTH));
            }
            Step::Lost(peer, older, silent) => {
                if !self.up.contains(&peer) || self.is_full(peer) || self.over.contains(&peer) {
                    return;
                }
                self.up.remove(&peer);
                if !older {
                    self.drop_stale(peer, Families::BOTH);
                }
                self.stale.extend(self.received.keys().filter(|(from, _)| *from == peer));
                self.rib.peer_down(id(peer), Retention { families: Families::BOTH, older, silent });
            }
            Step::EndOfRib(peer, v4) => {
                if self.up.contains(&peer) {
                    self.drop_stale(peer, family(v4).into());
                }
                self.rib.end_of_rib(id(peer), family(v4));
            }
            Step::RefreshBegins(peer, v4) => {
                if self.is_full(peer) {
                    return;
                }
                if self.up.contains(&peer) {
                    let of =
                        |(from, prefix): &&(u8, IpNet)| *from == peer && Family::of(prefix) == family(v4);
                    self.stale.extend(self.received.keys().filter(of));
                }
                self.rib.refresh_begins(id(peer), family(v4));
            }
            Step::Stale(peer, v4, dropped) => {
                let families = family(v4).into();
                if dropped {
                    self.drop_stale(peer, families);
                    self.rib.stale(id(peer), StaleAction::Drop(families));
                } else {
                    // Like the session layer: routes of a peer that is up do not become long-lived
                    // stale.
                    if self.up.contains(&peer) {
                        return;
                    }
                    let of = |(from, prefix): &&(u8, IpNet)| {
                        *from == peer && families.contains(Family::of(prefix))
                    };
                    self.last.extend(self.stale.iter().filter(of));
                    self.rib.stale(id(peer), StaleAction::LlgrStale(families));
                }
            }
            Step::Up(peer) => {
                // A session that is up ends first, including its stale routes.
                if self.up.contains(&peer) {
                    self.forget(peer);
                }
                let mut session = session(peer);
                if let Some(client) = self.roles.get(&peer) {
                    session.client = *client && session.internal;
                }
                self.sessions.insert(peer, session);
                self.up.insert(peer);
                self.wire.advertised.remove(&id(peer));
                self.wire.ended.remove(&id(peer));
                self.rib.peer_up(id(peer), self::session(peer));
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Writable(peer, chunks) => {
                self.wire.capacity.insert(id(peer), chunks);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Refresh(peer) => {
                self.rib.refresh(id(peer), Family::Ipv4Unicast);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Client(peer, client) => {
                if let Some(session) = self.sessions.get_mut(&peer) {
                    session.client = client && session.internal;
                }
                self.roles.insert(peer, client);
                self.rib.set_client(id(peer), client);
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::Own(blocks) => {
                let own: Vec<_> =
                    blocks.into_iter().map(block).map(|prefix| (prefix, next_hop(100, &prefix))).collect();
                self.rib.originate(Source::Local, &own);
            }
            Step::Cluster(cluster) => {
                let multipath = self.rib.config.multipath;
                self.rib.configure(RibConfig { multipath, ..config(cluster) });
            }
            Step::Multipath(multipath) => {
                let config = self.rib.config.clone();
                self.rib.configure(RibConfig { multipath, ..config });
            }
            Step::Policy(peer, number) => {
                self.policies.insert(peer, number);
                let prefix_count = self.prefix_count(peer);
                if number == 8 && prefix_count > LIMIT && self.up.contains(&peer) {
                    self.over.insert(peer);
                }
                self.rib.set_peer_policy(id(peer), policy(number));
                self.rib.resume(id(peer), &mut self.wire);
            }
            Step::ClusterPolicy(number) => {
                self.cluster = number;
                self.rib.set_cluster_policy(cluster(number));
            }
            Step::Run(budget) => {
                self.rib.run(budget, &mut self.wire);
                self.forward(budget);
            }
        }
    }

    fn prefix_count(&self, peer: u8) -> usize {
        self.received.keys().filter(|(from, _)| *from == peer).count()
    }

    /// Records an announcement of a peer, if it is accepted.
    fn note(&mut self, peer: u8, prefix: IpNet, med: u8) {
        if !self.up.contains(&peer) || self.over.contains(&peer) {
            return;
        }
        // A stale path is replaced.
        if self.stale.remove(&(peer, prefix)) {
            self.received.remove(&(peer, prefix));
            self.last.remove(&(peer, prefix));
        }
        let limited = self.policy_of(peer) == 8 && !self.received.contains_key(&(peer, prefix));
        if limited && self.prefix_count(peer) >= LIMIT {
            self.over.insert(peer);
            return;
        }
        self.received.insert((peer, prefix), med);
    }

    fn forget(&mut self, peer: u8) {
        self.received.retain(|(from, _), _| *from != peer);
        self.stale.retain(|(from, _)| *from != peer);
        self.last.retain(|(from, _)| *from != peer);
        self.over.remove(&peer);
    }

    fn policy_of(&self, peer: u8) -> u8 {
        self.policies.get(&peer).copied().unwrap_or(0)
    }

    /// Returns the communities and AS_PATH after import policy; `None` if the announcement is
    /// rejected.
    fn imported(&self, peer: u8, prefix: &IpNet, med: u8) -> Option<(Vec<u32>, Vec<u32>)> {
        let (policy, carried) = (self.policy_of(peer), communities(med));
        let result = match policy {
            1 if carried.contains(&ONE) => return None,
            2 => (added(carried, is_low(prefix).then_some(NO_EXPORT)), vec![]),
            5 => return None,
            6 => third(prefix, carried, vec![])?,
            _ => (carried, vec![]),
        };
        let result = match self.last.contains(&(peer, *prefix)) {
            true => (added(result.0, Some(LLGR_STALE)), result.1),
            false => result,
        };
        let owner = (1..3).find(|node| [block(*node), block(node + 8)].contains(prefix));
        let disputed = owner.is_some_and(|owner| owner != peer) && peer < 3 && ![5, 6].contains(&policy);
        (self.cluster != 1 || !disputed).then_some(result)
    }

    fn settle(&mut self) {
        self.wire.capacity.clear();
        while !self.rib.run(2, &mut self.wire) {}
        for peer in &self.up {
            assert!(self.rib.resume(id(*peer), &mut self.wire));
        }
        self.forward(usize::MAX);
    }

    /// Takes up to `limit` changes of best paths.
    fn forward(&mut self, limit: usize) {
        let mut changes = Vec::new();
        self.rib.best_changes(limit, &mut changes);
        for change in changes {
            self.others.insert(change.prefix, change.others);
            match change.best {
                Some(best) => _ = self.best.insert(change.prefix, best),
                None => _ = self.best.remove(&change.prefix),
            }
        }
    }

    /// Returns the routes that a peer is to hold, derived from policies and best paths alone.
    fn expected(&self, peer: u8) -> BTreeMap<IpNet, AdvertisedRoute> {
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
        let policy = self.policy_of(peer);
        let sent = |prefix: &IpNet, best: &Best| -> Option<AdvertisedRoute> {
            let from = best.source.peer().map(|PeerId(from)| u8::try_from(from).unwrap());
            let (mut carried, mut path) = match from {
                Some(from) => self.imported(from, prefix, self.received[&(from, *prefix)])?,
                None => (vec![], vec![]),
            };
            if from.is_some() && !to.internal && carried.contains(&NO_EXPORT) {
                return None;
            }
            if carried.contains(&LLGR_STALE) && !(to.internal && to.long_lived) {
                return None;
            }
            let inside = from.is_none_or(|from| ![5, 6].contains(&self.policy_of(from)));
            match policy {
                3 if carried.contains(&ONE) => return None,
                4 => (carried, path) = third(prefix, carried, path)?,
                5 if from.is_some() && !(inside && self.cluster == 3 && is_pooled(prefix)) => return None,
                _ => {}
            }
            if !to.internal {
                path.insert(0, if policy == 7 { 9 } else { 64512 });
            }
            let own = policy == 7 || !to.internal && policy != 6;
            Some((if own { next_hop(100, prefix) } else { best.next_hop }, carried, path))
        };
        self.best
            .iter()
            .filter(|(_, best)| goes(best))
            .filter_map(|(prefix, best)| Some((*prefix, sent(prefix, best)?)))
            .collect()
    }
}

/// Applies the steps to a new RIB and checks the result.
fn check(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut bed = Bed {
        rib: Rib::new(config(1)),
        wire: Wire::default(),
        best: BTreeMap::new(),
        others: BTreeMap::new(),
        sessions: BTreeMap::new(),
        up: BTreeSet::new(),
        roles: BTreeMap::new(),
        policies: BTreeMap::new(),
        cluster: 0,
        received: BTreeMap::new(),
        stale: BTreeSet::new(),
        last: BTreeSet::new(),
        over: BTreeSet::new(),
    };
    for peer in 1..4 {
        bed.apply(Step::Up(peer));
    }
    steps.into_iter().for_each(|step| bed.apply(step));
    bed.settle();
    for peer in &bed.up {
        let session = &bed.sessions[peer];
        let advertised = bed.wire.advertised.remove(&id(*peer)).unwrap_or_default();
        let expected = bed.expected(*peer);
        prop_assert_eq!(bed.rib.peer_counts(id(*peer)).all().advertised, expected.len());
        let (shown, _) = bed.rib.advertised_from(id(*peer), 0, usize::MAX, |_| true);
        let shown: BTreeSet<IpNet> = shown.iter().map(|route| route.prefix).collect();
        prop_assert_eq!(
            shown,
            expected.keys().copied().collect(),
            "reported advertisements of peer {}",
            peer
        );
        prop_assert_eq!(advertised, expected, "peer {}", peer);
        prop_assert_eq!(bed.wire.ended[&id(*peer)], session.families.iter().count());
    }
    let kinds = bed.best.values().map(|best| best.kind);
    prop_assert!(kinds.into_iter().all(|kind| kind != SourceKind::Static));
    let own = bed.best.values().filter(|best| best.source == Source::Local).count();
    prop_assert_eq!(bed.received.len() + own, bed.rib.counts().paths);
    for peer in 1..6 {
        let counts = bed.rib.peer_counts(id(peer)).all();
        let stale = bed.stale.iter().filter(|(from, _)| *from == peer).count();
        prop_assert_eq!((counts.received, counts.stale), (bed.prefix_count(peer), stale), "peer {}", peer);
    }
    bed.exits_match_the_paths()?;
    for (peer, prefix) in bed.received.keys() {
        let accepted = bed.imported(*peer, prefix, bed.received[&(*peer, *prefix)]).is_some();
        prop_assert!(!accepted || bed.best.contains_key(prefix), "{} is accepted from {}", prefix, peer);
    }
    for peer in 1..6 {
        bed.apply(Step::Down(peer));
    }
    bed.apply(Step::Own(Vec::new()));
    bed.settle();
    prop_assert_eq!(RibCounts { removed: 0, ..bed.rib.counts() }, RibCounts::default());
    prop_assert!(bed.best.is_empty() && bed.others.values().all(|others| others.is_empty()));
    prop_assert_eq!(bed.rib.multipath_exits.len(), 0);
    prop_assert!(bed.rib.groups.is_empty());
    prop_assert_eq!(bed.rib.sources.len(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(1000), ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_peers_hold_what_the_best_paths_imply(steps in prop::collection::vec(step(), 1..80)) {
        check(steps)?;
    }
}

#[test]
fn a_pending_prefix_that_a_new_policy_rejects_is_withdrawn_before_it_is_removed() {
    let steps = [
        Step::Up(4),
        Step::Writable(1, 0),
        Step::Announce(2, 0, 0, 1),
        Step::Run(1),
        Step::Announce(2, 0, 1, 4),
        Step::Up(1),
        Step::Writable(1, 1),
        Step::Run(1),
        Step::Run(3),
        Step::Policy(1, 3),
        Step::Up(2),
        Step::Writable(1, 1),
        Step::Run(1),
    ];
    check(steps.to_vec()).expect("the peers hold what the best paths imply");
}
