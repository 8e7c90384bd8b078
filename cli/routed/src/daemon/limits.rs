//! Maximum prefixes: warns about a peer that approaches its limit, and ends the session of a peer
//! that exceeds it.

use bgp::wire::error::ErrorCode;
use routing::limits::PrefixLimitReport;

use crate::daemon::Daemon;

impl Daemon {
    /// Handles a report that a peer has reached its warning threshold or exceeded its limit.
    pub(crate) async fn handle_prefix_limit(&mut self, report: PrefixLimitReport) {
        let PrefixLimitReport { peer: id, held, limit, exceeded } = report;
        let Some(peer) = self.peers.values().find(|peer| peer.id == id) else { return };
        let name = &peer.settings.peering.name;
        if !exceeded {
            tracing::warn!(
                peer = %name,
                "{held} prefixes of at most {limit}: raise spec.routed.maxPrefixes.limit, or ask what the peer sends"
            );
            return;
        }
        let again = match peer.settings.restart_after {
            Some(after) => format!("again in {} s", after.as_secs()),
            None => "not again before its configuration changes".to_owned(),
        };
        tracing::error!(
            peer = %name,
            "more than {limit} prefixes: the session ends, {again}; raise spec.routed.maxPrefixes.limit, or ask what \
             the peer sends"
        );
        peer.handle.cease(ErrorCode::MAXIMUM_PREFIXES, peer.settings.restart_after).await;
    }
}
