//! FIB lookups: the route that the kernel uses for an address, `RTM_GETROUTE`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    numbers::{
        ENOENT, RTA_DST, RTA_IIF, RTA_SRC, RTM_F_FIB_MATCH, RTM_GETROUTE, RTM_NEWROUTE, RTN_BLACKHOLE,
        RTN_LOCAL, RTN_PROHIBIT, RTN_UNICAST, RTN_UNREACHABLE,
    },
    routes::{RTMSG_LEN, RouteAttributes},
    socket::{KernelError, RequestSocket},
    wire::{ReceivedMessage, RequestMessage, family},
};

/// Type of a route: `rtm_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// To a gateway or onto a link.
    Unicast,
    /// To this host itself.
    Local,
    /// Discards packets without an ICMP message.
    Blackhole,
    /// Discards packets with ICMP "host unreachable" or "prohibited".
    Refused,
    /// Anything else: broadcast, multicast, ...
    Other,
}

impl RouteKind {
    fn from_type(kind: u8) -> Self {
        match kind {
            RTN_UNICAST => RouteKind::Unicast,
            RTN_LOCAL => RouteKind::Local,
            RTN_BLACKHOLE => RouteKind::Blackhole,
            RTN_UNREACHABLE | RTN_PROHIBIT => RouteKind::Refused,
            _ => RouteKind::Other,
        }
    }

    /// Returns the kernel's name of the type.
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
pub struct RouteAnswer {
    /// Type.
    pub kind: RouteKind,
    /// Destination of the route itself for a FIB match; else the address.
    pub prefix: Option<IpNet>,
    /// `rtm_protocol`.
    pub protocol: u8,
    /// Table.
    pub table: u32,
    /// Metric.
    pub metric: u32,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface; 0: none.
    pub index: u32,
    /// Source address of this host's own packets.
    pub source: Option<IpAddr>,
    /// MTU of the route itself, in octets.
    pub mtu: Option<u32>,
}

/// The result of a FIB lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// Path of the packets, or the kernel's refusal: `ENETUNREACH` (no route), `EHOSTUNREACH`,
    /// `EINVAL` (a blackhole), `EXDEV` (rp_filter).
    pub way: Result<RouteAnswer, KernelError>,
    /// The matching route with its prefix and metric; `None` where the kernel does not report it.
    pub route: Option<RouteAnswer>,
}

/// Origin of forwarded packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Source address.
    pub source: IpAddr,
    /// Index of the incoming interface.
    pub index: u32,
}

/// A next hop that the kernel uses for an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnicastHop {
    /// Gateway; `None` for an address on the link.
    pub gateway: Option<IpAddr>,
    /// Index of the outgoing interface.
    pub index: u32,
}

fn request(destination: IpAddr, from: Option<Arrival>, flags: u32) -> RequestMessage {
    let length = IpNet::from(destination).prefix_len();
    let mut header = [0; RTMSG_LEN];
    (header[0], header[1]) = (family(destination), length);
    header[2] = if from.is_some() { length } else { 0 };
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    let mut request = RequestMessage::new(RTM_GETROUTE, 0, &header);
    if let Some(from) = from {
        request = request.address(RTA_SRC, from.source).u32(RTA_IIF, from.index);
    }
    request.address(RTA_DST, destination)
}

/// Looks up the route of packets to `destination`: this host's own packets, or with `from`
/// forwarded ones.
///
/// # Errors
/// Those of the socket; the kernel's refusal of the route itself is part of the result.
pub fn look_up(
    socket: &mut RequestSocket,
    destination: IpAddr,
    from: Option<Arrival>,
) -> Result<Lookup, KernelError> {
    let query = |socket: &mut RequestSocket, flags: u32| {
        let mut first = None;
        let outcome = socket.query(request(destination, from, flags), |received| {
            first = first.or_else(|| parse_answer(received));
        });
        outcome.and_then(|()| first.ok_or(KernelError { errno: ENOENT, message: String::new() }))
    };
    let way = query(socket, 0);
    let route = query(socket, RTM_F_FIB_MATCH).ok();
    Ok(Lookup { way, route })
}

fn parse_answer(received: &ReceivedMessage<'_>) -> Option<RouteAnswer> {
    if received.kind != RTM_NEWROUTE {
        return None;
    }
    let route = RouteAttributes::parse(received)?;
    Some(RouteAnswer {
        kind: RouteKind::from_type(route.kind),
        prefix: Some(route.prefix),
        protocol: route.protocol,
        table: route.table,
        metric: route.metric,
        gateway: route.gateway,
        index: route.index.unwrap_or(0),
        source: route.source,
        mtu: route.mtu,
    })
}

/// Looks up the next hop for `destination`; `None` if no unicast route leads there.
///
/// # Errors
/// The kernel's, except for those that mean that there is no route.
pub fn look_up_next_hop(
    socket: &mut RequestSocket,
    destination: IpAddr,
) -> Result<Option<UnicastHop>, KernelError> {
    let mut hop = None;
    let outcome = socket.query(request(destination, None, 0), |received| {
        if let Some(answer) = parse_answer(received).filter(|answer| answer.kind == RouteKind::Unicast) {
            hop = (answer.index != 0).then_some(UnicastHop { gateway: answer.gateway, index: answer.index });
        }
    });
    match outcome {
        Ok(()) => Ok(hop),
        // No route, unreachable, prohibit and blackhole routes.
        Err(error)
            if matches!(
                error.errno,
                libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
