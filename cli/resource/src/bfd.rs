//! `spec.routed.bfd` of a BGPPeer and, for the mesh, of a BGPConfiguration.

use std::num::NonZeroU8;
use std::time::Duration;

use super::reader::{Fields, Report};
use super::scalar;

/// The BFD parameters of a session (RFC 5880).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BfdSettings {
    /// The interval between packets in either direction (`minInterval`, 50 ms): 10 ms to 10 s.
    pub min_interval: Duration,
    /// The number of missed packets after which the session is down (`multiplier`, 3): 1 to
    /// 255.
    pub multiplier: NonZeroU8,
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(10);

/// Reads `bfd` of `spec.routed`; `bfd: {}` selects the defaults.
pub(super) fn read(routed: &mut Fields<'_>, report: &mut Report) -> Option<BfdSettings> {
    let mut fields = routed.fields("bfd", report)?;
    let min_interval = fields.optional("minInterval", report, |value| {
        let time = scalar::duration(value)?;
        if (SHORTEST..=LONGEST).contains(&time) { Ok(time) } else { Err("must be from 10ms to 10s".into()) }
    });
    let multiplier = fields.optional("multiplier", report, scalar::number(1, 255)).and_then(NonZeroU8::new);
    fields.finish(report);
    Some(BfdSettings {
        min_interval: min_interval.unwrap_or(Duration::from_millis(50)),
        multiplier: multiplier.unwrap_or(NonZeroU8::MIN.saturating_add(2)),
    })
}
