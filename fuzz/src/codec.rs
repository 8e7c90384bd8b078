//! Targets for the message codec.

use bgp::wire::as_path::AsWidth;
use bgp::wire::attribute::{Context, code, push};
use bgp::wire::capability::Roles;
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self as framing, MAX_EXTENDED_LEN, MAX_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::{UpdateMessage, UpdateView};
use bgp::{Asn, Families, Family};

use crate::bounds::within;

/// Octets that an error, its text and its data may take.
const ERROR: u64 = 1024;

/// Splits a stream of octets into messages, at once and piece by piece.
pub fn frame(input: &[u8]) {
    for max in [MAX_LEN, MAX_EXTENDED_LEN] {
        let mut rest = input;
        while let Ok(Some(message)) = within(rest.len(), ERROR, || framing::next(rest, max)) {
            let len = message.len();
            assert!((framing::HEADER_LEN..=max).contains(&len) && len <= rest.len());
            assert_eq!(message.body, &rest[framing::HEADER_LEN..len]);
            assert!(matches!(framing::next(&rest[..len - 1], max), Ok(None)), "not before it is complete");
            rest = &rest[len..];
        }
    }
}

/// Parses the body of an OPEN.
pub fn open(input: &[u8]) {
    let Ok(open) = within(input.len(), ERROR, || Open::parse(input)) else { return };
    // Not every parsed OPEN can be encoded: unknown families alone, and contradictory roles.
    let capabilities = &open.capabilities;
    if capabilities.multiprotocol.is_some_and(Families::is_empty) || capabilities.role == Roles::Contradictory
    {
        return;
    }
    let mut octets = Vec::new();
    open.encode(&mut octets);
    let message = framing::next(&octets, MAX_LEN).expect("a message").expect("whole");
    assert_eq!(message.kind, MessageKind::Open);
    assert_eq!(Open::parse(message.body).expect("encoded messages can be decoded"), open);
}

/// Reads an UPDATE: the first octet selects the context, the rest is the body.
pub fn update(input: &[u8]) {
    let Some((first, body)) = input.split_first() else { return };
    read_update(body, &context(*first));
}

/// Reads an UPDATE with one attribute among valid ones: the context, flags, type, and the value.
pub fn attribute(input: &[u8]) {
    let [first, flags, code, value @ ..] = input else { return };
    let context = context(*first);
    let mut attributes = Vec::new();
    let path: &[u8] = match (context.internal, context.as_width) {
        (true, _) => &[],
        (false, AsWidth::Two) => &[2, 1, 0xfd, 0xe9],
        (false, AsWidth::Four) => &[2, 1, 0, 0, 0xfd, 0xe9],
    };
    for (known, flags, value) in
        [(code::ORIGIN, 0x40, &[0][..]), (code::AS_PATH, 0x40, path), (code::NEXT_HOP, 0x40, &[10, 99, 0, 2])]
    {
        if known != *code {
            push(&mut attributes, flags, known, |out| out.extend(value));
        }
    }
    push(&mut attributes, *flags, *code, |out| out.extend(value));
    let Ok(len) = u16::try_from(attributes.len()) else { return };
    let id: &[u8] = if context.add_path.contains(Family::Ipv4Unicast) { &[0, 0, 0, 7] } else { &[] };
    let body = [&[0, 0][..], &len.to_be_bytes(), &attributes, id, &[24, 192, 0, 2]].concat();
    read_update(&body, &context);
}

/// Parses the body of a NOTIFICATION, or of a ROUTE-REFRESH.
pub fn notification(input: &[u8]) {
    let notification = within(input.len(), ERROR, || {
        let notification = Notification::parse(input);
        let _ = notification.to_string();
        notification
    });
    if input.len() >= 2 {
        let mut octets = Vec::new();
        notification.encode(&mut octets);
        let message = framing::next(&octets, MAX_LEN).expect("a message").expect("whole");
        assert_eq!(Notification::parse(message.body), notification);
    }
    if let Ok(refresh) = within(input.len(), ERROR, || RouteRefresh::parse(input)) {
        let mut octets = Vec::new();
        refresh.encode(&mut octets);
        let message = framing::next(&octets, MAX_LEN).expect("a message").expect("whole");
        assert_eq!(RouteRefresh::parse(message.body), Ok(refresh));
    }
}

/// Returns a context for each octet.
fn context(octet: u8) -> Context {
    let bit = |at: u8| octet & 1 << at != 0;
    let mut add_path = Families::NONE;
    for (at, family) in [(2, Family::Ipv4Unicast), (3, Family::Ipv6Unicast)] {
        if bit(at) {
            add_path.insert(family);
        }
    }
    Context {
        as_width: if bit(0) { AsWidth::Two } else { AsWidth::Four },
        internal: bit(1),
        first_as: (!bit(1) && bit(4)).then_some(Asn(65001)),
        families: if bit(5) { Families::IPV4 } else { Families::BOTH },
        add_path,
        extended_next_hop: bit(6),
    }
}

fn read_update(body: &[u8], context: &Context) {
    let read = || UpdateView::parse(body).and_then(|view| view.read(context));
    let Ok(update) = within(body.len(), ERROR, read) else { return };
    let mut canonical = Vec::new();
    within(body.len(), ERROR, || {
        update.attributes.write_canonical(&mut canonical);
        let _ = (update.offending(), update.end_of_rib());
        update.withdrawals().for_each(|list| assert!(list.paths().count() <= body.len()));
    });
    for as_width in [AsWidth::Two, AsWidth::Four] {
        write_and_read(&update, &canonical, &Context { as_width, ..*context });
    }
}

/// Checks that an encoded UPDATE has the meaning of the received one.
fn write_and_read(update: &UpdateMessage<'_>, canonical: &[u8], context: &Context) {
    let form = UpdateFormat {
        as_width: context.as_width,
        max_len: MAX_EXTENDED_LEN,
        extended_next_hop: context.extended_next_hop,
    };
    // Path identifiers are not written for a peer without them; and a path that begins with the
    // peer's AS may begin with another one after the AS4_PATH merge.
    let context = Context { add_path: Families::NONE, first_as: None, ..*context };
    for (next_hop, list) in update.announcements() {
        let prefixes: Vec<_> = list.iter().collect();
        let mut octets = Vec::new();
        // With two-octet numbers AS4_PATH is added, so the message may be too long.
        if encode::announce(&mut octets, form, canonical, next_hop, prefixes.iter().copied()).is_err() {
            continue;
        }
        let (mut rest, mut again) = (&octets[..], Vec::new());
        while let Some(message) = framing::next(rest, MAX_EXTENDED_LEN).expect("messages") {
            let update = UpdateView::parse(message.body).and_then(|view| view.read(&context));
            let update = update.expect("encoded messages can be decoded");
            assert_eq!(update.fault, None, "encoded messages are well-formed");
            let mut canonical_again = Vec::new();
            update.attributes.write_canonical(&mut canonical_again);
            assert_eq!(canonical_again, canonical);
            for (next_hop_again, list) in update.announcements() {
                assert_eq!(next_hop_again, next_hop);
                again.extend(list.iter());
            }
            rest = &rest[message.len()..];
        }
        assert_eq!(again, prefixes);
    }
}
