//! Neighbours that come from a range and are configured by none but that: who may come, and who is gone
//! long enough to be forgotten. No I/O, no clock.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::node_config::RangePlan;

/// How long a neighbour that has no session is remembered: it may restart, and its place in `show peers` says why
/// it went.
pub(crate) const GONE_AFTER: Duration = Duration::from_secs(120);

/// Since when a neighbour has had no session; `None`: it has one.
type Gone = Option<Instant>;

/// The neighbours of all ranges.
#[derive(Debug, Default)]
pub(crate) struct Neighbours {
    ranges: Vec<RangePlan>,
    /// Each with the name of its range's resource.
    known: BTreeMap<IpAddr, (String, Gone)>,
}

/// What becomes of a neighbour that calls.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Welcome {
    /// It is to be run; in place of this one, if its range was full.
    New(Option<IpAddr>),
    /// It runs already.
    Known,
    /// Its range is full of neighbours that have sessions, or there is none any more.
    Refused,
}

impl Neighbours {
    /// Takes the ranges; gives the neighbours that are to go.
    pub(crate) fn set_ranges(&mut self, ranges: Vec<RangePlan>) -> Vec<IpAddr> {
        let same = |name: &str, address: &IpAddr| {
            let of = |ranges: &[RangePlan]| {
                ranges
                    .iter()
                    .find(|range| range.range.net.contains(address))
                    .map(|range| (range.template.peering.name.clone(), range.template.config.clone()))
            };
            let now = of(&ranges);
            now.as_ref().is_some_and(|(now, _)| now == name) && now == of(&self.ranges)
        };
        let gone: Vec<IpAddr> =
            self.known.iter().filter(|(at, (name, _))| !same(name, at)).map(|(at, _)| *at).collect();
        gone.iter().for_each(|address| _ = self.known.remove(address));
        self.ranges = ranges;
        gone
    }

    /// The range that an address lies in, the narrowest.
    pub(crate) fn range_of(&self, address: IpAddr) -> Option<&RangePlan> {
        self.ranges.iter().find(|range| range.range.net.contains(&address))
    }

    /// The ranges.
    pub(crate) fn ranges(&self) -> &[RangePlan] {
        &self.ranges
    }

    /// Whether there is anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a neighbour is one of these.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.known.contains_key(&address)
    }

    /// A neighbour calls.
    pub(crate) fn call(&mut self, address: IpAddr, now: Instant) -> Welcome {
        if self.known.contains_key(&address) {
            return Welcome::Known;
        }
        let Some(range) = self.range_of(address) else { return Welcome::Refused };
        let (name, limit) = (range.template.peering.name.clone(), range.range.limit);
        let of_range = || self.known.iter().filter(|(_, (of, _))| *of == name);
        let mut instead = None;
        if of_range().count() >= usize::try_from(limit).unwrap_or(usize::MAX) {
            // Who has been without a session for longest makes room, so that callers that never become
            // Established can't keep the others out.
            let oldest = of_range().filter_map(|(at, (_, gone))| Some((gone.as_ref()?, *at))).min();
            let Some((_, oldest)) = oldest else { return Welcome::Refused };
            instead = Some(oldest);
        }
        if let Some(oldest) = instead {
            self.known.remove(&oldest);
        }
        self.known.insert(address, (name, Some(now)));
        Welcome::New(instead)
    }

    /// Takes note of who has a session; gives those that have had none for too long.
    pub(crate) fn look(&mut self, now: Instant, is_established: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
        let mut over = Vec::new();
        for (address, (_, gone)) in &mut self.known {
            match (is_established(*address), &gone) {
                (true, _) => *gone = None,
                (false, None) => *gone = Some(now),
                (false, Some(since)) if now.duration_since(*since) >= GONE_AFTER => over.push(*address),
                (false, Some(_)) => {}
            }
        }
        over.iter().for_each(|address| _ = self.known.remove(address));
        over
    }

    /// A neighbour has a resource of its own now.
    pub(crate) fn forget(&mut self, address: IpAddr) {
        self.known.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::node_config::plan;
    use resource::{assemble, parse_file};

    fn ranges(peer: &str) -> Vec<RangePlan> {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: rr }}\nspec: {{ bgp: {{ ipv4Address: \
             192.168.0.1/24, routeReflectorClusterID: 10.0.0.1 }} }}\n---\napiVersion: projectcalico.org/v3\nkind: \
             BGPPeer\nmetadata: {{ name: all }}\nspec: {peer}\n"
        );
        let parsed = parse_file("test", &text);
        assert!(parsed.mistakes.is_empty(), "{:?}", parsed.mistakes);
        let snapshot = assemble(&parsed.documents).snapshot;
        let config = config::parse("test", "node: rr\ndatastore: { file: /tmp }\n", None).expect("valid");
        plan(&config, &snapshot).expect("a plan").ranges
    }

    fn neighbours(limit: u32) -> Neighbours {
        let mut neighbours = Neighbours::default();
        let peer = format!("{{ routed: {{ peerRange: 10.0.0.0/16, peerLimit: {limit} }} }}");
        assert_eq!(neighbours.set_ranges(ranges(&peer)), Vec::<IpAddr>::new());
        neighbours
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn a_neighbour_of_a_reflectors_range_is_a_passive_client() {
        let neighbours = neighbours(2);
        let plan = neighbours.range_of(address(7)).expect("in the range").neighbour(address(7));
        assert!(plan.config.passive && plan.peering.client);
        assert_eq!(plan.peering.name, "all-10.0.0.7");
        assert_eq!((plan.peering.address, plan.address.remote.ip()), (address(7), address(7)));
        assert!(neighbours.range_of([10, 1, 0, 1].into()).is_none());
    }

    #[test]
    fn a_full_range_gives_up_who_has_no_session_first_and_else_refuses() {
        let (mut neighbours, now) = (neighbours(2), Instant::now());
        assert_eq!(neighbours.call(address(1), now), Welcome::New(None));
        assert_eq!(neighbours.call(address(1), now), Welcome::Known);
        assert_eq!(neighbours.call(address(2), now + Duration::from_secs(1)), Welcome::New(None));
        assert_eq!(neighbours.call(address(3), now), Welcome::New(Some(address(1))), "the longest without");
        assert_eq!(neighbours.look(now, |_| true), Vec::<IpAddr>::new());
        assert_eq!(neighbours.call(address(4), now), Welcome::Refused, "both have sessions");
        assert_eq!(neighbours.call([10, 9, 0, 1].into(), now), Welcome::Refused, "in no range");
    }

    #[test]
    fn a_neighbour_is_forgotten_some_time_after_it_is_gone() {
        let (mut neighbours, now) = (neighbours(2), Instant::now());
        neighbours.call(address(1), now);
        neighbours.look(now, |_| true);
        let gone = now + Duration::from_secs(1000);
        assert_eq!(
            neighbours.look(gone, |_| false),
            Vec::<IpAddr>::new(),
            "it counts from when that is seen"
        );
        assert_eq!(
            neighbours.look(gone + GONE_AFTER - Duration::from_secs(1), |_| false),
            Vec::<IpAddr>::new()
        );
        assert_eq!(neighbours.look(gone + GONE_AFTER, |_| false), [address(1)]);
        assert!(neighbours.is_empty());
    }

    #[test]
    fn neighbours_stay_while_their_range_is_as_it_was() {
        let mut neighbours = neighbours(2);
        neighbours.call(address(1), Instant::now());
        let other = ranges("{ routed: { peerRange: 10.0.0.0/16, peerLimit: 9, maxPrefixes: { limit: 3 } } }");
        assert_eq!(neighbours.set_ranges(other), Vec::<IpAddr>::new(), "policy is changed live");
        let other = ranges("{ asNumber: 65000, routed: { peerRange: 10.0.0.0/16 } }");
        assert_eq!(neighbours.set_ranges(other), [address(1)], "another AS is another session");
    }
}
