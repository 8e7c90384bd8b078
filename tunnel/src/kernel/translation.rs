//! Translation between the records of netlink and the types of reconciliation.

use std::net::IpAddr;

use crate::{
    dataplane::{DataplaneError, ListedRoute},
    desired::RouteKey,
    fib::{RouteAction, RouteOp},
    members::GroupMembers,
    netlink::{
        KernelError, RequestSocket,
        links::{LinkInfo, LinkRecord},
        lookup::{UnicastHop, look_up_next_hop},
        nexthops::NexthopRecord,
        routes::{self, RouteEdit, RouteRecord, RouteVia},
        wire::Batch,
    },
    observed::{LinkKind, Nexthop, ObservedLink, Via},
    resolve::Reach,
};

impl From<KernelError> for DataplaneError {
    fn from(error: KernelError) -> Self {
        Self { errno: error.errno, message: error.message }
    }
}

pub(super) fn link(record: &LinkRecord) -> ObservedLink {
    let kind = match record.kind {
        LinkInfo::Ipip { local, remote, pmtudisc } => LinkKind::Ipip { local, remote, pmtudisc },
        LinkInfo::Vxlan { vni, port, local, parent, learning } => {
            LinkKind::Vxlan { vni, port, local, parent, learning }
        }
        LinkInfo::Other => LinkKind::Other,
    };
    ObservedLink { index: record.index, up: record.up, mtu: record.mtu, mac: record.mac, kind }
}

/// Translates a next-hop object; `protocol` is the protocol number of this node's own objects.
pub(super) fn nexthop(record: &NexthopRecord, protocol: u8) -> Nexthop {
    let members = GroupMembers::new(record.members.iter().copied());
    let uniform = record.uniform && members.ids().len() == record.members.len();
    Nexthop {
        ours: !record.blackhole && record.protocol == protocol,
        gateway: record.gateway,
        index: record.index,
        onlink: record.onlink,
        members: if uniform { members } else { members.as_irregular() },
    }
}

pub(super) fn via(via: RouteVia) -> Via {
    match via {
        RouteVia::Nexthop(id) => Via::Nexthop(id),
        RouteVia::Gateway { gateway, index } => Via::Gateway { gateway, index },
        RouteVia::Blackhole => Via::Blackhole,
        RouteVia::Link(index) => Via::Link(index),
        RouteVia::Other => Via::Other,
    }
}

fn route_via(via: Via) -> RouteVia {
    match via {
        Via::Nexthop(id) => RouteVia::Nexthop(id),
        Via::Gateway { gateway, index } => RouteVia::Gateway { gateway, index },
        Via::Blackhole => RouteVia::Blackhole,
        Via::Link(index) => RouteVia::Link(index),
        Via::Other => RouteVia::Other,
    }
}

pub(super) fn route_key(record: &RouteRecord) -> RouteKey {
    RouteKey { prefix: record.prefix, metric: record.metric }
}

pub(super) fn listed_route(record: &RouteRecord) -> ListedRoute {
    ListedRoute { key: route_key(record), via: via(record.via) }
}

/// Encodes the request for one change of a route. A route is deleted only if it has this protocol
/// number.
pub fn write_route(batch: &mut Batch, op: &RouteOp, protocol: u8) {
    let edit = match op.verb {
        RouteAction::Add(via) => RouteEdit::Add(route_via(via)),
        RouteAction::Replace(via) => RouteEdit::Replace(route_via(via)),
        RouteAction::Delete => RouteEdit::Delete,
    };
    routes::write_route(batch, op.key.prefix, op.key.metric, &edit, protocol);
}

/// Returns how the kernel reaches `destination` now; never [`Reach::Tunnel`], which the caller
/// decides by the index.
///
/// # Errors
/// The kernel's, except for "no route", which is [`Reach::Unreachable`].
pub fn query_reach(socket: &mut RequestSocket, destination: IpAddr) -> Result<Reach, KernelError> {
    Ok(match look_up_next_hop(socket, destination)? {
        Some(UnicastHop { gateway: Some(gateway), index }) => Reach::Via { gateway, index },
        Some(UnicastHop { gateway: None, index }) => Reach::OnLink { index },
        None => Reach::Unreachable,
    })
}
