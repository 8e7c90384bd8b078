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
const NAMED: usize = 64;
/// Summaries queued for a subscriber; a slower one misses the oldest.
const WAITING: usize = 64;

/// The events since the last summary.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelActivity {
    /// Nodes whose exit changed, the first 64.
    pub exits: Vec<ExitChange>,
    /// Number of further such nodes.
    pub more_exits: u64,
    /// Tunnel paths whose state changed, the first 64.
    pub passages: Vec<PathChange>,
    /// Number of further such paths.
    pub more_passages: u64,
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
        Self { listeners: broadcast::Sender::new(WAITING), gathered: TunnelActivity::default() }
    }
}

impl ActivityCollector {
    /// Returns the channel to subscribe to.
    pub(crate) fn listeners(&self) -> broadcast::Sender<TunnelActivity> {
        self.listeners.clone()
    }

    fn heard(&mut self) -> Option<&mut TunnelActivity> {
        (self.listeners.receiver_count() > 0).then_some(&mut self.gathered)
    }

    /// Records a change of a node's exit; `change` is called only if there is a subscriber.
    pub(crate) fn exit(&mut self, change: impl FnOnce() -> ExitChange) {
        let Some(news) = self.heard() else { return };
        if news.exits.len() < NAMED { news.exits.push(change()) } else { news.more_exits += 1 }
    }

    /// Records a change of a tunnel path's state.
    pub(crate) fn path_state(&mut self, change: impl FnOnce() -> PathChange) {
        let Some(news) = self.heard() else { return };
        if news.passages.len() < NAMED { news.passages.push(change()) } else { news.more_passages += 1 }
    }

    /// Records entries of ours that other programs changed.
    pub(crate) fn drift(&mut self, count: u64, one: Option<impl FnOnce() -> String>) {
        let Some(news) = self.heard() else { return };
        news.drift += count;
        if let (None, Some(one)) = (&news.drifted, one) {
            news.drifted = Some(one());
        }
    }

    /// Records an object that the kernel refuses and did not refuse before.
    pub(crate) fn refusal(&mut self, object: &Object, text: &str) {
        let Some(news) = self.heard() else { return };
        news.refused += 1;
        news.refusal.get_or_insert_with(|| (describe(object), text.to_owned()));
    }

    /// Records that kernel state cannot be read.
    pub(crate) fn blind(&mut self, error: &impl ToString) {
        let Some(news) = self.heard() else { return };
        news.blind = Some(error.to_string());
    }

    /// Sends the summary, if it is not empty.
    pub(crate) fn tell(&mut self) {
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
    fn nothing_is_made_while_nobody_listens() {
        let mut room = ActivityCollector::default();
        room.exit(|| panic!("made"));
        room.drift(3, Some(|| panic!("made")));
        room.tell();
        assert_eq!(room.gathered, TunnelActivity::default());
    }

    #[test]
    fn what_comes_before_it_is_told_is_one_piece_of_news_and_the_first_are_named() {
        let mut room = ActivityCollector::default();
        let mut listener = room.listeners().subscribe();
        for number in 0..100 {
            room.exit(|| change(&format!("node-{number}")));
        }
        room.drift(2, None::<fn() -> String>);
        room.drift(1, Some(|| "route 10.0.0.0/26".to_owned()));
        room.tell();
        room.tell();
        let news = listener.try_recv().expect("news");
        assert_eq!((news.exits.len(), news.more_exits, news.drift), (64, 36, 3));
        assert_eq!(news.drifted.as_deref(), Some("route 10.0.0.0/26"));
        assert!(listener.try_recv().is_err());
    }
}
