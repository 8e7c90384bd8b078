//! Every field of every resource, with what is made of it: readers take from here what they say about fields that are
//! refused, `docs/resources.md` is written from here, and a test goes through all of it.

mod affinity;
mod configuration;
mod filter;
mod node;
mod page;
mod peer;
mod pool;
#[cfg(test)]
mod tests;

use super::kind::Kind;

pub use page::page;

/// What is made of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSupport {
    /// It is done.
    Honoured,
    /// It is stored and given back, and nothing follows from it, nor does for Calico's own routes.
    Stored,
    /// It is stored, and a warning says that nothing, or not all, is made of it.
    Warned,
    /// A resource with it is not taken, unless it has its default.
    Refused,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Where it stands, as in `spec.bgp.asNumber`; `[]` stands for each item of a list.
    pub path: &'static str,
    /// What it may hold.
    pub values: &'static str,
    /// What holds where it is left out; empty: nothing.
    pub default: &'static str,
    /// What it means; of a refused field what to do instead.
    pub meaning: &'static str,
    /// What is made of it.
    pub support: FieldSupport,
    /// A `spec` (or `metadata`) in YAML that has it.
    pub example: &'static str,
}

const fn honoured(
    path: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field { path, values, default, meaning, support: FieldSupport::Honoured, example }
}

const fn stored(
    path: &'static str,
    values: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field { path, values, default: "", meaning, support: FieldSupport::Stored, example }
}

const fn warned(
    path: &'static str,
    values: &'static str,
    default: &'static str,
    meaning: &'static str,
    example: &'static str,
) -> Field {
    Field { path, values, default, meaning, support: FieldSupport::Warned, example }
}

const fn refused(
    path: &'static str,
    values: &'static str,
    default: &'static str,
    instead: &'static str,
    example: &'static str,
) -> Field {
    Field { path, values, default, meaning: instead, support: FieldSupport::Refused, example }
}

/// The metadata of every kind.
pub const METADATA: &[Field] = &[
    honoured(
        "metadata.name",
        "letters, digits, '.', '_' and '-', 1 to 253",
        "required",
        "the resource's name; `default` of a BGPConfiguration",
        "{name: other}",
    ),
    honoured(
        "metadata.labels",
        "a mapping",
        "none",
        "what selectors ask for: those of pools and peers look at a Node's, `get -l` at any resource's",
        "{name: default, labels: {rack: r1}}",
    ),
    honoured(
        "metadata.annotations",
        "a mapping",
        "none",
        "kept; `routed/host` says which host registered a Node by itself",
        "{name: default, annotations: {routed/host: h-1}}",
    ),
    stored(
        "metadata.resourceVersion",
        "the store's own",
        "`replace` and `patch` refuse a resource that has another one by now",
        "{name: default, resourceVersion: '7'}",
    ),
    stored(
        "metadata.creationTimestamp",
        "Kubernetes' own",
        "a note",
        "{name: default, creationTimestamp: '2020-01-01'}",
    ),
    stored("metadata.generation", "Kubernetes' own", "a note", "{name: default, generation: 3}"),
    stored(
        "metadata.managedFields",
        "Kubernetes' own",
        "a note",
        "{name: default, managedFields: [{manager: x}]}",
    ),
    stored(
        "metadata.ownerReferences",
        "Kubernetes' own",
        "a note",
        "{name: default, ownerReferences: [{name: x}]}",
    ),
    stored("metadata.finalizers", "Kubernetes' own", "a note", "{name: default, finalizers: [x]}"),
    stored("metadata.selfLink", "Kubernetes' own", "a note", "{name: default, selfLink: /x}"),
    stored("metadata.uid", "Kubernetes' own", "a note", "{name: default, uid: 1f0a}"),
];

/// Returns the fields of a kind's `spec`.
pub fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Node => node::FIELDS,
        Kind::IpPool => pool::FIELDS,
        Kind::BgpPeer => peer::FIELDS,
        Kind::BgpConfiguration => configuration::FIELDS,
        Kind::BgpFilter => filter::FIELDS,
        Kind::BlockAffinity => affinity::FIELDS,
    }
}

/// What to do instead of writing a field that is refused.
pub(super) fn instead(kind: Kind, path: &str) -> &'static str {
    let row = fields(kind).iter().find(|field| field.path == path && field.support == FieldSupport::Refused);
    row.map_or("remove it", |field| field.meaning)
}

/// Kinds of Calico's that are not about routes, in the spelling of manifests.
pub const CALICO_KINDS: &[&str] = &[
    "CalicoNodeStatus",
    "ClusterInformation",
    "FelixConfiguration",
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "HostEndpoint",
    "IPAMConfig",
    "IPAMConfiguration",
    "IPReservation",
    "KubeControllersConfiguration",
    "NetworkPolicy",
    "NetworkSet",
    "Profile",
    "StagedGlobalNetworkPolicy",
    "StagedKubernetesNetworkPolicy",
    "StagedNetworkPolicy",
    "Tier",
    "WorkloadEndpoint",
];

/// Returns whether a kind is one of those.
pub(super) fn is_calico_kind(kind: &str) -> bool {
    CALICO_KINDS.contains(&kind)
}
