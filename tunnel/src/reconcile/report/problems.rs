//! Problems that need intervention, one line each.

use ipnet::IpNet;

use crate::{
    dataplane::{
        Dataplane,
        errno::{EOPNOTSUPP, EPERM},
    },
    desired::{DesiredDevice, Device},
    diff::Object,
    node::{Config, FallbackMode},
    reconcile::Reconciler,
    report::{PERMISSION_DENIED, describe},
};

impl<D: Dataplane> Reconciler<D> {
    pub(super) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        problems.extend(self.dataplane.probe_problem());
        if self.permission_denied {
            problems.push(PERMISSION_DENIED.to_owned());
        }
        if let Some(error) = self.observation_error() {
            problems.push(format!(
                "the kernel's links and routes cannot be read ({error}): is netlink allowed here?"
            ));
        }
        if let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) {
            problems.extend(config_problems(config));
            if let (Some(underlay), None) = (config.local.underlay(), observed.parent) {
                problems.push(format!(
                    "no interface has this node's address {underlay}: give it to one, or correct the Node resource"
                ));
            }
            if let Some(rival) = observed.vxlan_rival.as_ref().filter(|_| config.needs_vxlan()) {
                problems.push(format!(
                    "the VXLAN device {rival} has VNI 4096 and port 4789, so routed.vxlan cannot be created beside it: \
                     delete it (ip link delete {rival}) once its owner is stopped"
                ));
            }
            if self.fib.desired.ipip != DesiredDevice::Absent
                && observed.ipip.is_none()
                && !observed.has_tunl0
            {
                let refused = self.ledger.failures().get(&Object::Link(Device::Ipip));
                if let Some(failure) = refused.filter(|f| f.errno == EOPNOTSUPP) {
                    problems.push(format!(
                        "the kernel has no ipip device ({}): load the module (modprobe ipip) or set encapsulation to vxlan",
                        failure.text
                    ));
                }
            }
        }
        problems.extend(self.sysctls.iter().filter_map(|s| s.problem.clone()));
        // Without the privilege every object fails for that one reason.
        let explained = |errno: i32| self.permission_denied && errno == EPERM;
        let refusals = || self.ledger.failures().iter().filter(|(_, f)| !explained(f.errno));
        let count = refusals().count();
        if let Some((object, failure)) = refusals().next() {
            let more = if count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            problems.push(format!("{}: {}{more}; it is tried again", describe(object), failure.text));
        }
        problems
    }
}

fn config_problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let tunnelled = config.needs_ipip() || config.needs_vxlan();
    if tunnelled && config.local.tunnel_address.is_none() && config.local.ipv4.is_some() {
        problems.push(
            "this node has no tunnel address, so its own connections to pods lack a source: give it a block larger \
             than a /32 or set ipv4IPIPTunnelAddr"
                .to_owned(),
        );
    }
    if config.needs_vxlan() && config.fallback == FallbackMode::Vxlan {
        let without: Vec<&str> = config
            .nodes
            .iter()
            .filter(|n| n.vtep.is_none() && n.blocks.iter().any(|b| matches!(b, IpNet::V4(_))))
            .map(|n| n.name.as_str())
            .collect();
        if let Some(first) = without.first() {
            problems.push(format!(
                "{} node(s) have no VTEP address and cannot be reached by VXLAN, {first} first: set ipv4VXLANTunnelAddr",
                without.len()
            ));
        }
    }
    problems
}
