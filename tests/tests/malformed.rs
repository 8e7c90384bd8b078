//! Malformed and borderline messages, each with the outcome that the RFCs ask for, through framing,
//! session and RIB.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::session::{Input, Output, Peer, PeerConfig, Side, State};
use bgp::wire::attribute::{RawAttributes, code, flag, push};
use bgp::wire::frame::{self, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::update::UpdateView;
use bgp::{Asn, Families, PeerId, RouterId};
use bytes::Bytes;
use ipnet::IpNet;
use routing::outbox::Delivery;
use routing::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch, Source};
use serde_json::Value;
use tests::{corpus, hex};

/// What became of a message.
#[derive(Debug, PartialEq)]
enum Outcome {
    Reset(u8, u8),
    Close,
    /// The session goes on; what the RIB holds of the case's prefix.
    Up {
        held: bool,
        usable: bool,
        attribute: bool,
        changed: bool,
        flags: Option<u8>,
        state: State,
    },
}

struct Dut {
    peer: Peer,
    rib: Rib,
    now: Instant,
    received: Vec<u8>,
    ended: Option<Outcome>,
    sent: Sent,
}

/// What an observer peer (10.99.0.9, internal) is told.
#[derive(Default)]
struct Sent(Vec<u8>);

impl Delivery for Sent {
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool {
        if peer == OBSERVER {
            self.0.extend_from_slice(&chunk);
        }
        true
    }
}

const TESTER: PeerId = PeerId(1);
const OBSERVER: PeerId = PeerId(9);

fn config(asn: u32, id: [u8; 4], peer_as: u32) -> PeerConfig {
    PeerConfig {
        local_as: Asn(asn),
        router_id: RouterId(id.into()),
        peer_as: Asn(peer_as),
        hold_time: 90,
        families: Families::BOTH,
        passive: true,
        connect_delay: Duration::ZERO,
        send_hold_time: 480,
        restart: None,
    }
}

impl Dut {
    /// In the phase of the case, with the tester connected.
    fn new(case: &Value) -> Dut {
        let session = &case["session"];
        let peer_as = u32::try_from(session["peer_as"].as_u64().unwrap()).unwrap();
        let id = RouterId(Ipv4Addr::new(10, 99, 0, 1));
        let rib = Rib::new(RibConfig {
            local_as: Asn(65000),
            router_id: id,
            cluster_id: Some(id.0),
            local_addresses: vec![IpAddr::V4(id.0), "fd99::1".parse().unwrap()],
        });
        let mut peer = Peer::new(config(65000, [10, 99, 0, 1], peer_as), 1);
        let now = Instant::now();
        peer.handle(Input::Start, now);
        peer.handle(Input::Connected(Side::Incoming), now);
        let mut dut = Dut { peer, rib, now, received: Vec::new(), ended: None, sent: Sent::default() };
        let observer = Ipv4Addr::new(10, 99, 0, 9);
        dut.rib.peer_up(
            OBSERVER,
            PeerSession {
                router_id: RouterId(observer),
                address: observer.into(),
                internal: true,
                client: true,
                form: bgp::wire::encode::Form::default(),
                families: Families::BOTH,
                restarts: false,
                restarting: false,
                long_lived: false,
                marks_refresh: false,
            },
        );
        dut.act(case);
        let phase = case["phase"].as_str().unwrap();
        if phase == "opensent" {
            return dut;
        }
        let address: Ipv4Addr = session["peer_addr"].as_str().unwrap().parse().unwrap();
        let mut open = config(peer_as, address.octets(), 65000).open(None);
        open.capabilities.extended_message = false;
        if !session["as4"].as_bool().unwrap() {
            open.capabilities.four_octet_as = None;
        }
        let mut octets = Vec::new();
        open.encode(&mut octets);
        if phase == "established" {
            bgp::wire::encode::keepalive(&mut octets);
        }
        dut.octets(case, &octets);
        assert_eq!(dut.ended, None);
        dut.announce_before(case);
        dut
    }

    /// The route that is there before: an error that is treated as a withdrawal must take it away.
    fn announce_before(&mut self, case: &Value) {
        let Some(prefix) = prefix(case).filter(|_| case["phase"] == "established") else { return };
        let mut canonical = Vec::new();
        push(&mut canonical, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(2));
        push(&mut canonical, flag::WELL_KNOWN, code::AS_PATH, |out| out.extend([2, 1, 0, 0, 0xfd, 0xe9]));
        let next_hop = match prefix {
            IpNet::V4(_) => IpAddr::from([10, 99, 0, 2]),
            IpNet::V6(_) => "fd99::2".parse().unwrap(),
        };
        let mut batch = RouteBatch::default();
        batch.push(Some(&Arc::new(AttrSet::from_canonical(&canonical, next_hop))), [prefix]);
        self.rib.routes(TESTER, &batch);
        self.settle();
    }

    fn octets(&mut self, case: &Value, octets: &[u8]) {
        let size = case["chunk"].as_u64().map_or(octets.len(), |size| usize::try_from(size).unwrap());
        for piece in octets.chunks(size.max(1)) {
            self.received.extend_from_slice(piece);
            while self.ended.is_none() {
                let buffer = std::mem::take(&mut self.received);
                let taken = match frame::next(&buffer, self.peer.max_len(Side::Incoming)) {
                    Ok(None) => 0,
                    Ok(Some(message)) => {
                        self.message(case, message);
                        message.len()
                    }
                    Err(error) => {
                        self.peer.handle(Input::Malformed(Side::Incoming, error), self.now);
                        self.act(case);
                        0
                    }
                };
                self.received = buffer[taken..].to_vec();
                if taken == 0 {
                    break;
                }
            }
        }
    }

    fn message(&mut self, case: &Value, message: frame::Frame<'_>) {
        self.peer.handle(Input::Message(Side::Incoming, message), self.now);
        let negotiated = self.peer.negotiated().copied();
        if let (MessageKind::Update, Some(negotiated)) = (message.kind, negotiated) {
            match UpdateView::parse(message.body).and_then(|view| view.read(&negotiated.context())) {
                Ok(update) => {
                    let mut batch = RouteBatch::default();
                    update.withdrawals().for_each(|list| batch.push(None, list));
                    for (next_hop, list) in update.announcements() {
                        let attrs = AttrSet::from_update(&update.attributes, next_hop, &mut Vec::new());
                        batch.push(Some(&Arc::new(attrs)), list);
                    }
                    self.rib.routes(TESTER, &batch);
                    self.settle();
                }
                Err(error) => self.peer.handle(Input::Malformed(Side::Incoming, error), self.now),
            }
        }
        self.act(case);
    }

    fn act(&mut self, case: &Value) {
        while let Some(output) = self.peer.poll_output() {
            match output {
                Output::Send(_, octets) => {
                    let message = frame::next(&octets, frame::MAX_LEN).unwrap().unwrap();
                    if message.kind == MessageKind::Notification {
                        let code = Notification::parse(message.body).code;
                        self.ended = Some(Outcome::Reset(code.code, code.subcode));
                    }
                }
                Output::Ended { .. } => _ = self.ended.get_or_insert(Outcome::Close),
                Output::Established(_, negotiated) => {
                    let address = case["session"]["peer_addr"].as_str().unwrap().parse().unwrap();
                    let session = PeerSession::new(&negotiated, address, true);
                    self.rib.peer_up(TESTER, session);
                }
                _ => {}
            }
        }
    }

    fn settle(&mut self) {
        while !self.rib.run(100, &mut self.sent) {}
        self.rib.resume(OBSERVER, &mut self.sent);
    }

    fn outcome(mut self, case: &Value) -> Outcome {
        if let Some(ended) = self.ended.take() {
            return ended;
        }
        let wanted = prefix(case);
        let (routes, _) = self.rib.routes_from(0, usize::MAX, |prefix| Some(*prefix) == wanted);
        let path =
            routes.first().and_then(|route| route.paths.iter().find(|p| p.source == Source::Peer(TESTER)));
        let observed = wanted.and_then(|prefix| told(&self.sent.0, prefix));
        let attribute = case["attr"].as_u64().and_then(|code| u8::try_from(code).ok());
        let found = observed.as_ref().zip(attribute).and_then(|(canonical, code)| {
            RawAttributes::new(canonical).find(|raw| raw.code == code).map(|raw| raw.flags)
        });
        let before = observed.as_ref().and_then(|canonical| {
            RawAttributes::new(canonical).find(|raw| raw.code == code::ORIGIN).map(|raw| raw.value == [2])
        });
        Outcome::Up {
            held: observed.is_some(),
            usable: path.is_some_and(|path| path.reason.is_none()),
            attribute: found.is_some(),
            changed: before == Some(false),
            flags: found,
            state: self.peer.state(),
        }
    }
}

fn prefix(case: &Value) -> Option<IpNet> {
    case["prefix"].as_str().map(|text| text.parse().unwrap())
}

/// The attributes that the observer was last told of `prefix`; `None` after a withdrawal.
fn told(mut octets: &[u8], prefix: IpNet) -> Option<Vec<u8>> {
    let context = bgp::wire::attribute::Context {
        as_width: bgp::wire::as_path::AsWidth::Four,
        internal: true,
        families: Families::BOTH,
    };
    let mut last = None;
    while let Some(message) = frame::next(octets, frame::MAX_LEN).unwrap() {
        let update = UpdateView::parse(message.body).unwrap().read(&context).unwrap();
        assert_eq!(update.fault, None, "what is passed on is well-formed");
        if update.withdrawals().flatten().any(|gone| gone == prefix) {
            last = None;
        }
        if update.announcements().any(|(_, list)| list.iter().any(|one| one == prefix)) {
            let mut canonical = Vec::new();
            update.attributes.write_canonical(&mut canonical);
            last = Some(canonical);
        }
        octets = &octets[message.len()..];
    }
    last
}

fn is_met(outcome: &Outcome, wanted: &Value, case: &Value) -> bool {
    match (wanted["action"].as_str().unwrap(), outcome) {
        ("reset", Outcome::Reset(code, subcode)) => wanted["notification"]
            .as_array()
            .unwrap()
            .iter()
            .any(|pair| pair[0] == *code && pair[1] == *subcode),
        ("close", Outcome::Close) => true,
        ("accept", Outcome::Up { state, .. }) if case["phase"] != "established" => {
            matches!(state, State::OpenConfirm | State::Established)
        }
        ("accept", Outcome::Up { usable, flags, .. }) => {
            let wanted = case["propagate_flags"].as_u64();
            (*usable || prefix(case).is_none())
                && wanted.is_none_or(|wanted| flags.is_some_and(|flags| u64::from(flags & 0xe0) == wanted))
        }
        ("withdraw", Outcome::Up { held, usable, .. }) => !held && !usable,
        // Left out: what is passed on has no such attribute, and the route stands.
        ("discard", Outcome::Up { usable, attribute, .. }) => {
            // LOCAL_PREF and the reflection attributes are ours by then.
            let made_here = matches!(case["attr"].as_u64(), Some(5 | 9 | 10));
            *usable && (!attribute || made_here)
        }
        ("ignore", Outcome::Up { changed, .. }) => !changed,
        _ => false,
    }
}

#[test]
fn every_malformed_message_has_the_outcome_that_the_rfcs_ask_for() {
    let text = std::fs::read_to_string(corpus().join("malformed.jsonl")).unwrap();
    let (mut right, mut wrong) = (0, Vec::new());
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let mut dut = Dut::new(&case);
        dut.octets(&case, &hex(case["hex"].as_str().unwrap()));
        let outcome = dut.outcome(&case);
        let mut wanted = vec![&case["expected"]];
        wanted.extend(case["acceptable"].as_array().into_iter().flatten());
        if wanted.iter().any(|wanted| is_met(&outcome, wanted, &case)) {
            right += 1;
        } else {
            wrong.push(format!("{} {}: {outcome:?}, not {}", case["id"], case["name"], case["expected"]));
        }
    }
    println!("{right} right, {} wrong", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
