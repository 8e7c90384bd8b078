//! Receiving ends of the peers in the random histories.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use bgp::wire::attribute::{Context, code};
use bgp::wire::frame::{self, MAX_LEN, MessageKind};
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::UpdateView;
use bgp::{Family, PeerId};
use bytes::Bytes;
use ipnet::IpNet;

use crate::AttrSet;
use crate::outbox::Delivery;

/// Advertised route, as far as policy affects it: next hop, communities, AS_PATH.
pub(super) type AdvertisedRoute = (IpAddr, Vec<u32>, Vec<u32>);

fn advertised(attrs: &AttrSet) -> AdvertisedRoute {
    let (communities, _) = attrs.value(code::COMMUNITIES).unwrap_or_default().as_chunks::<4>();
    let communities = communities.iter().map(|one| u32::from_be_bytes(*one)).collect();
    (attrs.next_hop, communities, attrs.as_path().asns().map(|asn| asn.0).collect())
}

/// Receiving ends: the routes that result from the messages, and the capacity in chunks.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) advertised: HashMap<PeerId, BTreeMap<IpNet, AdvertisedRoute>>,
    pub(super) ended: HashMap<PeerId, usize>,
    /// Routes that were not sent again since the answer to a ROUTE-REFRESH began.
    pub(super) unrefreshed: HashMap<(PeerId, Family), HashSet<IpNet>>,
    pub(super) capacity: HashMap<PeerId, usize>,
}

impl Delivery for Wire {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        match self.capacity.get_mut(&peer) {
            Some(0) => return false,
            Some(capacity) => *capacity -= 1,
            None => {}
        }
        let state = self.advertised.entry(peer).or_default();
        let mut rest = &chunk[..];
        let context = Context::INTERNAL;
        while let Some(message) = frame::next(rest, MAX_LEN).unwrap() {
            rest = &rest[message.len()..];
            if message.kind == MessageKind::RouteRefresh {
                let refresh = RouteRefresh::parse(message.body).unwrap();
                let family = Family::from_afi_safi(refresh.family).unwrap();
                let unrefreshed = self.unrefreshed.entry((peer, family)).or_default();
                match refresh.subtype {
                    1 => unrefreshed
                        .extend(state.keys().copied().filter(|prefix| Family::of(prefix) == family)),
                    2 => unrefreshed.drain().for_each(|prefix| _ = state.remove(&prefix)),
                    subtype => panic!("subtype {subtype}"),
                }
                continue;
            }
            let update = UpdateView::parse(message.body).unwrap().read(&context).unwrap();
            assert_eq!(update.fault, None);
            *self.ended.entry(peer).or_default() += usize::from(update.end_of_rib().is_some());
            update.withdrawals().flatten().for_each(|prefix| _ = state.remove(&prefix));
            for (next_hop, list) in update.announcements() {
                let attrs = AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new());
                for prefix in list {
                    state.insert(prefix, advertised(&attrs));
                    self.unrefreshed.entry((peer, Family::of(&prefix))).or_default().remove(&prefix);
                }
            }
        }
        assert!(rest.is_empty(), "whole messages only");
        true
    }
}
