//! Claims of blocks. A claim is the creation of one key if it is absent, so a crash can't leave half
//! a claim.

use std::time::Duration;

use ipnet::IpNet;
use serde_json::json;

use timing::Retry;

use super::backend::{Commit, Condition, KeyChange};
use super::store::EtcdStore;
use crate::StoreError;
use resource::ipam::{AffinityRef, NextBlock, affinity_name, next_block};
use resource::{API_VERSION, BlockAffinity, Document, Key, Kind, Node, Resource};

/// The largest number of attempts to claim a block while other nodes claim at the same time.
const ATTEMPTS: u32 = 100;
/// The longest pause before an attempt.
const PAUSE: Duration = Duration::from_millis(30);

/// The outcome of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimOutcome {
    /// The node now owns this block.
    Block(IpNet),
    /// The node needs no block, does not exist, or no pool is for it.
    Unchanged,
    /// Every pool is full; the message, in one line.
    PoolExhausted(String),
}

impl EtcdStore {
    /// Claims an IPv4 or IPv6 block for a node, if `is_wanting` returns true for its present
    /// blocks.
    ///
    /// # Errors
    /// The store is unavailable. The claim may have succeeded nevertheless, which the next call
    /// detects.
    pub async fn claim(
        &self,
        node: &str,
        v4: bool,
        is_wanting: impl Fn(&Node, &[IpNet]) -> bool,
    ) -> Result<ClaimOutcome, StoreError> {
        let mut retry = Retry::new(ATTEMPTS, PAUSE, PAUSE);
        loop {
            let replica = self.replica().await?;
            let documents = replica.documents();
            let validation = replica.validation();
            let result = tokio::task::spawn_blocking(move || validation.run()).await;
            let snapshot = result.map_err(|_| StoreError::Ended)?.state.snapshot;
            let Some(own) = snapshot.nodes.iter().find(|one| one.name == node) else {
                return Ok(ClaimOutcome::Unchanged);
            };
            // All stored affinities of the node, so that a very recent claim counts.
            let affinities: Vec<BlockAffinity> = documents.iter().filter_map(affinity).collect();
            let blocks: Vec<IpNet> = affinities
                .iter()
                .filter(|affinity| affinity.node == node && affinity.is_confirmed())
                .map(|affinity| affinity.cidr)
                .chain(own.pod_cidrs.iter().copied())
                .filter(|block| block.addr().is_ipv4() == v4)
                .collect();
            if !is_wanting(own, &blocks) {
                return Ok(ClaimOutcome::Unchanged);
            }
            let choice = match next_block(&snapshot, &affinities, own, v4) {
                Ok(Some(choice)) => choice,
                Ok(None) => return Ok(ClaimOutcome::Unchanged),
                Err(exhausted) => return Ok(ClaimOutcome::PoolExhausted(exhausted.to_string())),
            };
            let block = choice.block;
            if let Some(commit) = self.claim_commit(&choice, node, &documents)
                && self.commit_one(commit).await?
            {
                return Ok(ClaimOutcome::Block(block));
            }
            if !retry.pause().await {
                return Err(StoreError::Unavailable {
                    doing: "was not changed",
                    reason: format!("others were quicker {ATTEMPTS} times"),
                });
            }
        }
    }

    /// Releases a block of a deleted node. Returns false if the affinity changed or the node is
    /// back.
    ///
    /// # Errors
    /// The store is unavailable. The block may have been released nevertheless.
    pub async fn release_orphaned(&self, left: &AffinityRef) -> Result<bool, StoreError> {
        let replica = self.replica().await?;
        let key = Key { kind: Kind::BlockAffinity, name: left.name.clone() };
        let documents = replica.documents();
        let Some(document) = documents.iter().find(|document| document.key() == key) else {
            return Ok(false);
        };
        let still = affinity(document).is_some_and(|affinity| affinity.node == left.node);
        let Some(mod_revision) = document.resource_version().and_then(|version| version.parse().ok()) else {
            return Ok(false);
        };
        let node = Key { kind: Kind::Node, name: left.node.clone() };
        let key = self.keys.etcd_key(&key);
        let conditions = vec![
            Condition::At { key: key.clone(), mod_revision },
            Condition::Absent(self.keys.etcd_key(&node)),
        ];
        let changes =
            vec![KeyChange::Delete { key }, KeyChange::Put { key: self.keys.deletion(), value: Vec::new() }];
        Ok(still && self.commit_one(Commit { conditions, changes }).await?)
    }

    /// Returns the transaction of a claim. It requires that the node and the pool have not
    /// changed since the block was chosen, and that the block is still free.
    fn claim_commit(&self, choice: &NextBlock, node: &str, documents: &[Document]) -> Option<Commit> {
        let named = |kind: Kind, name: &str| {
            let key = Key { kind, name: name.to_owned() };
            let document = documents.iter().find(|document| document.key() == key)?;
            let mod_revision = document.resource_version()?.parse().ok()?;
            Some(Condition::At { key: self.keys.etcd_key(&key), mod_revision })
        };
        let mut conditions = vec![named(Kind::Node, node)?, named(Kind::IpPool, &choice.pool)?];
        let affinity = |name: &str| Key { kind: Kind::BlockAffinity, name: name.to_owned() };
        let key = self.keys.etcd_key(&affinity(&affinity_name(&choice.block)));
        let mut changes = Vec::new();
        match &choice.reclaimed {
            None => conditions.push(Condition::Absent(key.clone())),
            Some(left) => {
                let old = self.keys.etcd_key(&affinity(&left.name));
                conditions.push(named(Kind::BlockAffinity, &left.name)?);
                let gone = Key { kind: Kind::Node, name: left.node.clone() };
                conditions.push(Condition::Absent(self.keys.etcd_key(&gone)));
                if old != key {
                    conditions.push(Condition::Absent(key.clone()));
                    changes.push(KeyChange::Delete { key: old });
                    changes.push(KeyChange::Put { key: self.keys.deletion(), value: Vec::new() });
                }
            }
        }
        let manifest = json!({
            "apiVersion": API_VERSION,
            "kind": "BlockAffinity",
            "metadata": { "name": affinity_name(&choice.block) },
            "spec": { "node": node, "cidr": choice.block.to_string(), "state": "confirmed" },
        });
        changes.push(KeyChange::Put { key, value: resource::to_yaml(&manifest).into_bytes() });
        Some(Commit { conditions, changes })
    }
}

fn affinity(document: &Document) -> Option<BlockAffinity> {
    match &document.resource {
        Resource::BlockAffinity(affinity) => Some(affinity.clone()),
        _ => None,
    }
}
