//! What is kept on this node beside its routes: the firewall's table, and what container runtimes read.

use tunnel::{FirewallHandle, TunnelHandle};

use crate::cni::CniHandle;
use crate::config::DaemonConfig;
use crate::node_config::Plan;

/// The ways to the tasks that do it.
#[derive(Clone, Debug)]
pub(crate) struct Upkeep {
    /// Keeps the nftables table.
    pub(crate) firewall: FirewallHandle,
    /// Writes the network configuration and the pods' MTU.
    pub(crate) cni: CniHandle,
}

impl Upkeep {
    /// Starts them; they do nothing until they are configured.
    pub(crate) fn start(config: &DaemonConfig, tunnel: &TunnelHandle) -> Self {
        Self {
            firewall: FirewallHandle::spawn(tunnel.tunnels()).0,
            cni: CniHandle::spawn(config.state_dir.clone(), tunnel.pod_mtu()),
        }
    }

    /// Gives them what follows from the resources.
    pub(crate) fn configure(&self, plan: &Plan) {
        self.firewall.configure(plan.firewall.clone());
        self.cni.configure(plan.network.clone());
    }
}
