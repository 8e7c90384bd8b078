//! What has happened to the ways and the kernel's state, told once for each time that everything comes to rest, so that a
//! million changes are one piece of news.

use std::net::Ipv4Addr;

use tokio::sync::broadcast;

use crate::{
    diff::Object,
    probe::{PathState, TunnelPath},
    report::{ExitKind, describe},
    resolve::ExitReason,
};

/// Changes of one kind that are named in one piece of news; the rest is counted.
const NAMED: usize = 64;
/// Pieces of news that may wait for a listener; one that is slower misses the oldest.
const WAITING: usize = 64;

/// What has happened since the last time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TunnelActivity {
    /// Nodes that are reached another way, the first 64.
    pub exits: Vec<ExitChange>,
    /// How many more.
    pub more_exits: u64,
    /// What probes have found out, the first 64.
    pub passages: Vec<PathChange>,
    /// How much more.
    pub more_passages: u64,
    /// Entries of ours that others have changed, which is mended.
    pub drift: u64,
    /// One of them, where it is known which.
    pub drifted: Option<String>,
    /// Objects that the kernel has begun to refuse.
    pub refused: u64,
    /// The first of them, and the kernel's words.
    pub refusal: Option<(String, String)>,
    /// Why the kernel's state can't be read.
    pub blind: Option<String>,
}

/// A node is reached another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitChange {
    /// Its name.
    pub node: String,
    /// How it was reached.
    pub from: Option<ExitKind>,
    /// How it is.
    pub to: Option<ExitKind>,
    /// Why; none where no path leads to it.
    pub reason: Option<ExitReason>,
}

/// Something else is known of a way to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// Its name; empty if no node has the address any more.
    pub node: String,
    /// Its address in the tunnels.
    pub address: Ipv4Addr,
    /// The way.
    pub path: TunnelPath,
    /// What is known of it.
    pub state: PathState,
}

/// Gathers news, while anybody listens.
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
    /// Where to listen.
    pub(crate) fn listeners(&self) -> broadcast::Sender<TunnelActivity> {
        self.listeners.clone()
    }

    fn heard(&mut self) -> Option<&mut TunnelActivity> {
        (self.listeners.receiver_count() > 0).then_some(&mut self.gathered)
    }

    /// A node is reached another way; `change` is made only if anybody listens.
    pub(crate) fn exit(&mut self, change: impl FnOnce() -> ExitChange) {
        let Some(news) = self.heard() else { return };
        if news.exits.len() < NAMED { news.exits.push(change()) } else { news.more_exits += 1 }
    }

    /// Something else is known of a way.
    pub(crate) fn path_state(&mut self, change: impl FnOnce() -> PathChange) {
        let Some(news) = self.heard() else { return };
        if news.passages.len() < NAMED { news.passages.push(change()) } else { news.more_passages += 1 }
    }

    /// Others have changed entries of ours.
    pub(crate) fn drift(&mut self, count: u64, one: Option<impl FnOnce() -> String>) {
        let Some(news) = self.heard() else { return };
        news.drift += count;
        if let (None, Some(one)) = (&news.drifted, one) {
            news.drifted = Some(one());
        }
    }

    /// The kernel refuses something that it did not refuse before.
    pub(crate) fn refusal(&mut self, object: &Object, text: &str) {
        let Some(news) = self.heard() else { return };
        news.refused += 1;
        news.refusal.get_or_insert_with(|| (describe(object), text.to_owned()));
    }

    /// The kernel's state can't be read.
    pub(crate) fn blind(&mut self, error: &impl ToString) {
        let Some(news) = self.heard() else { return };
        news.blind = Some(error.to_string());
    }

    /// Tells what was gathered, if anything was.
    pub(crate) fn tell(&mut self) {
        if self.gathered != TunnelActivity::default() {
            // Where the last listener has just gone: fine.
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
