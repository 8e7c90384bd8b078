//! Resolution of a learned path to the exit point of its prefix.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use crate::{
    node::{Config, Encapsulation, FallbackMode, LearnedPath, PathKind, PoolMode, RemoteNode},
    reachability::Reachability,
};

/// The exit point of a packet: the contents of one next-hop object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Exit {
    /// Plain, to a neighbor on the interface with this index.
    Direct {
        /// Neighbor: the exit point itself or the router to it.
        gateway: IpAddr,
        /// Interface index.
        index: u32,
    },
    /// IP in IP to a node's address.
    Ipip {
        /// Address of the node: the outer destination.
        remote: Ipv4Addr,
    },
    /// VXLAN to a node's VTEP.
    Vxlan {
        /// Address of the VTEP: the gateway on the VXLAN device.
        vtep: IpAddr,
    },
}

impl Exit {
    /// Returns whether routes of IPv4 prefixes may use the exit.
    pub fn is_ipv4(&self) -> bool {
        match self {
            Exit::Direct { gateway, .. } => gateway.is_ipv4(),
            Exit::Ipip { .. } => true,
            Exit::Vxlan { vtep } => vtep.is_ipv4(),
        }
    }

    /// Returns the encapsulation of the exit.
    pub fn encapsulation(&self) -> Encapsulation {
        match self {
            Exit::Direct { .. } => Encapsulation::None,
            Exit::Ipip { .. } => Encapsulation::Ipip,
            Exit::Vxlan { .. } => Encapsulation::Vxlan,
        }
    }
}

/// Reachability of an address by the kernel's other routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reach {
    /// On the link of the interface with this index.
    OnLink {
        /// Interface index.
        index: u32,
    },
    /// Through a router.
    Via {
        /// Gateway.
        gateway: IpAddr,
        /// Interface index.
        index: u32,
    },
    /// Through one of our tunnel devices, which must not carry its own outer packets.
    Tunnel,
    /// Unreachable, or an address of the node itself.
    Unreachable,
}

/// The reason for an exit, or for the lack of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitReason {
    /// Pool mode Always.
    Always,
    /// Cross-subnet: the next hop is outside the local subnet.
    OtherSubnet,
    /// Cross-subnet: the next hop is on-link in the local subnet.
    SameSubnet,
    /// Cross-subnet: the next hop has an address of the local subnet but is behind a router.
    SameSubnetNotOnLink,
    /// Pool mode Never.
    Never,
    /// No pool contains the prefix.
    OutsidePools,
    /// No BGP path: VTEP of the static peer table.
    NoBgpPath,
    /// IP-in-IP does not pass; VXLAN does.
    IpipBlocked,
    /// IP-in-IP passes again, but not yet for long enough.
    IpipReturning,
    /// This network is known to drop IP-in-IP, and no probe has passed.
    IpipDoubted,
    /// IP-in-IP is newly preferred, but no probe has passed yet.
    IpipUnproven,
    /// There is a BGP path again, but not yet for long enough.
    BgpReturning,
    /// Cross-subnet: the next hop is on-link in the local subnet, but no plain probe has passed.
    DirectUnproven,
    /// IP-in-IP carries no IPv6.
    Ipv6,
    /// The block is this node's own.
    OwnBlock,
    /// The path requests discard (BLACKHOLE, RFC 7999).
    Discard,
    /// The next hop is this node itself: nothing is installed.
    ThisNode,
    /// No BGP path, and `fallback` is `none`.
    FallbackNone,
    /// The static peer table has no node with this address, or no VTEP of it.
    NoVtep,
    /// The next hop's family cannot carry the prefix and its node has no address of the right one.
    NoAddress,
    /// The kernel has no route to the next hop.
    Unreachable,
    /// The kernel's route to the next hop leads into a tunnel device.
    InsideTunnel,
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ExitReason::Always => "always",
            ExitReason::OtherSubnet => "other subnet",
            ExitReason::SameSubnet => "same subnet",
            ExitReason::SameSubnetNotOnLink => "same subnet, but behind a router",
            ExitReason::Never => "never",
            ExitReason::OutsidePools => "outside every pool",
            ExitReason::NoBgpPath => "no BGP path: static table",
            ExitReason::IpipBlocked => "IP-in-IP does not pass: fallback",
            ExitReason::IpipReturning => "IP-in-IP passes again: fallback until it has for recoverAfter",
            ExitReason::IpipDoubted => "this network is known to drop IP-in-IP: fallback",
            ExitReason::IpipUnproven => "IP-in-IP is used once a probe was answered",
            ExitReason::BgpReturning => "BGP is back: fallback until it has been for recoverAfter",
            ExitReason::DirectUnproven => "same subnet, but no unwrapped packet was seen to pass",
            ExitReason::Ipv6 => "IPv6 is not carried by ipip",
            ExitReason::Discard => "BLACKHOLE: packets are discarded",
            ExitReason::OwnBlock => "this node's own block",
            ExitReason::ThisNode => "next hop is this node",
            ExitReason::FallbackNone => "no BGP path, and fallback is none",
            ExitReason::NoVtep => "next hop has no VTEP in the node table",
            ExitReason::NoAddress => "next hop has no address of the prefix's family",
            ExitReason::Unreachable => "no route to the next hop",
            ExitReason::InsideTunnel => "the route to the next hop leads into the tunnel",
        })
    }
}

/// The result of [`resolve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution {
    /// Exit, if the prefix is to be installed.
    pub exit: Option<Exit>,
    /// Reason for the exit, or for the lack of one.
    pub reason: ExitReason,
}

impl Resolution {
    fn to(exit: Exit, reason: ExitReason) -> Self {
        Self { exit: Some(exit), reason }
    }

    fn none(reason: ExitReason) -> Self {
        Self { exit: None, reason }
    }
}

/// Chooses the exit point of `prefix`, learned as `learned`, with the reachability of the nodes.
/// `reach` returns how the kernel reaches an address; it is called only where that matters
/// (cross-subnet and plain routing).
pub fn resolve(
    config: &Config,
    reachability: &Reachability,
    prefix: &IpNet,
    learned: &LearnedPath,
    reach: &mut dyn FnMut(IpAddr) -> Reach,
) -> Resolution {
    let next_hop = learned.next_hop.to_canonical();
    if config.local.has_address(next_hop) {
        return Resolution::none(ExitReason::ThisNode);
    }
    if config.local.blocks.contains(prefix) {
        return Resolution::none(ExitReason::OwnBlock);
    }
    if learned.kind == PathKind::Discard {
        return Resolution::none(ExitReason::Discard);
    }
    let node = config.node_with_address(next_hop);
    let Some((encapsulation, mode)) = config.policy(prefix) else {
        return plain(prefix, next_hop, node, ExitReason::OutsidePools, reach);
    };
    let reason = match (encapsulation, mode) {
        (Encapsulation::None, _) | (_, PoolMode::Never) => {
            return plain(prefix, next_hop, node, ExitReason::Never, reach);
        }
        (_, PoolMode::Always) => ExitReason::Always,
        (_, PoolMode::CrossSubnet) if config.local.subnet_contains(next_hop) => match reach(next_hop) {
            Reach::OnLink { .. } if reachability.may_go_direct(config, node) => {
                return plain(prefix, next_hop, node, ExitReason::SameSubnet, reach);
            }
            Reach::OnLink { .. } => ExitReason::DirectUnproven,
            _ => ExitReason::SameSubnetNotOnLink,
        },
        (_, PoolMode::CrossSubnet) => ExitReason::OtherSubnet,
    };
    match learned.kind {
        PathKind::Static if config.fallback == FallbackMode::None => {
            Resolution::none(ExitReason::FallbackNone)
        }
        PathKind::Static => vxlan(prefix, node, ExitReason::NoBgpPath),
        PathKind::Bgp if encapsulation == Encapsulation::Vxlan => vxlan(prefix, node, reason),
        PathKind::Bgp if prefix.addr().is_ipv6() => {
            // IP-in-IP here is IPv4 in IPv4, so IPv6 uses the device of the fallback if there is one.
            match vxlan(prefix, node, ExitReason::Ipv6) {
                found if found.exit.is_some() && config.needs_vxlan() => found,
                _ => plain(prefix, next_hop, node, ExitReason::Ipv6, reach),
            }
        }
        PathKind::Bgp | PathKind::Discard => match family_address(prefix, next_hop, node) {
            Some(IpAddr::V4(remote)) => {
                let avoided = node.and_then(|n| reachability.avoids_ipip(config, n, next_hop));
                let held = node.and_then(|n| reachability.pinned(n));
                match (avoided.map(|why| vxlan(prefix, node, why)), held) {
                    (Some(found), _) if found.exit.is_some() => found,
                    (_, Some(exit)) => Resolution::to(exit, ExitReason::IpipUnproven),
                    _ => Resolution::to(Exit::Ipip { remote }, reason),
                }
            }
            _ => Resolution::none(ExitReason::NoAddress),
        },
    }
}

fn vxlan(prefix: &IpNet, node: Option<&RemoteNode>, reason: ExitReason) -> Resolution {
    match node.and_then(|n| n.vtep_for(prefix)) {
        Some(vtep) => Resolution::to(Exit::Vxlan { vtep }, reason),
        None => Resolution::none(ExitReason::NoVtep),
    }
}

fn plain(
    prefix: &IpNet,
    next_hop: IpAddr,
    node: Option<&RemoteNode>,
    reason: ExitReason,
    reach: &mut dyn FnMut(IpAddr) -> Reach,
) -> Resolution {
    let Some(address) = family_address(prefix, next_hop, node) else {
        return Resolution::none(ExitReason::NoAddress);
    };
    match reach(address) {
        Reach::OnLink { index } => Resolution::to(Exit::Direct { gateway: address, index }, reason),
        Reach::Via { gateway, index } if gateway.is_ipv4() == address.is_ipv4() => {
            Resolution::to(Exit::Direct { gateway, index }, reason)
        }
        Reach::Via { .. } => Resolution::none(ExitReason::NoAddress),
        Reach::Tunnel => Resolution::none(ExitReason::InsideTunnel),
        Reach::Unreachable => Resolution::none(ExitReason::Unreachable),
    }
}

/// Returns the address of the next hop in the family of `prefix`: the next hop itself, or the other
/// address of its node.
fn family_address(prefix: &IpNet, next_hop: IpAddr, node: Option<&RemoteNode>) -> Option<IpAddr> {
    match (prefix, next_hop) {
        (IpNet::V4(_), IpAddr::V4(_)) | (IpNet::V6(_), IpAddr::V6(_)) => Some(next_hop),
        (IpNet::V4(_), IpAddr::V6(_)) => node.and_then(|n| n.ipv4).map(|n| n.addr().into()),
        (IpNet::V6(_), IpAddr::V4(_)) => node.and_then(|n| n.ipv6).map(|n| n.addr().into()),
    }
}

#[cfg(test)]
mod tests;
