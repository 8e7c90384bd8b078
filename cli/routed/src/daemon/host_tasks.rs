//! Tasks that keep other state of the host: the nftables table, and the files for container
//! runtimes.

use tunnel::{FirewallHandle, TunnelHandle};

use crate::cni::CniHandle;
use crate::config::DaemonConfig;
use crate::node_config::NodeConfig;

/// The handles of the tasks.
#[derive(Clone, Debug)]
pub(crate) struct HostTasks {
    /// The task that keeps the nftables table.
    pub(crate) firewall: FirewallHandle,
    /// The task that writes the network configuration and the pods' MTU.
    pub(crate) cni: CniHandle,
}

impl HostTasks {
    /// Starts the tasks. They change nothing before [`HostTasks::configure`].
    pub(crate) fn start(config: &DaemonConfig, tunnel: &TunnelHandle) -> Self {
        Self {
            firewall: FirewallHandle::spawn(tunnel.tunnels()).0,
            cni: CniHandle::spawn(config.state_dir.clone(), tunnel.pod_mtu()),
        }
    }

    /// Sets the desired firewall and network configuration.
    pub(crate) fn configure(&self, node_config: &NodeConfig) {
        self.firewall.configure(node_config.firewall.clone());
        self.cni.configure(node_config.network.clone());
    }
}
