//! Measurements of the tunnel paths to a node.

use std::net::Ipv4Addr;

use crate::{
    dataplane::Dataplane,
    probe::{PathState, TunnelPath},
    reconcile::Reconciler,
    report::{ExitKind, PathReport},
};

impl<D: Dataplane> Reconciler<D> {
    /// Reports the paths that are probed.
    pub(super) fn report_ways(&self, address: Ipv4Addr) -> Vec<PathReport> {
        let Some(measurements) = self.dataplane.path_measurements(address) else { return Vec::new() };
        let probed = TunnelPath::ALL.into_iter().zip(measurements).filter(|(_, measurement)| {
            measurement.answered_at.is_some()
                || measurement.lost_in_row > 0
                || measurement.state != PathState::Unknown
        });
        probed
            .map(|(path, measurement)| PathReport {
                exit: match path {
                    TunnelPath::Ipip => ExitKind::Ipip,
                    TunnelPath::Vxlan => ExitKind::Vxlan,
                    TunnelPath::Direct => ExitKind::Direct,
                },
                state: measurement.state,
                lost_in_row: measurement.lost_in_row,
                last_ms: measurement.round_trip.map(milliseconds),
            })
            .collect()
    }

    /// Returns the round-trip time of the most recent answer by any path.
    pub(super) fn round_trip_ms(&self, address: Ipv4Addr) -> Option<f64> {
        let measurements = self.dataplane.path_measurements(address)?;
        let last = measurements.iter().filter(|s| s.answered_at.is_some()).max_by_key(|s| s.answered_at)?;
        last.round_trip.map(milliseconds)
    }

    /// Returns the difference of the node's clock to this one's at the last answer, in
    /// milliseconds; positive if it is ahead.
    pub(super) fn clock_ahead_ms(&self, address: Ipv4Addr) -> Option<f64> {
        let measurements = self.dataplane.path_measurements(address)?;
        let last = measurements.iter().filter(|s| s.answered_at.is_some()).max_by_key(|s| s.answered_at)?;
        // Differences above 24 days are reported as that.
        let micros = last.clock_ahead?.clamp(-i64::from(i32::MAX) * 1000, i64::from(i32::MAX) * 1000);
        i32::try_from(micros / 1000).ok().map(f64::from)
    }
}

fn milliseconds(time: std::time::Duration) -> f64 {
    f64::from(u32::try_from(time.as_micros()).unwrap_or(u32::MAX)) / 1000.0
}
