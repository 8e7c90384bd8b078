//! Links and their addresses: `RTM_*LINK`, `RTM_*ADDR`.
//!
//! Written with the `rtnetlink` crate's types, but read by this crate's own parser: it skips what it does not know
//! and what has another length than today, so a newer kernel cannot make an observation fail.

use std::net::IpAddr;

use ipnet::IpNet;
use rtnetlink::{LinkIpIp, LinkUnspec, LinkVxlan, packet_route::link::LinkMessage};

use super::{
    socket::{KernelError, Socket},
    wire::{Message, Received, address, attributes, string, u16_at, u32_at},
};
use crate::{
    desired::{IpipSpec, VXLAN_PORT, VXLAN_VNI, VxlanSpec},
    node::Mac,
    observed::LinkKind,
};

/// `RTM_NEWLINK`
pub const RTM_NEWLINK: u16 = 16;
/// `RTM_DELLINK`
pub const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
/// `RTM_NEWADDR`
pub const RTM_NEWADDR: u16 = 20;
/// `RTM_DELADDR`
pub const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

const IFF_UP: u32 = 0x1;
const IFF_RUNNING: u32 = 0x40;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;

const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;
const IFLA_IPTUN_PMTUDISC: u16 = 10;

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFADDRMSG_LEN: usize = 8;
const IFINFOMSG_LEN: usize = 16;

/// A link as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Has carrier (`IFF_RUNNING`).
    pub running: bool,
    /// MTU in octets.
    pub mtu: u32,
    /// Ethernet address, zero where there is none.
    pub mac: Mac,
    /// Kind and attributes.
    pub kind: LinkKind,
}

/// An interface's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRecord {
    /// Interface index.
    pub index: u32,
    /// The address with its prefix length.
    pub address: IpNet,
}

/// All links of the namespace.
///
/// # Errors
/// The kernel's.
pub fn dump_links(socket: &mut Socket) -> Result<Vec<LinkRecord>, KernelError> {
    socket.dump(&Message::new(RTM_GETLINK, 0, &[0; IFINFOMSG_LEN]), parse_link)
}

/// Reads an `RTM_NEWLINK` or `RTM_DELLINK` message.
pub fn parse_link(received: &Received<'_>) -> Option<LinkRecord> {
    if !matches!(received.kind, RTM_NEWLINK | RTM_DELLINK) {
        return None;
    }
    let flags = u32_at(received.payload, 8)?;
    let mut link = LinkRecord {
        index: u32_at(received.payload, 4)?,
        name: String::new(),
        up: flags & IFF_UP != 0,
        running: flags & IFF_RUNNING != 0,
        mtu: 0,
        mac: [0; 6],
        kind: LinkKind::Other,
    };
    for (kind, value) in attributes(received.payload.get(IFINFOMSG_LEN..)?) {
        match kind {
            IFLA_IFNAME => link.name = string(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_ADDRESS => link.mac = Mac::try_from(value).unwrap_or_default(),
            IFLA_LINKINFO => link.kind = parse_kind(value),
            _ => {}
        }
    }
    Some(link)
}

fn parse_kind(info: &[u8]) -> LinkKind {
    let mut kind = String::new();
    let mut data: &[u8] = &[];
    for (attribute, value) in attributes(info) {
        match attribute {
            IFLA_INFO_KIND => kind = string(value),
            IFLA_INFO_DATA => data = value,
            _ => {}
        }
    }
    let specified = |value: &[u8]| address(value).filter(|a| !a.is_unspecified());
    match kind.as_str() {
        "ipip" => {
            let (mut local, mut remote, mut pmtudisc) = (None, None, false);
            for (attribute, value) in attributes(data) {
                match attribute {
                    IFLA_IPTUN_LOCAL => local = specified(value),
                    IFLA_IPTUN_REMOTE => remote = specified(value),
                    IFLA_IPTUN_PMTUDISC => pmtudisc = value.first() == Some(&1),
                    _ => {}
                }
            }
            LinkKind::Ipip { local, remote, pmtudisc }
        }
        "vxlan" => {
            let (mut vni, mut port, mut source, mut parent, mut learning) = (0, 0, None, 0, false);
            for (attribute, value) in attributes(data) {
                match attribute {
                    IFLA_VXLAN_ID => vni = u32_at(value, 0).unwrap_or(0),
                    IFLA_VXLAN_PORT => port = u16_at(value, 0).map_or(0, u16::from_be),
                    IFLA_VXLAN_LOCAL | IFLA_VXLAN_LOCAL6 => source = specified(value).or(source),
                    IFLA_VXLAN_LINK => parent = u32_at(value, 0).unwrap_or(0),
                    IFLA_VXLAN_LEARNING => learning = value.first() != Some(&0),
                    _ => {}
                }
            }
            LinkKind::Vxlan { vni, port, local: source, parent, learning }
        }
        _ => LinkKind::Other,
    }
}

/// All addresses of the namespace.
///
/// # Errors
/// The kernel's.
pub fn dump_addresses(socket: &mut Socket) -> Result<Vec<AddressRecord>, KernelError> {
    socket.dump(&Message::new(RTM_GETADDR, 0, &[0; IFADDRMSG_LEN]), parse_address)
}

/// Reads an `RTM_NEWADDR` or `RTM_DELADDR` message.
pub fn parse_address(received: &Received<'_>) -> Option<AddressRecord> {
    if !matches!(received.kind, RTM_NEWADDR | RTM_DELADDR) {
        return None;
    }
    let prefix_len = *received.payload.get(1)?;
    let index = u32_at(received.payload, 4)?;
    let (mut local, mut any) = (None, None);
    for (kind, value) in attributes(received.payload.get(IFADDRMSG_LEN..)?) {
        match kind {
            IFA_LOCAL => local = address(value),
            IFA_ADDRESS => any = address(value),
            _ => {}
        }
    }
    let address = IpNet::new(local.or(any)?, prefix_len).ok()?;
    Some(AddressRecord { index, address })
}

/// A change of a link or its addresses, for [`Connection::change`](super::Connection::change).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Create a link; refused with `EEXIST` if the name is taken.
    CreateLink(LinkMessage),
    /// Change a link.
    SetLink(LinkMessage),
    /// Delete a link.
    DeleteLink {
        /// Interface index.
        index: u32,
    },
    /// Add an address to a link, if it does not have it.
    AddAddress {
        /// Interface index.
        index: u32,
        /// The address with its prefix length.
        address: IpNet,
    },
    /// Remove an address from a link.
    DeleteAddress {
        /// Interface index.
        index: u32,
        /// The address with its prefix length.
        address: IpNet,
    },
}

/// Creates the IP-in-IP device, down.
pub fn create_ipip(name: &str, spec: &IpipSpec) -> Change {
    Change::CreateLink(LinkIpIp::new(name).mtu(spec.mtu).local(spec.local).pmtudisc(true).build())
}

/// Creates the VXLAN device, down.
pub fn create_vxlan(name: &str, spec: &VxlanSpec) -> Change {
    let link = LinkVxlan::new(name, VXLAN_VNI)
        .mtu(spec.mtu)
        .address(spec.mac.to_vec())
        .dev(spec.parent)
        .learning(false)
        .port(VXLAN_PORT);
    let link = match spec.local {
        IpAddr::V4(local) => link.local(local),
        IpAddr::V6(local) => link.local6(local),
    };
    Change::CreateLink(link.build())
}

/// Changes MTU and Ethernet address of a link, and brings it up.
pub fn set_link(index: u32, mtu: Option<u32>, mac: Option<Mac>, up: bool) -> Change {
    let mut link = LinkUnspec::new_with_index(index);
    if up {
        link = link.up();
    }
    if let Some(mtu) = mtu {
        link = link.mtu(mtu);
    }
    if let Some(mac) = mac {
        link = link.address(mac.to_vec());
    }
    Change::SetLink(link.build())
}
