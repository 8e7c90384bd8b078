//! Capabilities (RFC 5492): what a speaker says in its OPEN that it can do.

use super::cursor::{Cursor, exact_u32};
use crate::types::{AfiSafi, Asn, Families, Family};

/// Capability codes.
mod code {
    pub(super) const MULTIPROTOCOL: u8 = 1;
    pub(super) const ROUTE_REFRESH: u8 = 2;
    pub(super) const EXTENDED_MESSAGE: u8 = 6;
    pub(super) const GRACEFUL_RESTART: u8 = 64;
    pub(super) const FOUR_OCTET_AS: u8 = 65;
    pub(super) const ENHANCED_ROUTE_REFRESH: u8 = 70;
    pub(super) const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
}

/// Graceful restart (RFC 4724 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GracefulRestart {
    /// R: the speaker has just restarted.
    pub restarting: bool,
    /// N: it keeps routes over NOTIFICATIONs too (RFC 8538).
    pub notification: bool,
    /// How long it asks to be waited for, in seconds, 0 to 4095.
    pub restart_time: u16,
    /// The families it restarts gracefully.
    pub families: Families,
    /// Those of them whose forwarding state it kept.
    pub forwarding: Families,
}

/// Long-lived graceful restart (RFC 9494 §3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LongLived {
    /// The families it is for.
    pub families: Families,
    /// For each of [`Family::ALL`] how long its routes may be kept beyond the restart time, in seconds,
    /// 24 bits; 0: not at all.
    pub stale_time: [u32; 2],
    /// The families whose forwarding state it kept.
    pub forwarding: Families,
}

/// All that we know to say or to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The families it exchanges; `None`: it said nothing about families, so IPv4 alone (RFC 4760 §8).
    pub multiprotocol: Option<Families>,
    /// RFC 2918.
    pub route_refresh: bool,
    /// RFC 8654.
    pub extended_message: bool,
    /// RFC 6793, with the speaker's real number.
    pub four_octet_as: Option<Asn>,
    /// RFC 4724.
    pub graceful_restart: Option<GracefulRestart>,
    /// RFC 7313.
    pub enhanced_route_refresh: bool,
    /// RFC 9494; counts only beside `graceful_restart`.
    pub long_lived: Option<LongLived>,
}

impl Capabilities {
    /// The families it exchanges.
    pub fn families(&self) -> Families {
        self.multiprotocol.unwrap_or(Families::IPV4)
    }

    /// Reads the capabilities of one optional parameter, on top of those read before. Unknown ones
    /// are passed over (RFC 5492 §3).
    ///
    /// # Errors
    /// The rule that is broken.
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
            code::LONG_LIVED_GRACEFUL_RESTART => {
                self.long_lived =
                    Some(read_long_lived(value).ok_or("long-lived graceful restart has 7 x n octets")?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Appends each as a TLV.
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
