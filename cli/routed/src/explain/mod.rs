//! `routectl explain`: finds the first problem on the path to an address. The judgement has no I/O;
//! `facts` gathers its input.

pub(crate) mod facts;

use api::view::{ExitKind, ExplainFacts, LookupView, Verdict, VerdictView};
use tunnel::netlink::neighbours::NeighbourState;
use tunnel::probe::prober::LOSSES_IN_ROW;

#[cfg(test)]
mod tests;

/// `EHOSTUNREACH`: the kernel's answer for an incoming packet on an interface without forwarding.
const EHOSTUNREACH: i32 = 113;
/// `EINVAL`: the kernel's answer for a blackhole route or an impossible source address.
const EINVAL: i32 = 22;

/// A verdict, its text, and the remedy.
type Conclusion = (Verdict, String, Option<String>);

/// The checks, in the order of a packet's path. The first one that finds a problem decides.
const STEPS: &[fn(&ExplainFacts) -> Option<Conclusion>] =
    &[source, block, path, exit, installed, local, kernel, link, wire, mtu];

/// Returns the verdict: the first problem, or that packets reach the target.
pub fn judge(facts: &ExplainFacts) -> VerdictView {
    let (code, text, remedy) = STEPS.iter().find_map(|step| step(facts)).unwrap_or_else(|| reached(facts));
    VerdictView { ok: code.is_ok(), code, text, remedy }
}

fn conclude(verdict: Verdict, text: String, remedy: impl Into<String>) -> Option<Conclusion> {
    Some((verdict, text, Some(remedy.into())))
}

/// Returns the verdict if no check finds a problem.
fn reached(facts: &ExplainFacts) -> Conclusion {
    let target = &facts.target;
    let Some(route) = &facts.route else {
        let text = format!("{target} is in no pool and no node's block: this node's own routes decide");
        return (Verdict::OutsideCluster, text, None);
    };
    let to = facts.tunnel.as_ref().map(|tunnel| tunnel.node.as_str()).or(route.peer.as_deref());
    let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
    let how = match route.exit {
        Some(ExitKind::Ipip) => "IP-in-IP",
        Some(ExitKind::Vxlan) => "VXLAN",
        Some(ExitKind::Direct) => "unwrapped",
        Some(ExitKind::Blackhole) | None => "as the table says",
    };
    let note = match facts.kernel {
        Some(_) => "",
        None => " (there is no dataplane here)",
    };
    let text =
        format!("packets go{to}, {how}: {}{note}; whether the pod is there, that node knows", route.reason);
    (Verdict::Reached, text, None)
}

/// Checks the source of the packets.
fn source(facts: &ExplainFacts) -> Option<Conclusion> {
    let from = facts.from.as_ref()?;
    if from.device.is_some() {
        return None;
    }
    let address = from.address;
    match &from.node {
        Some(node) if !from.local => conclude(
            Verdict::AskThere,
            format!("{address} is a pod's of {node}, and only that node knows what it does with its packets"),
            format!("on {node}: routectl explain {} --from {address}", facts.target),
        ),
        _ => conclude(
            Verdict::NoSuchSource,
            format!(
                "this node's kernel has no pod with the address {address}: no route to it leads to an interface"
            ),
            format!("ip route get {address}; is the pod here, and did its CNI plugin finish?"),
        ),
    }
}

/// Checks that the target is in a block with a known owner.
fn block(facts: &ExplainFacts) -> Option<Conclusion> {
    let target = &facts.target;
    match &facts.owner {
        Some(owner) if owner.address.is_none() && !owner.local && facts.paths.is_empty() => conclude(
            Verdict::OwnerUnknown,
            format!("{} is {}'s, which has no Node resource with an address", owner.block, owner.node),
            format!(
                "routectl get node {} -o yaml, and start routed there, or routectl ipam check",
                owner.node
            ),
        ),
        None if facts.paths.is_empty() => {
            let pool = facts.pool.as_ref().and_then(|pool| pool.name.as_deref().zip(pool.cidr))?;
            conclude(
                Verdict::NoOwner,
                format!("{target} is in pool {} ({}), but in no node's block", pool.0, pool.1),
                "routectl ipam show --show-blocks: did the node that the pod was on go away?",
            )
        }
        _ => None,
    }
}

/// Checks that there is an accepted path.
fn path(facts: &ExplainFacts) -> Option<Conclusion> {
    if facts.route.is_some() {
        return None;
    }
    if let Some(first) = facts.paths.first() {
        let from = first.peer.as_deref().unwrap_or("a peer");
        let prefix = facts.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
        return conclude(
            Verdict::Rejected,
            format!("every path to {prefix} is rejected; the one from {from}: {}", first.reason),
            "routectl show routes --rejected; change the filter or the resource that it names",
        );
    }
    let owner = facts.owner.as_ref().filter(|owner| !owner.local)?;
    match owner.session.as_deref() {
        Some("Established") => conclude(
            Verdict::NotAnnounced,
            format!(
                "{} does not announce {} although the session with it is Established: it has withdrawn it, or its pool \
                 is not exported",
                owner.node, owner.block
            ),
            format!("on {}: routectl show routes, routectl show status", owner.node),
        ),
        session => conclude(
            Verdict::NoSession,
            match session {
                Some(state) => format!(
                    "no path to {}: the session with {} is {state} ({})",
                    owner.block,
                    owner.node,
                    owner.last_error.as_deref().unwrap_or("nothing was heard yet")
                ),
                None => format!(
                    "no path to {}: no peer announces it, and there is no session with {}",
                    owner.block, owner.node
                ),
            },
            match session {
                Some(_) => format!("routectl show peers {}; routectl doctor", owner.node),
                None => {
                    "routectl show peers: is the mesh off, and does a reflector know the block?".to_owned()
                }
            },
        ),
    }
}

/// Checks that the path has an exit point.
fn exit(facts: &ExplainFacts) -> Option<Conclusion> {
    let route = facts.route.as_ref()?;
    facts.kernel.as_ref()?;
    match route.exit {
        None if route.next_hop.is_some() => conclude(
            Verdict::NoExit,
            format!("{} has a path, but no exit point: {}", route.prefix, route.reason),
            "routectl show tunnels; routectl doctor",
        ),
        Some(ExitKind::Blackhole) if route.next_hop.is_some() => conclude(
            Verdict::Discarded,
            format!("{} is announced with BLACKHOLE (RFC 7999): packets to it are discarded", route.prefix),
            format!("ask {} why", route.peer.as_deref().unwrap_or("who announces it")),
        ),
        _ => None,
    }
}

/// Checks that the kernel has the route.
fn installed(facts: &ExplainFacts) -> Option<Conclusion> {
    let route = facts.route.as_ref().filter(|_| facts.kernel.is_some())?;
    let own_address = route.next_hop.is_none() && route.exit.is_none();
    if route.installed || own_address {
        return None;
    }
    conclude(
        Verdict::NotInstalled,
        format!("the kernel does not have {}: {}", route.prefix, route.reason),
        "routectl show status: what the kernel refused is listed there",
    )
}

/// Checks a target on this node.
fn local(facts: &ExplainFacts) -> Option<Conclusion> {
    let owner = facts.owner.as_ref().filter(|owner| owner.local)?;
    let kernel = facts.kernel.as_ref()?;
    let target = &facts.target;
    if kernel.outcome == "local" {
        return Some((Verdict::LocalPod, format!("{target} is this node's own address"), None));
    }
    match (&kernel.device, kernel.gateway) {
        (Some(device), None) if kernel.prefix.is_none_or(|prefix| owner.block.contains(&prefix)) => {
            if let Some(error) = refused(facts, kernel) {
                return Some(error);
            }
            Some((Verdict::LocalPod, format!("{target} is a pod of this node, behind {device}"), None))
        }
        _ if kernel.outcome == "blackhole" || kernel.errno == Some(EINVAL) => conclude(
            Verdict::NoSuchPod,
            format!("{target} is in this node's block {}, but no pod here has it", owner.block),
            format!("ip route show {target}: is the pod running, and did its CNI plugin finish?"),
        ),
        _ => None,
    }
}

fn refused(facts: &ExplainFacts, kernel: &LookupView) -> Option<Conclusion> {
    let from = facts.from.as_ref()?;
    let device = from.device.as_deref().unwrap_or("its interface");
    if kernel.errno != Some(EHOSTUNREACH) {
        return None;
    }
    conclude(
        Verdict::NotForwarded,
        format!("the kernel does not forward what comes in by {device}"),
        format!("sysctl -w net.ipv4.conf.{device}.forwarding=1 (or net.ipv4.ip_forward=1)"),
    )
}

/// Checks that the kernel forwards the packet by the expected route.
fn kernel(facts: &ExplainFacts) -> Option<Conclusion> {
    let kernel = facts.kernel.as_ref()?;
    if let Some(found) = refused(facts, kernel) {
        return Some(found);
    }
    let target = &facts.target;
    let shadowed = |what: String| {
        conclude(
            Verdict::Shadowed,
            what,
            format!("ip route get {target}; remove the other route, and stop who made it"),
        )
    };
    match &facts.route {
        Some(route) if !kernel.ours && route.next_hop.is_some() && kernel.prefix.is_some() => {
            let prefix = kernel.prefix.map(|prefix| prefix.to_string()).unwrap_or_default();
            let device = kernel.device.as_deref().unwrap_or("nowhere");
            let number = kernel.protocol.unwrap_or(0);
            let table = kernel.table.filter(|table| *table != 254).map(|table| format!(" in table {table}"));
            shadowed(format!(
                "the kernel does not use routed's route {} but another one: {prefix}{} by {device}, protocol {number}, metric {}",
                route.prefix,
                table.unwrap_or_default(),
                kernel.metric.unwrap_or(0),
            ))
        }
        _ => match &kernel.error {
            Some(error) => conclude(
                Verdict::NoRoute,
                format!("the kernel has no way to {target}: {error}"),
                format!("ip route get {target}"),
            ),
            None => None,
        },
    }
}

/// Checks the neighbor and forwarding entries of the VXLAN device.
fn link(facts: &ExplainFacts) -> Option<Conclusion> {
    let neighbor = facts.neighbour.as_ref()?;
    let outer = facts.outer.as_ref()?;
    let lacks = match (neighbor.gateway_entry, neighbor.forwarded_to) {
        (Some(false), _) => "the VXLAN device has no neighbour entry for the other node's VTEP".to_owned(),
        (Some(true), None) => "the VXLAN device has no forwarding entry for the other node's VTEP".to_owned(),
        (Some(true), Some(to)) if to != outer.destination => {
            format!(
                "the VXLAN device sends frames for the other node to {to} instead of {}",
                outer.destination
            )
        }
        _ => return None,
    };
    conclude(
        Verdict::NoVtepEntry,
        lacks,
        "routectl show status: routed puts it back, unless the kernel refuses it",
    )
}

/// Checks that the next hop and the tunnel answer.
fn wire(facts: &ExplainFacts) -> Option<Conclusion> {
    let node = facts.tunnel.as_ref().map_or("the other node", |tunnel| tunnel.node.as_str());
    if let Some(neighbor) = facts.neighbour.as_ref().filter(|neighbor| is_unreachable(&neighbor.state)) {
        return conclude(
            Verdict::NoNeighbour,
            format!("{} on {} does not answer ARP or neighbour discovery", neighbor.address, neighbor.device),
            format!(
                "is {node} up, and is its address the one in its Node resource? routectl get node {node} -o wide"
            ),
        );
    }
    let tunnel = facts.tunnel.as_ref()?;
    let way = tunnel.ways.iter().find(|way| Some(way.exit) == tunnel.in_use)?;
    if way.lost_in_row < LOSSES_IN_ROW {
        return None;
    }
    let (what, name) = match way.exit {
        ExitKind::Ipip => ("IP protocol 4", "IP-in-IP"),
        ExitKind::Vxlan => ("UDP port 4789", "VXLAN"),
        ExitKind::Direct | ExitKind::Blackhole => ("packets with pods' addresses", "unwrapped"),
    };
    conclude(
        Verdict::Unanswered,
        format!(
            "{node} has not answered the last {} probes by {name}, the way that packets go",
            way.lost_in_row
        ),
        format!(
            "is {node} up, with routed running? Then let {what} pass between the nodes; routectl doctor on both"
        ),
    )
}

/// Returns whether a neighbor state means that the neighbor does not answer.
fn is_unreachable(state: &str) -> bool {
    [NeighbourState::Failed, NeighbourState::Incomplete].iter().any(|unreachable| unreachable.name() == state)
}

/// Checks that the pod's MTU fits the tunnel.
fn mtu(facts: &ExplainFacts) -> Option<Conclusion> {
    let from = facts.from.as_ref()?;
    let (sends, fits) = (from.mtu?, facts.outer.as_ref()?.mtu?);
    if sends <= fits {
        return None;
    }
    conclude(
        Verdict::MtuTooLarge,
        format!(
            "{} may send {sends} octets and {fits} fit: longer packets that must not be fragmented are dropped",
            from.address
        ),
        format!(
            "set the pods' MTU to {fits} (spec.routed.cni, or the CNI plugin's configuration) and start the pod again"
        ),
    )
}
