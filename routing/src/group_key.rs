//! What peers of one update group have in common.

use bgp::Families;
use bgp::wire::encode::UpdateFormat;

use crate::export::Audience;
use crate::export_policies::ExportPolicyIx;
use crate::path::{PeerSession, SourceKind};

/// What the peers of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// Which paths they get.
    pub(crate) audience: Audience,
    /// How messages are written for them.
    pub(crate) form: UpdateFormat,
    /// The families they exchange.
    pub(crate) families: Families,
    /// Whether they know what a last resort is (RFC 9494).
    pub(crate) long_lived: bool,
    /// What is configured of what they get.
    pub(crate) export: ExportPolicyIx,
}

impl GroupKey {
    /// The group of a session.
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
