//! Policies of the random histories, with their expected results in a second form.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::Asn;
use ipnet::IpNet;

use super::block;
use crate::ownership::{Owners, OwnershipMode};
use crate::policy::{
    Action, Chain, Community, ExportPolicy, Filter, FilterRule, ImportPolicy, NextHopMode, Operation,
    Operator, PrefixLimit, PrefixMatch,
};
use crate::{ClusterPolicy, PeerPolicy};

/// Returns the communities of announcements with this MED.
pub(super) fn communities(med: u8) -> Vec<u32> {
    match med {
        1 => vec![ONE],
        2 => vec![NO_EXPORT],
        _ => vec![],
    }
}

pub(super) const ONE: u32 = 1 << 16 | 1;
pub(super) const TWO: u32 = 2 << 16 | 2;
pub(super) const LLGR_STALE: u32 = 0xffff_0006;
pub(super) const NO_EXPORT: u32 = 0xffff_ff01;
pub(super) const LIMIT: usize = 4;

/// Returns a list of rules for policies.
fn rules(number: u8) -> Vec<FilterRule> {
    let with_one = FilterRule { community: Some(Community::Standard(ONE)), ..FilterRule::default() };
    let low = |operator| {
        let net: IpNet = "10.1.0.0/21".parse().unwrap();
        Some(PrefixMatch { net, operator, min: 21, max: 32 })
    };
    match number {
        0 => vec![FilterRule { action: Action::Reject, ..with_one }],
        1 => vec![FilterRule {
            prefix: low(Operator::In),
            operations: vec![Operation::AddCommunity(Community::NO_EXPORT)],
            ..FilterRule::default()
        }],
        _ => vec![
            FilterRule { operations: vec![Operation::PrependAsPath(vec![Asn(7), Asn(8)])], ..with_one },
            FilterRule { prefix: low(Operator::NotIn), action: Action::Reject, ..FilterRule::default() },
            FilterRule {
                operations: vec![Operation::AddCommunity(Community::Standard(TWO))],
                ..FilterRule::default()
            },
        ],
    }
}

fn filter(number: u8) -> Filter {
    let rules = rules(number);
    Filter { import_v4: rules.clone(), export_v4: rules.clone(), import_v6: rules.clone(), export_v6: rules }
}

/// Returns a policy for a peer.
pub(super) fn policy(number: u8) -> PeerPolicy {
    let mut policy = PeerPolicy::default();
    let chain = |number| Some(Arc::new(Chain::import([&filter(number)])));
    match number {
        1 => policy.import.chain = chain(0),
        2 => policy.import.chain = chain(1),
        3 => policy.export = Arc::new(ExportPolicy { chain: chain(0), ..ExportPolicy::default() }),
        4 => policy.export = Arc::new(ExportPolicy { chain: chain(2), ..ExportPolicy::default() }),
        5 => {
            policy.import.outside = true;
            policy.export = Arc::new(ExportPolicy { outside: true, ..ExportPolicy::default() });
        }
        6 => {
            policy.import = ImportPolicy { outside: true, chain: chain(2), ..ImportPolicy::default() };
            policy.export = Arc::new(ExportPolicy { next_hop: NextHopMode::Keep, ..ExportPolicy::default() });
        }
        7 => {
            policy.export = Arc::new(ExportPolicy {
                next_hop: NextHopMode::Own,
                local_as: Some(Asn(9)),
                ..ExportPolicy::default()
            });
        }
        8 => policy.max_prefixes = Some(PrefixLimit { limit: LIMIT, warn_at: 3 }),
        _ => {}
    }
    policy
}

/// Returns a policy for all peers: pools and owners.
pub(super) fn cluster(number: u8) -> ClusterPolicy {
    let address = |peer: u8| [IpAddr::from([192, 168, 0, peer]), format!("fd00::{peer}").parse().unwrap()];
    let owners = |mode| {
        let nodes: Vec<_> = (1..3).map(|peer| (address(peer), vec![block(peer), block(peer + 8)])).collect();
        Owners::new(mode, nodes.iter().map(|(addresses, blocks)| (&addresses[..], &blocks[..])))
    };
    match number {
        1 => ClusterPolicy { owners: owners(OwnershipMode::Strict), ..ClusterPolicy::default() },
        2 => ClusterPolicy { owners: owners(OwnershipMode::Warn), ..ClusterPolicy::default() },
        3 => ClusterPolicy {
            pools: vec!["10.1.0.0/21".parse().unwrap(), "fd00::/30".parse().unwrap()],
            ..ClusterPolicy::default()
        },
        _ => ClusterPolicy::default(),
    }
}

pub(super) fn is_low(prefix: &IpNet) -> bool {
    let low: IpNet = "10.1.0.0/21".parse().unwrap();
    low.contains(prefix)
}

pub(super) fn is_pooled(prefix: &IpNet) -> bool {
    cluster(3).pools.iter().any(|pool| pool.contains(prefix))
}

pub(super) fn added(mut communities: Vec<u32>, more: Option<u32>) -> Vec<u32> {
    communities.extend(more.filter(|one| !communities.contains(one)));
    communities
}

/// Returns the expected result of the third list of rules for a route.
pub(super) fn third(
    prefix: &IpNet,
    communities: Vec<u32>,
    mut path: Vec<u32>,
) -> Option<(Vec<u32>, Vec<u32>)> {
    if communities.contains(&ONE) {
        path.splice(0..0, [7, 8]);
        return Some((communities, path));
    }
    is_low(prefix).then(|| (added(communities, Some(TWO)), path))
}
