//! The prefixes of a trial, numbered: from a prefix to its number and back by arithmetic alone.

use std::net::Ipv4Addr;

use super::client::client_number;

/// A prefix: its address in host order and its length.
pub(super) type Prefix = (u32, u8);

/// Consecutive prefixes of one length.
#[derive(Clone, Copy, Debug, Default)]
struct Region {
    /// The first one's address, without its host bits.
    base: u32,
    /// The first one's number.
    first: u32,
    /// The number of prefixes.
    count: u32,
}

/// The sender of prefixes, which their NEXT_HOP identifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Client `n` announces the numbers from `n * per_client` on, as many.
    EachClient {
        /// Prefixes of each.
        per_client: u32,
    },
    /// Client 0 announces them all, client 1 worse paths to them, or none.
    Senders,
}

/// All prefixes of a trial. Numbers from `main` on are probes', announced one by one.
#[derive(Clone, Debug)]
pub struct Universe {
    regions: [Region; 33],
    origin: Origin,
    main: u32,
    total: u32,
}

/// The meaning of a next hop for its prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// The first number that may have it.
    pub from: u32,
    /// The first after that may not.
    pub to: u32,
    /// Whether it is the second sender's path.
    pub second: bool,
}

/// The client that announces probes.
pub const PROBER: usize = 2;

impl Universe {
    /// Creates a universe of regions `(base, length, count)`: at most one of each length, none of
    /// length 0.
    ///
    /// # Panics
    /// A region is of a length that is taken or that no IPv4 prefix has, or doesn't fit.
    #[must_use]
    pub fn new(regions: &[(Ipv4Addr, u8, u32)], origin: Origin) -> Self {
        let mut universe = Self { regions: [Region::default(); 33], origin, main: 0, total: 0 };
        for &(base, length, count) in regions {
            universe.add(base, length, count);
        }
        universe.main = universe.total;
        universe
    }

    /// Adds `count` probes, /26 blocks from `base` on.
    ///
    /// # Panics
    /// As [`Universe::new`].
    #[must_use]
    pub fn with_probes(mut self, base: Ipv4Addr, count: u32) -> Self {
        self.add(base, 26, count);
        self
    }

    fn add(&mut self, base: Ipv4Addr, length: u8, count: u32) {
        let region = &mut self.regions[usize::from(length)];
        assert!((1..=32).contains(&length) && region.count == 0, "one region of each length");
        let base = u32::from(base) >> (32 - length);
        assert!(u64::from(base) + u64::from(count) <= 1 << length, "the region has to fit");
        *region = Region { base, first: self.total, count };
        self.total += count;
    }

    /// Returns the number of prefixes without the probes.
    #[must_use]
    pub fn main(&self) -> u32 {
        self.main
    }

    /// Returns the number of prefixes with the probes.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// The number of a prefix of `length` whose address begins with `address` (host bits don't matter).
    #[must_use]
    #[inline]
    pub fn number(&self, address: u32, length: u8) -> Option<u32> {
        let region = self.regions.get(usize::from(length))?;
        // A length of 0 has a count of 0: nothing is shifted by 32.
        if region.count == 0 {
            return None;
        }
        let at = (address >> (32 - u32::from(length))).wrapping_sub(region.base);
        (at < region.count).then(|| region.first + at)
    }

    /// Returns the prefix of a number.
    ///
    /// # Panics
    /// There is none of that number.
    #[must_use]
    pub(super) fn prefix(&self, number: u32) -> Prefix {
        let mut lengths = (0u8..).zip(&self.regions);
        let of = lengths.find(|(_, region)| number.wrapping_sub(region.first) < region.count);
        let (length, region) = of.expect("a number of ours");
        ((region.base + (number - region.first)) << (32 - length), length)
    }

    /// Returns the meaning of a next hop; `None` if it is not a sender's.
    #[must_use]
    pub(super) fn source(&self, next_hop: Ipv4Addr) -> Option<Source> {
        let client = client_number(next_hop)?;
        let number = u32::try_from(client).ok()?;
        match self.origin {
            Origin::EachClient { per_client } => {
                let from = number * per_client;
                (from < self.main).then_some(Source { from, to: from + per_client, second: false })
            }
            Origin::Senders if client < PROBER => {
                Some(Source { from: 0, to: self.main, second: client == 1 })
            }
            Origin::Senders => {
                (client == PROBER).then_some(Source { from: self.main, to: self.total, second: false })
            }
        }
    }

    /// The numbers that a client announces itself.
    #[must_use]
    pub fn own(&self, client: usize) -> std::ops::Range<u32> {
        let number = u32::try_from(client).unwrap_or(u32::MAX);
        match self.origin {
            Origin::EachClient { per_client } => {
                let from = number.saturating_mul(per_client).min(self.main);
                from..(from + per_client).min(self.main)
            }
            Origin::Senders => match client {
                0 => 0..self.main,
                PROBER => self.main..self.total,
                _ => 0..0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::client_address;

    #[test]
    fn numbers_and_prefixes_are_each_others_inverse() {
        let universe = Universe::new(
            &[(Ipv4Addr::new(11, 0, 0, 0), 24, 1000), (Ipv4Addr::new(11, 0, 0, 0), 16, 50)],
            Origin::Senders,
        )
        .with_probes(Ipv4Addr::new(172, 16, 0, 0), 100);
        assert_eq!((universe.main(), universe.total()), (1050, 1150));
        for number in 0..universe.total() {
            let (address, length) = universe.prefix(number);
            assert_eq!(universe.number(address, length), Some(number));
        }
        assert_eq!(universe.number(u32::from(Ipv4Addr::new(11, 3, 232, 0)), 24), None, "one past the last");
        assert_eq!(
            universe.number(u32::from(Ipv4Addr::new(10, 255, 255, 0)), 24),
            None,
            "one before the first"
        );
        assert_eq!(universe.number(0, 0), None);
        assert_eq!(universe.number(0, 33), None);
    }

    #[test]
    fn a_next_hop_says_whose_prefixes_may_come_with_it() {
        let base = Ipv4Addr::new(20, 0, 0, 0);
        let each = Universe::new(&[(base, 26, 20)], Origin::EachClient { per_client: 2 });
        assert_eq!(each.source(client_address(3)), Some(Source { from: 6, to: 8, second: false }));
        assert_eq!(each.source(client_address(10)), None, "it announces nothing");
        assert_eq!(each.source(Ipv4Addr::new(10, 255, 0, 1)), None, "the daemon is no next hop");
        assert_eq!(each.own(9), 18..20);
        let senders = Universe::new(&[(base, 24, 20)], Origin::Senders);
        assert!(senders.source(client_address(1)).is_some_and(|source| source.second));
        assert_eq!(senders.own(5), 0..0);
    }
}
