//! Summaries of what happened to tunnel paths and kernel state, sent once whenever the reconciler
//! comes to rest, so that a million changes are one summary.

use std::net::Ipv4Addr;

use tokio::sync::broadcast;

use crate::{
    diff::Object,
    probe::{PathState, TunnelPath},
    report::{ExitKind, describe},
    resolve::ExitReason,
};

/// Changes of one kind that a summary lists; further ones are counted.
const LISTED: usize = 64;
/// Summaries queued for a subscriber; a slower one misses the oldest.
const QUEUED: usize = 64;

/// The events since the last summary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelActivity {
    /// Nodes whose exit changed, the first 64.
    pub exits: Vec<ExitChange>,
    /// Number of further such nodes.
    pub more_exits: u64,
    /// Tunnel paths whose state changed, the first 64.
    pub path_changes: Vec<PathChange>,
    /// Number of further such paths.
    pub more_path_changes: u64,
    /// Entries of ours that other programs changed, and that are repaired.
    pub drift: u64,
    /// One of them, if it is known.
    pub drifted: Option<String>,
    /// Objects that the kernel began to refuse.
    pub refused: u64,
    /// The first of them, with the kernel's message.
    pub refusal: Option<(String, String)>,
    /// Error by which kernel state cannot be read.
    pub blind: Option<String>,
}

/// A change of the exit to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitChange {
    /// Name of the node.
    pub node: String,
    /// Exit before.
    pub from: Option<ExitKind>,
    /// Exit now.
    pub to: Option<ExitKind>,
    /// Reason; `None` if no path leads to the node.
    pub reason: Option<ExitReason>,
}

/// A change of the state of a tunnel path to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Name of the node; empty if no node has the address any more.
    pub node: String,
    /// Tunnel address of the node.
    pub address: Ipv4Addr,
    /// Tunnel path.
    pub path: TunnelPath,
    /// State.
    pub state: PathState,
}

/// Collects events while there are subscribers.
#[derive(Debug)]
pub(crate) struct ActivityCollector {
    listeners: broadcast::Sender<TunnelActivity>,
    gathered: TunnelActivity,
}

impl Default for ActivityCollector {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(QUEUED), gathered: TunnelActivity::default() }
    }
}

impl ActivityCollector {
    /// Returns the channel to subscribe to.
    pub(crate) fn listeners(&self) -> broadcast::Sender<TunnelActivity> {
        self.listeners.clone()
    }

    fn subscribed(&mut self) -> Option<&mut TunnelActivity> {
        (self.listeners.receiver_count() > 0).then_some(&mut self.gathered)
    }

    /// Records a change of a node's exit; `change` is called only if there is a subscriber.
    pub(crate) fn exit(&mut self, change: impl FnOnce() -> ExitChange) {
        let Some(summary) = self.subscribed() else { return };
        if summary.exits.len() < LISTED { summary.exits.push(change()) } else { summary.more_exits += 1 }
    }

    /// Records a change of a tunnel path's state.
    pub(crate) fn path_state(&mut self, change: impl FnOnce() -> PathChange) {
        let Some(summary) = self.subscribed() else { return };
        if summary.path_changes.len() < LISTED {
            summary.path_changes.push(change())
        } else {
            summary.more_path_changes += 1
        }
    }

    /// Records entries of ours that other programs changed.
    pub(crate) fn drift(&mut self, count: u64, one: Option<impl FnOnce() -> String>) {
        let Some(summary) = self.subscribed() else { return };
        summary.drift += count;
        if let (None, Some(one)) = (&summary.drifted, one) {
            summary.drifted = Some(one());
        }
    }

    /// Records an object that the kernel refuses and did not refuse before.
    pub(crate) fn refusal(&mut self, object: &Object, text: &str) {
        let Some(summary) = self.subscribed() else { return };
        summary.refused += 1;
        summary.refusal.get_or_insert_with(|| (describe(object), text.to_owned()));
    }

    /// Records that kernel state cannot be read.
    pub(crate) fn blind(&mut self, error: &impl ToString) {
        let Some(summary) = self.subscribed() else { return };
        summary.blind = Some(error.to_string());
    }

    /// Sends the summary, if it is not empty.
    pub(crate) fn send(&mut self) {
        if self.gathered != TunnelActivity::default() {
            // The last subscriber may have just gone.
            let _ = self.listeners.send(std::mem::take(&mut self.gathered));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(node: &str) -> ExitChange {
        ExitChange { node: node.into(), from: None, to: Some(ExitKind::Vxlan), reason: None }
    }

    #[test]
    fn nothing_is_collected_without_a_subscriber() {
        let mut collector = ActivityCollector::default();
        collector.exit(|| panic!("made"));
        collector.drift(3, Some(|| panic!("made")));
        collector.send();
        assert_eq!(collector.gathered, TunnelActivity::default());
    }

    #[test]
    fn events_before_a_send_are_one_summary_that_lists_the_first_ones() {
        let mut collector = ActivityCollector::default();
        let mut listener = collector.listeners().subscribe();
        for number in 0..100 {
            collector.exit(|| change(&format!("node-{number}")));
        }
        collector.drift(2, None::<fn() -> String>);
        collector.drift(1, Some(|| "route 10.0.0.0/26".to_owned()));
        collector.send();
        collector.send();
        let summary = listener.try_recv().expect("news");
        assert_eq!((summary.exits.len(), summary.more_exits, summary.drift), (64, 36, 3));
        assert_eq!(summary.drifted.as_deref(), Some("route 10.0.0.0/26"));
        assert!(listener.try_recv().is_err());
    }
}
