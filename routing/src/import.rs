//! Whether a received path may take part in the decision (RFC 4271 §9.1.2, RFC 4456 §8).

use bgp::wire::attribute::is_host;

use crate::attrs::AttrSet;
use crate::config::RibConfig;
use crate::decide::Reason;

/// Why a path from a peer is not eligible; `None`: it is.
pub fn reject(config: &RibConfig, attrs: &AttrSet, internal: bool) -> Option<Reason> {
    if attrs.as_path().asns().any(|asn| asn == config.local_as) {
        return Some(Reason::AsLoop);
    }
    if attrs.originator_id == Some(config.router_id) {
        return Some(Reason::OriginatorLoop);
    }
    if internal
        && let Some(cluster_id) = config.cluster_id
        && attrs.cluster_list().any(|id| id == cluster_id)
    {
        return Some(Reason::ClusterLoop);
    }
    if config.local_addresses.contains(&attrs.next_hop) {
        return Some(Reason::NextHopSelf);
    }
    if !is_host(attrs.next_hop) {
        return Some(Reason::NextHopNotHost);
    }
    None
}
