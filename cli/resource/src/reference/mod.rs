//! The table of all fields of all resources, with the degree of support.
//!
//! Readers take the texts about refused fields from this table, `docs/resources.md` is generated
//! from it, and a test checks every row against the readers.

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

/// The degree of support of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldSupport {
    /// The field has its effect.
    Honoured,
    /// The field is stored and returned, but has no effect. It has none on Calico's routes
    /// either.
    Stored,
    /// The field is stored, and a warning says that it has no, or not its full, effect.
    Warned,
    /// The resource is refused, unless the field has its default.
    Refused,
}

/// One field.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// The path, as in `spec.bgp.asNumber`; `[]` stands for each item of a list.
    pub path: &'static str,
    /// The permitted values.
    pub values: &'static str,
    /// The default; empty if there is none.
    pub default: &'static str,
    /// The meaning. For a refused field the alternative.
    pub meaning: &'static str,
    /// The degree of support.
    pub support: FieldSupport,
    /// A `spec` (or `metadata`) in YAML with the field.
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

/// The metadata fields of every kind.
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
        "matched by selectors: those of pools and peers match a Node's labels, `get -l` those of any resource",
        "{name: default, labels: {rack: r1}}",
    ),
    honoured(
        "metadata.annotations",
        "a mapping",
        "none",
        "kept; `routed/host` names the host that registered a Node",
        "{name: default, annotations: {routed/host: h-1}}",
    ),
    stored(
        "metadata.resourceVersion",
        "set by the store",
        "`replace` and `patch` refuse a resource whose stored version is another",
        "{name: default, resourceVersion: '7'}",
    ),
    stored(
        "metadata.creationTimestamp",
        "set by Kubernetes",
        "informational",
        "{name: default, creationTimestamp: '2020-01-01'}",
    ),
    stored("metadata.generation", "set by Kubernetes", "informational", "{name: default, generation: 3}"),
    stored(
        "metadata.managedFields",
        "set by Kubernetes",
        "informational",
        "{name: default, managedFields: [{manager: x}]}",
    ),
    stored(
        "metadata.ownerReferences",
        "set by Kubernetes",
        "informational",
        "{name: default, ownerReferences: [{name: x}]}",
    ),
    stored("metadata.finalizers", "set by Kubernetes", "informational", "{name: default, finalizers: [x]}"),
    stored("metadata.selfLink", "set by Kubernetes", "informational", "{name: default, selfLink: /x}"),
    stored("metadata.uid", "set by Kubernetes", "informational", "{name: default, uid: 1f0a}"),
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

/// Returns the alternative to a refused field.
pub(super) fn instead(kind: Kind, path: &str) -> &'static str {
    let row = fields(kind).iter().find(|field| field.path == path && field.support == FieldSupport::Refused);
    row.map_or("remove it", |field| field.meaning)
}

/// Calico's kinds that do not concern routing, as manifests spell them.
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

/// Returns whether a kind is one of [`CALICO_KINDS`].
pub(super) fn is_calico_kind(kind: &str) -> bool {
    CALICO_KINDS.contains(&kind)
}
