//! The MTU of pods.

use crate::{
    desired::{IPIP_OVERHEAD, VXLAN_OVERHEAD, VXLAN_OVERHEAD_IPV6},
    node::Config,
};

/// Returns the MTU of pods in octets: the largest that fits through every encapsulation that may be
/// used, so that no fallback or change of configuration makes a packet too large. `parent` is the
/// MTU of the interface with this node's address.
pub fn pod_mtu(config: &Config, parent: u32) -> u32 {
    let ipip = config.needs_ipip().then_some(IPIP_OVERHEAD);
    let over_ipv6 = config.local.underlay().is_some_and(|underlay| underlay.is_ipv6());
    let vxlan = config.needs_vxlan().then_some(if over_ipv6 { VXLAN_OVERHEAD_IPV6 } else { VXLAN_OVERHEAD });
    parent.saturating_sub(ipip.max(vxlan).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::{DEFAULT_ROUTE_METRIC, Encapsulation, FallbackMode, LocalNode, ProbeConfig};

    #[test]
    fn the_smallest_mtu_of_the_encapsulations_in_use_counts() {
        let config = |encapsulation, fallback, ipv4: bool| Config {
            local: LocalNode {
                name: "a".into(),
                ipv4: ipv4.then(|| "192.168.0.1/24".parse().expect("net")),
                ipv6: Some("fd00::1/64".parse().expect("net")),
                blocks: Vec::new(),
                tunnel_address: None,
                tunnel_ipv6: None,
                vtep_mac: None,
            },
            nodes: Vec::new(),
            pools: Vec::new(),
            encapsulation,
            fallback,
            route_protocol: 179,
            route_metric: DEFAULT_ROUTE_METRIC,
            nexthop_compat_keep: false,
            probing: ProbeConfig::default(),
            device_linger: std::time::Duration::ZERO,
        };
        for (encapsulation, fallback, ipv4, mtu) in [
            (Encapsulation::Ipip, FallbackMode::Vxlan, true, 1450),
            (Encapsulation::Ipip, FallbackMode::None, true, 1480),
            (Encapsulation::Vxlan, FallbackMode::None, true, 1450),
            (Encapsulation::Vxlan, FallbackMode::Vxlan, false, 1430),
            (Encapsulation::None, FallbackMode::Vxlan, true, 1500),
        ] {
            let config = config(encapsulation, fallback, ipv4);
            assert_eq!(pod_mtu(&config, 1500), mtu, "{encapsulation:?} {fallback:?} {ipv4}");
        }
    }
}
