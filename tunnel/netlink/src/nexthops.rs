//! Next-hop objects: `RTM_*NEXTHOP` (Linux 5.3, `linux/nexthop.h`).

use std::net::IpAddr;

use super::{
    numbers::{
        AF_UNSPEC, NEXTHOP_GRP_TYPE_MPATH, NHA_BLACKHOLE, NHA_GATEWAY, NHA_GROUP, NHA_GROUP_TYPE, NHA_ID,
        NHA_OIF, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, RTM_DELNEXTHOP, RTM_GETNEXTHOP, RTM_NEWNEXTHOP,
        RTNH_F_ONLINK,
    },
    socket::{KernelError, RequestSocket},
    wire::{ReceivedMessage, RequestMessage, address, attributes, family, u16_at, u32_at},
};

/// Length of `struct nhmsg` in octets.
const NHMSG_LEN: usize = 8;
/// Length of `struct nexthop_grp` in octets: id, weight less one, and three octets that are zero or
/// unused.
const GROUP_ENTRY_LEN: usize = 8;

/// A next-hop object or a group of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NexthopRecord {
    /// Id.
    pub id: u32,
    /// `nh_protocol`.
    pub protocol: u8,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Interface index, 0 for a group.
    pub index: u32,
    /// `RTNH_F_ONLINK`.
    pub onlink: bool,
    /// `NHA_BLACKHOLE`: the object discards packets.
    pub blackhole: bool,
    /// Ids of a group's members.
    pub members: Vec<u32>,
    /// True if a flow's hash chooses among members of equal weight; true for a single object.
    pub uniform: bool,
}

fn nhmsg(family: u8, protocol: u8, flags: u32) -> [u8; NHMSG_LEN] {
    let mut header = [0; NHMSG_LEN];
    header[0] = family;
    header[2] = protocol;
    header[4..8].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Returns all next-hop objects of the namespace.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where it has no such objects.
pub fn dump_nexthops(socket: &mut RequestSocket) -> Result<Vec<NexthopRecord>, KernelError> {
    socket.dump(&RequestMessage::new(RTM_GETNEXTHOP, 0, &nhmsg(AF_UNSPEC, 0, 0)), parse_nexthop)
}

/// Parses an `RTM_NEWNEXTHOP` or `RTM_DELNEXTHOP` message.
pub fn parse_nexthop(received: &ReceivedMessage<'_>) -> Option<NexthopRecord> {
    if !matches!(received.kind, RTM_NEWNEXTHOP | RTM_DELNEXTHOP) {
        return None;
    }
    let mut record = NexthopRecord {
        id: 0,
        protocol: *received.payload.get(2)?,
        gateway: None,
        index: 0,
        onlink: u32_at(received.payload, 4)? & RTNH_F_ONLINK != 0,
        blackhole: false,
        members: Vec::new(),
        uniform: true,
    };
    for (kind, value) in attributes(received.payload.get(NHMSG_LEN..)?) {
        match kind {
            NHA_ID => record.id = u32_at(value, 0)?,
            NHA_OIF => record.index = u32_at(value, 0)?,
            NHA_GATEWAY => record.gateway = address(value),
            NHA_GROUP => {
                let entries = value.chunks_exact(GROUP_ENTRY_LEN);
                record.uniform &= entries.clone().all(|entry| entry.get(4..6) == Some(&[0, 0]));
                record.members = entries.filter_map(|entry| u32_at(entry, 0)).collect();
            }
            NHA_GROUP_TYPE => record.uniform &= u16_at(value, 0) == Some(NEXTHOP_GRP_TYPE_MPATH),
            NHA_BLACKHOLE => record.blackhole = true,
            _ => {}
        }
    }
    (record.id != 0).then_some(record)
}

/// Builds the request that creates or, with `replace`, replaces a next-hop object.
pub fn set_nexthop(id: u32, gateway: IpAddr, index: u32, protocol: u8, replace: bool) -> RequestMessage {
    // Replace alone, without create: an object that is gone is observed again instead.
    let flags = if replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
    RequestMessage::new(RTM_NEWNEXTHOP, flags, &nhmsg(family(gateway), protocol, RTNH_F_ONLINK))
        .u32(NHA_ID, id)
        .u32(NHA_OIF, index)
        .address(NHA_GATEWAY, gateway)
}

/// Builds the request that creates a group whose members have equal weight; a flow's hash chooses
/// one of them.
pub fn add_group(id: u32, members: &[u32], protocol: u8) -> RequestMessage {
    let mut entries = Vec::with_capacity(members.len() * GROUP_ENTRY_LEN);
    for id in members {
        entries.extend(id.to_ne_bytes());
        entries.resize(entries.len() + GROUP_ENTRY_LEN - 4, 0);
    }
    RequestMessage::new(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_EXCL, &nhmsg(AF_UNSPEC, protocol, 0))
        .u32(NHA_ID, id)
        .attribute(NHA_GROUP, &entries)
}

/// Builds the request that deletes a next-hop object.
pub fn delete_nexthop(id: u32) -> RequestMessage {
    RequestMessage::new(RTM_DELNEXTHOP, 0, &nhmsg(AF_UNSPEC, 0, 0)).u32(NHA_ID, id)
}
