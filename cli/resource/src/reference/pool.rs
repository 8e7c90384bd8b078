//! The fields of an IPPool.

use super::{Field, honoured, refused, warned};

pub(super) const FIELDS: &[Field] = &[
    honoured(
        "spec.cidr",
        "a prefix without host bits, not link-local, overlapping no other pool's; can't be changed",
        "required",
        "the range of addresses",
        "{cidr: 10.0.0.0/16}",
    ),
    honoured(
        "spec.ipipMode",
        "`Always`, `CrossSubnet`, `Never`; not with vxlanMode, not in an IPv6 pool",
        "`Never`; with vxlanMode left out too the cluster's `spec.routed.encapsulation`, always",
        "IP-in-IP between all nodes, or between those of different subnets",
        "{cidr: 10.0.0.0/16, ipipMode: CrossSubnet}",
    ),
    honoured(
        "spec.vxlanMode",
        "`Always`, `CrossSubnet`, `Never`; not with ipipMode",
        "as ipipMode",
        "VXLAN, likewise",
        "{cidr: 10.0.0.0/16, vxlanMode: Always}",
    ),
    honoured(
        "spec.natOutgoing",
        "a boolean",
        "`false`",
        "packets that leave all pools get the node's address",
        "{cidr: 10.0.0.0/16, natOutgoing: true}",
    ),
    honoured(
        "spec.disabled",
        "a boolean",
        "`false`",
        "nodes claim no blocks of it; routes to it stay",
        "{cidr: 10.0.0.0/16, disabled: true}",
    ),
    honoured(
        "spec.disableBGPExport",
        "a boolean",
        "`false`",
        "its blocks are not advertised to peers",
        "{cidr: 10.0.0.0/16, disableBGPExport: true}",
    ),
    honoured(
        "spec.blockSize",
        "20 to 32, of an IPv6 pool 116 to 128; can't be changed; the pool holds at least one block unless it is disabled",
        "26, 122",
        "the length of its blocks' prefixes",
        "{cidr: 10.0.0.0/16, blockSize: 28}",
    ),
    honoured(
        "spec.nodeSelector",
        "a selector, without `global()`",
        "`all()`",
        "the nodes that claim blocks of it",
        "{cidr: 10.0.0.0/16, nodeSelector: has(rack)}",
    ),
    honoured(
        "spec.assignmentMode",
        "`Automatic`, `Manual`",
        "`Automatic`",
        "`Manual`: nodes claim no blocks of it by themselves",
        "{cidr: 10.0.0.0/16, assignmentMode: Manual}",
    ),
    honoured(
        "spec.allowedUses",
        "a list of `Workload`, `Tunnel`, `LoadBalancer`",
        "`[Workload, Tunnel]`",
        "without `Workload` nodes claim no blocks of it; `[Workload]` alone is warned of, since a node's tunnel address is \
         taken from its own lowest block whichever pool that is in",
        "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer]}",
    ),
    warned(
        "spec.allowedUses[]",
        "see above",
        "",
        "see above",
        "{cidr: 10.0.0.0/16, allowedUses: [Workload]}",
    ),
    refused(
        "spec.namespaceSelector",
        "a selector",
        "`all()`",
        "blocks are assigned to nodes, not to namespaces: leave it out, and keep a namespace's pods on nodes that nodeSelector \
         names",
        "{cidr: 10.0.0.0/16, namespaceSelector: has(x)}",
    ),
    refused(
        "spec.ipip",
        "of v1",
        "",
        "is of the v1 form: write ipipMode",
        "{cidr: 10.0.0.0/16, ipip: {enabled: true}}",
    ),
    refused(
        "spec.nat-outgoing",
        "of v1",
        "",
        "is of the v1 form: write natOutgoing",
        "{cidr: 10.0.0.0/16, nat-outgoing: true}",
    ),
];
