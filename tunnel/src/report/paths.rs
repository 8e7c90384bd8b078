//! What probes have shown of the ways to a node.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::ExitKind;
use crate::{
    dataplane::Dataplane,
    probe::{PathState, TunnelPath},
    reconcile::Reconciler,
};

/// What probes have shown of one way to a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathReport {
    /// The way.
    pub exit: ExitKind,
    /// What follows from the probes by it.
    pub state: PathState,
    /// How many were not answered since the last one that was.
    pub lost_in_row: u32,
    /// Round-trip time of the last answer, in milliseconds; none came yet.
    pub last_ms: Option<f64>,
}

impl<D: Dataplane> Reconciler<D> {
    /// The ways that are probed.
    pub(super) fn report_ways(&self, address: Ipv4Addr) -> Vec<PathReport> {
        let Some(seen) = self.dataplane.probed(address) else { return Vec::new() };
        let asked = TunnelPath::ALL.into_iter().zip(seen).filter(|(_, seen)| {
            seen.answered_at.is_some() || seen.lost_in_row > 0 || seen.state != PathState::Unknown
        });
        asked
            .map(|(path, seen)| PathReport {
                exit: match path {
                    TunnelPath::Ipip => ExitKind::Ipip,
                    TunnelPath::Vxlan => ExitKind::Vxlan,
                    TunnelPath::Direct => ExitKind::Direct,
                },
                state: seen.state,
                lost_in_row: seen.lost_in_row,
                last_ms: seen.round_trip.map(milliseconds),
            })
            .collect()
    }

    /// Round-trip time of the last answer by the way in use, or else by the one that is asked after.
    pub(super) fn round_trip_ms(&self, address: Ipv4Addr) -> Option<f64> {
        let seen = self.dataplane.probed(address)?;
        let last = seen.iter().filter(|s| s.answered_at.is_some()).max_by_key(|s| s.answered_at)?;
        last.round_trip.map(milliseconds)
    }

    /// How far the node's clock was ahead of this one's at the last answer, in milliseconds.
    pub(super) fn clock_ahead_ms(&self, address: Ipv4Addr) -> Option<f64> {
        let seen = self.dataplane.probed(address)?;
        let last = seen.iter().filter(|s| s.answered_at.is_some()).max_by_key(|s| s.answered_at)?;
        // Clocks that are further apart than 24 days are told as that.
        let micros = last.clock_ahead?.clamp(-i64::from(i32::MAX) * 1000, i64::from(i32::MAX) * 1000);
        i32::try_from(micros / 1000).ok().map(f64::from)
    }
}

fn milliseconds(time: std::time::Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}
