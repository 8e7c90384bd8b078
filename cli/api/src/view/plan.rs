//! The answer to `routectl plan`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use resource::{Key, Warning};

/// The changes that resources would cause on this node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The node.
    pub node: String,
    /// The changes of the resources.
    pub resources: Vec<ResourceChange>,
    /// The changes of the sessions, with the unchanged ones.
    pub sessions: Vec<SessionChange>,
    /// The changes of the advertisements to peers.
    #[serde(rename = "told")]
    pub advertisements: Vec<AdvertisementChange>,
    /// The changes in the kernel; `null` without a dataplane.
    pub kernel: Option<KernelChanges>,
    /// Warnings about the resources.
    pub warnings: Vec<Warning>,
    /// The reason why this node could not use the resources.
    pub problem: Option<String>,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// The object is added.
    Add,
    /// The object gets other contents.
    Replace,
    /// The object is removed.
    Remove,
}

/// An object that would change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectChange {
    /// The kind of the change.
    pub change: ChangeKind,
    /// The object as text.
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
    /// The first routes of all three kinds, by prefix.
    pub routes: Vec<ObjectChange>,
}

impl KernelChanges {
    /// Returns whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.routes_added + self.routes_replaced + self.routes_removed == 0
    }
}

/// The change of a resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceChange {
    /// Added, replaced or removed; `null`: unchanged.
    pub change: Option<ChangeKind>,
    /// The resource.
    pub key: Key,
}

/// The kind of a session's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionFate {
    /// The session is new.
    Opened,
    /// The session ends.
    Closed,
    /// The session ends and is opened again; routes are retained meanwhile.
    Reopened,
    /// The session stays, with another policy.
    Filtered,
    /// The session stays unchanged.
    Kept,
}

/// The change of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionChange {
    /// The kind of change.
    pub fate: SessionFate,
    /// The peer's name.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// The parameters that differ.
    pub reason: String,
}

/// The changes of the advertisements to a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdvertisementChange {
    /// The peer's name.
    pub peer: String,
    /// The number of prefixes that are newly advertised.
    pub announced: usize,
    /// The number of prefixes with another next hop.
    pub changed: usize,
    /// The number of prefixes that are withdrawn.
    pub withdrawn: usize,
    /// The first prefixes of all three kinds.
    pub some: Vec<ObjectChange>,
}
