//! A whole session: octets from the network through framing, the state machine and the RIB, with two
//! observers that are told of what comes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bgp::session::{
    Negotiated, Peer, PeerConfig, PeerInput, PeerOutput, ReceivedUpdate, RestartConfig, SessionState, Side,
};
use bgp::wire::as_path::AsWidth;
use bgp::wire::attribute::Context;
use bgp::wire::capability::{AddPath, Capabilities, Role};
use bgp::wire::encode;
use bgp::wire::frame::{self, MAX_LEN};
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, PeerId, RouterId};
use bytes::Bytes;
use routing::outbox::Delivery;
use routing::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch};

use crate::bounds::within;

/// What a RIB and three sessions take with nothing in them, and its first prefix.
const EMPTY: u64 = 192 * 1024;
/// Octets that become a route cost as much as its prefix, its attributes and what two observers are told of
/// it; that is bounded by the number of routes, so inputs are cut where that is no more the input's own size.
const LONGEST: usize = 64 * 1024;

const DUT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SIDE: Side = Side::Incoming;
const TESTER: PeerId = PeerId(1);
const INTERNAL: PeerId = PeerId(2);
const EXTERNAL: PeerId = PeerId(3);
const SEVERAL: PeerId = PeerId(4);

/// How the session is, which the first octet says, and what the peer sends.
pub fn session(input: &[u8]) {
    let Some((how, stream)) = input.split_first() else { return };
    let stream = &stream[..stream.len().min(LONGEST)];
    let mut device = Device::new(*how);
    if how & 1 != 0 {
        let open = device.theirs(*how);
        device.take(&open);
        assert_eq!(device.peer.state(), SessionState::Established);
    }
    within(stream.len(), EMPTY, || {
        let chunk = if how & 2 != 0 { 7 } else { stream.len().max(1) };
        stream.chunks(chunk).for_each(|piece| device.take(piece));
    });
    device.finish();
}

struct Device {
    peer: Peer,
    rib: Rib,
    now: Instant,
    received: Vec<u8>,
    open: bool,
    told: Told,
}

/// Looks at what the observers are told.
#[derive(Default)]
struct Told(u64);

impl Delivery for Told {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        let context = match peer {
            INTERNAL => Context::INTERNAL,
            EXTERNAL => Context {
                as_width: AsWidth::Two,
                internal: false,
                first_as: Some(Asn(65000)),
                ..Context::INTERNAL
            },
            SEVERAL => Context { add_path: Families::BOTH, extended_next_hop: true, ..Context::INTERNAL },
            _ => return true,
        };
        let mut rest = &chunk[..];
        while let Some(message) = frame::next(rest, MAX_LEN).expect("messages") {
            let update = UpdateView::parse(message.body).and_then(|view| view.read(&context));
            let update = update.expect("what is passed on can be read");
            assert_eq!(update.fault, None, "what is passed on is well-formed");
            self.0 += 1;
            rest = &rest[message.len()..];
        }
        assert!(rest.is_empty(), "whole messages");
        true
    }
}

/// With several paths to a prefix both ways, and IPv6 next hops, if `several`.
fn config(asn: u32, address: Ipv4Addr, peer_as: u32, several: bool) -> PeerConfig {
    let families = if several { Families::BOTH } else { Families::NONE };
    PeerConfig {
        add_path: AddPath { receive: families, send: families },
        extended_next_hop: several,
        restart: Some(RestartConfig { restart_time: 120, long_lived_stale_time: 60 }),
        passive: true,
        ..PeerConfig::new(Asn(asn), RouterId(address), Asn(peer_as))
    }
}

fn their_as(how: u8) -> u32 {
    if how & 4 != 0 { 65000 } else { 65001 }
}

impl Device {
    fn new(how: u8) -> Device {
        let now = Instant::now();
        let mut ours = config(65000, DUT, their_as(how), how & 64 != 0);
        ours.role = (how & 128 != 0).then_some(Role::Customer);
        let mut peer = Peer::new(ours, 1);
        peer.handle(PeerInput::Start, now);
        peer.handle(PeerInput::Connected(SIDE), now);
        let mut rib = Rib::new(RibConfig {
            local_as: Asn(65000),
            router_id: RouterId(DUT),
            cluster_id: Some(DUT),
            local_addresses: vec![IpAddr::V4(DUT), "fd99::1".parse().expect("an address")],
            multipath: routing::config::DEFAULT_MULTIPATH,
        });
        for (id, host, asn, as_width) in [
            (INTERNAL, 6, 65000, AsWidth::Four),
            (EXTERNAL, 7, 65007, AsWidth::Two),
            (SEVERAL, 8, 65000, AsWidth::Four),
        ] {
            rib.peer_up(id, observer(Ipv4Addr::new(10, 99, 0, host), asn, as_width, id == SEVERAL));
        }
        let mut device = Device { peer, rib, now, received: Vec::new(), open: true, told: Told::default() };
        device.settle();
        device.act();
        device
    }

    /// What the peer opens with.
    fn theirs(&self, how: u8) -> Vec<u8> {
        let mut open = config(their_as(how), Ipv4Addr::new(10, 99, 0, 2), 65000, true).open(None);
        open.capabilities.extended_message = how & 8 != 0;
        if how & 16 != 0 {
            open.capabilities.four_octet_as = None;
        }
        if how & 32 != 0 {
            open.capabilities.multiprotocol = None;
        }
        let mut octets = Vec::new();
        open.encode(&mut octets);
        encode::keepalive(&mut octets);
        octets
    }

    fn take(&mut self, octets: &[u8]) {
        self.received.extend_from_slice(octets);
        let buffer = std::mem::take(&mut self.received);
        let mut rest = &buffer[..];
        while self.open {
            match frame::next(rest, self.peer.max_len(SIDE)) {
                Ok(None) => break,
                Ok(Some(message)) => {
                    if let Some(update) = self.peer.receive(SIDE, message, self.now) {
                        self.update(update);
                    }
                    rest = &rest[message.len()..];
                }
                Err(error) => self.peer.handle(PeerInput::Malformed(SIDE, error), self.now),
            }
            self.act();
        }
        if self.open {
            self.received.extend_from_slice(rest);
        }
    }

    fn update(&mut self, update: ReceivedUpdate<'_>) {
        let update = match update.read() {
            Ok(update) => update,
            Err(error) => return self.peer.handle(PeerInput::Malformed(SIDE, error), self.now),
        };
        if let Some(family) = update.end_of_rib() {
            self.rib.end_of_rib(TESTER, family);
            return self.peer.handle(PeerInput::EndOfRib(family), self.now);
        }
        let mut batch = RouteBatch::default();
        for list in update.withdrawals() {
            match list.with_ids() {
                false => batch.push(None, list),
                true => batch.push_paths(None, list.paths()),
            }
        }
        for (next_hop, list) in update.announcements() {
            let attrs = AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new());
            let attrs = Arc::new(attrs);
            match list.with_ids() {
                false => batch.push(Some(&attrs), list),
                true => batch.push_paths(Some(&attrs), list.paths()),
            }
        }
        self.rib.routes(TESTER, &batch);
        self.settle();
    }

    fn act(&mut self) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                PeerOutput::Send(_, octets) => {
                    assert!(
                        matches!(frame::next(&octets, MAX_LEN), Ok(Some(message)) if message.len() == octets.len())
                    );
                }
                PeerOutput::Established(_, negotiated) => {
                    let session = PeerSession::new(&negotiated, Ipv4Addr::new(10, 99, 0, 2).into(), true);
                    self.rib.peer_up(TESTER, session);
                }
                PeerOutput::Ended { established, retain, .. } => {
                    self.open = false;
                    if established {
                        self.rib.peer_down(TESTER, retain);
                    }
                }
                PeerOutput::Stale(stale) => self.rib.stale(TESTER, stale),
                PeerOutput::Refresh(family) => self.rib.refresh(TESTER, family),
                PeerOutput::RefreshBegins(family) => self.rib.refresh_begins(TESTER, family),
                PeerOutput::Close(_) | PeerOutput::Connect | PeerOutput::AbortConnect => {}
            }
        }
        self.settle();
    }

    fn settle(&mut self) {
        while !self.rib.run(4096, &mut self.told) {}
        for id in [INTERNAL, EXTERNAL, SEVERAL, TESTER] {
            self.rib.resume(id, &mut self.told);
        }
        let mut changes = Vec::new();
        while self.rib.has_best_changes() {
            self.rib.best_changes(4096, &mut changes);
            changes.clear();
        }
    }

    /// When every timer has run out, nothing of the peer is left.
    fn finish(mut self) {
        if self.open {
            self.peer.handle(PeerInput::Closed(SIDE), self.now);
            self.act();
        }
        // Hold time, restart time, the time for which stale routes are kept, and calls in vain.
        for _ in 0..8 {
            let Some(deadline) = self.peer.deadline() else { break };
            self.now = self.now.max(deadline);
            self.peer.handle(PeerInput::Timer, self.now);
            self.act();
        }
        assert_eq!(self.rib.counts().prefixes, 0, "routes of a peer that is gone");
    }
}

/// An observer that knows no more than it must, but for `several`, see [`config`].
fn observer(address: Ipv4Addr, asn: u32, as_width: AsWidth, several: bool) -> PeerSession {
    let ours = config(65000, DUT, asn, several).open(None);
    let mut theirs = config(asn, address, 65000, several).open(None);
    theirs.capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: (as_width == AsWidth::Four).then_some(Asn(asn)),
        add_path: theirs.capabilities.add_path,
        extended_next_hop: several,
        ..Capabilities::default()
    };
    let settled = Negotiated::settle(&ours, &theirs, Asn(asn)).expect("a session");
    PeerSession::new(&settled, address.into(), asn == 65000)
}
