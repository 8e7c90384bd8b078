//! The conditions for a lab to pass, on the daemons and the captured packets. Pure.

use ipnet::IpNet;

use super::{
    capture::Counts,
    layout::{Layout, WireFormat},
    ping::{PingResults, REQUESTS},
};
use api::view::{ExitKind, PeerView, RouteView, SessionState};

/// The views of one daemon.
#[derive(Debug, Clone, Default)]
pub(super) struct DaemonReport {
    /// `show peers`
    pub peers: Vec<PeerView>,
    /// `show routes`
    pub routes: Vec<RouteView>,
}

/// The progress of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number of session ends in the expected state, and of all.
    pub sessions: (usize, usize),
    /// The number of routes in the expected state, and of all.
    pub routes: (usize, usize),
    /// One line for each session end or route that is not.
    pub unmet: Vec<String>,
}

/// Compares the views of the daemons, in the order of the nodes, with the expected state.
pub(super) fn progress(layout: &Layout, said: &[DaemonReport]) -> Progress {
    let mut progress = Progress::default();
    let nothing = DaemonReport::default();
    for (a, b) in layout.pairs() {
        let (Some(from), Some(to)) = (layout.nodes.get(a), layout.nodes.get(b)) else { continue };
        let said = said.get(a).unwrap_or(&nothing);
        if layout.peers(a, b) {
            progress.sessions.1 += 1;
            let state = said.peers.iter().find(|p| p.address == to.address.addr()).map(|p| p.state);
            let established = state == Some(SessionState::Established);
            if state.is_some() && established == layout.established(a, b) {
                progress.sessions.0 += 1;
            } else {
                let state = state.map_or_else(|| "not configured".to_owned(), |s| format!("{s:?}"));
                progress.unmet.push(format!("{}: session to {} is {state}", from.name, to.name));
            }
        }
        progress.routes.1 += 1;
        let expected = match layout.expected_wire(a, b) {
            WireFormat::Plain => ExitKind::Direct,
            WireFormat::Ipip => ExitKind::Ipip,
            WireFormat::Vxlan => ExitKind::Vxlan,
        };
        let route = said.routes.iter().find(|r| r.prefix == IpNet::V4(to.block));
        match route {
            Some(route) if route.installed && route.exit == Some(expected) => progress.routes.0 += 1,
            Some(route) => progress.unmet.push(format!(
                "{}: route to {} leads to {} ({}, {})",
                from.name,
                to.block,
                route.exit.map_or_else(|| "nothing".to_owned(), |e| format!("{e:?}").to_lowercase()),
                if route.installed { "installed" } else { "not installed" },
                route.reason
            )),
            None => progress.unmet.push(format!("{}: no route to {}", from.name, to.block)),
        }
    }
    progress
}

/// The result of one ordered pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairResult {
    /// Sender, by index.
    pub from: usize,
    /// Receiver, by index.
    pub to: usize,
    /// The pings.
    pub pinged: PingResults,
}

/// Describes the encapsulation of a pair's packets, with their number.
pub(super) fn wires(layout: &Layout, counts: &Counts, from: usize, to: usize) -> Vec<(WireFormat, u64)> {
    let (Some(from), Some(to)) = (layout.nodes.get(from), layout.nodes.get(to)) else { return Vec::new() };
    [WireFormat::Plain, WireFormat::Ipip, WireFormat::Vxlan]
        .into_iter()
        .filter_map(|wire| counts.get(&(from.pod, to.pod, wire)).map(|count| (wire, *count)))
        .collect()
}

/// Returns one line for each fault that the pings or the captured packets show.
pub(super) fn faults(layout: &Layout, results: &[PairResult], counts: &Counts) -> Vec<String> {
    let mut faults = Vec::new();
    for result in results {
        let (Some(from), Some(to)) = (layout.nodes.get(result.from), layout.nodes.get(result.to)) else {
            continue;
        };
        let pair = format!("{} to {}", from.name, to.name);
        if result.pinged.received < result.pinged.sent || result.pinged.sent == 0 {
            faults
                .push(format!("{pair}: {} of {} pings answered", result.pinged.received, result.pinged.sent));
        }
        let expected = layout.expected_wire(result.from, result.to);
        let seen = wires(layout, counts, result.from, result.to);
        let right = seen.iter().find(|(w, _)| *w == expected).map_or(0, |(_, count)| *count);
        if right < u64::from(REQUESTS) || seen.len() != 1 {
            let seen: Vec<String> = seen.iter().map(|(w, n)| format!("{n} {}", w.text())).collect();
            let seen = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
            faults.push(format!("{pair}: the wire carried {seen}; it has to be {}", expected.text()));
        }
    }
    if results.len() != layout.pairs().count() {
        faults.push(format!("{} of {} pairs were pinged", results.len(), layout.pairs().count()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::tests::layout;

    fn all_well(layout: &Layout) -> (Vec<PairResult>, Counts) {
        let pinged = PingResults { sent: REQUESTS, received: REQUESTS, round_trip: None };
        let results = layout.pairs().map(|(from, to)| PairResult { from, to, pinged }).collect();
        let pods = |(a, b): (usize, usize)| (layout.nodes[a].pod, layout.nodes[b].pod, WireFormat::Ipip);
        let counts = layout.pairs().map(|pair| (pods(pair), 2 * u64::from(REQUESTS))).collect();
        (results, counts)
    }

    #[test]
    fn a_lost_ping_a_missing_pair_and_a_wrong_wire_are_faults() {
        let layout = layout("--nodes 2").expect("a layout");
        let (results, counts) = all_well(&layout);
        assert_eq!(faults(&layout, &results, &counts), Vec::<String>::new());

        let mut lost = results.clone();
        lost[0].pinged.received = 0;
        assert_eq!(faults(&layout, &lost, &counts), ["node-1 to node-2: 0 of 2 pings answered"]);
        assert_eq!(faults(&layout, &results[..1], &counts), ["1 of 2 pairs were pinged"]);

        let mut plain = counts.clone();
        plain.insert((layout.nodes[0].pod, layout.nodes[1].pod, WireFormat::Plain), 1);
        assert_eq!(
            faults(&layout, &results, &plain),
            ["node-1 to node-2: the wire carried 1 plain, 4 ipip; it has to be ipip"]
        );
        assert_eq!(faults(&layout, &results, &Counts::new()).len(), 2);
    }

    #[test]
    fn silent_daemons_have_met_nothing() {
        let layout = layout("--nodes 2").expect("a layout");
        let progress = progress(&layout, &[]);
        assert_eq!((progress.sessions, progress.routes), ((0, 2), (0, 2)));
        assert_eq!(progress.unmet.len(), 4);
    }
}
