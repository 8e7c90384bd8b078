//! The fields of a BlockAffinity.

use super::{Field, honoured, refused};

pub(super) const FIELDS: &[Field] = &[
    honoured(
        "spec.cidr",
        "a prefix without host bits, inside a pool where there are any; of one node",
        "required",
        "the block",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed}",
    ),
    honoured(
        "spec.node",
        "a Node's name",
        "required",
        "the node that owns the block",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed}",
    ),
    honoured(
        "spec.state",
        "`confirmed`, `pending`, `pendingDeletion`",
        "required",
        "the node owns and advertises confirmed blocks only",
        "{cidr: 10.0.0.0/26, node: a, state: pending}",
    ),
    honoured(
        "spec.deleted",
        "a boolean, or one as a string",
        "`false`",
        "the claim is being released: the node does not own the block",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed, deleted: true}",
    ),
    refused(
        "spec.type",
        "`host`",
        "`host`",
        "no node owns a block of another type (Calico's `virtual` ones are for load balancers): leave the resource out",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed, type: virtual}",
    ),
];
