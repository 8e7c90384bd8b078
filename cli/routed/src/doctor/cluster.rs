//! Checks of the resources and of the daemon's own reports.

use resource::{EncapsulationMode, Node};

use super::{DoctorFacts, Finding, FindingCode, join_names};

/// Checks that the daemon is ready.
pub(super) fn readiness(facts: &DoctorFacts) -> Vec<Finding> {
    let status = &facts.status;
    // Mistakes in resources are findings of their own.
    let has_own_finding =
        |reason: &&String| !status.mistakes.iter().any(|mistake| reason.contains(mistake.as_str()));
    let reasons = status.not_ready.iter().filter(has_own_finding);
    let of = |reason: &String| {
        let remedy = "journalctl -u routed, routectl show status";
        Finding::error(FindingCode::NotReady, "the daemon is not ready", reason, remedy)
    };
    reasons.map(of).collect()
}

/// Checks that all resources are valid.
pub(super) fn resources(facts: &DoctorFacts) -> Vec<Finding> {
    let of = |mistake: &String| {
        let twice = ["TunnelAddr", "TunnelMACAddr", "podCIDRs"].iter().any(|field| mistake.contains(field));
        if twice && mistake.contains("must be unique") {
            return Finding::error(
                FindingCode::DuplicateTunnelAddress,
                "two nodes would get each other's packets: they have one tunnel address",
                mistake,
                "take the field out of one of them, so that it follows from its blocks: routectl get node NAME -o yaml, \
                 routectl apply -f",
            );
        }
        Finding::error(
            FindingCode::Resources,
            "a resource is wrong and does not run; what ran before does",
            mistake,
            "correct it where the line says; routectl validate -f checks a file",
        )
    };
    facts.status.mistakes.iter().map(of).collect()
}

fn crosses_subnets(facts: &DoctorFacts) -> bool {
    let cluster = facts.snapshot.configuration.routed.encapsulation;
    facts.snapshot.pools.iter().any(|pool| pool.effective(cluster).1 == EncapsulationMode::CrossSubnet)
}

/// Checks that every node's subnet is known, if a pool is cross-subnet.
pub(super) fn node_subnets(facts: &DoctorFacts) -> Vec<Finding> {
    if !crosses_subnets(facts) {
        return Vec::new();
    }
    let alone = |node: &&Node| node.ipv4.is_some_and(|net| net.prefix_len() == 32);
    let of = |node: &Node| {
        let net = node.ipv4.map(|net| net.to_string()).unwrap_or_default();
        Finding::warning(
            FindingCode::NodeSubnet,
            format!("{} has a subnet of one address: cross-subnet always tunnels to and from it", node.name),
            format!("Node {}: spec.bgp.ipv4Address is {net}", node.name),
            format!(
                "routectl patch node {} -p '{{\"spec\":{{\"bgp\":{{\"ipv4Address\":\"{}/24\"}}}}}}' with its real subnet's length",
                node.name,
                node.ipv4.map(|net| net.addr().to_string()).unwrap_or_default()
            ),
        )
    };
    facts.snapshot.nodes.iter().filter(alone).map(of).collect()
}

/// Checks that any two nodes agree on being in one subnet, if a pool is cross-subnet.
pub(super) fn subnet_asymmetry(facts: &DoctorFacts) -> Vec<Finding> {
    if !crosses_subnets(facts) {
        return Vec::new();
    }
    let me = facts.snapshot.nodes.iter().find(|node| node.name == facts.status.node);
    let Some((me, own)) = me.and_then(|me| Some((me, me.ipv4?))) else { return Vec::new() };
    let odd: Vec<String> = facts
        .snapshot
        .nodes
        .iter()
        .filter(|node| node.name != me.name)
        .filter_map(|node| Some((node, node.ipv4?)))
        .filter(|(_, other)| own.contains(&other.addr()) != other.contains(&own.addr()))
        .map(|(node, other)| format!("{} ({other})", node.name))
        .collect();
    if odd.is_empty() {
        return Vec::new();
    }
    vec![Finding::warning(
        FindingCode::SubnetAsymmetry,
        "of two nodes one takes the other for a neighbour, and not the other way round: packets go wrapped one way alone",
        format!("{} has {own}, and does not agree with {}", me.name, join_names(&odd)),
        "give all nodes of one subnet the same length in spec.bgp.ipv4Address",
    )]
}

/// Checks that the datastore is reachable.
pub(super) fn store(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(store) = facts.status.store.as_ref().filter(|store| !store.connected) else { return Vec::new() };
    let runs = if store.from_snapshot { "the snapshot on disk runs" } else { "what was known runs" };
    vec![Finding::warning(
        FindingCode::Store,
        format!("the datastore is out of reach: {runs}, and changes are not seen"),
        format!(
            "{} since {}: {}",
            store.endpoint,
            store.since.strftime("%Y-%m-%dT%H:%M:%SZ"),
            store.problem.as_deref().unwrap_or("no answer")
        ),
        format!(
            "etcdctl --endpoints {} endpoint health; then the network and the certificates",
            store.endpoint
        ),
    )]
}

/// Reports the remaining warnings of the daemon.
pub(super) fn warnings(facts: &DoctorFacts) -> Vec<Finding> {
    let host = facts.host.as_ref();
    let has_own_finding = |line: &str| {
        let by_sysctl =
            |host: &super::HostFacts| host.sysctls.iter().any(|s| s.problem.as_deref() == Some(line));
        let by_problem = |host: &super::HostFacts| host.problems.iter().any(|problem| problem == line);
        // Each /32 subnet has a finding of its own.
        let by_subnet = line.contains("a subnet of one address");
        let by_store = facts.status.store.is_some() && line.contains("datastore");
        host.is_some_and(|host| by_sysctl(host) || by_problem(host)) || by_subnet || by_store
    };
    let of = |line: &String| {
        Finding::warning(FindingCode::Warning, line, "routectl show status", "as the line says")
    };
    facts.status.warnings.iter().filter(|line| !has_own_finding(line)).map(of).collect()
}
