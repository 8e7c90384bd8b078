//! The values that are more than a number, and the reading of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::{AfiSafi, Asn, Families, Family};
use crate::wire::as_path::AsWidth;
use crate::wire::cursor::Cursor;
use crate::wire::error::ErrorCode;
use crate::wire::nlri::Nlri;

/// ORIGIN, the better first.
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
    /// The value octet.
    pub const fn code(self) -> u8 {
        match self {
            Origin::Igp => 0,
            Origin::Egp => 1,
            Origin::Incomplete => 2,
        }
    }
}

/// AGGREGATOR: who formed the aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub id: Ipv4Addr,
}

/// MP_REACH_NLRI of a family that we exchange.
#[derive(Clone, Copy, Debug)]
pub struct MpReach<'a> {
    /// The (global) next hop.
    pub next_hop: IpAddr,
    /// The link-local next hop beside it (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
    /// The announced prefixes.
    pub nlri: Nlri<'a>,
}

pub(super) fn read_aggregator(value: &[u8], width: AsWidth) -> Option<Aggregator> {
    let mut cursor = Cursor(value);
    let asn = match width {
        AsWidth::Two => Asn(u32::from(cursor.u16()?)),
        AsWidth::Four => Asn(cursor.u32()?),
    };
    let id = Ipv4Addr::from_bits(cursor.u32()?);
    // RFC 7607 §2: malformed as a wrong length is.
    (cursor.is_empty() && asn.0 != 0).then_some(Aggregator { asn, id })
}

fn read_family(cursor: &mut Cursor<'_>) -> Option<AfiSafi> {
    Some(AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? })
}

pub(super) fn read_mp_reach(
    value: &[u8],
    families: Families,
) -> Result<Option<MpReach<'_>>, (ErrorCode, &'static str)> {
    let wrong = |rule| (ErrorCode::OPTIONAL_ATTRIBUTE, rule);
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(wrong("MP_REACH_NLRI has a family"))?;
    let next_hop = cursor.prefixed_u8().ok_or(wrong("the next hop ends inside MP_REACH_NLRI"))?;
    cursor.u8().ok_or(wrong("MP_REACH_NLRI has a reserved octet after the next hop"))?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| families.contains(*family)) else {
        return Ok(None);
    };
    let mut addresses = Cursor(next_hop);
    let (next_hop, link_local) = match (family, next_hop.len()) {
        (Family::Ipv4Unicast, 4) => (addresses.octets::<4>().map(IpAddr::from), None),
        (Family::Ipv6Unicast, 16) => (addresses.octets::<16>().map(IpAddr::from), None),
        (Family::Ipv6Unicast, 32) => {
            (addresses.octets::<16>().map(IpAddr::from), addresses.octets::<16>().map(Ipv6Addr::from))
        }
        _ => (None, None),
    };
    let next_hop = next_hop.ok_or(wrong("the next hop's length is one of its family"))?;
    let nlri = Nlri::check(family, cursor.0).ok_or(wrong("every prefix of MP_REACH_NLRI fits its family"))?;
    Ok(Some(MpReach { next_hop, link_local, nlri }))
}

pub(super) fn read_mp_unreach(
    value: &[u8],
    families: Families,
) -> Result<Option<Nlri<'_>>, (ErrorCode, &'static str)> {
    let wrong = |rule| (ErrorCode::OPTIONAL_ATTRIBUTE, rule);
    let mut cursor = Cursor(value);
    let wire = read_family(&mut cursor).ok_or(wrong("MP_UNREACH_NLRI has a family"))?;
    let Some(family) = Family::from_afi_safi(wire).filter(|family| families.contains(*family)) else {
        return Ok(None);
    };
    Nlri::check(family, cursor.0).map(Some).ok_or(wrong("every prefix of MP_UNREACH_NLRI fits its family"))
}

/// RFC 9012 §2: TLVs of a two-octet type and length, sub-TLVs with a one-octet length below type 128.
pub(super) fn check_tunnel_encapsulation(value: &[u8]) -> Result<(), (ErrorCode, &'static str)> {
    let wrong = (ErrorCode::OPTIONAL_ATTRIBUTE, "a tunnel TLV or sub-TLV ends inside what holds it");
    let mut tlvs = Cursor(value);
    if tlvs.is_empty() {
        return Err((ErrorCode::OPTIONAL_ATTRIBUTE, "the Tunnel Encapsulation attribute has a TLV"));
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

/// Whether packets can be sent to `address` as a host (RFC 4271 §6.3).
pub fn is_host_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Whether packets can be sent to `address` as a host.
pub fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_host_v4(address),
        IpAddr::V6(address) => !address.is_unspecified() && !address.is_loopback() && !address.is_multicast(),
    }
}
