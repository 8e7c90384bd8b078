//! Capabilities (RFC 5492) announced in an OPEN.
//!
//! Outbound route filtering (RFC 5291) and families other than IPv4 and IPv6 unicast are ignored.

use super::cursor::{Cursor, exact_u32};
use crate::types::{AfiSafi, Asn, Families, Family};

/// Capability codes.
mod code {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_NEXT_HOP: u8 = 5;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const ROLE: u8 = 9;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_AS: u8 = 65;
    pub(super) const ADD_PATH: u8 = 69;
    pub(super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
}

/// Graceful Restart capability (RFC 4724 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the speaker has just restarted.
    pub restarting: bool,
    /// N: the speaker keeps routes over NOTIFICATIONs too (RFC 8538).
    pub notification: bool,
    /// Restart time, in seconds, 0 to 4095.
    pub restart_time: u16,
    /// Families for which the speaker supports graceful restart.
    pub families: Families,
    /// Families among them whose forwarding state was preserved.
    pub forwarding: Families,
}

/// Long-Lived Graceful Restart capability (RFC 9494 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    /// Families in the capability.
    pub families: Families,
    /// Long-lived stale time for each of [`Family::ALL`], in addition to the restart time, in
    /// seconds, 24 bits; 0: none.
    pub stale_time: [u32; 2],
    /// Families whose forwarding state was preserved.
    pub forwarding: Families,
}

/// ADD-PATH capability: several paths to a prefix (RFC 7911 §4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddPath {
    /// Families in which the speaker can receive several paths.
    pub receive: Families,
    /// Families in which the speaker can send several paths.
    pub send: Families,
}

/// BGP role of a speaker towards its external peer (RFC 9234 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Provider: sells transit to the peer.
    Provider,
    /// Route server; the peer is its client.
    RouteServer,
    /// Client of a route server.
    RouteServerClient,
    /// Customer: buys transit from the peer.
    Customer,
    /// Peer: both sides advertise their own and their customers' routes to each other.
    Peer,
}

impl Role {
    /// All roles, in the order of their numbers.
    pub const ALL: [Role; 5] =
        [Role::Provider, Role::RouteServer, Role::RouteServerClient, Role::Customer, Role::Peer];

    const fn code(self) -> u8 {
        match self {
            Role::Provider => 0,
            Role::RouteServer => 1,
            Role::RouteServerClient => 2,
            Role::Customer => 3,
            Role::Peer => 4,
        }
    }

    /// Returns the role that the other side must have.
    pub const fn counterpart(self) -> Role {
        match self {
            Role::Provider => Role::Customer,
            Role::Customer => Role::Provider,
            Role::RouteServer => Role::RouteServerClient,
            Role::RouteServerClient => Role::RouteServer,
            Role::Peer => Role::Peer,
        }
    }
}

/// Roles in an OPEN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Roles {
    /// No Role capability.
    #[default]
    Absent,
    /// One role.
    One(Role),
    /// Several different roles, or an unknown one.
    Contradictory,
}

/// Supported capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Multiprotocol families (RFC 4760); `None`: the capability is absent, so IPv4 unicast alone
    /// (§8).
    pub multiprotocol: Option<Families>,
    /// Route Refresh (RFC 2918).
    pub route_refresh: bool,
    /// Extended Message (RFC 8654).
    pub extended_message: bool,
    /// Four-octet AS number (RFC 6793), with the speaker's AS.
    pub four_octet_as: Option<Asn>,
    /// Graceful Restart (RFC 4724).
    pub graceful_restart: Option<GracefulRestart>,
    /// Enhanced Route Refresh (RFC 7313).
    pub enhanced_route_refresh: bool,
    /// ADD-PATH (RFC 7911).
    pub add_path: AddPath,
    /// Extended Next Hop Encoding for IPv4 unicast with IPv6 next hops (RFC 8950).
    pub extended_next_hop: bool,
    /// BGP Role (RFC 9234).
    pub role: Roles,
    /// Long-Lived Graceful Restart (RFC 9494); has no effect without `graceful_restart`.
    pub long_lived: Option<LongLived>,
}

impl Capabilities {
    /// Returns the families that the speaker supports.
    pub fn families(&self) -> Families {
        self.multiprotocol.unwrap_or(Families::IPV4)
    }

    /// Parses the capabilities of one optional parameter and adds them to those parsed before.
    /// Unknown ones are ignored (RFC 5492 §3).
    ///
    /// # Errors
    /// The rule that was violated.
    pub(super) fn read(&mut self, octets: &[u8]) -> Result<(), &'static str> {
        let mut cursor = Cursor(octets);
        while let Some(code) = cursor.u8() {
            let value = cursor.prefixed_u8().ok_or("a capability ends inside its optional parameter")?;
            self.read_one(code, value)?;
        }
        Ok(())
    }

    fn read_one(&mut self, code: u8, value: &[u8]) -> Result<(), &'static str> {
        match code {
            code::MULTIPROTOCOL => {
                let [afi_high, afi_low, _, safi] = *value else {
                    return Err("the multiprotocol capability has four octets");
                };
                let wire = AfiSafi { afi: u16::from_be_bytes([afi_high, afi_low]), safi };
                let families = self.multiprotocol.get_or_insert_default();
                if let Some(family) = Family::from_afi_safi(wire) {
                    families.insert(family);
                }
            }
            code::ROUTE_REFRESH => self.route_refresh = true,
            code::EXTENDED_MESSAGE => self.extended_message = true,
            code::ENHANCED_ROUTE_REFRESH => self.enhanced_route_refresh = true,
            code::FOUR_OCTET_AS => {
                let number = exact_u32(value).ok_or("the four-octet AS capability has four octets")?;
                self.four_octet_as = Some(Asn(number));
            }
            code::GRACEFUL_RESTART => {
                self.graceful_restart =
                    Some(read_graceful_restart(value).ok_or("graceful restart has 2 + 4 x n octets")?);
            }
            code::ADD_PATH => self.read_add_path(value).ok_or("add-path has 4 x n octets")?,
            code::EXTENDED_NEXT_HOP => {
                self.read_extended_next_hop(value).ok_or("extended next hop encoding has 6 x n octets")?;
            }
            code::ROLE => {
                let [role] = *value else { return Err("the role capability has one octet") };
                let role = Role::ALL.into_iter().find(|known| known.code() == role);
                self.role = match (self.role, role) {
                    (Roles::Absent, Some(role)) => Roles::One(role),
                    // RFC 9234 §4.2: the same role may be announced twice.
                    (Roles::One(before), Some(role)) if before == role => Roles::One(role),
                    _ => Roles::Contradictory,
                };
            }
            code::LONG_LIVED_GRACEFUL_RESTART => {
                self.long_lived =
                    Some(read_long_lived(value).ok_or("long-lived graceful restart has 7 x n octets")?);
            }
            _ => {}
        }
        Ok(())
    }

    fn read_add_path(&mut self, value: &[u8]) -> Option<()> {
        let mut cursor = Cursor(value);
        while !cursor.is_empty() {
            let wire = AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? };
            let mode = cursor.u8()?;
            // RFC 7911 §4: a tuple with a value other than 1, 2 or 3 is ignored.
            let Some(family) = Family::from_afi_safi(wire).filter(|_| matches!(mode, 1..=3)) else {
                continue;
            };
            if mode & 1 != 0 {
                self.add_path.receive.insert(family);
            }
            if mode & 2 != 0 {
                self.add_path.send.insert(family);
            }
        }
        Some(())
    }

    fn read_extended_next_hop(&mut self, value: &[u8]) -> Option<()> {
        let mut cursor = Cursor(value);
        while !cursor.is_empty() {
            let (afi, safi, next_hop) = (cursor.u16()?, cursor.u16()?, cursor.u16()?);
            self.extended_next_hop |= (afi, safi, next_hop) == (1, 1, 2);
        }
        Some(())
    }

    fn write_add_path(&self, out: &mut Vec<u8>) {
        let families = self.add_path.receive.union(self.add_path.send);
        if families.is_empty() {
            return;
        }
        let len = families.iter().fold(0_u8, |len, _| len.saturating_add(4));
        out.extend([code::ADD_PATH, len]);
        for family in families.iter() {
            let AfiSafi { afi, safi } = family.afi_safi();
            let receive = u8::from(self.add_path.receive.contains(family));
            let send = if self.add_path.send.contains(family) { 2 } else { 0 };
            out.extend(afi.to_be_bytes());
            out.extend([safi, receive | send]);
        }
    }

    /// Appends each capability as a TLV.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        for family in self.multiprotocol.iter().flat_map(|families| families.iter()) {
            let AfiSafi { afi, safi } = family.afi_safi();
            let [high, low] = afi.to_be_bytes();
            out.extend([code::MULTIPROTOCOL, 4, high, low, 0, safi]);
        }
        if self.route_refresh {
            out.extend([code::ROUTE_REFRESH, 0]);
        }
        if self.extended_message {
            out.extend([code::EXTENDED_MESSAGE, 0]);
        }
        if let Some(restart) = self.graceful_restart {
            write_graceful_restart(&restart, out);
        }
        if let Some(asn) = self.four_octet_as {
            out.extend([code::FOUR_OCTET_AS, 4]);
            out.extend(asn.0.to_be_bytes());
        }
        if self.enhanced_route_refresh {
            out.extend([code::ENHANCED_ROUTE_REFRESH, 0]);
        }
        self.write_add_path(out);
        if self.extended_next_hop {
            out.extend([code::EXTENDED_NEXT_HOP, 6, 0, 1, 0, 1, 0, 2]);
        }
        if let Roles::One(role) = self.role {
            out.extend([code::ROLE, 1, role.code()]);
        }
        if let Some(long_lived) = self.long_lived {
            write_long_lived(&long_lived, out);
        }
    }
}

fn read_graceful_restart(value: &[u8]) -> Option<GracefulRestart> {
    let mut cursor = Cursor(value);
    let head = cursor.u16()?;
    let mut restart = GracefulRestart {
        restarting: head & 0x8000 != 0,
        notification: head & 0x4000 != 0,
        restart_time: head & 0x0fff,
        ..GracefulRestart::default()
    };
    while !cursor.is_empty() {
        let wire = AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? };
        let flags = cursor.u8()?;
        if let Some(family) = Family::from_afi_safi(wire) {
            restart.families.insert(family);
            if flags & 0x80 != 0 {
                restart.forwarding.insert(family);
            }
        }
    }
    Some(restart)
}

fn read_long_lived(value: &[u8]) -> Option<LongLived> {
    let mut cursor = Cursor(value);
    let mut long_lived = LongLived::default();
    while !cursor.is_empty() {
        let wire = AfiSafi { afi: cursor.u16()?, safi: cursor.u8()? };
        let rest = cursor.u32()?;
        let Some(family) = Family::from_afi_safi(wire) else { continue };
        long_lived.families.insert(family);
        if let Some(time) = long_lived.stale_time.get_mut(family.index()) {
            *time = rest & 0x00ff_ffff;
        }
        if rest & 0x8000_0000 != 0 {
            long_lived.forwarding.insert(family);
        }
    }
    Some(long_lived)
}

fn write_long_lived(long_lived: &LongLived, out: &mut Vec<u8>) {
    let families = long_lived.families;
    let len = families.iter().fold(0_u8, |len, _| len.saturating_add(7));
    out.extend([code::LONG_LIVED_GRACEFUL_RESTART, len]);
    for (family, time) in Family::ALL.into_iter().zip(long_lived.stale_time) {
        if families.contains(family) {
            let AfiSafi { afi, safi } = family.afi_safi();
            let flag = if long_lived.forwarding.contains(family) { 0x8000_0000 } else { 0 };
            out.extend(afi.to_be_bytes());
            out.push(safi);
            out.extend((flag | time & 0x00ff_ffff).to_be_bytes());
        }
    }
}

fn write_graceful_restart(restart: &GracefulRestart, out: &mut Vec<u8>) {
    let mut head = restart.restart_time & 0x0fff;
    if restart.restarting {
        head |= 0x8000;
    }
    if restart.notification {
        head |= 0x4000;
    }
    let len = restart.families.iter().fold(2_u8, |len, _| len.saturating_add(4));
    out.extend([code::GRACEFUL_RESTART, len]);
    out.extend(head.to_be_bytes());
    for family in restart.families.iter() {
        let AfiSafi { afi, safi } = family.afi_safi();
        let [high, low] = afi.to_be_bytes();
        out.extend([high, low, safi, if restart.forwarding.contains(family) { 0x80 } else { 0 }]);
    }
}
