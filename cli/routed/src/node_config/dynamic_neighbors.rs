//! The dynamic neighbors of the configured ranges: admission and expiry. No I/O, no clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::node_config::RangeSettings;

/// The time after which a neighbor without a session is removed. It may restart meanwhile, and
/// `show peers` has the reason of the failure until then.
pub(crate) const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// The time since which a neighbor has no session; `None` while its session is Established.
type IdleSince = Option<Instant>;

/// The dynamic neighbors of all ranges.
#[derive(Debug, Default)]
pub(crate) struct DynamicNeighbors {
    ranges: Vec<RangeSettings>,
    /// The known neighbors, each with the name of its range's resource.
    known: BTreeMap<IpAddr, (String, IdleSince)>,
}

/// The decision on a neighbor that connects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NeighborAdmission {
    /// The neighbor is added. If its range was full, it replaces this neighbor.
    New(Option<IpAddr>),
    /// The neighbor is known already.
    Known,
    /// The neighbor is in no range, or its range is full of neighbors with Established sessions.
    Refused,
}

impl DynamicNeighbors {
    /// Sets the ranges. Returns the neighbors that no range admits any more or whose session
    /// parameters have changed; they are removed.
    pub(crate) fn set_ranges(&mut self, ranges: Vec<RangeSettings>) -> Vec<IpAddr> {
        let same = |name: &str, address: &IpAddr| {
            let of = |ranges: &[RangeSettings]| {
                ranges
                    .iter()
                    .find(|range| range.range.net.contains(address))
                    .map(|range| (range.template.peering.name.clone(), range.template.config.clone()))
            };
            let now = of(&ranges);
            now.as_ref().is_some_and(|(now, _)| now == name) && now == of(&self.ranges)
        };
        let removed: Vec<IpAddr> =
            self.known.iter().filter(|(at, (name, _))| !same(name, at)).map(|(at, _)| *at).collect();
        removed.iter().for_each(|address| _ = self.known.remove(address));
        self.ranges = ranges;
        removed
    }

    /// Returns the narrowest range that contains an address.
    pub(crate) fn range_of(&self, address: IpAddr) -> Option<&RangeSettings> {
        self.ranges.iter().find(|range| range.range.net.contains(&address))
    }

    /// Returns the ranges.
    pub(crate) fn ranges(&self) -> &[RangeSettings] {
        &self.ranges
    }

    /// Returns whether no neighbor is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Returns whether `address` is a known dynamic neighbor.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.known.contains_key(&address)
    }

    /// Decides on a neighbor that connects, and adds it if it is admitted.
    pub(crate) fn admit(&mut self, address: IpAddr, now: Instant) -> NeighborAdmission {
        if self.known.contains_key(&address) {
            return NeighborAdmission::Known;
        }
        let Some(range) = self.range_of(address) else { return NeighborAdmission::Refused };
        let (name, limit) = (range.template.peering.name.clone(), range.range.limit);
        let of_range = || self.known.iter().filter(|(_, (of, _))| *of == name);
        let mut replaced = None;
        if of_range().count() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            // The neighbor without a session for the longest time is replaced, so that neighbors
            // that never become Established cannot block a range.
            let oldest = of_range().filter_map(|(at, (_, idle))| Some((idle.as_ref()?, *at))).min();
            let Some((_, oldest)) = oldest else { return NeighborAdmission::Refused };
            replaced = Some(oldest);
        }
        if let Some(oldest) = replaced {
            self.known.remove(&oldest);
        }
        self.known.insert(address, (name, Some(now)));
        NeighborAdmission::New(replaced)
    }

    /// Records which neighbors are Established. Removes and returns those without a session for
    /// [`IDLE_LIMIT`].
    pub(crate) fn expire(&mut self, now: Instant, is_established: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let mut expired = Vec::new();
        for (address, (_, idle)) in &mut self.known {
            match (is_established(*address), &idle) {
                (true, _) => *idle = None,
                (false, None) => *idle = Some(now),
                (false, Some(since)) if now.duration_since(*since) >= IDLE_LIMIT => expired.push(*address),
                (false, Some(_)) => {}
            }
        }
        expired.iter().for_each(|address| _ = self.known.remove(address));
        expired
    }

    /// Removes a neighbor, which has a resource of its own now.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.known.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use resource::{assemble, parse_file};

    use crate::config;
    use crate::node_config::derive;

    use super::*;

    fn ranges(peer: &str) -> Vec<RangeSettings> {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: rr }}\nspec: {{ bgp: {{ ipv4Address: \
             192.168.0.1/24, routeReflectorClusterID: 10.0.0.1 }} }}\n---\napiVersion: projectcalico.org/v3\nkind: \
             BGPPeer\nmetadata: {{ name: all }}\nspec: {peer}\n"
        );
        let parsed = parse_file("test", &text);
        assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
        let snapshot = assemble(&parsed.documents).snapshot;
        let config = config::parse("test", "node: rr\ndatastore: { file: /tmp }\n", None).expect("valid");
        derive(&config, &snapshot).expect("a configuration").ranges
    }

    fn neighbors(limit: u32) -> DynamicNeighbors {
        let mut neighbors = DynamicNeighbors::default();
        let peer = format!("{{ routed: {{ peerRange: 10.0.0.0/16, peerLimit: {limit} }} }}");
        assert_eq!(neighbors.set_ranges(ranges(&peer)), Vec::<IpAddr>::new());
        neighbors
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_neighbor_of_a_reflectors_range_is_a_passive_client() {
        let neighbors = neighbors(2);
        let settings = neighbors.range_of(address(7)).expect("in the range").for_neighbor(address(7));
        assert!(settings.config.passive && settings.peering.client);
        assert_eq!(settings.peering.name, "all-10.0.0.7");
        assert_eq!((settings.peering.address, settings.address.remote.ip()), (address(7), address(7)));
        assert!(neighbors.range_of([10, 1, 0, 1].into()).is_none());
    }

    #[test]
    fn a_full_range_replaces_the_neighbor_without_a_session_or_refuses() {
        let (mut neighbors, now) = (neighbors(2), Instant::now());
        assert_eq!(neighbors.admit(address(1), now), NeighborAdmission::New(None));
        assert_eq!(neighbors.admit(address(1), now), NeighborAdmission::Known);
        assert_eq!(neighbors.admit(address(2), now + Duration::from_secs(1)), NeighborAdmission::New(None));
        assert_eq!(
            neighbors.admit(address(3), now),
            NeighborAdmission::New(Some(address(1))),
            "the neighbor without a session for the longest time"
        );
        assert_eq!(neighbors.expire(now, |_| true), Vec::<IpAddr>::new());
        assert_eq!(neighbors.admit(address(4), now), NeighborAdmission::Refused, "both have sessions");
        assert_eq!(neighbors.admit([10, 9, 0, 1].into(), now), NeighborAdmission::Refused, "in no range");
    }

    #[test]
    fn a_neighbor_is_removed_after_the_idle_limit() {
        let (mut neighbors, now) = (neighbors(2), Instant::now());
        neighbors.admit(address(1), now);
        neighbors.expire(now, |_| true);
        let lost = now + Duration::from_secs(1000);
        assert_eq!(
            neighbors.expire(lost, |_| false),
            Vec::<IpAddr>::new(),
            "the time counts from the first check"
        );
        assert_eq!(
            neighbors.expire(lost + IDLE_LIMIT - Duration::from_secs(1), |_| false),
            Vec::<IpAddr>::new()
        );
        assert_eq!(neighbors.expire(lost + IDLE_LIMIT, |_| false), [address(1)]);
        assert!(neighbors.is_empty());
    }

    #[test]
    fn neighbors_stay_while_their_range_is_unchanged() {
        let mut neighbors = neighbors(2);
        neighbors.admit(address(1), Instant::now());
        let other = ranges("{ routed: { peerRange: 10.0.0.0/16, peerLimit: 9, maxPrefixes: { limit: 3 } } }");
        assert_eq!(neighbors.set_ranges(other), Vec::<IpAddr>::new(), "policy is changed live");
        let other = ranges("{ asNumber: 65000, routed: { peerRange: 10.0.0.0/16 } }");
        assert_eq!(neighbors.set_ranges(other), [address(1)], "another AS is another session");
    }
}
