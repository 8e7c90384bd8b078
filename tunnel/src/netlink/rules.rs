//! Rules and tables of policy routing, by which probes travel: `RTM_*RULE`, and `RTM_*ROUTE` of other tables than main.

use std::net::{IpAddr, Ipv4Addr};

use super::{
    routes::{RTM_DELROUTE, RTM_NEWROUTE},
    socket::{EAFNOSUPPORT, ENOENT, EOPNOTSUPP, KernelError, Socket},
    wire::{
        AF_INET, Message, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Received, address, attributes, u32_at,
    },
};
use crate::probe::{RULE_PRIORITY, Way};

/// `RTM_NEWRULE`
pub const RTM_NEWRULE: u16 = 32;
/// `RTM_DELRULE`
pub const RTM_DELRULE: u16 = 33;
const RTM_GETRULE: u16 = 34;
const RTM_GETROUTE: u16 = 26;

const RULE_LEN: usize = 12;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const FR_ACT_TO_TBL: u8 = 1;

const RTMSG_LEN: usize = 12;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 0x4;

fn rule(kind: u16, flags: u16, way: Way) -> Message {
    let mut header = [0; RULE_LEN];
    (header[0], header[7]) = (AF_INET, FR_ACT_TO_TBL);
    Message::new(kind, flags, &header)
        .u32(FRA_PRIORITY, RULE_PRIORITY)
        .u32(FRA_FWMARK, way.table())
        .u32(FRA_FWMASK, u32::MAX)
        .u32(FRA_TABLE, way.table())
}

/// Leads what carries a way's mark to the way's table.
pub fn add_rule(way: Way, protocol: u8) -> Message {
    rule(RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, way).attribute(FRA_PROTOCOL, &[protocol])
}

/// Removes that rule.
pub fn delete_rule(way: Way) -> Message {
    rule(RTM_DELRULE, 0, way)
}

/// The ways whose rules are there.
///
/// # Errors
/// The kernel's.
pub fn dump_rules(socket: &mut Socket) -> Result<Vec<Way>, KernelError> {
    let mut header = [0; RULE_LEN];
    header[0] = AF_INET;
    absent(socket.dump(&Message::new(RTM_GETRULE, 0, &header), parse_rule))
}

/// A kernel without policy routing has no rules, and a table that never had a route does not exist.
fn absent<T>(dumped: Result<Vec<T>, KernelError>) -> Result<Vec<T>, KernelError> {
    match dumped {
        Err(error) if matches!(error.errno, ENOENT | EOPNOTSUPP | EAFNOSUPPORT) => Ok(Vec::new()),
        other => other,
    }
}

/// Reads an `RTM_NEWRULE` or `RTM_DELRULE` message: the way whose rule it is, if it is one of ours in full.
pub fn parse_rule(received: &Received<'_>) -> Option<Way> {
    if !matches!(received.kind, RTM_NEWRULE | RTM_DELRULE) {
        return None;
    }
    let header = received.payload.first_chunk::<RULE_LEN>()?;
    let [family, destination_len, source_len, tos, _, _, _, action, ..] = *header;
    let (mut priority, mut mark, mut mask, mut table) = (None, None, None, None);
    for (attribute, value) in attributes(received.payload.get(RULE_LEN..)?) {
        match attribute {
            FRA_PRIORITY => priority = u32_at(value, 0),
            FRA_FWMARK => mark = u32_at(value, 0),
            FRA_FWMASK => mask = u32_at(value, 0),
            FRA_TABLE => table = u32_at(value, 0),
            _ => {}
        }
    }
    let any = (destination_len, source_len, tos) == (0, 0, 0);
    let ours = family == AF_INET && action == FR_ACT_TO_TBL && any && priority == Some(RULE_PRIORITY);
    Way::of_table(table?).filter(|_| ours && mark == table && mask == Some(u32::MAX))
}

/// A route of a probe's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeRoute {
    /// The way that the table is for.
    pub way: Way,
    /// The other node's tunnel address.
    pub address: Ipv4Addr,
    /// The gateway on the device, and the device's index.
    pub via: Option<(IpAddr, u32)>,
}

fn rtmsg(protocol: u8, flags: u32, prefix_len: u8) -> [u8; RTMSG_LEN] {
    let mut header = [0; RTMSG_LEN];
    (header[0], header[1], header[5], header[7]) = (AF_INET, prefix_len, protocol, RTN_UNICAST);
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// Leads probes to a node by a way.
pub fn set_route(way: Way, to: Ipv4Addr, gateway: IpAddr, index: u32, protocol: u8) -> Message {
    Message::new(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &rtmsg(protocol, RTNH_F_ONLINK, 32))
        .u32(RTA_TABLE, way.table())
        .address(RTA_DST, to.into())
        .address(RTA_GATEWAY, gateway)
        .u32(RTA_OIF, index)
}

/// Removes such a route.
pub fn delete_route(way: Way, to: Ipv4Addr) -> Message {
    let mut header = rtmsg(0, 0, 32);
    const RT_SCOPE_NOWHERE: u8 = 255;
    (header[6], header[7]) = (RT_SCOPE_NOWHERE, 0);
    Message::new(RTM_DELROUTE, 0, &header).u32(RTA_TABLE, way.table()).address(RTA_DST, to.into())
}

/// The routes of all probe tables.
///
/// # Errors
/// The kernel's.
pub fn dump_routes(socket: &mut Socket) -> Result<Vec<ProbeRoute>, KernelError> {
    let mut all = Vec::new();
    for way in Way::ALL {
        let mut header = rtmsg(0, 0, 0);
        header[7] = 0;
        let request = Message::new(RTM_GETROUTE, 0, &header).u32(RTA_TABLE, way.table());
        let of_table = |received: &Received<'_>| parse_route(received).filter(|route| route.way == way);
        all.extend(absent(socket.dump(&request, of_table))?);
    }
    Ok(all)
}

/// Reads an `RTM_NEWROUTE` or `RTM_DELROUTE` message of a probe's table.
pub fn parse_route(received: &Received<'_>) -> Option<ProbeRoute> {
    if !matches!(received.kind, RTM_NEWROUTE | RTM_DELROUTE) {
        return None;
    }
    let header = received.payload.first_chunk::<RTMSG_LEN>()?;
    let (mut table, mut to, mut gateway, mut index) = (u32::from(header[4]), None, None, None);
    for (attribute, value) in attributes(received.payload.get(RTMSG_LEN..)?) {
        match attribute {
            RTA_TABLE => table = u32_at(value, 0)?,
            RTA_DST => to = address(value),
            RTA_GATEWAY => gateway = address(value),
            RTA_OIF => index = u32_at(value, 0),
            _ => {}
        }
    }
    let way = Way::of_table(table)?;
    let IpAddr::V4(address) = to? else { return None };
    let whole = header[1] == 32 && header[7] == RTN_UNICAST;
    Some(ProbeRoute { way, address, via: gateway.zip(index).filter(|_| whole) })
}
