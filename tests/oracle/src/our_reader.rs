//! Our decoder.

use bgp::wire::as_path::{AsPath, AsWidth, SegmentKind};
use bgp::wire::attribute::{Context, Origin};
use bgp::wire::frame::{self, MAX_EXTENDED_LEN, MessageKind};
use bgp::wire::notification::Notification;
use bgp::wire::open::Open;
use bgp::wire::refresh::RouteRefresh;
use bgp::wire::update::{UpdateMessage, UpdateView};
use bgp::{Families, Family};

use crate::message::{Message, Outcome, Prefixes, hex, segment};

/// The context in which corpus messages are read: everything an attribute can say is looked at.
pub fn context(asn4: bool) -> Context {
    let as_width = if asn4 { AsWidth::Four } else { AsWidth::Two };
    Context { as_width, ..Context::INTERNAL }
}

/// Reads a whole message.
pub fn read(octets: &[u8], asn4: bool) -> Outcome {
    let frame = match frame::next(octets, MAX_EXTENDED_LEN) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Outcome::Refused("not whole".into()),
        Err(error) => return Outcome::Refused(error.to_string()),
    };
    let mut message = Message::new();
    message.insert("kind", frame.kind.code().to_string());
    match frame.kind {
        MessageKind::Keepalive => {}
        MessageKind::Notification => {
            let notification = Notification::parse(frame.body);
            message.insert("code", format!("{}/{}", notification.code.code, notification.code.subcode));
            message.insert("data", hex(&notification.data));
        }
        MessageKind::RouteRefresh => match RouteRefresh::parse(frame.body) {
            Ok(refresh) => {
                let family = refresh.family;
                message.insert("refresh", format!("{}/{} {}", family.afi, family.safi, refresh.subtype));
            }
            Err(error) => return Outcome::Refused(error.to_string()),
        },
        MessageKind::Open => match Open::parse(frame.body) {
            Ok(open) => open_fields(&open, &mut message),
            Err(error) => return Outcome::Refused(error.to_string()),
        },
        MessageKind::Update => {
            let read = UpdateView::parse(frame.body).and_then(|view| view.read(&context(asn4)));
            match read {
                Ok(update) => {
                    if let Some(fault) = update.fault {
                        return Outcome::Refused(format!("{:?}: {}", fault.verdict, fault.rule));
                    }
                    update_fields(&update, &mut message);
                }
                Err(error) => return Outcome::Refused(error.to_string()),
            }
        }
    }
    Outcome::Read(message)
}

fn open_fields(open: &Open, message: &mut Message) {
    message.insert("as", open.asn.to_string());
    message.insert("hold", open.hold_time.to_string());
    message.insert("id", open.router_id.to_string());
    let families = open.capabilities.multiprotocol.unwrap_or(Families::NONE);
    let name = |family: Family| format!("{}/{}", family.afi_safi().afi, family.afi_safi().safi);
    let mut families: Vec<String> = families.iter().map(name).collect();
    families.sort();
    message.insert("families", families.join(" "));
    message.insert("refreshes", open.capabilities.route_refresh.to_string());
    message.insert("four octets", open.capabilities.four_octet_as.is_some().to_string());
}

fn update_fields(update: &UpdateMessage<'_>, message: &mut Message) {
    let mut prefixes = Prefixes::default();
    for list in update.withdrawals() {
        list.iter().for_each(|prefix| prefixes.withdraw(prefix));
    }
    for (next_hop, list) in update.announcements() {
        list.iter().for_each(|prefix| prefixes.announce(prefix, Some(next_hop)));
    }
    prefixes.store(message);
    let attributes = &update.attributes;
    let mut put = |name, value: Option<String>| {
        if let Some(value) = value {
            message.insert(name, value);
        }
    };
    put(
        "origin",
        attributes.origin.map(|origin| {
            match origin {
                Origin::Igp => "0",
                Origin::Egp => "1",
                Origin::Incomplete => "2",
            }
            .to_owned()
        }),
    );
    put("as path", attributes.as_path.map(path));
    put("as4 path", attributes.as4_path.map(path));
    put("next hop", attributes.next_hop.map(|address| address.to_string()));
    put("med", attributes.med.map(|med| med.to_string()));
    put("local pref", attributes.local_pref.map(|preference| preference.to_string()));
    put("atomic", attributes.atomic_aggregate.then(String::new));
    put(
        "aggregator",
        attributes.aggregator.map(|aggregator| format!("{} {}", aggregator.asn, aggregator.id)),
    );
    put("as4 aggregator", attributes.as4_aggregator.map(|four| format!("{} {}", four.asn, four.id)));
    put("communities", attributes.communities.map(hex));
    put("extended", attributes.extended_communities.map(hex));
    put("large", attributes.large_communities.map(hex));
    put("originator", attributes.originator_id.map(|id| id.to_string()));
    put("clusters", attributes.cluster_list.map(hex));
}

fn path(path: AsPath<'_>) -> String {
    let segments = path.segments().map(|part| {
        let kind = match part.kind {
            SegmentKind::Set => "set",
            SegmentKind::Sequence => "sequence",
            SegmentKind::ConfedSequence => "confed sequence",
            SegmentKind::ConfedSet => "confed set",
        };
        segment(kind, part.asns().map(|number| number.0))
    });
    segments.collect::<Vec<_>>().join(" ")
}
