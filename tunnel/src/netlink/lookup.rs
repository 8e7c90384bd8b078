//! What the kernel does with packets at this moment, asked of it for people to read: nothing is decided by it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    socket::{ENOENT, EOPNOTSUPP, KernelError, Socket},
    wire::{AF_BRIDGE, AF_INET, AF_INET6, Message, Received, address, attributes, family, u16_at, u32_at},
};
use crate::node::Mac;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const RTM_NEWRULE: u16 = 32;
const RTM_GETRULE: u16 = 34;

const RTMSG_LEN: usize = 12;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;

const NDMSG_LEN: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;

const RULE_LEN: usize = 12;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;

/// Where a route leads: `rtm_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// To a gateway or on a link.
    Unicast,
    /// To this host itself.
    Local,
    /// Nowhere, without a word.
    Blackhole,
    /// Nowhere, with ICMP "host unreachable" or "prohibited".
    Refused,
    /// Anything else: broadcast, multicast, ...
    Other,
}

impl RouteKind {
    fn of(kind: u8) -> Self {
        match kind {
            1 => RouteKind::Unicast,
            2 => RouteKind::Local,
            6 => RouteKind::Blackhole,
            7 | 8 => RouteKind::Refused,
            _ => RouteKind::Other,
        }
    }

    /// The kernel's word for it.
    pub fn name(self) -> &'static str {
        match self {
            RouteKind::Unicast => "unicast",
            RouteKind::Local => "local",
            RouteKind::Blackhole => "blackhole",
            RouteKind::Refused => "unreachable",
            RouteKind::Other => "other",
        }
    }
}

/// An answer to `RTM_GETROUTE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSight {
    /// Where it leads.
    pub kind: RouteKind,
    /// The route's own destination, where it was asked for that; else the address.
    pub prefix: Option<IpNet>,
    /// `rtm_protocol`
    pub protocol: u8,
    /// The table.
    pub table: u32,
    /// Its metric.
    pub metric: u32,
    /// The gateway.
    pub gateway: Option<IpAddr>,
    /// Index of the interface that packets leave by; 0: none.
    pub index: u32,
    /// The source that this host's own packets get.
    pub source: Option<IpAddr>,
    /// The MTU that the route itself has, in octets.
    pub mtu: Option<u32>,
}

/// What the kernel does with packets to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The way that packets take, or the refusal that they meet: `ENETUNREACH` (no route), `EHOSTUNREACH`, `EINVAL` (a
    /// blackhole), `EXDEV` (rp_filter).
    pub way: Result<RouteSight, KernelError>,
    /// The route that it follows from, which names its prefix and metric; `None` where the kernel does not say.
    pub route: Option<RouteSight>,
}

/// Where packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Their source address.
    pub source: IpAddr,
    /// Index of the interface that they come in by.
    pub index: u32,
}

/// Asks which way packets to `destination` go: this host's own, or with `from` those that are forwarded.
///
/// # Errors
/// The socket's; what the kernel says of the route itself is in the answer.
pub fn look_up(
    socket: &mut Socket,
    destination: IpAddr,
    from: Option<Arrival>,
) -> Result<Lookup, KernelError> {
    let ask = |socket: &mut Socket, flags: u32| {
        let length = if destination.is_ipv4() { 32 } else { 128 };
        let mut header = [0; RTMSG_LEN];
        (header[0], header[1]) = (family(destination), length);
        header[2] = if from.is_some() { length } else { 0 };
        header[8..12].copy_from_slice(&flags.to_ne_bytes());
        let mut request = Message::new(RTM_GETROUTE, 0, &header);
        if let Some(from) = from {
            request = request.address(RTA_SRC, from.source).u32(RTA_IIF, from.index);
        }
        let mut found = None;
        let answer = socket.query(request.address(RTA_DST, destination), |received| {
            found = found.or_else(|| parse_route(received));
        });
        answer.and_then(|()| found.ok_or(KernelError { errno: ENOENT, message: String::new() }))
    };
    let way = ask(socket, 0);
    let route = ask(socket, RTM_F_FIB_MATCH).ok();
    Ok(Lookup { way, route })
}

fn parse_route(received: &Received<'_>) -> Option<RouteSight> {
    if received.kind != RTM_NEWROUTE {
        return None;
    }
    let header = received.payload.first_chunk::<RTMSG_LEN>()?;
    let [family, length, _, _, table, protocol, _, kind, ..] = *header;
    let mut sight = RouteSight {
        kind: RouteKind::of(kind),
        prefix: None,
        protocol,
        table: table.into(),
        metric: 0,
        gateway: None,
        index: 0,
        source: None,
        mtu: None,
    };
    let mut destination = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    for (attribute, value) in attributes(received.payload.get(RTMSG_LEN..)?) {
        match attribute {
            RTA_DST => destination = address(value)?,
            RTA_TABLE => sight.table = u32_at(value, 0)?,
            RTA_PRIORITY => sight.metric = u32_at(value, 0)?,
            RTA_GATEWAY => sight.gateway = address(value),
            RTA_OIF => sight.index = u32_at(value, 0)?,
            RTA_PREFSRC => sight.source = address(value),
            RTA_METRICS => {
                let mtu = attributes(value).find(|(metric, _)| *metric == RTAX_MTU);
                sight.mtu = mtu.and_then(|(_, value)| u32_at(value, 0));
            }
            _ => {}
        }
    }
    sight.prefix = IpNet::new(destination, length).ok();
    Some(sight)
}

/// How well a neighbour is known: `ndm_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Its Ethernet address is set for good.
    Permanent,
    /// Its Ethernet address is known.
    Known,
    /// It is being asked for.
    Asked,
    /// It did not answer.
    Failed,
}

impl NeighbourState {
    fn of(state: u16) -> Self {
        const NUD_INCOMPLETE: u16 = 0x01;
        const NUD_FAILED: u16 = 0x20;
        const NUD_NOARP: u16 = 0x40;
        const NUD_PERMANENT: u16 = 0x80;
        match state {
            state if state & (NUD_PERMANENT | NUD_NOARP) != 0 => NeighbourState::Permanent,
            state if state & NUD_FAILED != 0 => NeighbourState::Failed,
            0 | NUD_INCOMPLETE => NeighbourState::Asked,
            _ => NeighbourState::Known,
        }
    }

    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            NeighbourState::Permanent => "permanent",
            NeighbourState::Known => "known",
            NeighbourState::Asked => "asked for",
            NeighbourState::Failed => "failed",
        }
    }
}

/// A neighbour, or with `AF_BRIDGE` where frames for an Ethernet address go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourSight {
    /// Index of the interface.
    pub index: u32,
    /// The neighbour's address, or the VTEP that frames go to.
    pub address: Option<IpAddr>,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// How well it is known.
    pub state: NeighbourState,
}

/// The neighbours of the address's family, in any state.
///
/// # Errors
/// The kernel's.
pub fn neighbours(socket: &mut Socket, of: IpAddr) -> Result<Vec<NeighbourSight>, KernelError> {
    list_neighbours(socket, family(of))
}

/// All forwarding entries of VXLAN devices and bridges.
///
/// # Errors
/// The kernel's.
pub fn forwarding(socket: &mut Socket) -> Result<Vec<NeighbourSight>, KernelError> {
    list_neighbours(socket, AF_BRIDGE)
}

fn list_neighbours(socket: &mut Socket, family: u8) -> Result<Vec<NeighbourSight>, KernelError> {
    let mut header = [0; NDMSG_LEN];
    header[0] = family;
    absent(socket.dump(&Message::new(RTM_GETNEIGH, 0, &header), parse_neighbour))
}

fn parse_neighbour(received: &Received<'_>) -> Option<NeighbourSight> {
    if received.kind != RTM_NEWNEIGH {
        return None;
    }
    let mut sight = NeighbourSight {
        index: u32_at(received.payload, 4)?,
        address: None,
        mac: None,
        state: NeighbourState::of(u16_at(received.payload, 8)?),
    };
    for (attribute, value) in attributes(received.payload.get(NDMSG_LEN..)?) {
        match attribute {
            NDA_DST => sight.address = address(value),
            NDA_LLADDR => sight.mac = Mac::try_from(value).ok(),
            _ => {}
        }
    }
    Some(sight)
}

/// A rule of policy routing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleSight {
    /// Its priority: lower ones come first.
    pub priority: u32,
    /// The table that it leads to; 0: it does something else.
    pub table: u32,
    /// It is for all packets.
    pub all: bool,
}

impl RuleSight {
    /// Whether packets may find a route by it before table main is asked.
    pub fn precedes_main(&self, main: u32) -> bool {
        self.priority < main && !matches!(self.table, RT_TABLE_LOCAL | RT_TABLE_MAIN)
    }
}

/// The rules of IPv4.
///
/// # Errors
/// The kernel's.
pub fn rules(socket: &mut Socket) -> Result<Vec<RuleSight>, KernelError> {
    let mut header = [0; RULE_LEN];
    header[0] = AF_INET;
    absent(socket.dump(&Message::new(RTM_GETRULE, 0, &header), parse_rule))
}

fn parse_rule(received: &Received<'_>) -> Option<RuleSight> {
    /// Attributes that say what is done, not with which packets: table, suppressing, protocol.
    const NO_SELECTORS: [u16; 6] = [FRA_PRIORITY, 13, 14, FRA_TABLE, 19, 21];
    if received.kind != RTM_NEWRULE {
        return None;
    }
    let header = received.payload.first_chunk::<RULE_LEN>()?;
    let [_, destination_len, source_len, tos, table, ..] = *header;
    let mut rule =
        RuleSight { priority: 0, table: table.into(), all: (destination_len, source_len, tos) == (0, 0, 0) };
    for (attribute, value) in attributes(received.payload.get(RULE_LEN..)?) {
        match attribute {
            FRA_PRIORITY => rule.priority = u32_at(value, 0)?,
            FRA_TABLE => rule.table = u32_at(value, 0)?,
            _ => {}
        }
        rule.all &= NO_SELECTORS.contains(&attribute);
    }
    Some(rule)
}

/// A kernel without IPv6, or without a table, has nothing in it.
fn absent<T>(dumped: Result<Vec<T>, KernelError>) -> Result<Vec<T>, KernelError> {
    match dumped {
        Err(error) if matches!(error.errno, ENOENT | EOPNOTSUPP) => Ok(Vec::new()),
        other => other,
    }
}
