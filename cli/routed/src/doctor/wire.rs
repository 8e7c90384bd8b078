//! Checks of the sessions, tunnels and clocks of other nodes.

use api::view::{ExitKind, PeerView, ProbeState, ProbeView, SessionState, TunnelView};
use tunnel::probe::prober::LOSSES_IN_ROW;

use super::{DoctorFacts, Finding, FindingCode, node_named};

/// The accepted difference of two clocks, in milliseconds. Certificates and logs depend on the
/// clocks.
const MAX_CLOCK_DIFFERENCE_MS: f64 = 2_000.0;

/// Checks that BGP listens.
pub(super) fn listening(facts: &DoctorFacts) -> Vec<Finding> {
    let port = facts.snapshot.configuration.listen_port;
    if facts.status.listen_port.is_some() || facts.snapshot.configuration.routed.bgp_disabled {
        return Vec::new();
    }
    vec![Finding::error(
        FindingCode::NotListening,
        format!("BGP does not listen on TCP port {port}: nobody can call this node"),
        "routectl show status: not listening",
        format!(
            "ss -ltnp 'sport = {port}' names who has the port; stop it (BIRD? calico-node?), then systemctl restart routed"
        ),
    )]
}

/// Checks that all sessions are Established.
pub(super) fn sessions(facts: &DoctorFacts) -> Vec<Finding> {
    let down = facts.peers.iter().filter(|peer| peer.state != SessionState::Established);
    down.map(|peer| session(facts, peer)).collect()
}

fn session(facts: &DoctorFacts, peer: &PeerView) -> Finding {
    let error = peer.last_error.as_deref().unwrap_or("nothing was heard of it yet");
    let since = peer.since.strftime("%Y-%m-%dT%H:%M:%SZ");
    let node = node_named(facts, peer.address).unwrap_or(&peer.name);
    let PeerView { address, port, .. } = peer;
    let remedy = if error.contains("refused") {
        format!("nobody listens there: on {node}, systemctl start routed; ss -ltn 'sport = {port}'")
    } else if ["timed out", "no answer", "unreachable", "No route"].iter().any(|word| error.contains(word)) {
        format!("let TCP port {port} pass between the nodes: nc -vz {address} {port}; is {node} up?")
    } else {
        format!("routectl show peers {}; routectl doctor on {node}", peer.name)
    };
    Finding::error(
        FindingCode::Session,
        format!("the session with {} ({address}) is {:?}", peer.name, peer.state),
        format!("since {since}: {error}"),
        remedy,
    )
}

/// Checks that all tunnels answer.
pub(super) fn tunnels(facts: &DoctorFacts) -> Vec<Finding> {
    let ways = facts.tunnels.iter().flat_map(|tunnel| tunnel.ways.iter().map(move |way| (tunnel, way)));
    let is_silent = |tunnel: &TunnelView, way: &ProbeView| {
        tunnel.in_use == Some(way.exit) && way.lost_in_row >= LOSSES_IN_ROW
    };
    let bad = ways.filter(|(tunnel, way)| way.state == ProbeState::Blocked || is_silent(tunnel, way));
    bad.map(|(tunnel, way)| {
        let (what, name) = match way.exit {
            ExitKind::Ipip => ("IP protocol 4", "IP-in-IP"),
            ExitKind::Vxlan => ("UDP port 4789", "VXLAN"),
            ExitKind::Direct | ExitKind::Blackhole => ("pods' addresses", "unwrapped"),
        };
        let node = &tunnel.node;
        let address = tunnel.address.map(|address| address.to_string()).unwrap_or_default();
        let evidence = format!("{} probes in a row by {name} were not answered", way.lost_in_row);
        if !is_silent(tunnel, way) {
            let text = format!("{node} does not answer by {name}, but by another way, which is used instead");
            let remedy = format!(
                "let {what} pass between the nodes (cloud security groups, firewalls); tcpdump -ni any host {address} there \
                 shows whether it arrives"
            );
            return Finding::warning(FindingCode::Tunnel, text, evidence, remedy);
        }
        let text = format!("{node} answers nothing by {name}, the way that packets go");
        let remedy = format!("is {node} ({address}) up, with routed running? Then let {what} pass");
        Finding::error(FindingCode::Tunnel, text, evidence, remedy)
    })
    .collect()
}

/// Checks that the nodes' clocks agree.
pub(super) fn clocks(facts: &DoctorFacts) -> Vec<Finding> {
    let apart = |tunnel: &&TunnelView| {
        tunnel.clock_ahead_ms.is_some_and(|ahead| ahead.abs() > MAX_CLOCK_DIFFERENCE_MS)
    };
    let of = |tunnel: &TunnelView| {
        let ahead = tunnel.clock_ahead_ms.unwrap_or(0.0) / 1000.0;
        let how = if ahead > 0.0 { "ahead of" } else { "behind" };
        Finding::warning(
            FindingCode::Clock,
            format!("the clock of {} is {:.1} s {how} this node's", tunnel.node, ahead.abs()),
            "the time in its last answer to a probe",
            "timedatectl set-ntp true (or chronyc makestep) on both; certificates and logs go by the clock",
        )
    };
    facts.tunnels.iter().filter(apart).map(of).collect()
}
