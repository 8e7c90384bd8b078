//! Removal of everything of ours from the kernel.

use std::{collections::BTreeSet, fmt};

use super::{probe_routing, translation};
use crate::{
    desired::Device,
    diff::NEXTHOP_IDS,
    netlink::{
        KernelError, LinkConnection, RequestSocket,
        links::{self, LinkChange, LinkInfo},
        nexthops,
        numbers::EOPNOTSUPP,
        routes::{self, RouteEdit, RouteRecord, RouteVia},
        wire::Batch,
    },
    observed::Nexthop,
};

/// Routes deleted by one send.
const BATCH: usize = 256;

/// The objects that a flush removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Number of routes of table main with our protocol number.
    pub routes: usize,
    /// Number of next-hop objects of ours.
    pub nexthops: usize,
    /// Number of next-hop objects that are left because other programs' routes use them.
    pub nexthops_left: usize,
    /// Number of rules and routes of probes.
    pub probes: usize,
    /// Tunnel devices, by name.
    pub devices: Vec<&'static str>,
}

impl fmt::Display for FlushReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let devices =
            if self.devices.is_empty() { "no device".to_owned() } else { self.devices.join(" and ") };
        write!(
            f,
            "{} routes, {} next-hop objects, {} rules and routes of probes, {devices}",
            self.routes, self.nexthops, self.probes
        )?;
        match self.nexthops_left {
            0 => Ok(()),
            left => write!(f, "; {left} next-hop objects are used by other programs' routes and were left"),
        }
    }
}

/// Removes routes and next-hop objects with this protocol number, the rules and tables of probes,
/// and the tunnel devices. The daemon must not run meanwhile: it would write them again.
///
/// # Errors
/// The kernel's first refusal, `EPERM` without CAP_NET_ADMIN; objects that were removed before it
/// stay removed.
pub async fn flush(protocol: u8) -> Result<FlushReport, KernelError> {
    let mut socket = RequestSocket::open()?;
    let mut connection = LinkConnection::open()?;
    let mut flushed = FlushReport::default();
    let (mut ours, mut foreign) = (Vec::new(), BTreeSet::new());
    routes::list_all(&mut socket, |route| match route.via {
        _ if route.protocol == protocol => ours.push(route),
        RouteVia::Nexthop(id) => _ = foreign.insert(id),
        _ => {}
    })?;
    flushed.routes = delete(&mut socket, &ours, protocol)?;

    let records = match nexthops::dump_nexthops(&mut socket) {
        Err(error) if error.errno == EOPNOTSUPP => Vec::new(),
        other => other?,
    };
    let objects: Vec<_> = records.iter().map(|n| (n.id, translation::nexthop(n, protocol))).collect();
    let is_ours = |id: u32, nexthop: &Nexthop| nexthop.ours && NEXTHOP_IDS.contains(&id);
    // A group that is left needs its members, whoever owns it.
    for (id, nexthop) in &objects {
        if !is_ours(*id, nexthop) || foreign.contains(id) {
            foreign.extend(nexthop.members.ids());
        }
    }
    let (left, mut gone): (Vec<_>, Vec<_>) =
        objects.into_iter().filter(|(id, n)| is_ours(*id, n)).partition(|(id, _)| foreign.contains(id));
    // Groups first: the kernel deletes a group with its last member.
    gone.sort_by_key(|(_, nexthop)| nexthop.members.is_empty());
    // The kernel would delete the routes with the object.
    flushed.nexthops_left = left.len();
    flushed.nexthops = gone.len();
    let mut requests: Vec<_> = gone.into_iter().map(|(id, _)| nexthops::delete_nexthop(id)).collect();
    requests.extend(probe_routing::dump_rules(&mut socket)?.into_iter().map(probe_routing::delete_rule));
    let tables = probe_routing::dump_routes(&mut socket)?;
    requests.extend(tables.into_iter().map(|route| probe_routing::delete_route(route.path, route.address)));
    flushed.probes = requests.len() - flushed.nexthops;
    socket.execute(requests).into_iter().collect::<Result<Vec<()>, _>>()?;

    for link in links::dump_links(&mut socket)? {
        let device = match link.kind {
            LinkInfo::Ipip { .. } => Device::Ipip,
            LinkInfo::Vxlan { .. } => Device::Vxlan,
            LinkInfo::Other => continue,
        };
        if link.name == device.name() {
            connection.change(LinkChange::DeleteLink { index: link.index }).await?;
            flushed.devices.push(device.name());
        }
    }
    Ok(flushed)
}

fn delete(socket: &mut RequestSocket, routes: &[RouteRecord], protocol: u8) -> Result<usize, KernelError> {
    let mut batch = Batch::default();
    let mut sequence = 0_u32;
    for some in routes.chunks(BATCH) {
        batch.clear(sequence.wrapping_add(1));
        for route in some {
            routes::write_route(&mut batch, route.prefix, route.metric, &RouteEdit::Delete, protocol);
        }
        batch.acknowledge();
        sequence = sequence.wrapping_add(batch.count());
        let mut errors = Vec::new();
        socket.execute_encoded(batch.bytes(), batch.first(), some.len(), &mut errors);
        if let Some((_, error)) = errors.into_iter().next() {
            return Err(error);
        }
    }
    Ok(routes.len())
}
