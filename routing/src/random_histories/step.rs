//! Steps of the random histories.

use proptest::prelude::*;

/// One step of a random history.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Peer, block, MED and communities, number of blocks in the message.
    Announce(u8, u8, u8, u8),
    Withdraw(u8, u8),
    Down(u8),
    /// The session ends and its routes are kept; whether older stale ones are kept too; whether the
    /// peer is silent.
    Lost(u8, bool, bool),
    Up(u8),
    /// End-of-RIB; for IPv4 or for IPv6.
    EndOfRib(u8, bool),
    /// The peer answers a ROUTE-REFRESH between markers.
    RefreshBegins(u8, bool),
    /// Stale routes are dropped, or become long-lived stale.
    Stale(u8, bool, bool),
    /// The peer's channel has capacity for this number of chunks.
    Writable(u8, usize),
    Refresh(u8),
    /// The peer becomes a client, or is one no longer.
    Client(u8, bool),
    Own(Vec<u8>),
    Cluster(u8),
    /// Maximum number of multipath exits.
    Multipath(usize),
    /// Number of the peer's policy; see [`policy`](super::policies::policy).
    Policy(u8, u8),
    /// Number of the policy for all peers; see [`cluster`](super::policies::cluster).
    ClusterPolicy(u8),
    /// Runs the RIB with this budget.
    Run(usize),
}

/// Returns a strategy for steps.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let peer = || 1..6u8;
    prop_oneof![
        6 => (peer(), 0..20u8, 0..3u8, 1..6u8).prop_map(|(p, b, m, n)| Step::Announce(p, b, m, n)),
        3 => (peer(), 0..20u8).prop_map(|(p, b)| Step::Withdraw(p, b)),
        1 => peer().prop_map(Step::Down),
        2 => (peer(), any::<bool>(), any::<bool>()).prop_map(|(p, o, s)| Step::Lost(p, o, s)),
        1 => (peer(), any::<bool>()).prop_map(|(p, f)| Step::EndOfRib(p, f)),
        1 => (peer(), any::<bool>()).prop_map(|(p, f)| Step::RefreshBegins(p, f)),
        1 => (peer(), any::<bool>(), any::<bool>()).prop_map(|(p, f, d)| Step::Stale(p, f, d)),
        2 => peer().prop_map(Step::Up),
        2 => (peer(), 0..4usize).prop_map(|(p, n)| Step::Writable(p, n)),
        1 => peer().prop_map(Step::Refresh),
        1 => (peer(), any::<bool>()).prop_map(|(p, c)| Step::Client(p, c)),
        1 => prop::collection::vec(0..20u8, 0..4).prop_map(Step::Own),
        1 => (1..3u8).prop_map(Step::Cluster),
        1 => (0..5usize).prop_map(Step::Multipath),
        2 => (peer(), 0..9u8).prop_map(|(p, n)| Step::Policy(p, n)),
        1 => (0..4u8).prop_map(Step::ClusterPolicy),
        6 => (1..8usize).prop_map(Step::Run),
    ]
}
