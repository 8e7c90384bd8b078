//! Attribute values that are more than a number.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::context::Context;
use super::list::RawAttributes;
use super::rule::{self, AttributeRule};
use crate::types::{AfiSafi, Asn, Family};
use crate::wire::as_path::AsWidth;
use crate::wire::cursor::Cursor;
use crate::wire::nlri::Nlri;

/// ORIGIN; the preferred value first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// 0.
    Igp,
    /// 1.
    Egp,
    /// 2.
    Incomplete,
}

impl Origin {
    /// Returns the value octet.
    pub const fn code(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }
}

/// AGGREGATOR: the speaker that formed the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// AS of the speaker.
    pub asn: Asn,
    /// BGP identifier of the speaker.
    pub id: Ipv4Addr,
}

/// MP_REACH_NLRI of a supported family.
#[derive(Clone, Copy, Debug)]
pub struct MpReach<'a> {
    /// Global next hop.
    pub next_hop: IpAddr,
    /// Link-local next hop next to the global one (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// Announced prefixes.
    pub nlri: Nlri<'a>,
}

/// Reads an AGGREGATOR or AS4_AGGREGATOR; returns `None` if the length is wrong.
pub(super) fn read_aggregator(value: &[u8], width: AsWidth) -> Option<Aggregator> {
    let mut cursor = Cursor(value);
    let asn = match width {
        AsWidth::Two => Asn(u32::from(cursor.u16()?)),
        AsWidth::Four => Asn(cursor.u32()?),
    };
    let id = Ipv4Addr::from_bits(cursor.u32()?);
    cursor.is_empty().then_some(Aggregator { asn, id })
}

fn read_family(cursor: &mut Cursor<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? })
}

pub(super) fn read_mp_reach<'a>(
    value: &'a [u8],
    context: &Context,
) -> Result<Option<MpReach<'a>>, &'static AttributeRule> {
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(&rule::MP_REACH_FAMILY)?;
    let next_hop = cursor.prefixed_u8().ok_or(&rule::MP_REACH_NEXT_HOP)?;
    cursor.u8().ok_or(&rule::MP_REACH_RESERVED)?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| context.families.contains(*family)) else {
        return Ok(None);
    };
    let mut addresses = Cursor(next_hop);
    let wide = family == Family::Ipv6Unicast || context.extended_next_hop;
    let (next_hop, link_local) = match (family, next_hop.len()) {
        (Family::Ipv4Unicast, 4) => (addresses.octets::<4>().map(IpAddr::from), None),
        (_, 16) if wide => (addresses.octets::<16>().map(IpAddr::from), None),
        (_, 32) if wide => {
            (addresses.octets::<16>().map(IpAddr::from), addresses.octets::<16>().map(Ipv6Addr::from))
        }
        _ => (None, None),
    };
    let next_hop = next_hop.ok_or(&rule::MP_REACH_NEXT_HOP_LENGTH)?;
    let nlri = context.nlri(family, cursor.0).ok_or(&rule::MP_REACH_PREFIXES)?;
    Ok(Some(MpReach { next_hop, link_local, nlri }))
}

pub(super) fn read_mp_unreach<'a>(
    value: &'a [u8],
    context: &Context,
) -> Result<Option<Nlri<'a>>, &'static AttributeRule> {
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(&rule::MP_UNREACH_FAMILY)?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| context.families.contains(*family)) else {
        return Ok(None);
    };
    context.nlri(family, cursor.0).map(Some).ok_or(&rule::MP_UNREACH_PREFIXES)
}

/// Checks the TLVs of a Tunnel Encapsulation attribute: two-octet type and length; sub-TLVs with a
/// one-octet length below type 128 (RFC 9012 §2).
pub(super) fn check_tunnel_encapsulation(value: &[u8]) -> Result<(), &'static AttributeRule> {
    let wrong = &rule::TUNNEL_ENCAPSULATION_TLV;
    let mut tlvs = Cursor(value);
    if tlvs.is_empty() {
        return Err(&rule::TUNNEL_ENCAPSULATION_EMPTY);
    }
    while !tlvs.is_empty() {
        tlvs.u16().ok_or(wrong)?;
        let mut subs = Cursor(tlvs.prefixed_u16().ok_or(wrong)?);
        while let Some(kind) = subs.u8() {
            let sub = if kind < 128 { subs.prefixed_u8() } else { subs.prefixed_u16() };
            sub.ok_or(wrong)?;
        }
    }
    Ok(())
}

/// Checks the TLVs of a Prefix-SID attribute: one-octet type, two-octet length (RFC 8669 §3).
pub(super) fn check_prefix_sid(value: &[u8]) -> Result<(), &'static AttributeRule> {
    const LABEL_INDEX: u8 = 1;
    let wrong = &rule::PREFIX_SID_TLV;
    let mut tlvs = Cursor(value);
    if tlvs.is_empty() {
        return Err(wrong);
    }
    while let Some(kind) = tlvs.u8() {
        let tlv = tlvs.prefixed_u16().filter(|_| kind != 0).ok_or(wrong)?;
        if kind == LABEL_INDEX && tlv.len() != 7 {
            return Err(&rule::PREFIX_SID_LABEL_INDEX);
        }
    }
    Ok(())
}

/// Checks an ATTR_SET: an AS number and attributes, which are not checked further (RFC 6368 §5).
pub(super) fn check_attr_set(value: &[u8]) -> Result<(), &'static AttributeRule> {
    let mut cursor = Cursor(value);
    let origin = cursor.u32();
    let mut attributes = RawAttributes::new(cursor.0);
    attributes.by_ref().for_each(drop);
    if origin.is_none() || attributes.is_cut() { Err(&rule::ATTR_SET_LENGTH) } else { Ok(()) }
}

/// Returns whether `address` is a unicast host address (RFC 4271 §6.3).
pub fn is_host_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Returns whether `address` is a unicast host address.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host_v4(address),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
    }
}
