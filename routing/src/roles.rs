//! Prevention of route leaks between ASes (RFC 9234 §5): a route from a provider, a peer or a route
//! server is advertised to customers only. The ONLY_TO_CUSTOMER attribute enforces this across
//! ASes.

use bgp::Asn;
use bgp::wire::capability::Role;

/// Returns whether a received route has leaked; `ours` is our role towards the peer in `peer_as`.
pub(crate) fn is_leaked(ours: Role, peer_as: Asn, only_to_customer: Option<Asn>) -> bool {
    match ours {
        Role::Provider | Role::RouteServer => only_to_customer.is_some(),
        Role::Peer => only_to_customer.is_some_and(|asn| asn != peer_as),
        Role::Customer | Role::RouteServerClient => false,
    }
}

/// Returns whether a route received without the attribute gets it, with the peer's AS.
pub(crate) fn marks_received(ours: Role) -> bool {
    matches!(ours, Role::Customer | Role::RouteServerClient | Role::Peer)
}

/// Returns whether a route with this attribute may be advertised to a peer.
pub(crate) fn may_be_advertised(ours: Role, only_to_customer: Option<Asn>) -> bool {
    only_to_customer.is_none() || matches!(ours, Role::Provider | Role::RouteServer)
}

/// Returns whether a route without the attribute gets it when advertised to a peer, with our AS.
pub(crate) fn marks_sent(ours: Role) -> bool {
    matches!(ours, Role::Provider | Role::RouteServer | Role::Peer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_from_providers_and_peers_go_to_customers_only() {
        let (peer, other) = (Asn(65001), Asn(65002));
        // Our role; leaked without the attribute, with the peer's AS, with another AS; marked when
        // received; may be advertised with the attribute; marked when sent.
        let table = [
            (Role::Provider, [false, true, true], false, true, true),
            (Role::RouteServer, [false, true, true], false, true, true),
            (Role::RouteServerClient, [false, false, false], true, false, false),
            (Role::Customer, [false, false, false], true, false, false),
            (Role::Peer, [false, false, true], true, false, true),
        ];
        for (role, leaked, received, goes, sent) in table {
            let found = [None, Some(peer), Some(other)].map(|otc| is_leaked(role, peer, otc));
            assert_eq!(found, leaked, "{role:?}");
            assert_eq!(marks_received(role), received, "{role:?}");
            assert_eq!(may_be_advertised(role, Some(other)), goes, "{role:?}");
            assert!(may_be_advertised(role, None), "{role:?}");
            assert_eq!(marks_sent(role), sent, "{role:?}");
        }
    }
}
