//! The answer to `routectl show peers NAME`.

use api::view::{OpenView, PeerDetail, TrafficView};
use bgp::net::TrafficFlow;
use bgp::wire::capability::{Capabilities, Roles};
use bgp::wire::frame::MessageKind;
use bgp::wire::open::Open;
use bgp::{Families, Family};

use crate::view::{Views, count, peer_view, timestamp};

impl Views {
    /// Returns the details of the peer with this name or address.
    pub(crate) async fn peer_detail(&self, name: String) -> Option<PeerDetail> {
        let state = self.state();
        let peer = state.peer_named(&name)?;
        let counts = self.counts(&state).await;
        let status = peer.status.borrow().clone();
        let node_config = state.node_config.as_ref();
        let planned = node_config
            .and_then(|node_config| node_config.peers.iter().find(|planned| planned.peering == peer.peering));
        let hold = status.negotiated.map(|negotiated| negotiated.hold_time).filter(|hold| *hold > 0);
        Some(PeerDetail {
            peer: peer_view(peer, &status, counts.get(&peer.id).copied().unwrap_or_default()),
            local_address: planned.and_then(|planned| planned.address.local),
            established: status.established,
            last_error_at: status.last_error.as_ref().map(|line| timestamp(line.at)),
            ours: status.opens.as_ref().map(|(ours, _)| open_view(ours)),
            theirs: status.opens.as_ref().map(|(_, theirs)| open_view(theirs)),
            keepalive_s: hold.map(|hold| hold / 3),
            longest_message: status.negotiated.map(|negotiated| count(negotiated.send_max_len)),
            sent: traffic_view(&status.traffic.sent),
            received_messages: traffic_view(&status.traffic.received),
            max_prefixes: peer.max_prefixes.map(|max| count(max.limit)),
        })
    }
}

fn traffic_view(flow: &TrafficFlow) -> TrafficView {
    TrafficView {
        open: flow.messages(MessageKind::Open),
        update: flow.messages(MessageKind::Update),
        notification: flow.messages(MessageKind::Notification),
        keepalive: flow.messages(MessageKind::Keepalive),
        route_refresh: flow.messages(MessageKind::RouteRefresh),
        octets: flow.octets(),
        last_update: flow.last(MessageKind::Update).map(timestamp),
        last_keepalive: flow.last(MessageKind::Keepalive).map(timestamp),
    }
}

fn open_view(open: &Open) -> OpenView {
    OpenView {
        asn: open.asn.0,
        router_id: open.router_id.0,
        hold_time_s: open.hold_time,
        capabilities: capabilities(&open.capabilities),
    }
}

/// Returns the capabilities, named as in the RFCs.
fn capabilities(all: &Capabilities) -> Vec<String> {
    let mut lines = Vec::new();
    let families = |set: Families| {
        let name = |family: Family| match family {
            Family::Ipv4Unicast => "IPv4 unicast",
            Family::Ipv6Unicast => "IPv6 unicast",
        };
        set.iter().map(name).collect::<Vec<_>>().join(", ")
    };
    if let Some(set) = all.multiprotocol {
        lines.push(format!("multiprotocol (RFC 4760): {}", families(set)));
    }
    if let Some(asn) = all.four_octet_as {
        lines.push(format!("four-octet AS (RFC 6793): {}", asn.0));
    }
    if all.route_refresh {
        lines.push("route refresh (RFC 2918)".to_owned());
    }
    if all.enhanced_route_refresh {
        lines.push("enhanced route refresh (RFC 7313)".to_owned());
    }
    if all.extended_message {
        lines.push("extended message (RFC 8654)".to_owned());
    }
    if let Some(restart) = all.graceful_restart {
        let now = if restart.restarting { ", restarting" } else { "" };
        let notification = if restart.notification { ", after NOTIFICATION too (RFC 8538)" } else { "" };
        lines.push(format!(
            "graceful restart (RFC 4724): {} s, {}{now}{notification}",
            restart.restart_time,
            families(restart.families)
        ));
    }
    if let Some(long) = all.long_lived {
        let times = long.families.iter().map(|family| format!("{} s", long.stale_time[family.index()]));
        lines.push(format!(
            "long-lived graceful restart (RFC 9494): {}",
            times.collect::<Vec<_>>().join(", ")
        ));
    }
    for (way, set) in [("receives", all.add_path.receive), ("sends", all.add_path.send)] {
        if !set.is_empty() {
            lines.push(format!("several paths (RFC 7911): {way} {}", families(set)));
        }
    }
    if all.extended_next_hop {
        lines.push("IPv6 next hops for IPv4 (RFC 8950)".to_owned());
    }
    match all.role {
        Roles::Absent => {}
        Roles::One(role) => lines.push(format!("role (RFC 9234): {role:?}")),
        Roles::Contradictory => lines.push("role (RFC 9234): contradictory".to_owned()),
    }
    lines
}
