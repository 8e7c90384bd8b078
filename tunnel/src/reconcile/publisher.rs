//! Values and events that the reconciler publishes.

use tokio::sync::watch;

use super::Reconciler;
use crate::{
    activity::ActivityCollector, dataplane::Dataplane, desired::Device, firewall::Tunnels, mtu::pod_mtu,
};

/// The channels to other tasks. Values are sent at rest, and only if they changed.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    /// State of the tunnels, for the firewall.
    pub(crate) tunnels: watch::Sender<Tunnels>,
    /// MTU of pods in octets; `None` while the node's interface is not known.
    pub(crate) pod_mtu: watch::Sender<Option<u32>>,
    /// Events.
    pub(crate) activity: ActivityCollector,
}

impl<D: Dataplane> Reconciler<D> {
    /// Publishes the exits that belong to no node; they may be many.
    pub(super) fn publish_strangers(&self) {
        let Some(config) = &self.config else { return };
        let strangers = Tunnels::strangers_among(self.fib.exits(), config);
        let before = self.publisher.tunnels.borrow().clone();
        publish(&self.publisher.tunnels, Tunnels { strangers, whole: self.is_in_sync(), ..before });
    }

    /// Publishes the values that depend on links.
    pub(super) fn publish_links(&self) {
        let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) else { return };
        let before = self.publisher.tunnels.borrow().clone();
        let (ipip, vxlan) = (observed.link(Device::Ipip).is_some(), observed.link(Device::Vxlan).is_some());
        publish(&self.publisher.tunnels, Tunnels { ipip, vxlan, ..before });
        // An interface that is missing for a while does not change the MTU of pods.
        if let Some(parent) = observed.parent {
            publish(&self.publisher.pod_mtu, Some(pod_mtu(config, parent.mtu)));
        }
    }
}

fn publish<T: PartialEq>(channel: &watch::Sender<T>, now: T) {
    channel.send_if_modified(|before| {
        let news = *before != now;
        *before = now;
        news
    });
}
