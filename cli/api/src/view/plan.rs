//! What `routectl plan` is answered.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use resource::{Key, Warning};

/// What resources would change on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The node.
    pub node: String,
    /// The resources.
    pub resources: Vec<ResourceChange>,
    /// The sessions, those that stay as they are too.
    pub sessions: Vec<SessionChange>,
    /// What peers would be told.
    #[serde(rename = "told")]
    pub advertisements: Vec<AdvertisementChange>,
    /// What would change in the kernel; `null` without a dataplane.
    pub kernel: Option<KernelChanges>,
    /// What the user should know of the resources.
    pub warnings: Vec<Warning>,
    /// Why this node would have nothing to do with them.
    pub problem: Option<String>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// It is added.
    Add,
    /// It stays, with other contents.
    Replace,
    /// It is removed.
    Remove,
}

/// An object that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// The kind of the change.
    pub change: ChangeKind,
    /// The object, in words.
    pub object: String,
}

/// Changes in the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelChanges {
    /// Objects other than routes.
    pub objects: Vec<ObjectChange>,
    /// Routes that are added.
    pub routes_added: usize,
    /// Routes that get another exit.
    pub routes_replaced: usize,
    /// Routes that are removed.
    pub routes_removed: usize,
    /// The first of those three together, by prefix.
    pub routes: Vec<ObjectChange>,
}

impl KernelChanges {
    /// Returns whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.routes_added + self.routes_replaced + self.routes_removed == 0
    }
}

/// What becomes of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceChange {
    /// Added, replaced or removed; `null`: it is the same.
    pub change: Option<ChangeKind>,
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
pub struct AdvertisementChange {
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
