//! Commands for the task that owns the RIB.

use std::net::IpAddr;

use bgp::session::{Retention, StaleAction};
use bgp::{Family, PeerId};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot};

use crate::batch::RouteBatch;
use crate::channels::PeerChannel;
use crate::config::RibConfig;
use crate::path::{PeerSession, Source};
use crate::policy::{ClusterPolicy, PeerPolicy, PrefixLimitReport};
use crate::rib::Rib;

pub(crate) enum RibCommand {
    Up(PeerId, PeerSession, PeerChannel),
    Down(PeerId, Retention),
    Stale(PeerId, StaleAction),
    RefreshBegins(PeerId, Family),
    HoldMarkers(bool),
    /// The peer has written all its chunks.
    Drained(PeerId),
    Routes(PeerId, RouteBatch),
    EndOfRib(PeerId, Family),
    Refresh(PeerId, Family),
    Configure(RibConfig),
    Policy(Box<ClusterPolicy>),
    PeerPolicy(PeerId, Box<PeerPolicy>),
    Forget(PeerId),
    Limits(mpsc::Sender<PrefixLimitReport>),
    Originate(Source, Vec<(IpNet, IpAddr)>),
    OriginateStatics(Vec<(IpNet, IpAddr)>, Vec<(IpNet, IpAddr)>),
    SetClient(PeerId, bool),
    Query(Box<dyn FnOnce(&Rib) + Send>),
    Wait(SyncWaiter),
}

/// Condition that a caller waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncCondition {
    /// See [`Rib::is_synced`].
    Synced,
    /// See [`Rib::is_caught_up`].
    CaughtUp,
}

impl std::fmt::Debug for RibCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Command")
    }
}

/// Caller that waits until the condition holds for these peers and all resulting changes are sent.
pub(crate) type SyncWaiter = (Vec<PeerId>, SyncCondition, oneshot::Sender<()>);
