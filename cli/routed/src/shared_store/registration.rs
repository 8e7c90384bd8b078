//! With a shared store, a node that has no Node resource registers itself, and keeps the address there that it has.

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
use timing::optional;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::config::{AutodetectSettings, DaemonConfig};
use crate::daemon::state::DaemonState;
use crate::shared_store::autodetect::{AutodetectMethod, InterfaceAddresses, choose};
use datastore::{EtcdStore, Manifest, StoreError, StoreHealth, Update};
use resource::{API_VERSION, HOST_ANNOTATION, Mistake, Node, parse_file};

/// Between two looks at the addresses where the kernel tells of no change.
const CHECK_INTERVAL: Duration = Duration::from_secs(60);
/// Quiet time after the kernel told of one, as many come together.
const SETTLE_TIME: Duration = Duration::from_millis(200);
/// Before the next try where the store said no.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// How long the name of `can-reach` may take to be found.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a resource that was stored may take to be told of by the store.
const OWN_NODE_TIMEOUT: Duration = Duration::from_secs(3);
/// The kernel's multicast groups for links and addresses of both families (`RTMGRP_*`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// What tells this host from another with its name: kept in the state directory.
///
/// # Errors
/// It can't be kept, so that the next start would be another host's.
pub(crate) fn host_id(state_dir: &Path) -> Result<String, std::io::Error> {
    let file = state_dir.join("host-id");
    if let Ok(kept) = std::fs::read_to_string(&file) {
        let kept = kept.trim();
        if !kept.is_empty() && kept.len() <= 64 {
            return Ok(kept.to_owned());
        }
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim().to_owned();
    std::fs::create_dir_all(state_dir)?;
    let new = state_dir.join(".host-id.new");
    std::fs::write(&new, format!("{id}\n"))?;
    std::fs::rename(&new, &file)?;
    Ok(id)
}

/// Takes away this node's resource where another host has registered it: who bears its name must not act for it.
pub(crate) fn admit(update: Update, node: &str, host: &str) -> Update {
    let mut loaded = update?;
    let is_others = |one: &Node| one.name == node && one.host.as_deref().is_some_and(|owner| owner != host);
    if let Some(at) = loaded.snapshot.nodes.iter().position(is_others) {
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

/// Registers this node and looks after its addresses, beside everything else.
pub(crate) struct Registration {
    config: DaemonConfig,
    store: Arc<EtcdStore>,
    host: String,
    state: watch::Receiver<Arc<DaemonState>>,
    health: watch::Receiver<StoreHealth>,
    /// What keeps it from being registered.
    problem: watch::Sender<Option<String>>,
}

/// Why this node is not registered.
#[derive(Debug, thiserror::Error)]
enum RegistrationError {
    /// No address was found.
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
    /// A Node resource of this name exists and does not run.
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
        /// The store's error, or the first rule that is broken.
        reason: String,
    },
    /// The resource breaks rules.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Mistake>),
}

impl Registration {
    /// Begins; tells what keeps the node from being registered.
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
            tracing::warn!(%error, "the kernel does not tell of addresses: they are looked at every minute");
        }
        loop {
            // Nothing is known of the cluster until then.
            if self.health.wait_for(|health| health.connected).await.is_err() {
                return;
            }
            if self.state.wait_for(|state| state.revision.is_some()).await.is_err() {
                return;
            }
            let problem = self.reconcile().await.err().map(|error| error.to_string());
            let again = if problem.is_none() { CHECK_INTERVAL } else { RETRY_INTERVAL };
            if let Some(problem) = &problem
                && self.problem.borrow().as_ref() != Some(problem)
            {
                tracing::error!("{problem}");
            }
            self.problem.send_replace(problem);
            tokio::select! {
                () = sleep(again) => {} // why: addresses are looked at anew each minute
                () = changed(&monitor) => {}
                // Somebody may have deleted the resource.
                ended = self.state.changed() => if ended.is_err() { return },
            }
        }
    }

    /// Registers, or changes the address, if that is called for.
    async fn reconcile(&mut self) -> Result<(), RegistrationError> {
        let state = self.state.borrow_and_update().clone();
        let name = &self.config.node;
        let own = state.snapshot.nodes.iter().find(|node| node.name == *name).cloned();
        // What somebody wrote is theirs to change, and what another host registered is that host's.
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
            Some(_) => self.move_to(v4, v6).await,
        }
    }

    /// Whether the resource has come back from the store, so that nothing is done twice.
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

    /// Changes the addresses, and nothing else of the resource.
    async fn move_to(&self, v4: Option<IpNet>, v6: Option<IpNet>) -> Result<(), RegistrationError> {
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

/// The address that packets to a host would leave with; nothing is sent.
async fn source_towards(host: &str, v4: bool) -> Option<IpAddr> {
    let found = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((host, 53))).await.ok()?.ok()?;
    let target = found.into_iter().find(|address| address.is_ipv4() == v4)?;
    let any: SocketAddr = if v4 { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await.ok()?;
    socket.connect(target).await.ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// This machine's interfaces that are up.
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

/// Says when links or addresses change; not which.
struct AddressMonitor(AsyncFd<OwnedFd>);

impl AddressMonitor {
    fn open() -> std::io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        // `register`, its successor, is unsafe to call: it has the caller promise what an OwnedFd is anyway.
        #[allow(deprecated)]
        let socket = AsyncFd::new(socket)?;
        Ok(AddressMonitor(socket))
    }

    async fn changed(&self) {
        let mut until: Option<Instant> = None;
        loop {
            let ready = match until {
                Some(until) => match tokio::time::timeout_at(until, self.0.readable()).await {
                    Ok(ready) => ready,
                    Err(_) => return,
                },
                None => self.0.readable().await,
            };
            let Ok(mut ready) = ready else { return std::future::pending().await };
            let mut room = [0u8; 8192];
            // That some were lost says as much as that some came.
            while recv(self.0.get_ref().as_raw_fd(), &mut room, nix::sys::socket::MsgFlags::empty())
                != Err(nix::errno::Errno::EAGAIN)
            {}
            ready.clear_ready();
            until.get_or_insert_with(|| Instant::now() + SETTLE_TIME);
        }
    }
}

async fn changed(monitor: &std::io::Result<AddressMonitor>) {
    optional(monitor.as_ref().ok().map(AddressMonitor::changed)).await;
}
