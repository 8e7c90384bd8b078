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
        "whose it is",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed}",
    ),
    honoured(
        "spec.state",
        "`confirmed`, `pending`, `pendingDeletion`",
        "required",
        "confirmed blocks alone are the node's and are announced",
        "{cidr: 10.0.0.0/26, node: a, state: pending}",
    ),
    honoured(
        "spec.deleted",
        "a boolean, or one as a string",
        "`false`",
        "the claim is being given up: the block is not the node's",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed, deleted: true}",
    ),
    refused(
        "spec.type",
        "`host`",
        "`host`",
        "a block of another type is no node's (Calico's `virtual` ones are for load balancers): leave the resource out",
        "{cidr: 10.0.0.0/26, node: a, state: confirmed, type: virtual}",
    ),
];
