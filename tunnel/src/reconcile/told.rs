//! What the reconciler lets others know as soon as it changes.

use tokio::sync::watch;

use super::Reconciler;
use crate::{dataplane::Dataplane, firewall::Strangers, mtu::pod_mtu};

/// Told at rest, and only what is news.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Exit points outside the node table, for the firewall.
    pub(crate) strangers: watch::Sender<Strangers>,
    /// How large pods' packets may be, in octets; `None` while the node's interface is not known.
    pub(crate) pod_mtu: watch::Sender<Option<u32>>,
}

impl<D: Dataplane> Reconciler<D> {
    pub(super) fn tell_strangers(&self) {
        let Some(config) = &self.config else { return };
        tell(&self.told.strangers, Strangers::among(self.fib.exits(), config, self.in_sync));
    }

    pub(super) fn tell_pod_mtu(&self) {
        let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) else { return };
        // An interface that is gone for a while doesn't make pods' packets smaller.
        if let Some(parent) = observed.parent {
            tell(&self.told.pod_mtu, Some(pod_mtu(config, parent.mtu)));
        }
    }
}

fn tell<T: PartialEq>(told: &watch::Sender<T>, now: T) {
    told.send_if_modified(|before| {
        let news = *before != now;
        *before = now;
        news
    });
}
