//! Names, addresses and blocks of nodes.

use std::net::IpAddr;

use bgp::PeerId;
use ipnet::IpNet;

pub(crate) fn address(node: usize) -> IpAddr {
    IpAddr::from([192, 168, 0, u8::try_from(node).unwrap() + 1])
}

pub(crate) fn block(node: usize, index: u64) -> IpNet {
    format!("10.{}.{index}.0/26", node + 1).parse().unwrap()
}

pub(crate) fn id(peer: usize) -> PeerId {
    PeerId(u32::try_from(peer).unwrap())
}
