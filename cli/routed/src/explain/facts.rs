//! Gathers the facts about the path to an address.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use api::ControlError;
use api::ExplainRequest;
use api::view::{
    ExitKind, ExplainFacts, ExplainView, FromView, LookupView, NeighborView, OuterView, OwnerView, PathView,
    PoolView, RouteView, TunnelView,
};
use bgp::session::SessionState;
use routing::Source;
use routing::query::PathInfo;
use tunnel::netlink::RequestSocket;
use tunnel::netlink::links::{self, LinkRecord};
use tunnel::netlink::lookup::{self, Arrival, Lookup, RouteAnswer, RouteKind};
use tunnel::netlink::neighbours::{self, NeighbourRecord, NeighbourState};

use crate::daemon::state::DaemonState;
use crate::explain::judge;
use crate::view::convert::route_source;
use crate::view::task_error;
use crate::view::{Views, is_host, mac, peer_name, route_view};

/// The time after which a pending neighbor entry is read again. A neighbor that is up answers
/// within milliseconds.
const NEIGHBOR_ANSWER_TIME: Duration = Duration::from_millis(500);

/// The kernel's answers to one query.
struct KernelAnswers {
    lookup: Lookup,
    from: Option<FromView>,
    neighbor: Option<NeighborView>,
    links: Vec<LinkRecord>,
}

/// The next hop whose neighbor entries are read.
#[derive(Clone, Copy)]
struct NextHopQuery {
    /// The destination address on the wire: the other node's address.
    outer: IpAddr,
    /// With VXLAN, the gateway on the device and its Ethernet address.
    vtep: Option<(IpAddr, [u8; 6])>,
}

impl Views {
    /// Gathers the facts and finds the first problem on the path.
    pub(crate) async fn explain_target(&self, request: ExplainRequest) -> Result<ExplainView, ControlError> {
        let target = request.target.trunc();
        let covering = self.routes_where(move |prefix| prefix.contains(&target));
        let routes = covering.await.map_err(task_error)?;
        let route = routes.into_iter().max_by_key(|route| route.prefix.prefix_len());
        let state = self.state();
        let mut facts = ExplainFacts {
            target: if is_host(&request.target) {
                request.target.addr().to_string()
            } else {
                request.target.to_string()
            },
            pool: pool(&state, &target),
            owner: self.owner(&state, &target),
            ..ExplainFacts::default()
        };
        if let Some(route) = &route {
            let mut reports = match &self.tunnel {
                Some(tunnel) => tunnel.route(route.prefix).await.unwrap_or_default(),
                None => Vec::new(),
            };
            // There may be two reports for an own block; the one with a learned path comes first.
            reports.sort_by_key(|report| report.kind.is_none());
            let view = route_view(route, reports.first(), &state, &self.config);
            facts.prefix = Some(route.prefix);
            facts.paths = route.paths.iter().map(|path| path_view(path, &state)).collect();
            facts.route = route.paths.first().is_some_and(|path| path.reason.is_none()).then_some(view);
        }
        let tunnels = self.tunnel_views().await;
        facts.tunnel = facts.route.as_ref().and_then(|route| tunnel_of_route(route, &tunnels).cloned());
        if let Some(node) = facts.tunnel.as_ref() {
            facts.outer = facts.route.as_ref().and_then(|route| self.outer(&state, route, node));
        }
        if self.tunnel.is_some() {
            let next_hop = next_hop_query(&facts, &state);
            let address = representative_address(&request.target);
            let from = request.from.map(|from| from_view(&state, from, &self.config.node));
            let protocol = self.config.route_protocol;
            let mut answers = ask_kernel(address, from.clone(), next_hop).await?;
            if answers
                .neighbor
                .as_ref()
                .is_some_and(|neighbor| neighbor.state == NeighbourState::Incomplete.name())
            {
                tokio::time::sleep(NEIGHBOR_ANSWER_TIME).await; // why: a neighbor that is up has answered by then
                answers = ask_kernel(address, from, next_hop).await?;
            }
            facts.kernel = Some(lookup_view(&answers.lookup, &answers.links, protocol));
            facts.neighbour = answers.neighbor;
            facts.from = answers.from;
        } else {
            facts.from = request.from.map(|from| from_view(&state, from, &self.config.node));
        }
        let verdict = judge(&facts);
        Ok(ExplainView { facts, verdict })
    }

    fn owner(&self, state: &DaemonState, target: &IpNet) -> Option<OwnerView> {
        let blocks = state.snapshot.blocks();
        let all = blocks.iter().flat_map(|(node, blocks)| blocks.iter().map(move |block| (*node, *block)));
        let (node, block) =
            all.filter(|(_, block)| block.contains(target)).max_by_key(|(_, block)| block.prefix_len())?;
        let resource = state.snapshot.nodes.iter().find(|candidate| candidate.name == node);
        let v4 = resource.and_then(|node| Some(IpAddr::V4(node.ipv4?.addr())));
        let v6 = resource.and_then(|node| Some(IpAddr::V6(node.ipv6?.addr())));
        let addresses = [v4, v6];
        let session = state.peers.iter().find(|peer| addresses.contains(&Some(peer.peering.address)));
        let status = session.map(|peer| peer.status.borrow().clone());
        Some(OwnerView {
            node: node.to_owned(),
            block,
            local: node == self.config.node,
            address: if block.addr().is_ipv6() { v6.or(v4) } else { v4.or(v6) },
            session: status.as_ref().map(|status| state_name(status.state)),
            last_error: status.and_then(|status| status.last_error).map(|line| line.text),
        })
    }

    fn outer(&self, state: &DaemonState, route: &RouteView, node: &TunnelView) -> Option<OuterView> {
        let node_config = state.node_config.as_ref()?;
        let local = &node_config.tunnel.local;
        let other = node_config.tunnel.nodes.iter().find(|other| other.name == node.node)?;
        let exit = route.exit.or(route.legs.first().map(|leg| leg.exit))?;
        let (protocol, mac) = match exit {
            ExitKind::Ipip => ("IP protocol 4".to_owned(), None),
            ExitKind::Vxlan => (
                format!("UDP port {}, VNI {}", tunnel::desired::VXLAN_PORT, tunnel::VXLAN_VNI),
                Some(mac(other.mac())),
            ),
            ExitKind::Direct | ExitKind::Blackhole => return None,
        };
        let destination = node.address?;
        let source = match destination {
            IpAddr::V4(_) => local.ipv4.map(|net| IpAddr::V4(net.addr())),
            IpAddr::V6(_) => local.ipv6.map(|net| IpAddr::V6(net.addr())),
        };
        Some(OuterView { source, destination, protocol, mac, mtu: node.mtu })
    }
}

/// Returns the tunnel to the node that a route leads to.
fn tunnel_of_route<'a>(route: &RouteView, tunnels: &'a [TunnelView]) -> Option<&'a TunnelView> {
    let next_hop = route.next_hop?;
    tunnels.iter().find(|tunnel| tunnel.address == Some(next_hop)).or_else(|| {
        let owner = |tunnel: &&TunnelView| tunnel.blocks.iter().any(|block| block.contains(&route.prefix));
        tunnels.iter().find(owner)
    })
}

fn next_hop_query(facts: &ExplainFacts, state: &DaemonState) -> Option<NextHopQuery> {
    let route = facts.route.as_ref()?;
    let exit = route.exit.or(route.legs.first().map(|leg| leg.exit))?;
    match exit {
        ExitKind::Direct => Some(NextHopQuery { outer: route.next_hop?, vtep: None }),
        ExitKind::Ipip => Some(NextHopQuery { outer: facts.outer.as_ref()?.destination, vtep: None }),
        ExitKind::Vxlan => {
            let node = facts.tunnel.as_ref()?;
            let other =
                state.node_config.as_ref()?.tunnel.nodes.iter().find(|other| other.name == node.node)?;
            let vtep = match route.prefix {
                IpNet::V4(_) => other.vtep.map(IpAddr::V4),
                IpNet::V6(_) => other.vtep_ipv6.map(IpAddr::V6),
            };
            Some(NextHopQuery { outer: facts.outer.as_ref()?.destination, vtep: Some((vtep?, other.mac())) })
        }
        ExitKind::Blackhole => None,
    }
}

async fn ask_kernel(
    address: IpAddr,
    from: Option<FromView>,
    next_hop: Option<NextHopQuery>,
) -> Result<KernelAnswers, ControlError> {
    let query = move || query_kernel(address, from, next_hop);
    let answers = tokio::task::spawn_blocking(query).await.map_err(task_error)?;
    answers.map_err(|error| ControlError::Kernel(error.to_string()))
}

/// Queries the kernel.
fn query_kernel(
    address: IpAddr,
    from: Option<FromView>,
    next_hop: Option<NextHopQuery>,
) -> Result<KernelAnswers, tunnel::netlink::KernelError> {
    let mut socket = RequestSocket::open()?;
    let links = links::dump_links(&mut socket)?;
    let name = |index: u32| links.iter().find(|link| link.index == index);
    let mut arrival = None;
    let from = match from {
        Some(mut from) => {
            // A pod is directly behind an interface, without a gateway.
            let way = lookup::look_up(&mut socket, from.address, None)?.way.ok();
            let way = way.filter(|way| way.kind == RouteKind::Unicast && way.gateway.is_none());
            if let Some(link) = way.and_then(|way| name(way.index)) {
                (from.device, from.mtu) = (Some(link.name.clone()), Some(link.mtu));
                arrival = Some(Arrival { source: from.address, index: link.index });
            }
            Some(from)
        }
        None => None,
    };
    let lookup = lookup::look_up(&mut socket, address, arrival)?;
    let neighbor = match next_hop {
        Some(next_hop) => read_neighbor(&mut socket, &next_hop, &lookup, &links)?,
        None => None,
    };
    Ok(KernelAnswers { lookup, from, neighbor, links })
}

fn read_neighbor(
    socket: &mut RequestSocket,
    next_hop: &NextHopQuery,
    lookup: &Lookup,
    links: &[LinkRecord],
) -> Result<Option<NeighborView>, tunnel::netlink::KernelError> {
    let Ok(under) = lookup::look_up(socket, next_hop.outer, None)?.way else { return Ok(None) };
    let station = under.gateway.unwrap_or(next_hop.outer);
    let Some(link) = links.iter().find(|link| link.index == under.index) else { return Ok(None) };
    let known = neighbours::dump_neighbours(socket, station)?;
    let entry = known.iter().find(|entry| entry.index == under.index && entry.address == Some(station));
    let mut view = NeighborView {
        address: station,
        device: link.name.clone(),
        state: entry.map_or("not asked yet", |entry| entry.state.name()).to_owned(),
        mac: entry.and_then(|entry| entry.mac).map(mac),
        gateway_entry: None,
        forwarded_to: None,
    };
    if let (Some((vtep, address)), Ok(way)) = (next_hop.vtep, &lookup.way) {
        let of_vtep = neighbours::dump_neighbours(socket, vtep)?;
        let leads = |entry: &&NeighbourRecord| {
            entry.index == way.index && entry.address == Some(vtep) && entry.mac == Some(address)
        };
        view.gateway_entry = Some(of_vtep.iter().any(|entry| leads(&entry)));
        let frames = neighbours::dump_forwarding(socket)?;
        let sent = frames.iter().find(|entry| entry.index == way.index && entry.mac == Some(address));
        view.forwarded_to = sent.and_then(|entry| entry.address);
    }
    Ok(Some(view))
}

fn lookup_view(lookup: &Lookup, links: &[LinkRecord], protocol: u8) -> LookupView {
    let (way, error) = match &lookup.way {
        Ok(way) => (Some(*way), None),
        Err(error) => (None, Some(error)),
    };
    let route: Option<RouteAnswer> = lookup.route;
    let index = way.map_or(0, |way| way.index);
    LookupView {
        outcome: way.map_or("refused", |way| way.kind.name()).to_owned(),
        error: error.map(ToString::to_string),
        errno: error.map(|error| error.errno),
        device: links.iter().find(|link| link.index == index).map(|link| link.name.clone()),
        gateway: way.and_then(|way| way.gateway),
        source: way.and_then(|way| way.source),
        prefix: route.and_then(|route| route.prefix),
        metric: route.map(|route| route.metric),
        protocol: route.map(|route| route.protocol),
        table: route.map(|route| route.table),
        ours: route.is_some_and(|route| route.protocol == protocol),
    }
}

fn from_view(state: &DaemonState, address: IpAddr, me: &str) -> FromView {
    let host = IpNet::from(address);
    let blocks = state.snapshot.blocks();
    let has = |blocks: &Vec<IpNet>| blocks.iter().any(|block| block.contains(&host));
    let node = blocks.iter().find(|(_, blocks)| has(blocks)).map(|(node, _)| (*node).to_owned());
    FromView { address, local: node.as_deref() == Some(me), node, device: None, mtu: None }
}

fn pool(state: &DaemonState, target: &IpNet) -> Option<PoolView> {
    let (encapsulation, mode) = state.snapshot.encapsulation_of(target)?;
    let pool = state.snapshot.pool_of(target);
    Some(PoolView {
        name: pool.map(|pool| pool.name.clone()),
        cidr: pool.map(|pool| pool.cidr),
        encapsulation,
        mode,
        disable_bgp_export: pool.is_some_and(|pool| pool.disable_bgp_export),
    })
}

/// Returns the address that represents a prefix: the address itself for a host, else the first
/// address that a pod could have.
fn representative_address(target: &IpNet) -> IpAddr {
    if target.addr() != target.network() || is_host(target) {
        return target.addr();
    }
    target.hosts().next().unwrap_or(target.addr())
}

fn state_name(state: SessionState) -> String {
    format!("{state:?}")
}

fn path_view(path: &PathInfo, state: &DaemonState) -> PathView {
    let as_path: Vec<String> = path.as_path.iter().map(ToString::to_string).collect();
    PathView {
        source: route_source(path.kind),
        peer: peer_name(path, state),
        next_hop: Some(path.next_hop).filter(|_| path.source != Source::Local),
        as_path: as_path.join(" "),
        local_pref: Some(path.local_pref),
        med: Some(path.med),
        best: path.reason.is_none(),
        shares: path.shares,
        reason: match path.reason {
            None => "best".to_owned(),
            Some(reason) if path.shares => format!("shares the packets; {reason}"),
            Some(reason) => reason.to_string(),
        },
    }
}
