//! Next-hop objects: `RTM_*NEXTHOP` (Linux 5.3, `linux/nexthop.h`).

use std::net::IpAddr;

use super::{
    socket::{KernelError, Socket},
    wire::{
        AF_UNSPEC, Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Received, address, attributes, family,
        u16_at, u32_at,
    },
};
use crate::{members::Members, observed::Nexthop};

/// `RTM_NEWNEXTHOP`
pub const RTM_NEWNEXTHOP: u16 = 104;
/// `RTM_DELNEXTHOP`
pub const RTM_DELNEXTHOP: u16 = 105;
const RTM_GETNEXTHOP: u16 = 106;

const NHMSG_LEN: usize = 8;
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_GROUP_TYPE: u16 = 3;
const NHA_BLACKHOLE: u16 = 4;
const NHA_OIF: u16 = 5;
const NHA_GATEWAY: u16 = 6;
/// `NEXTHOP_GRP_TYPE_MPATH`: a flow's hash chooses the object.
const GROUP_TYPE_MPATH: u16 = 0;
/// Octets of a `struct nexthop_grp`: id, weight less one, and three that are zero or mean nothing here.
const GROUP_ENTRY_LEN: usize = 8;
const RTNH_F_ONLINK: u32 = 0x4;

fn nhmsg(family: u8, protocol: u8, flags: u32) -> [u8; NHMSG_LEN] {
    let mut header = [0; NHMSG_LEN];
    header[0] = family;
    header[2] = protocol;
    header[4..8].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// All next-hop objects by id; `protocol` tells which are ours.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` where it has no such objects.
pub fn dump_nexthops(socket: &mut Socket, protocol: u8) -> Result<Vec<(u32, Nexthop)>, KernelError> {
    let request = Message::new(RTM_GETNEXTHOP, 0, &nhmsg(AF_UNSPEC, 0, 0));
    socket.dump(&request, |received| parse_nexthop(received, protocol))
}

/// Reads an `RTM_NEWNEXTHOP` or `RTM_DELNEXTHOP` message.
pub fn parse_nexthop(received: &Received<'_>, protocol: u8) -> Option<(u32, Nexthop)> {
    if !matches!(received.kind, RTM_NEWNEXTHOP | RTM_DELNEXTHOP) {
        return None;
    }
    let mut id = 0;
    let (mut leads, mut alike) = (true, true);
    let mut nexthop = Nexthop {
        ours: false,
        gateway: None,
        index: 0,
        onlink: u32_at(received.payload, 4)? & RTNH_F_ONLINK != 0,
        members: Members::default(),
    };
    for (kind, value) in attributes(received.payload.get(NHMSG_LEN..)?) {
        match kind {
            NHA_ID => id = u32_at(value, 0)?,
            NHA_OIF => nexthop.index = u32_at(value, 0)?,
            NHA_GATEWAY => nexthop.gateway = address(value),
            NHA_GROUP => {
                let same_weight;
                (nexthop.members, same_weight) = group(value);
                alike &= same_weight;
            }
            NHA_GROUP_TYPE => alike &= u16_at(value, 0) == Some(GROUP_TYPE_MPATH),
            NHA_BLACKHOLE => leads = false,
            _ => {}
        }
    }
    if !alike {
        nexthop.members = nexthop.members.oddly();
    }
    nexthop.ours = leads && received.payload.get(2) == Some(&protocol);
    (id != 0).then_some((id, nexthop))
}

/// Creates or, with `replace`, replaces a next-hop object.
pub fn set_nexthop(id: u32, gateway: IpAddr, index: u32, protocol: u8, replace: bool) -> Message {
    // Replace alone, without create: what is not there any more is observed anew instead.
    let flags = if replace { NLM_F_REPLACE } else { NLM_F_CREATE | NLM_F_EXCL };
    Message::new(RTM_NEWNEXTHOP, flags, &nhmsg(family(gateway), protocol, RTNH_F_ONLINK))
        .u32(NHA_ID, id)
        .u32(NHA_OIF, index)
        .address(NHA_GATEWAY, gateway)
}

/// The members of a group, the lowest of many; and whether all have the same weight.
fn group(value: &[u8]) -> (Members, bool) {
    let entries = value.chunks_exact(GROUP_ENTRY_LEN);
    let alike = entries.clone().all(|entry| entry.get(4..6) == Some(&[0, 0]));
    let ids: Vec<u32> = entries.filter_map(|entry| u32_at(entry, 0)).collect();
    let members = Members::new(ids.iter().copied());
    (members, alike && members.ids().len() == ids.len())
}

/// Creates a group whose objects share packets alike, each flow's by one of them.
pub fn add_group(id: u32, members: &Members, protocol: u8) -> Message {
    let mut entries = Vec::with_capacity(members.ids().len() * GROUP_ENTRY_LEN);
    for id in members.ids() {
        entries.extend(id.to_ne_bytes());
        entries.resize(entries.len() + GROUP_ENTRY_LEN - 4, 0);
    }
    Message::new(RTM_NEWNEXTHOP, NLM_F_CREATE | NLM_F_EXCL, &nhmsg(AF_UNSPEC, protocol, 0))
        .u32(NHA_ID, id)
        .attribute(NHA_GROUP, &entries)
}

/// Deletes a next-hop object.
pub fn delete_nexthop(id: u32) -> Message {
    Message::new(RTM_DELNEXTHOP, 0, &nhmsg(AF_UNSPEC, 0, 0)).u32(NHA_ID, id)
}
