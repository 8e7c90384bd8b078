//! BlockAffinity: a block of addresses and the node that owns it.

use ipnet::IpNet;

use super::kind::Kind;
use super::mistake::Origin;
use super::reader::{Fields, Report};
use super::scalar;
use super::tree::Value;

/// A block of addresses and the node that owns it.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockAffinity {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: String,
    /// The node's name.
    pub node: String,
    /// The block, without host bits.
    pub cidr: IpNet,
    /// The state of the claim. Only confirmed blocks are advertised.
    pub state: AffinityState,
    /// True if the claim is being released.
    pub deleted: bool,
}

impl BlockAffinity {
    /// Returns whether the node owns the block now.
    pub fn is_confirmed(&self) -> bool {
        self.state == AffinityState::Confirmed && !self.deleted
    }
}

/// The state of a claim to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityState {
    /// The node owns the block.
    Confirmed,
    /// The node has requested the block.
    Pending,
    /// The node is releasing the block.
    PendingDeletion,
}

impl AffinityState {
    /// Returns the name in resources.
    pub fn name(self) -> &'static str {
        match self {
            AffinityState::Confirmed => "confirmed",
            AffinityState::Pending => "pending",
            AffinityState::PendingDeletion => "pendingDeletion",
        }
    }
}

/// Reads the `spec` of a BlockAffinity.
pub(crate) fn read(
    origin: Origin,
    name: String,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<BlockAffinity> {
    let Some(mut spec) = spec else {
        report.mistake(origin.line, "spec", "is required");
        return None;
    };
    let states = &[
        ("confirmed", AffinityState::Confirmed),
        ("pending", AffinityState::Pending),
        ("pendingDeletion", AffinityState::PendingDeletion),
    ];
    let node = spec.required("node", report, scalar::name);
    let cidr = spec.required("cidr", report, scalar::prefix);
    let state = spec.required("state", report, scalar::one_of(states));
    let deleted = spec.optional("deleted", report, |value| match value {
        Value::Bool(deleted) => Ok(*deleted),
        // In Calico the type of this field is a string.
        Value::Text(text) if text == "true" || text == "false" => Ok(text == "true"),
        _ => Err("must be true or false".into()),
    });
    spec.refused(Kind::BlockAffinity, "type", report, |value| *value == Value::Text("host".into()));
    spec.finish(report);
    Some(BlockAffinity {
        origin,
        name,
        node: node?,
        cidr: cidr?,
        state: state?,
        deleted: deleted.unwrap_or(false),
    })
}
