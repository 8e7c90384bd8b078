//! A whole session: octets from the network through framing, the state machine and the RIB, with
//! observers that receive what is advertised.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use bgp::session::{
    Peer, PeerConfig, PeerInput, PeerOutput, ReceivedUpdate, RestartConfig, SessionParameters, SessionState,
    Side,
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

/// Memory of an empty RIB with three sessions, and of its first prefix, in octets.
const EMPTY: u64 = 192 * 1024;
/// Length of the longest input, in octets. A route costs its prefix, its attributes, and its
/// advertisements to the observers; above this length that is no longer proportional to the input.
const LONGEST: usize = 64 * 1024;

const DUT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SIDE: Side = Side::Incoming;
const TESTER: PeerId = PeerId(1);
const INTERNAL: PeerId = PeerId(2);
const EXTERNAL: PeerId = PeerId(3);
const ADD_PATH: PeerId = PeerId(4);

/// Runs a session: the first octet selects its parameters, the rest is sent by the peer.
pub fn session(input: &[u8]) {
    let Some((options, stream)) = input.split_first() else { return };
    let stream = &stream[..stream.len().min(LONGEST)];
    let mut device = DeviceUnderTest::new(*options);
    if options & 1 != 0 {
        let open = device.peer_open(*options);
        device.receive(&open);
        assert_eq!(device.peer.state(), SessionState::Established);
    }
    within(stream.len(), EMPTY, || {
        let chunk = if options & 2 != 0 { 7 } else { stream.len().max(1) };
        stream.chunks(chunk).for_each(|piece| device.receive(piece));
    });
    device.finish();
}

struct DeviceUnderTest {
    peer: Peer,
    rib: Rib,
    now: Instant,
    received: Vec<u8>,
    open: bool,
    advertised: AdvertisementCheck,
}

/// Delivery that checks the messages to the observers, and counts them.
#[derive(Default)]
struct AdvertisementCheck(u64);

impl Delivery for AdvertisementCheck {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        let context = match peer {
            INTERNAL => Context::INTERNAL,
            EXTERNAL => Context {
                as_width: AsWidth::Two,
                internal: false,
                first_as: Some(Asn(65000)),
                ..Context::INTERNAL
            },
            ADD_PATH => Context { add_path: Families::BOTH, extended_next_hop: true, ..Context::INTERNAL },
            _ => return true,
        };
        let mut rest = &chunk[..];
        while let Some(message) = frame::next(rest, MAX_LEN).expect("messages") {
            let update = UpdateView::parse(message.body).and_then(|view| view.read(&context));
            let update = update.expect("messages to observers can be decoded");
            assert_eq!(update.fault, None, "messages to observers are well-formed");
            self.0 += 1;
            rest = &rest[message.len()..];
        }
        assert!(rest.is_empty(), "whole messages");
        true
    }
}

/// Returns a configuration; with `add_path` it has ADD-PATH in both directions and IPv6 next hops.
fn config(asn: u32, address: Ipv4Addr, peer_as: u32, add_path: bool) -> PeerConfig {
    let families = if add_path { Families::BOTH } else { Families::NONE };
    PeerConfig {
        add_path: AddPath { receive: families, send: families },
        extended_next_hop: add_path,
        restart: Some(RestartConfig { restart_time: 120, long_lived_stale_time: 60 }),
        passive: true,
        ..PeerConfig::new(Asn(asn), RouterId(address), Asn(peer_as))
    }
}

fn their_as(options: u8) -> u32 {
    if options & 4 != 0 { 65000 } else { 65001 }
}

impl DeviceUnderTest {
    fn new(options: u8) -> DeviceUnderTest {
        let now = Instant::now();
        let mut ours = config(65000, DUT, their_as(options), options & 64 != 0);
        ours.role = (options & 128 != 0).then_some(Role::Customer);
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
            (ADD_PATH, 8, 65000, AsWidth::Four),
        ] {
            rib.peer_up(id, observer(Ipv4Addr::new(10, 99, 0, host), asn, as_width, id == ADD_PATH));
        }
        let mut device = DeviceUnderTest {
            peer,
            rib,
            now,
            received: Vec::new(),
            open: true,
            advertised: AdvertisementCheck::default(),
        };
        device.settle();
        device.perform_outputs();
        device
    }

    /// Returns the peer's OPEN and KEEPALIVE.
    fn peer_open(&self, options: u8) -> Vec<u8> {
        let mut open = config(their_as(options), Ipv4Addr::new(10, 99, 0, 2), 65000, true).open(None);
        open.capabilities.extended_message = options & 8 != 0;
        if options & 16 != 0 {
            open.capabilities.four_octet_as = None;
        }
        if options & 32 != 0 {
            open.capabilities.multiprotocol = None;
        }
        let mut octets = Vec::new();
        open.encode(&mut octets);
        encode::keepalive(&mut octets);
        octets
    }

    fn receive(&mut self, octets: &[u8]) {
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
            self.perform_outputs();
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

    fn perform_outputs(&mut self) {
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
        while !self.rib.run(4096, &mut self.advertised) {}
        for id in [INTERNAL, EXTERNAL, ADD_PATH, TESTER] {
            self.rib.resume(id, &mut self.advertised);
        }
        let mut changes = Vec::new();
        while self.rib.has_best_changes() {
            self.rib.best_changes(4096, &mut changes);
            changes.clear();
        }
    }

    /// Checks that all routes of the peer are removed after all timers have expired.
    fn finish(mut self) {
        if self.open {
            self.peer.handle(PeerInput::Closed(SIDE), self.now);
            self.perform_outputs();
        }
        // Hold time, restart time, stale time, and connection attempts.
        for _ in 0..8 {
            let Some(deadline) = self.peer.deadline() else { break };
            self.now = self.now.max(deadline);
            self.peer.handle(PeerInput::Timer, self.now);
            self.perform_outputs();
        }
        assert_eq!(self.rib.counts().prefixes, 0, "routes of a peer that is gone");
    }
}

/// Returns an observer with the minimum of capabilities, except for `add_path`; see [`config`].
fn observer(address: Ipv4Addr, asn: u32, as_width: AsWidth, add_path: bool) -> PeerSession {
    let ours = config(65000, DUT, asn, add_path).open(None);
    let mut peer_open = config(asn, address, 65000, add_path).open(None);
    peer_open.capabilities = Capabilities {
        multiprotocol: Some(Families::BOTH),
        four_octet_as: (as_width == AsWidth::Four).then_some(Asn(asn)),
        add_path: peer_open.capabilities.add_path,
        extended_next_hop: add_path,
        ..Capabilities::default()
    };
    let settled = SessionParameters::settle(&ours, &peer_open, Asn(asn)).expect("a session");
    PeerSession::new(&settled, address.into(), asn == 65000)
}
