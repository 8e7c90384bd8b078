//! Links and their addresses: `RTM_*LINK`, `RTM_*ADDR`.
//!
//! Requests use the types of the `rtnetlink` crate. Responses are read by this crate's own parser,
//! which skips unknown attributes and attributes of an unexpected length, so a newer kernel cannot
//! make an observation fail.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use rtnetlink::{LinkIpIp, LinkUnspec, LinkVxlan, packet_route::link::LinkMessage};

use super::{
    numbers::{
        IFA_ADDRESS, IFA_LOCAL, IFF_RUNNING, IFF_UP, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA,
        IFLA_INFO_KIND, IFLA_IPTUN_LOCAL, IFLA_IPTUN_PMTUDISC, IFLA_IPTUN_REMOTE, IFLA_LINKINFO, IFLA_MTU,
        IFLA_VXLAN_ID, IFLA_VXLAN_LEARNING, IFLA_VXLAN_LINK, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6,
        IFLA_VXLAN_PORT, RTM_DELADDR, RTM_DELLINK, RTM_GETADDR, RTM_GETLINK, RTM_NEWADDR, RTM_NEWLINK,
    },
    socket::{KernelError, RequestSocket},
    wire::{ReceivedMessage, RequestMessage, address, attributes, string, u16_at, u32_at},
};

/// An Ethernet address.
pub type MacAddress = [u8; 6];

/// Length of `struct ifaddrmsg` in octets.
const IFADDRMSG_LEN: usize = 8;
/// Length of `struct ifinfomsg` in octets.
const IFINFOMSG_LEN: usize = 16;

/// Kind of a link with its attributes (`IFLA_LINKINFO`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkInfo {
    /// An IP-in-IP device.
    Ipip {
        /// Outer source, if one is set.
        local: Option<IpAddr>,
        /// Outer destination, if one is set.
        remote: Option<IpAddr>,
        /// Path MTU discovery of the outer packet.
        pmtudisc: bool,
    },
    /// A VXLAN device.
    Vxlan {
        /// VXLAN network identifier.
        vni: u32,
        /// UDP port.
        port: u16,
        /// Outer source, if one is set.
        local: Option<IpAddr>,
        /// Interface index of the lower device, 0 if none.
        parent: u32,
        /// True if the device learns MACs from traffic.
        learning: bool,
    },
    /// Any other kind.
    Other,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRecord {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// True if the link is administratively up.
    pub up: bool,
    /// True if the link has carrier (`IFF_RUNNING`).
    pub running: bool,
    /// MTU in octets.
    pub mtu: u32,
    /// Ethernet address; zero for a link without one.
    pub mac: MacAddress,
    /// Kind and attributes.
    pub kind: LinkInfo,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRecord {
    /// Interface index.
    pub index: u32,
    /// Address with its prefix length.
    pub address: IpNet,
}

/// Returns all links of the namespace.
///
/// # Errors
/// The kernel's.
pub fn dump_links(socket: &mut RequestSocket) -> Result<Vec<LinkRecord>, KernelError> {
    socket.dump(&RequestMessage::new(RTM_GETLINK, 0, &[0; IFINFOMSG_LEN]), parse_link)
}

/// Parses an `RTM_NEWLINK` or `RTM_DELLINK` message.
pub fn parse_link(received: &ReceivedMessage<'_>) -> Option<LinkRecord> {
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
        kind: LinkInfo::Other,
    };
    for (kind, value) in attributes(received.payload.get(IFINFOMSG_LEN..)?) {
        match kind {
            IFLA_IFNAME => link.name = string(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_ADDRESS => link.mac = MacAddress::try_from(value).unwrap_or_default(),
            IFLA_LINKINFO => link.kind = parse_kind(value),
            _ => {}
        }
    }
    Some(link)
}

fn parse_kind(info: &[u8]) -> LinkInfo {
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
            LinkInfo::Ipip { local, remote, pmtudisc }
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
            LinkInfo::Vxlan { vni, port, local: source, parent, learning }
        }
        _ => LinkInfo::Other,
    }
}

/// Returns all addresses of the namespace.
///
/// # Errors
/// The kernel's.
pub fn dump_addresses(socket: &mut RequestSocket) -> Result<Vec<AddressRecord>, KernelError> {
    socket.dump(&RequestMessage::new(RTM_GETADDR, 0, &[0; IFADDRMSG_LEN]), parse_address)
}

/// Parses an `RTM_NEWADDR` or `RTM_DELADDR` message.
pub fn parse_address(received: &ReceivedMessage<'_>) -> Option<AddressRecord> {
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

/// A change of a link or of its addresses, for
/// [`LinkConnection::change`](super::LinkConnection::change).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Creation of a link; refused with `EEXIST` if the name is taken.
    CreateLink(LinkMessage),
    /// Modification of a link.
    SetLink(LinkMessage),
    /// Deletion of a link.
    DeleteLink {
        /// Interface index.
        index: u32,
    },
    /// Addition of an address to a link; no error if the link has it.
    AddAddress {
        /// Interface index.
        index: u32,
        /// Address with its prefix length.
        address: IpNet,
    },
    /// Removal of an address from a link.
    DeleteAddress {
        /// Interface index.
        index: u32,
        /// Address with its prefix length.
        address: IpNet,
    },
}

/// Attributes of a VXLAN device to create.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VxlanAttributes {
    /// VXLAN network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// Outer source address.
    pub local: IpAddr,
    /// Interface index of the lower device.
    pub parent: u32,
    /// MTU in octets.
    pub mtu: u32,
    /// Ethernet address.
    pub mac: MacAddress,
}

/// Builds the change that creates an IP-in-IP device, down, with path MTU discovery.
pub fn create_ipip(name: &str, local: Ipv4Addr, mtu: u32) -> LinkChange {
    LinkChange::CreateLink(LinkIpIp::new(name).mtu(mtu).local(local).pmtudisc(true).build())
}

/// Builds the change that creates a VXLAN device, down, without learning.
pub fn create_vxlan(name: &str, vxlan: &VxlanAttributes) -> LinkChange {
    let link = LinkVxlan::new(name, vxlan.vni)
        .mtu(vxlan.mtu)
        .address(vxlan.mac.to_vec())
        .dev(vxlan.parent)
        .learning(false)
        .port(vxlan.port);
    let link = match vxlan.local {
        IpAddr::V4(local) => link.local(local),
        IpAddr::V6(local) => link.local6(local),
    };
    LinkChange::CreateLink(link.build())
}

/// Builds the change that sets MTU and Ethernet address of a link and, with `up`, brings it up.
pub fn set_link(index: u32, mtu: Option<u32>, mac: Option<MacAddress>, up: bool) -> LinkChange {
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
    LinkChange::SetLink(link.build())
}
