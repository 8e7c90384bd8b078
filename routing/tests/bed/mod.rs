//! Test bed: a RIB, its sessions, and the routes that result from the messages to each.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, missing_docs)]

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bgp::wire::attribute::Context;
use bgp::wire::encode::UpdateFormat;
use bgp::wire::frame::{self, MAX_LEN, MessageKind};
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, Family, PeerId, RouterId};
use bytes::Bytes;
use ipnet::IpNet;
use routing::outbox::Delivery;
use routing::{AttrSet, BestChange, PeerSession, Rib, RibConfig, RouteBatch};

/// Routes that each peer holds: the result of the messages.
#[derive(Default)]
pub struct Wire {
    pub advertised: HashMap<PeerId, BTreeMap<IpNet, Arc<AttrSet>>>,
    pub end_of_rib: Vec<(PeerId, Family)>,
    pub full: Vec<PeerId>,
    pub chunks: usize,
}

impl Delivery for Wire {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        if self.full.contains(&peer) {
            return false;
        }
        self.chunks += 1;
        let state = self.advertised.entry(peer).or_default();
        let mut rest = &chunk[..];
        let context = Context::INTERNAL;
        while let Some(message) = frame::next(rest, MAX_LEN).unwrap() {
            assert_eq!(message.kind, MessageKind::Update);
            let update = UpdateView::parse(message.body).unwrap().read(&context).unwrap();
            assert_eq!(update.fault, None);
            self.end_of_rib.extend(update.end_of_rib().map(|family| (peer, family)));
            for prefix in update.withdrawals().flatten() {
                state.remove(&prefix);
            }
            for (next_hop, list) in update.announcements() {
                let attrs = Arc::new(AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new()));
                list.iter().for_each(|prefix| _ = state.insert(prefix, Arc::clone(&attrs)));
            }
            rest = &rest[message.len()..];
        }
        assert!(rest.is_empty(), "whole messages only");
        true
    }
}

impl Wire {
    pub fn prefixes(&self, peer: u32) -> Vec<String> {
        self.advertised
            .get(&PeerId(peer))
            .map(|advertised| advertised.keys().map(|p| p.to_string()).collect())
            .unwrap_or_default()
    }

    pub fn attrs(&self, peer: u32, prefix: &str) -> &AttrSet {
        &self.advertised[&PeerId(peer)][&prefix.parse().unwrap()]
    }
}

pub fn config() -> RibConfig {
    RibConfig {
        local_as: Asn(64512),
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, 100)),
        cluster_id: None,
        local_addresses: vec![IpAddr::from([192, 168, 0, 100]), "fd00::100".parse().unwrap()],
        multipath: 16,
    }
}

pub fn session(id: u8, internal: bool, client: bool) -> PeerSession {
    PeerSession {
        router_id: RouterId(Ipv4Addr::new(192, 168, 0, id)),
        address: IpAddr::from([192, 168, 0, id]),
        internal,
        client,
        form: UpdateFormat::default(),
        families: Families::BOTH,
        sends_add_path: Families::NONE,
        restarts: true,
        restarting: false,
        long_lived: false,
        marks_refresh: true,
    }
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub struct Bed {
    pub rib: Rib,
    pub wire: Wire,
    pub best: BTreeMap<IpNet, routing::Best>,
    /// Changes of best paths since the bed was created.
    pub changes: Vec<BestChange>,
}

impl Bed {
    pub fn new(config: RibConfig) -> Bed {
        Bed { rib: Rib::new(config), wire: Wire::default(), best: BTreeMap::new(), changes: Vec::new() }
    }

    pub fn settle(&mut self) {
        let mut changes: Vec<BestChange> = Vec::new();
        while !self.rib.run(3, &mut self.wire) {}
        while self.rib.has_best_changes() {
            self.rib.best_changes(2, &mut changes);
        }
        self.changes.extend_from_slice(&changes);
        for change in changes {
            match change.best {
                Some(best) => _ = self.best.insert(change.prefix, best),
                None => _ = self.best.remove(&change.prefix),
            }
        }
        for (peer, advertised) in &self.wire.advertised {
            let (shown, _) = self.rib.advertised_from(*peer, 0, usize::MAX, |_| true);
            for route in shown {
                // A peer without capacity has not received the route yet.
                let Some(attrs) = advertised.get(&route.prefix).filter(|_| !self.wire.full.contains(peer))
                else {
                    continue;
                };
                assert_eq!(
                    route.paths[0].next_hop, attrs.next_hop,
                    "{} as {peer:?} is told it",
                    route.prefix
                );
            }
        }
    }

    pub fn up(&mut self, id: u8, session: PeerSession) {
        let id = PeerId(id.into());
        self.wire.advertised.remove(&id);
        self.rib.peer_up(id, session);
        self.rib.resume(id, &mut self.wire);
        self.settle();
    }

    pub fn announce(&mut self, peer: u8, prefix: &str) {
        self.announce_with(peer, prefix, AttrSet::originated(IpAddr::from([192, 168, 0, peer])));
    }

    pub fn announce_with(&mut self, peer: u8, prefix: &str, attrs: AttrSet) {
        let mut batch = RouteBatch::default();
        batch.push(Some(&Arc::new(attrs)), [net(prefix)]);
        self.rib.routes(PeerId(peer.into()), &batch);
        self.settle();
    }

    pub fn withdraw(&mut self, peer: u8, prefix: &str) {
        let mut batch = RouteBatch::default();
        batch.push(None, [net(prefix)]);
        self.rib.routes(PeerId(peer.into()), &batch);
        self.settle();
    }
}
