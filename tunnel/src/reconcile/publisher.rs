//! What the reconciler lets others know as soon as it changes.

use tokio::sync::watch;

use super::Reconciler;
use crate::{
    activity::ActivityCollector, dataplane::Dataplane, desired::Device, firewall::Tunnels, mtu::pod_mtu,
};

/// Told at rest, and only what is news.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// How the tunnels are, for the firewall.
    pub(crate) tunnels: watch::Sender<Tunnels>,
    /// How large pods' packets may be, in octets; `None` while the node's interface is not known.
    pub(crate) pod_mtu: watch::Sender<Option<u32>>,
    /// What has happened.
    pub(crate) activity: ActivityCollector,
}

impl<D: Dataplane> Reconciler<D> {
    /// Which of the exits are no node's; they may be many.
    pub(super) fn tell_strangers(&self) {
        let Some(config) = &self.config else { return };
        let strangers = Tunnels::strangers_among(self.fib.exits(), config);
        let before = self.publisher.tunnels.borrow().clone();
        tell(&self.publisher.tunnels, Tunnels { strangers, whole: self.is_in_sync(), ..before });
    }

    /// What follows from the links.
    pub(super) fn tell_links(&self) {
        let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) else { return };
        let before = self.publisher.tunnels.borrow().clone();
        let (ipip, vxlan) = (observed.link(Device::Ipip).is_some(), observed.link(Device::Vxlan).is_some());
        tell(&self.publisher.tunnels, Tunnels { ipip, vxlan, ..before });
        // An interface that is gone for a while doesn't make pods' packets smaller.
        if let Some(parent) = observed.parent {
            tell(&self.publisher.pod_mtu, Some(pod_mtu(config, parent.mtu)));
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
