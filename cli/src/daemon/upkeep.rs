//! What is kept on this node beside its routes: the firewall's table, and what container runtimes read.

use tunnel::{FirewallHandle, TunnelHandle};

use super::cni::CniHandle;
use super::config::DaemonConfig;
use super::plan::Plan;

/// The ways to the tasks that do it.
#[derive(Clone, Debug)]
pub(super) struct Upkeep {
    /// Keeps the nftables table.
    pub(super) firewall: FirewallHandle,
    /// Writes the network configuration and the pods' MTU.
    pub(super) cni: CniHandle,
}

impl Upkeep {
    /// Starts them; they do nothing until they are configured.
    pub(super) fn start(config: &DaemonConfig, tunnel: &TunnelHandle) -> Self {
        Self {
            firewall: FirewallHandle::spawn(tunnel.tunnels()).0,
            cni: CniHandle::spawn(config.state_dir.clone(), tunnel.pod_mtu()),
        }
    }

    /// Gives them what follows from the resources.
    pub(super) fn configure(&self, plan: &Plan) {
        self.firewall.configure(plan.firewall.clone());
        self.cni.configure(plan.network.clone());
    }
}
