//! Neighbors and forwarding entries: `RTM_*NEIGH`.

use std::net::IpAddr;

use super::{
    links::MacAddress,
    numbers::{
        AF_BRIDGE, AF_INET, AF_INET6, NDA_DST, NDA_LLADDR, NLM_F_CREATE, NLM_F_REPLACE, NTF_SELF, NUD_FAILED,
        NUD_INCOMPLETE, NUD_NOARP, NUD_NONE, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH,
    },
    socket::{KernelError, RequestSocket, empty_if_unsupported},
    wire::{ReceivedMessage, RequestMessage, address, attributes, family, u16_at, u32_at},
};

/// Length of `struct ndmsg` in octets.
const NDMSG_LEN: usize = 12;

/// State of a neighbor: `ndm_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// Configured Ethernet address that never ages.
    Permanent,
    /// Resolved Ethernet address.
    Resolved,
    /// Resolution in progress.
    Incomplete,
    /// Failed resolution: the neighbor did not answer.
    Failed,
}

impl NeighbourState {
    fn from_bits(state: u16) -> Self {
        match state {
            state if state & (NUD_PERMANENT | NUD_NOARP) != 0 => NeighbourState::Permanent,
            state if state & NUD_FAILED != 0 => NeighbourState::Failed,
            NUD_NONE | NUD_INCOMPLETE => NeighbourState::Incomplete,
            _ => NeighbourState::Resolved,
        }
    }

    /// Returns the word that reports use.
    pub fn name(self) -> &'static str {
        match self {
            NeighbourState::Permanent => "permanent",
            NeighbourState::Resolved => "known",
            NeighbourState::Incomplete => "asked for",
            NeighbourState::Failed => "failed",
        }
    }
}

/// A neighbor or a forwarding entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighbourRecord {
    /// Interface index.
    pub index: u32,
    /// True for a forwarding entry (`AF_BRIDGE`).
    pub bridge: bool,
    /// True for an entry with `NUD_PERMANENT`.
    pub permanent: bool,
    /// State of the resolution.
    pub state: NeighbourState,
    /// Ethernet address, if resolved.
    pub mac: Option<MacAddress>,
    /// Address of the neighbor; of a forwarding entry the VTEP that frames for the MAC are sent to.
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

fn dump(socket: &mut RequestSocket, family: u8) -> Result<Vec<NeighbourRecord>, KernelError> {
    socket.dump(&RequestMessage::new(RTM_GETNEIGH, 0, &ndmsg(family, 0, 0, 0)), parse_neighbour)
}

/// Returns the permanent neighbors and forwarding entries of the interface `index`.
///
/// # Errors
/// The kernel's.
pub fn dump_permanent(socket: &mut RequestSocket, index: u32) -> Result<Vec<NeighbourRecord>, KernelError> {
    let mut all = Vec::new();
    for family in [AF_INET, AF_INET6, AF_BRIDGE] {
        let request = RequestMessage::new(RTM_GETNEIGH, 0, &ndmsg(family, 0, 0, 0));
        all.extend(socket.dump(&request, |received| {
            parse_neighbour(received).filter(|n| n.index == index && n.permanent)
        })?);
    }
    Ok(all)
}

/// Returns the neighbors in any state whose family is that of `like`; none where the kernel lacks
/// the family.
///
/// # Errors
/// The kernel's.
pub fn dump_neighbours(
    socket: &mut RequestSocket,
    like: IpAddr,
) -> Result<Vec<NeighbourRecord>, KernelError> {
    empty_if_unsupported(dump(socket, family(like)))
}

/// Returns all forwarding entries of VXLAN devices and bridges.
///
/// # Errors
/// The kernel's.
pub fn dump_forwarding(socket: &mut RequestSocket) -> Result<Vec<NeighbourRecord>, KernelError> {
    empty_if_unsupported(dump(socket, AF_BRIDGE))
}

/// Parses an `RTM_NEWNEIGH` or `RTM_DELNEIGH` message.
pub fn parse_neighbour(received: &ReceivedMessage<'_>) -> Option<NeighbourRecord> {
    if !matches!(received.kind, RTM_NEWNEIGH | RTM_DELNEIGH) {
        return None;
    }
    let state = u16_at(received.payload, 8)?;
    let mut record = NeighbourRecord {
        index: u32_at(received.payload, 4)?,
        bridge: *received.payload.first()? == AF_BRIDGE,
        permanent: state & NUD_PERMANENT != 0,
        state: NeighbourState::from_bits(state),
        mac: None,
        address: None,
    };
    for (kind, value) in attributes(received.payload.get(NDMSG_LEN..)?) {
        match kind {
            NDA_LLADDR => record.mac = MacAddress::try_from(value).ok(),
            NDA_DST => record.address = address(value),
            _ => {}
        }
    }
    Some(record)
}

/// Builds the request that adds or replaces a permanent neighbor.
pub fn set_neighbour(index: u32, address: IpAddr, mac: MacAddress) -> RequestMessage {
    let header = ndmsg(family(address), index, NUD_PERMANENT, 0);
    RequestMessage::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header)
        .address(NDA_DST, address)
        .attribute(NDA_LLADDR, &mac)
}

/// Builds the request that deletes a neighbor.
pub fn delete_neighbour(index: u32, address: IpAddr) -> RequestMessage {
    RequestMessage::new(RTM_DELNEIGH, 0, &ndmsg(family(address), index, 0, 0)).address(NDA_DST, address)
}

/// Builds the request that adds or replaces a permanent forwarding entry.
pub fn set_fdb(index: u32, mac: MacAddress, remote: IpAddr) -> RequestMessage {
    let header = ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF);
    RequestMessage::new(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &header)
        .address(NDA_DST, remote)
        .attribute(NDA_LLADDR, &mac)
}

/// Builds the request that deletes a forwarding entry.
pub fn delete_fdb(index: u32, mac: MacAddress, remote: IpAddr) -> RequestMessage {
    RequestMessage::new(RTM_DELNEIGH, 0, &ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF))
        .address(NDA_DST, remote)
        .attribute(NDA_LLADDR, &mac)
}
