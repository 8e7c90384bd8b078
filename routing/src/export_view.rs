//! Export decisions for update groups, which combine several parts of the RIB.

use std::net::IpAddr;

use bgp::wire::encode;
use bgp::wire::nlri::NlriItem;
use bgp::{Family, RouterId};

use crate::config::RibConfig;
use crate::export::{self, Audience, Scratch};
use crate::export_policies::ExportPolicies;
use crate::group_key::GroupKey;
use crate::interner::AttrInterner;
use crate::path::SourceKind;
use crate::policy::{ClusterPolicy, FilterOutcome, PeerKind, Subject};
use crate::roles;
use crate::source::Sources;
use crate::table::{RibPath, Table};

/// Borrowed parts of the RIB that are needed for export.
#[derive(Clone, Copy)]
pub(crate) struct ExportView<'a> {
    pub(crate) config: &'a RibConfig,
    pub(crate) cluster: &'a ClusterPolicy,
    pub(crate) exports: &'a ExportPolicies,
    pub(crate) table: &'a Table,
    pub(crate) interner: &'a AttrInterner,
    pub(crate) sources: &'a Sources,
    /// The advertised paths were advertised with another policy or role, so it is unknown which
    /// peer holds what.
    pub(crate) reexport: bool,
}

/// Outcome of export policy for a prefix that is advertised: the place of the rule that accepted
/// it, if the rule has operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ExportMatch(Option<u32>);

impl ExportView<'_> {
    /// Returns whether a path is advertised to a group, as far as that does not depend on the
    /// prefix.
    pub(crate) fn allows(&self, path: RibPath, key: GroupKey, family: Family) -> bool {
        !path.is_none()
            && key.families.contains(family)
            && export::allows(
                self.config,
                self.exports.export(key.export),
                self.sources.kind(path.source()),
                path.scope(),
                key.audience,
                key.long_lived,
                family,
            )
    }

    /// Returns whether a prefix is advertised to a group with a path. The result depends only on
    /// the arguments and the view, so it can be computed again later.
    pub(crate) fn export_match(
        &self,
        path: RibPath,
        key: GroupKey,
        family: Family,
        ix: u32,
    ) -> Option<ExportMatch> {
        if !self.allows(path, key, family) {
            return None;
        }
        let export = self.exports.export(key.export);
        if !export.depends_on_prefix() {
            return Some(ExportMatch::default());
        }
        let leaks = |role| !roles::may_be_advertised(role, self.interner.set(path.attrs()).only_to_customer);
        if export.role.is_some_and(leaks) {
            return None;
        }
        let prefix = self.table.prefix(ix);
        let kind = self.sources.kind(path.source());
        let Some(chain) = &export.chain else {
            // RFC 8212: without a filter the peer receives at most the cluster's own blocks.
            let own = kind == SourceKind::Local
                || !self.sources.is_outside(path.source()) && self.cluster.is_in_pool(&prefix);
            return (own || !export.outside).then(ExportMatch::default);
        };
        let attrs = self.interner.set(path.attrs());
        let peer = match key.audience {
            Audience::External => PeerKind::External,
            Audience::Internal | Audience::Client => PeerKind::Internal,
        };
        let interface = self.cluster.link_of(attrs.next_hop).filter(|_| kind != SourceKind::Local);
        match chain.evaluate(&Subject { prefix, attrs, kind, peer, interface }) {
            FilterOutcome::Rejected => None,
            FilterOutcome::NoMatch => Some(ExportMatch::default()),
            FilterOutcome::Accepted(rule, place) => {
                Some(ExportMatch((!rule.operations.is_empty()).then_some(place)))
            }
        }
    }

    pub(crate) fn depends_on_prefix(&self, key: GroupKey) -> bool {
        self.exports.export(key.export).depends_on_prefix()
    }

    /// Appends announcements of prefixes that are advertised with one path.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn announce(
        &self,
        path: RibPath,
        matched: ExportMatch,
        key: GroupKey,
        family: Family,
        prefixes: impl Iterator<Item = impl NlriItem>,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> Result<usize, encode::EncodeError> {
        let (canonical, next_hop) = self.exported(path, matched, key, family, scratch);
        encode::announce(out, key.form, canonical, next_hop, prefixes)
    }

    /// Returns the attributes and the next hop with which a path is advertised.
    #[inline]
    pub(crate) fn exported<'s>(
        &'s self,
        path: RibPath,
        matched: ExportMatch,
        key: GroupKey,
        family: Family,
        scratch: &'s mut Scratch,
    ) -> (&'s [u8], IpAddr) {
        let kind = self.sources.kind(path.source());
        let from = self.sources.member(path.source()).map(|member| member.session.router_id);
        let from = from.unwrap_or(RouterId(std::net::Ipv4Addr::UNSPECIFIED));
        let attrs = self.interner.set(path.attrs());
        let export = self.exports.export(key.export);
        let rule = matched.0.and_then(|place| export.chain.as_ref()?.rule(family, place));
        let operations = rule.map_or(&[][..], |rule| &rule.operations);
        export::transform(self.config, export, operations, attrs, kind, from, key.audience, family, scratch)
    }
}
