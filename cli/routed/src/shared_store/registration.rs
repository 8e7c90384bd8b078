//! Registration: with a shared store, a node without a Node resource creates one, and keeps the
//! address in it up to date.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use serde_json::json;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use datastore::{EtcdStore, Manifest, StoreError, StoreHealth, StoreUpdate};
use resource::{API_VERSION, HOST_ANNOTATION, Mistake, Node, parse_file};
use timing::optional;

use crate::config::{AutodetectSettings, DaemonConfig};
use crate::daemon::state::DaemonState;
use crate::shared_store::autodetect::{AutodetectMethod, InterfaceAddresses, choose};

/// The interval at which addresses are checked without a notification of the kernel.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// The time to wait after a notification, because several arrive together.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// The time before the next attempt after the store has refused a request.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The time limit for resolving the name of `can-reach`.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// The time limit for a stored resource to arrive in the watch.
const OWN_NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The kernel's multicast groups for links and addresses of both families (`RTMGRP_*`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Returns the ID that distinguishes this host from another one with the same node name. The ID is
/// stored in the state directory.
///
/// # Errors
/// The ID can't be stored, so that the next start would have another one.
pub(crate) fn host_id(state_dir: &Path) -> Result<String, std::io::Error> {
    let file = state_dir.join("host-id");
    if let Ok(stored) = std::fs::read_to_string(&file) {
        let stored = stored.trim();
        if !stored.is_empty() && stored.len() <= 64 {
            return Ok(stored.to_owned());
        }
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    std::fs::create_dir_all(state_dir)?;
    let new = state_dir.join(".host-id.new");
    std::fs::write(&new, format!("{id}\n"))?;
    std::fs::rename(&new, &file)?;
    Ok(id)
}

/// Removes this node's resource from an update if another host has registered it: two hosts with
/// the same name must not act as one node.
pub(crate) fn admit(update: StoreUpdate, node: &str, host: &str) -> StoreUpdate {
    let mut loaded = update?;
    let is_foreign = |one: &Node| one.name == node && one.host.as_deref().is_some_and(|owner| owner != host);
    if let Some(at) = loaded.snapshot.nodes.iter().position(is_foreign) {
        let other = loaded.snapshot.nodes.remove(at);
        let address =
            other.ipv4.map(|net| net.addr().into()).or(other.ipv6.map(|net| IpAddr::V6(net.addr())));
        let address = address.map_or_else(|| "no address".to_owned(), |address: IpAddr| address.to_string());
        let rule = format!(
            "{node:?} is the name of another host, which registered with {address}: set `node` in this host's routed.yaml, or \
             if that host is no more, `routectl delete node {node}`"
        );
        let origin = other.origin;
        loaded.refused.push(Mistake {
            file: origin.file,
            line: origin.line,
            field: "metadata.name".into(),
            rule,
        });
    }
    Ok(loaded)
}

/// The task that registers this node and updates its addresses.
pub(crate) struct Registration {
    config: DaemonConfig,
    store: Arc<EtcdStore>,
    host: String,
    state: watch::Receiver<Arc<DaemonState>>,
    health: watch::Receiver<StoreHealth>,
    /// The problem that prevents the registration.
    problem: watch::Sender<Option<String>>,
}

/// The reason why this node is not registered.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    /// Autodetection found no address.
    #[error(
        "no address was found for node {node:?} (ipv4: {ipv4}, ipv6: {ipv6}): set `autodetect` in routed.yaml, or \
         apply a Node resource"
    )]
    NoAddress {
        /// This node.
        node: String,
        /// The method for IPv4.
        ipv4: String,
        /// The method for IPv6.
        ipv6: String,
    },
    /// Another node has the address.
    #[error(
        "node {node:?} was not registered: its address {address} is node {other:?}'s already; correct that Node, or \
         `autodetect` in routed.yaml"
    )]
    AddressTaken {
        /// This node.
        node: String,
        /// The address.
        address: IpAddr,
        /// The other node.
        other: String,
    },
    /// A Node resource of this name exists and is not valid.
    #[error("node {node:?} is there already and can't be used: `routectl show status` says why")]
    Unusable {
        /// This node.
        node: String,
    },
    /// The store refused the resource.
    #[error("node {node:?} was not registered: {reason}")]
    Refused {
        /// This node.
        node: String,
        /// The error of the store, or the first broken rule.
        reason: String,
    },
    /// The generated resource breaks rules.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Mistake>),
}

impl Registration {
    /// Starts the task. The receiver has the problem that prevents the registration.
    pub(crate) fn start(
        config: DaemonConfig,
        store: Arc<EtcdStore>,
        host: String,
        state: watch::Receiver<Arc<DaemonState>>,
        health: watch::Receiver<StoreHealth>,
    ) -> watch::Receiver<Option<String>> {
        let (problem, problems) = watch::channel(None);
        let registration = Registration { config, store, host, state, health, problem };
        tokio::spawn(registration.run());
        problems
    }

    async fn run(mut self) {
        let monitor = AddressMonitor::open();
        if let Err(error) = &monitor {
            tracing::warn!(%error, "the kernel does not report address changes: addresses are checked every minute");
        }
        loop {
            // The cluster's resources are unknown until then.
            if self.health.wait_for(|health| health.connected).await.is_err() {
                return;
            }
            if self.state.wait_for(|state| state.revision.is_some()).await.is_err() {
                return;
            }
            let problem = self.reconcile().await.err().map(|error| error.to_string());
            let pause = if problem.is_none() { CHECK_INTERVAL } else { RETRY_INTERVAL };
            if let Some(problem) = &problem
                && self.problem.borrow().as_ref() != Some(problem)
            {
                tracing::error!("{problem}");
            }
            self.problem.send_replace(problem);
            tokio::select! {
                () = sleep(pause) => {} // why: the interval of checks
                () = changed(&monitor) => {}
                // The resource may have been deleted.
                ended = self.state.changed() => if ended.is_err() { return },
            }
        }
    }

    /// Creates the Node resource, or updates its addresses, if necessary.
    async fn reconcile(&mut self) -> Result<(), RegistrationError> {
        let state = self.state.borrow_and_update().clone();
        let name = &self.config.node;
        let own = state.snapshot.nodes.iter().find(|node| node.name == *name).cloned();
        // A resource that a user applied is changed by users only, and one of another host by that
        // host only.
        if own.as_ref().is_some_and(|own| own.host.as_deref() != Some(&self.host)) {
            return Ok(());
        }
        let AutodetectSettings { ipv4, ipv6 } = &self.config.autodetect;
        let links = links();
        let v4 = detect(ipv4, &links, true).await;
        let v6 = detect(ipv6, &links, false).await;
        if v4.is_none() && v6.is_none() {
            return Err(RegistrationError::NoAddress {
                node: name.clone(),
                ipv4: ipv4.to_string(),
                ipv6: ipv6.to_string(),
            });
        }
        if let Some(own) = &own
            && own.ipv4.map(IpNet::V4) == v4
            && own.ipv6.map(IpNet::V6) == v6
        {
            return Ok(());
        }
        for address in [v4, v6].into_iter().flatten().map(|net| net.addr()) {
            let other = state.node_at(address).filter(|other| other != name);
            if let Some(other) = other {
                return Err(RegistrationError::AddressTaken {
                    node: name.clone(),
                    address,
                    other: other.to_owned(),
                });
            }
        }
        match own {
            None => self.register(v4, v6).await,
            Some(_) => self.update_addresses(v4, v6).await,
        }
    }

    /// Waits until the watch delivers the resource, so that it is not created twice. Returns
    /// whether it has arrived.
    async fn wait_for_own_node(&mut self) -> bool {
        let name = self.config.node.clone();
        let is_there = |state: &Arc<DaemonState>| state.snapshot.nodes.iter().any(|node| node.name == name);
        timeout(OWN_NODE_TIMEOUT, self.state.wait_for(is_there)).await.is_ok()
    }

    async fn register(&mut self, v4: Option<IpNet>, v6: Option<IpNet>) -> Result<(), RegistrationError> {
        let name = self.config.node.clone();
        let mut manifest = json!({
            "apiVersion": API_VERSION,
            "kind": "Node",
            "metadata": { "name": name, "annotations": { HOST_ANNOTATION: self.host } },
            "spec": { "bgp": {} },
        });
        set_addresses(&mut manifest, v4, v6);
        match self.store.create(self.manifest(&manifest)?).await {
            Ok(true) => {
                let [v4, v6] = [v4, v6].map(|net| net.map(tracing::field::display));
                tracing::info!(node = name, v4, v6, "registered");
                self.wait_for_own_node().await;
                Ok(())
            }
            Ok(false) if self.wait_for_own_node().await => Ok(()),
            Ok(false) => Err(RegistrationError::Unusable { node: name }),
            Err(error) => Err(self.refusal(error)),
        }
    }

    /// Updates the addresses of the resource and leaves the rest unchanged.
    async fn update_addresses(&self, v4: Option<IpNet>, v6: Option<IpNet>) -> Result<(), RegistrationError> {
        let name = &self.config.node;
        let edit = |mut manifest: serde_json::Value| {
            set_addresses(&mut manifest, v4, v6);
            self.manifest(&manifest).ok()
        };
        match self.store.edit_node(name, edit).await {
            Ok(_) => {
                let (v4, v6) = (v4.map(|net| net.to_string()), v6.map(|net| net.to_string()));
                tracing::info!(node = name, ?v4, ?v6, "this node's address has changed");
                Ok(())
            }
            Err(error) => Err(self.refusal(error)),
        }
    }

    fn refusal(&self, error: StoreError) -> RegistrationError {
        let reason = match error {
            StoreError::Invalid(mistakes) => {
                mistakes.first().map_or_else(String::new, |mistake| mistake.rule.clone())
            }
            error => error.to_string(),
        };
        RegistrationError::Refused { node: self.config.node.clone(), reason }
    }

    fn manifest(&self, manifest: &serde_json::Value) -> Result<Manifest, RegistrationError> {
        let text = resource::to_yaml(manifest);
        let mut parsed = parse_file(&format!("autodetected/{}", self.config.node), &text);
        match parsed.documents.pop() {
            Some(document) if parsed.mistakes.is_empty() => Ok(Manifest { document, text }),
            _ => Err(RegistrationError::Invalid(parsed.mistakes)),
        }
    }
}

fn set_addresses(manifest: &mut serde_json::Value, v4: Option<IpNet>, v6: Option<IpNet>) {
    for (field, net) in [("ipv4Address", v4), ("ipv6Address", v6)] {
        match net {
            Some(net) => manifest["spec"]["bgp"][field] = net.to_string().into(),
            None => {
                if let Some(bgp) = manifest["spec"]["bgp"].as_object_mut() {
                    bgp.remove(field);
                }
            }
        }
    }
}

async fn detect(method: &AutodetectMethod, links: &[InterfaceAddresses], v4: bool) -> Option<IpNet> {
    let reached = match method {
        AutodetectMethod::CanReach(host) => source_towards(host, v4).await,
        _ => None,
    };
    choose(method, links, v4, reached)
}

/// Returns the source address of packets to a host. No packet is sent.
async fn source_towards(host: &str, v4: bool) -> Option<IpAddr> {
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 53))).await.ok()?.ok()?;
    let target = found.into_iter().find(|address| address.is_ipv4() == v4)?;
    let any: SocketAddr = if v4 { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Returns the addresses of all interfaces that are up.
fn links() -> Vec<InterfaceAddresses> {
    let Ok(all) = getifaddrs() else { return Vec::new() };
    let mut links: Vec<InterfaceAddresses> = Vec::new();
    for one in all.filter(|one| one.flags.contains(InterfaceFlags::IFF_UP)) {
        let at = links.iter().position(|link| link.name == one.interface_name).unwrap_or_else(|| {
            links.push(InterfaceAddresses { name: one.interface_name.clone(), addresses: Vec::new() });
            links.len() - 1
        });
        let (Some(address), Some(mask)) = (one.address, one.netmask) else { continue };
        let v4 = address.as_sockaddr_in().zip(mask.as_sockaddr_in());
        let v6 = address.as_sockaddr_in6().zip(mask.as_sockaddr_in6());
        let net = match (v4, v6) {
            (Some((address, mask)), _) => IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok(),
            (None, Some((address, mask))) => IpNet::with_netmask(address.ip().into(), mask.ip().into()).ok(),
            (None, None) => None,
        };
        if let (Some(net), Some(link)) = (net, links.get_mut(at)) {
            link.addresses.push(net);
        }
    }
    links
}

/// A netlink socket that reports changes of links and addresses, without their details.
struct AddressMonitor(AsyncFd<OwnedFd>);

impl AddressMonitor {
    fn open() -> std::io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        // `register`, the successor of this method, is unsafe, although an `OwnedFd` guarantees its
        // contract.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(AddressMonitor(socket))
    }

    async fn changed(&self) {
        let mut settled_at: Option<Instant> = None;
        loop {
            let ready = match settled_at {
                Some(at) => match tokio::time::timeout_at(at, self.0.readable()).await {
                    Ok(ready) => ready,
                    Err(_) => return,
                },
                None => self.0.readable().await,
            };
            let Ok(mut ready) = ready else { return std::future::pending().await };
            let mut buffer = [0u8; 8192];
            // An overflow of the socket means a change too.
            while recv(self.0.get_ref().as_raw_fd(), &mut buffer, nix::sys::socket::MsgFlags::empty())
                != Err(nix::errno::Errno::EAGAIN)
            {}
            ready.clear_ready();
            settled_at.get_or_insert_with(|| Instant::now() + SETTLE_TIME);
        }
    }
}

async fn changed(monitor: &std::io::Result<AddressMonitor>) {
    optional(monitor.as_ref().ok().map(AddressMonitor::changed)).await;
}
