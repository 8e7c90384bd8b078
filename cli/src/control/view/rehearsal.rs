//! What `routectl plan` is answered.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
pub use tunnel::dry_run::DryRun as KernelChanges;
pub use tunnel::dry_run::{ObjectChange, PlannedAction as Change};

use crate::resource::{Key, Warning};

/// What resources would change on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RehearsalView {
    /// The node.
    pub node: String,
    /// The resources.
    pub resources: Vec<ResourceChange>,
    /// The sessions, those that stay as they are too.
    pub sessions: Vec<SessionChange>,
    /// What peers would be told.
    pub told: Vec<ToldChange>,
    /// What would change in the kernel; `null` without a dataplane.
    pub kernel: Option<KernelChanges>,
    /// What the user should know of the resources.
    pub warnings: Vec<Warning>,
    /// Why this node would have nothing to do with them.
    pub problem: Option<String>,
}

/// What becomes of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceChange {
    /// Added, replaced or removed; `null`: it is the same.
    pub change: Option<Change>,
    /// Which one.
    pub key: Key,
}

/// What becomes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionFate {
    /// There is none yet.
    Opened,
    /// It ends.
    Closed,
    /// It ends and is opened anew; routes are kept meanwhile.
    Reopened,
    /// It stays, and other rules hold for what is exchanged.
    Filtered,
    /// It stays.
    Kept,
}

/// What becomes of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionChange {
    /// What becomes of it.
    pub fate: SessionFate,
    /// The peer's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// What differs.
    pub reason: String,
}

/// What a peer with a session would be told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldChange {
    /// The peer's name.
    pub peer: String,
    /// How many prefixes it would be told anew.
    pub announced: usize,
    /// How many with another next hop.
    pub changed: usize,
    /// How many would be withdrawn.
    pub withdrawn: usize,
    /// The first of all three, by prefix.
    pub some: Vec<ObjectChange>,
}
