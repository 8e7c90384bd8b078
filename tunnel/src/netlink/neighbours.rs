//! Permanent neighbours and forwarding entries of the VXLAN device: `RTM_*NEIGH`.

use std::net::IpAddr;

use super::{
    socket::{KernelError, Socket},
    wire::{
        AF_BRIDGE, AF_INET, AF_INET6, Message, NLM_F_CREATE, NLM_F_REPLACE, Received, address, attributes,
        family, u16_at, u32_at,
    },
};
use crate::node::Mac;

/// `RTM_NEWNEIGH`
pub const RTM_NEWNEIGH: u16 = 28;
/// `RTM_DELNEIGH`
pub const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

const NDMSG_LEN: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
const NTF_SELF: u8 = 0x02;

/// A neighbour or a forwarding entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourRecord {
    /// Interface index.
    pub index: u32,
    /// It is a forwarding entry (`AF_BRIDGE`).
    pub bridge: bool,
    /// It never ages.
    pub permanent: bool,
    /// Ethernet address, if resolved.
    pub mac: Option<Mac>,
    /// The neighbour, or where frames for the MAC are sent.
    pub address: Option<IpAddr>,
}

fn ndmsg(family: u8, index: u32, state: u16, flags: u8) -> [u8; NDMSG_LEN] {
    let mut header = [0; NDMSG_LEN];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// The permanent neighbours and forwarding entries of the interface `index`.
///
/// # Errors
/// The kernel's.
pub fn dump_neighbours(socket: &mut Socket, index: u32) -> Result<Vec<NeighbourRecord>, KernelError> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6, AF_BRIDGE] {
        let request = Message::new(RTM_GETNEIGH, 0, &ndmsg(family, 0, 0, 0));
        all.extend(socket.dump(&request, |received| {
            parse_neighbour(received).filter(|n| n.index == index && n.permanent)
        })?);
    }
    Ok(all)
}

/// Reads an `RTM_NEWNEIGH` or `RTM_DELNEIGH` message.
pub fn parse_neighbour(received: &Received<'_>) -> Option<NeighbourRecord> {
    if !matches!(received.kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
        return None;
    }
    let mut record = NeighbourRecord {
        index: u32_at(received.payload, 4)?,
        bridge: *received.payload.first()? == AF_BRIDGE,
        permanent: u16_at(received.payload, 8)? & NUD_PERMANENT != 0,
        mac: None,
        address: None,
    };
    for (kind, value) in attributes(received.payload.get(NDMSG_LEN..)?) {
        match kind {
            NDA_LLADDR => record.mac = Mac::try_from(value).ok(),
            NDA_DST => record.address = address(value),
            _ => {}
        }
    }
    Some(record)
}

/// Adds or replaces a permanent neighbour.
pub fn set_neighbour(index: u32, address: IpAddr, mac: Mac) -> Message {
    let header = ndmsg(family(address), index, NUD_PERMANENT, 0);
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header)
        .address(NDA_DST, address)
        .attribute(NDA_LLADDR, &mac)
}

/// Removes a neighbour.
pub fn delete_neighbour(index: u32, address: IpAddr) -> Message {
    Message::new(RTM_DELNEIGH, 0, &ndmsg(family(address), index, 0, 0)).address(NDA_DST, address)
}

/// Adds or replaces a permanent forwarding entry.
pub fn set_fdb(index: u32, mac: Mac, remote: IpAddr) -> Message {
    let header = ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF);
    Message::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header)
        .address(NDA_DST, remote)
        .attribute(NDA_LLADDR, &mac)
}

/// Removes a forwarding entry.
pub fn delete_fdb(index: u32, mac: Mac, remote: IpAddr) -> Message {
    Message::new(RTM_DELNEIGH, 0, &ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF))
        .address(NDA_DST, remote)
        .attribute(NDA_LLADDR, &mac)
}
