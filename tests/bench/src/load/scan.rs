//! Reads what a daemon sends: straight from the bytes into the receiver's bits.

use std::net::Ipv4Addr;

use anyhow::{Result, anyhow, bail, ensure};

use super::{
    received_prefixes::ReceivedPrefixes,
    universe::{Source, Universe},
    wire::{HEADER, MAX_MESSAGE, Message},
};

/// The result of a scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScanResult {
    /// Bytes of whole messages; the rest is the beginning of the next one.
    pub bytes: usize,
    /// UPDATEs.
    pub updates: u32,
    /// Prefixes announced or withdrawn.
    pub prefixes: u32,
    /// OPENs.
    pub opens: u32,
    /// KEEPALIVEs.
    pub keepalives: u32,
    /// Code and subcode of a NOTIFICATION, after which nothing was read.
    pub notification: Option<(u8, u8)>,
}

/// Reads all complete messages.
///
/// # Errors
/// Errors of a stream: octets that are no BGP message, a prefix that no sender announced, a next
/// hop that is not its sender's.
pub fn scan(bytes: &[u8], universe: &Universe, held: &mut ReceivedPrefixes) -> Result<ScanResult> {
    let mut scanned = ScanResult::default();
    let mut rest = bytes;
    while let Some((header, _)) = rest.split_first_chunk::<HEADER>() {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        ensure!(header[..16] == [0xff; 16], "a message without a marker");
        ensure!((HEADER..=MAX_MESSAGE).contains(&length), "a message of {length} bytes");
        let Some((message, after)) = rest.split_at_checked(length) else { break };
        let body = &message[HEADER..];
        match header[18] {
            kind if kind == Message::Update as u8 => {
                scanned.updates += 1;
                scanned.prefixes += update(body, universe, held)?;
            }
            kind if kind == Message::Keepalive as u8 => scanned.keepalives += 1,
            kind if kind == Message::Open as u8 => scanned.opens += 1,
            kind if kind == Message::RouteRefresh as u8 => {}
            kind if kind == Message::Notification as u8 => {
                let at = |index| body.get(index).copied().unwrap_or_default();
                scanned.notification = Some((at(0), at(1)));
                scanned.bytes += length;
                break;
            }
            kind => bail!("a message of type {kind}"),
        }
        scanned.bytes += length;
        rest = after;
    }
    Ok(scanned)
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8])> {
    let short = || anyhow!("an UPDATE that ends early");
    let (length, rest) = bytes.split_first_chunk::<2>().ok_or_else(short)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length))).ok_or_else(short)
}

fn update(body: &[u8], universe: &Universe, held: &mut ReceivedPrefixes) -> Result<u32> {
    let (withdrawn, rest) = part(body)?;
    let (attributes, announced) = part(rest)?;
    let mut prefixes = each_prefix(withdrawn, universe, |number| {
        held.withdraw(number);
        Ok(())
    })?;
    if !announced.is_empty() {
        let next_hop = next_hop(attributes)?;
        let Source { from, to, second } = universe
            .source(next_hop)
            .ok_or_else(|| anyhow!("the next hop {next_hop}, which is no sender's"))?;
        prefixes += each_prefix(announced, universe, |number| {
            if number < from || number >= to {
                let (address, length) = universe.prefix(number);
                bail!("{}/{length} with another's next hop, {next_hop}", Ipv4Addr::from(address));
            }
            held.add(number, second);
            Ok(())
        })?;
    }
    Ok(prefixes)
}

#[inline]
fn each_prefix(
    mut bytes: &[u8],
    universe: &Universe,
    mut found: impl FnMut(u32) -> Result<()>,
) -> Result<u32> {
    let mut count = 0;
    while let Some((&length, rest)) = bytes.split_first() {
        let octets = usize::from(length).div_ceil(8);
        // Octets of the next prefix do no harm: the universe uses `length` bits.
        let address = match rest.first_chunk::<4>() {
            Some(four) => u32::from_be_bytes(*four),
            None => {
                let mut four = [0; 4];
                let have = rest.len().min(octets.min(4));
                four[..have].copy_from_slice(&rest[..have]);
                u32::from_be_bytes(four)
            }
        };
        bytes = rest.get(octets..).ok_or_else(|| anyhow!("a prefix that ends early"))?;
        let number = universe
            .number(address, length)
            .ok_or_else(|| anyhow!("{}/{length}, which nobody announced", Ipv4Addr::from(address)))?;
        found(number)?;
        count += 1;
    }
    Ok(count)
}

/// NEXT_HOP's value. Other attributes are passed over.
fn next_hop(mut attributes: &[u8]) -> Result<Ipv4Addr> {
    const EXTENDED_LENGTH: u8 = 0x10;
    const NEXT_HOP: u8 = 3;
    let short = || anyhow!("path attributes that end early");
    loop {
        let (&[flags, kind], rest) =
            attributes.split_first_chunk::<2>().ok_or_else(|| anyhow!("prefixes without a NEXT_HOP"))?;
        let (value, rest) = if flags & EXTENDED_LENGTH == 0 {
            let (&length, rest) = rest.split_first().ok_or_else(short)?;
            rest.split_at_checked(usize::from(length)).ok_or_else(short)?
        } else {
            part(rest)?
        };
        if kind == NEXT_HOP {
            let octets: [u8; 4] = value.try_into().map_err(|_| anyhow!("a NEXT_HOP that is no address"))?;
            return Ok(octets.into());
        }
        attributes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{
        client_address,
        universe::Origin,
        wire::{self, Attributes},
    };

    fn cluster() -> Universe {
        Universe::new(&[(Ipv4Addr::new(20, 0, 0, 0), 26, 3000)], Origin::EachClient { per_client: 1000 })
    }

    fn announced(universe: &Universe, client: usize, numbers: std::ops::Range<u32>) -> Vec<u8> {
        let attributes = Attributes { communities: vec![1; 60], ..Attributes::default() };
        let attributes = attributes.encode(client_address(client));
        let mut bytes = Vec::new();
        wire::announce(&attributes, numbers.map(|number| universe.prefix(number)), &mut bytes);
        bytes
    }

    #[test]
    fn messages_are_read_wherever_the_stream_was_cut() {
        let universe = cluster();
        let mut bytes = announced(&universe, 1, 1000..2000);
        wire::keepalive(&mut bytes);
        wire::withdraw((1000..1010).map(|number| universe.prefix(number)), &mut bytes);
        for cut in (0..bytes.len()).step_by(37) {
            let mut held = ReceivedPrefixes::new(3000, 3000, 0..1000);
            let first = scan(&bytes[..cut], &universe, &mut held).expect("messages");
            assert!(first.bytes <= cut);
            let second = scan(&bytes[first.bytes..], &universe, &mut held).expect("messages");
            assert_eq!(first.bytes + second.bytes, bytes.len());
            assert_eq!(first.prefixes + second.prefixes, 1010);
            assert_eq!(first.keepalives + second.keepalives, 1);
            assert_eq!(held.count(), 990);
        }
    }

    #[test]
    fn a_prefix_that_nobody_announced_is_an_error() {
        let mut held = ReceivedPrefixes::new(3000, 3000, 0..0);
        let mut bytes = Vec::new();
        let attributes = Attributes::default().encode(client_address(0));
        wire::announce(&attributes, [(u32::from(Ipv4Addr::new(20, 0, 0, 0)), 25)], &mut bytes);
        let error = scan(&bytes, &cluster(), &mut held).expect_err("no such prefix");
        assert_eq!(error.to_string(), "20.0.0.0/25, which nobody announced");
    }

    #[test]
    fn a_prefix_with_anothers_next_hop_is_an_error() {
        let universe = cluster();
        let mut held = ReceivedPrefixes::new(3000, 3000, 0..0);
        let bytes = announced(&universe, 2, 1000..1001);
        let error = scan(&bytes, &universe, &mut held).expect_err("a wrong next hop");
        assert_eq!(error.to_string(), "20.0.250.0/26 with another's next hop, 10.1.0.3");
        let bytes = announced(&universe, 3, 1000..1001);
        let error = scan(&bytes, &universe, &mut held).expect_err("nobody's next hop");
        assert_eq!(error.to_string(), "the next hop 10.1.0.4, which is no sender's");
        assert_eq!(held.count(), 0);
    }

    #[test]
    fn a_notification_ends_the_reading() {
        let mut bytes = vec![0xff; 16];
        bytes.extend([0, 21, 3, 6, 4]);
        let mut held = ReceivedPrefixes::new(3000, 3000, 0..0);
        let scanned = scan(&bytes, &cluster(), &mut held).expect("a message");
        assert_eq!(scanned.notification, Some((6, 4)));
        let mut broken = bytes.clone();
        broken[3] = 0;
        assert!(scan(&broken, &cluster(), &mut held).is_err(), "a marker is all ones");
    }
}
