//! Checks of this node's kernel.

use ipnet::IpNet;

use tunnel::netlink::links::{LinkInfo, LinkRecord};
use tunnel::netlink::routes::{RouteRecord, RouteVia};

use super::ruleset::{self, Flow};
use super::{DoctorFacts, Finding, FindingCode, HostFacts, join_names};

/// `EOPNOTSUPP`: the kernel's answer for an unknown type of link.
const EOPNOTSUPP: i32 = 95;
/// The priority of the rule for table main.
const MAIN: u32 = 32_766;
/// The priority of routed's own rules, which probes use.
const PROBES: u32 = tunnel::probe::RULE_PRIORITY;

/// Checks that the kernel has the modules for the tunnels.
pub(super) fn modules(facts: &DoctorFacts) -> Vec<Finding> {
    let lacking = |host: &HostFacts| {
        let lacks = host.failures.iter().filter(|f| f.errno == EOPNOTSUPP && f.object.starts_with("link "));
        lacks.map(|failure| module(&failure.object, &failure.text)).collect()
    };
    facts.host.as_ref().map(lacking).unwrap_or_default()
}

fn module(object: &str, text: &str) -> Finding {
    let name = if object.contains("vxlan") { "vxlan" } else { "ipip" };
    let instead = match name {
        "ipip" => "; where there is none, set encapsulation to vxlan",
        _ => "",
    };
    Finding::error(
        FindingCode::Module,
        format!("the kernel has no {name} device"),
        format!("{object}: {text}"),
        format!("modprobe {name}, and echo {name} > /etc/modules-load.d/routed.conf{instead}"),
    )
}

/// Reports other objects that the kernel refuses.
pub(super) fn refusals(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(host) = &facts.host else { return Vec::new() };
    let others = host.failures.iter().filter(|f| f.errno != EOPNOTSUPP || !f.object.starts_with("link "));
    let of = |failure: &tunnel::report::FailureReport| {
        Finding::error(
            FindingCode::Kernel,
            format!("the kernel refuses {}", failure.object),
            format!("{} (errno {}), tried {} times", failure.text, failure.errno, failure.attempts),
            match failure.errno {
                1 => "run routed as root or with CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN)"
                    .to_owned(),
                17 => "another program has the same one: ip route show proto all, then remove it".to_owned(),
                _ => "routectl show status; it is tried again by itself".to_owned(),
            },
        )
    };
    let mut findings: Vec<Finding> = others.map(of).collect();
    // A refused object has a finding of its own above.
    let has_own_finding = |line: &&String| {
        host.sysctls.iter().any(|s| s.problem.as_ref() == Some(line))
            || host.failures.iter().any(|f| line.contains(&f.text))
    };
    let problem =
        |line: &String| Finding::error(FindingCode::Kernel, line, "routectl show status", "as the line says");
    findings.extend(host.problems.iter().filter(|line| !has_own_finding(line)).map(problem));
    findings
}

/// Checks the sysctls.
pub(super) fn sysctls(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(host) = &facts.host else { return Vec::new() };
    let of = |sysctl: &tunnel::sysctl::Sysctl| {
        let problem = sysctl.problem.clone()?;
        let is_filter = sysctl.name.ends_with("rp_filter");
        let code = if is_filter { FindingCode::RpFilter } else { FindingCode::Sysctl };
        let wanted = sysctl.wanted.as_deref().unwrap_or("2");
        Some(Finding::error(code, problem, sysctl.to_string(), format!("sysctl -w {}={wanted}", sysctl.name)))
    };
    host.sysctls.iter().filter_map(of).collect()
}

/// Checks that the firewall passes the packets between nodes.
pub(super) fn firewall(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(Ok(ruleset)) = facts.host.as_ref().map(|host| host.ruleset.as_ref()) else { return Vec::new() };
    let port = facts.snapshot.configuration.listen_port;
    let mut flows = Vec::new();
    if !facts.snapshot.configuration.routed.bgp_disabled {
        flows.push(Flow::Tcp(port));
    }
    if facts.uses_ipip {
        flows.push(Flow::Ipip);
    }
    if facts.uses_vxlan {
        flows.push(Flow::Udp(tunnel::desired::VXLAN_PORT));
    }
    let of = |flow: Flow| {
        ruleset::obstacles(ruleset, flow).into_iter().map(move |obstacle| {
            let text = match obstacle.for_all {
                true => format!("this node's firewall drops {flow}"),
                false => format!("this node's firewall drops some of {flow}"),
            };
            let evidence = format!("{}: {}", obstacle.place, obstacle.rule);
            let remedy = format!(
                "nft insert rule {} {} accept, in whatever manages that table",
                obstacle.chain,
                flow.expression()
            );
            match obstacle.for_all {
                true => Finding::error(FindingCode::Firewall, text, evidence, remedy),
                false => Finding::warning(FindingCode::Firewall, text, evidence, remedy),
            }
        })
    };
    flows.into_iter().flat_map(of).collect()
}

/// Checks that no route of another program precedes routed's routes.
pub(super) fn foreign_routes(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(host) = &facts.host else { return Vec::new() };
    let others: Vec<(&str, IpNet)> = facts
        .snapshot
        .blocks()
        .into_iter()
        .filter(|(node, _)| *node != facts.status.node)
        .flat_map(|(node, blocks)| blocks.into_iter().map(move |block| (node, block)))
        .collect();
    let shadow = |route: &RouteRecord| {
        let prefix = route.prefix;
        let inside = others.iter().find(|(_, block)| block.contains(&prefix))?;
        // A single address on an interface is a pod of this node with a borrowed address.
        let borrowed =
            prefix.prefix_len() == prefix.max_prefix_len() && matches!(route.via, RouteVia::Link(_));
        let wins = prefix != inside.1 || route.metric < host.metric;
        (wins && !borrowed).then(|| {
            let by = leads_to(&route.via, &host.links);
            Finding::error(
                FindingCode::ForeignRoute,
                format!(
                    "packets to {prefix}, of {}'s block {}, go by another program's route",
                    inside.0, inside.1
                ),
                format!("{prefix} {by} proto {} metric {}", route.protocol, route.metric),
                format!(
                    "ip route delete {prefix} proto {} metric {}, and stop who made it",
                    route.protocol, route.metric
                ),
            )
        })
    };
    host.foreign.iter().filter_map(shadow).collect()
}

fn leads_to(via: &RouteVia, links: &[LinkRecord]) -> String {
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or_else(|| index.to_string(), |link| link.name.clone())
    };
    match via {
        RouteVia::Nexthop(id) => format!("nhid {id}"),
        RouteVia::Gateway { gateway, index } => format!("via {gateway} dev {}", name(*index)),
        RouteVia::Blackhole => "blackhole".to_owned(),
        RouteVia::Link(index) => format!("dev {}", name(*index)),
        RouteVia::Other => "of another kind".to_owned(),
    }
}

/// Checks that no rule sends packets to another table before table main.
pub(super) fn foreign_rules(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(host) = &facts.host else { return Vec::new() };
    let others =
        host.rules.iter().filter(|rule| rule.precedes_main(MAIN) && rule.priority != PROBES && rule.all);
    let of = |rule: &tunnel::netlink::rules::RuleRecord| {
        Finding::warning(
            FindingCode::ForeignRule,
            format!("all packets look into table {} before routed's routes", rule.table),
            format!("ip rule: {}: from all lookup {}", rule.priority, rule.table),
            format!("ip route show table {}: a default route there takes the pods' packets away", rule.table),
        )
    };
    others.map(of).collect()
}

/// Checks the MTU of tunnels and pods.
pub(super) fn mtu(facts: &DoctorFacts) -> Vec<Finding> {
    let Some(host) = &facts.host else { return Vec::new() };
    let mut findings = Vec::new();
    let by_index = |index: u32| host.links.iter().find(|link| link.index == index);
    for link in &host.links {
        let (overhead, below) = match link.kind {
            LinkInfo::Ipip { .. } if ["routed.ipip", "tunl0"].contains(&link.name.as_str()) => {
                (20, host.parent.and_then(by_index))
            }
            LinkInfo::Vxlan { parent, .. } if link.name == "routed.vxlan" => (50, by_index(parent)),
            _ => continue,
        };
        if let Some(below) = below.filter(|below| link.mtu + overhead > below.mtu) {
            findings.push(Finding::error(
                FindingCode::Mtu,
                format!("{} takes longer packets than {} carries", link.name, below.name),
                format!("mtu {} and {overhead} octets of header, over mtu {}", link.mtu, below.mtu),
                format!("ip link set {} mtu {}", link.name, below.mtu.saturating_sub(overhead)),
            ));
        }
    }
    let Some(fits) = facts.status.cni.as_ref().and_then(|cni| cni.pod_mtu) else { return findings };
    let long: Vec<String> = host
        .pods
        .iter()
        .filter_map(|(index, address)| Some((by_index(*index)?, address)))
        .filter(|(link, _)| link.mtu > fits)
        .map(|(link, address)| format!("{} of {} (mtu {})", link.name, address.addr(), link.mtu))
        .collect();
    if !long.is_empty() {
        findings.push(Finding::warning(
            FindingCode::Mtu,
            format!("pods may send longer packets than the {fits} octets that fit every tunnel"),
            join_names(&long),
            format!("set the CNI plugin's mtu to {fits}, and start those pods again"),
        ));
    }
    findings
}
