//! Keys of update groups.

use bgp::Families;
use bgp::wire::encode::UpdateFormat;

use crate::export::Audience;
use crate::export_policies::ExportPolicyIx;
use crate::path::{PeerSession, SourceKind};

/// Properties that the peers of an update group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// Kind of the peers.
    pub(crate) audience: Audience,
    /// Format of messages.
    pub(crate) form: UpdateFormat,
    /// Families that are exchanged.
    pub(crate) families: Families,
    /// The peers support long-lived graceful restart (RFC 9494).
    pub(crate) long_lived: bool,
    /// Number of the export policy.
    pub(crate) export: ExportPolicyIx,
}

impl GroupKey {
    /// Returns the key for a session.
    pub(crate) fn of(session: &PeerSession, export: ExportPolicyIx) -> GroupKey {
        let audience = match session.kind() {
            SourceKind::Client => Audience::Client,
            SourceKind::Ibgp => Audience::Internal,
            SourceKind::Ebgp | SourceKind::Local | SourceKind::Static => Audience::External,
        };
        GroupKey {
            audience,
            form: session.form,
            long_lived: session.long_lived,
            families: session.families.without(session.sends_add_path),
            export,
        }
    }
}
