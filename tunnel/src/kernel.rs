//! The [`Dataplane`] of the kernel, in the calling thread's network namespace.

mod flush;
mod monitor;
mod probe_routing;
mod translation;
mod writer;

use std::{
    collections::HashMap,
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

pub use self::{
    flush::{FlushReport, flush},
    monitor::KernelMonitor,
    translation::{query_reach, write_route},
};
use self::{translation::link, writer::Writer};
use crate::{
    dataplane::{Dataplane, DataplaneError, KernelEvent, ListedRoute, Wakeup},
    desired::{Device, Parent, VXLAN_PORT, VXLAN_VNI},
    diff::Op,
    fib::RouteOp,
    netlink::{
        KernelError, LinkConnection, RequestSocket,
        links::{self, LinkChange, LinkInfo, VxlanAttributes},
        neighbours,
        nexthops::{self, NexthopRecord},
        numbers::{EADDRNOTAVAIL, EEXIST, ENODEV, ENOENT, EOPNOTSUPP, ESRCH},
        wire::RequestMessage,
    },
    node::Config,
    observed::ObservedState,
    probe::{
        driver::Probes,
        prober::{PathMeasurement, ProbeTarget},
    },
    resolve::Reach,
    sysctl::{self, Sysctl},
};

/// Device that the kernel creates in every namespace once the `ipip` module is loaded.
const TUNL0: &str = "tunl0";

/// A request, by the socket it uses.
enum KernelRequest {
    /// A request of the socket for numerous ones.
    Batched(RequestMessage),
    /// A request that is executed by itself.
    Single(LinkChange),
}

/// The kernel by five sockets: for probes, for routes (written by a thread of its own), for other
/// numerous requests, for rare requests, and for events.
pub struct KernelDataplane {
    writer: Writer,
    socket: RequestSocket,
    connection: LinkConnection,
    monitor: KernelMonitor,
    protocol: u8,
    /// True after the kernel refused a second IP-in-IP device.
    use_tunl0: bool,
    names: HashMap<u32, String>,
    probes: Probes,
}

impl KernelDataplane {
    /// Opens the sockets in the calling thread's network namespace, inside a tokio runtime.
    ///
    /// # Errors
    /// Those of `socket` and `bind`.
    pub fn open() -> io::Result<Self> {
        let socket = RequestSocket::open()?;
        let connection = LinkConnection::open()?;
        let writer = Writer::start()?;
        let mut monitor = KernelMonitor::open(&[socket.port(), connection.port(), writer.port()])?;
        // There is no VXLAN device before the first observation.
        monitor.watch_neighbours(0)?;
        Ok(Self {
            writer,
            socket,
            connection,
            monitor,
            protocol: 0,
            use_tunl0: false,
            names: HashMap::new(),
            probes: Probes::new(),
        })
    }

    fn request(config: &Config, op: &Op) -> KernelRequest {
        use KernelRequest::{Batched, Single};
        let protocol = config.route_protocol;
        match *op {
            Op::DeleteLink { index, .. } => Single(LinkChange::DeleteLink { index }),
            Op::CreateIpip(spec) => Single(links::create_ipip(Device::Ipip.name(), spec.local, spec.mtu)),
            Op::CreateVxlan(spec) => {
                let attributes = VxlanAttributes {
                    vni: VXLAN_VNI,
                    port: VXLAN_PORT,
                    local: spec.local,
                    parent: spec.parent,
                    mtu: spec.mtu,
                    mac: spec.mac,
                };
                Single(links::create_vxlan(Device::Vxlan.name(), &attributes))
            }
            Op::SetLink { index, mtu, mac, up, .. } => Single(links::set_link(index, mtu, mac, up)),
            Op::AddAddress { index, address, .. } => Single(LinkChange::AddAddress { index, address }),
            Op::DeleteAddress { index, address, .. } => Single(LinkChange::DeleteAddress { index, address }),
            Op::SetFdb { index, mac, remote } => Batched(neighbours::set_fdb(index, mac, remote)),
            Op::DeleteFdb { index, mac, remote } => Batched(neighbours::delete_fdb(index, mac, remote)),
            Op::SetNeighbour { index, address, mac } => {
                Batched(neighbours::set_neighbour(index, address, mac))
            }
            Op::DeleteNeighbour { index, address } => Batched(neighbours::delete_neighbour(index, address)),
            Op::AddNexthop { id, gateway, index } => {
                Batched(nexthops::set_nexthop(id, gateway, index, protocol, false))
            }
            Op::ReplaceNexthop { id, gateway, index } => {
                Batched(nexthops::set_nexthop(id, gateway, index, protocol, true))
            }
            Op::AddGroup { id, members } => Batched(nexthops::add_group(id, members.ids(), protocol)),
            Op::DeleteNexthop { id } => Batched(nexthops::delete_nexthop(id)),
            Op::AddRule { path } => Batched(probe_routing::add_rule(path, protocol)),
            Op::DeleteRule { path } => Batched(probe_routing::delete_rule(path)),
            Op::SetProbeRoute { path, address, gateway, index } => {
                Batched(probe_routing::set_route(path, address, gateway, index, protocol))
            }
            Op::DeleteProbeRoute { path, address } => Batched(probe_routing::delete_route(path, address)),
        }
    }

    /// Executes the operations in order, across both sockets.
    async fn execute(&mut self, config: &Config, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut results = Vec::with_capacity(ops.len());
        let mut batch = Vec::new();
        for op in ops {
            match Self::request(config, op) {
                KernelRequest::Batched(message) => batch.push(message),
                KernelRequest::Single(change) => {
                    results.extend(self.execute_batch(mem::take(&mut batch)));
                    results.push(self.connection.change(change).await.map_err(DataplaneError::from));
                }
            }
        }
        results.extend(self.execute_batch(batch));
        results
    }

    fn execute_batch(
        &mut self,
        batch: Vec<RequestMessage>,
    ) -> impl Iterator<Item = Result<(), DataplaneError>> + use<> {
        self.socket.execute(batch).into_iter().map(|result| result.map_err(DataplaneError::from))
    }

    fn observe_all(&mut self, config: &Config) -> Result<ObservedState, KernelError> {
        self.protocol = config.route_protocol;
        let mut observed = ObservedState::default();
        let all = links::dump_links(&mut self.socket)?;
        self.names = all.iter().map(|l| (l.index, l.name.clone())).collect();
        let named = |name: &str| all.iter().find(|l| l.name == name).map(link);
        observed.has_tunl0 = all.iter().any(|l| l.name == TUNL0);
        observed.ipip_is_tunl0 = self.use_tunl0 && observed.has_tunl0;
        observed.ipip = named(if observed.ipip_is_tunl0 { TUNL0 } else { Device::Ipip.name() });
        observed.vxlan = named(Device::Vxlan.name());
        observed.vxlan_rival = all
            .iter()
            .find(|l| {
                let same = matches!(l.kind, LinkInfo::Vxlan { vni: VXLAN_VNI, port: VXLAN_PORT, .. });
                same && l.name != Device::Vxlan.name()
            })
            .map(|l| l.name.clone());

        let underlay = config.local.underlay();
        for record in links::dump_addresses(&mut self.socket)? {
            let device =
                Device::ALL.into_iter().find(|d| observed.link(*d).is_some_and(|l| l.index == record.index));
            match device {
                Some(device) if !is_link_local(record.address.addr()) => {
                    observed.addresses.insert((device, record.address));
                }
                None if Some(record.address.addr()) == underlay => {
                    observed.parent = all
                        .iter()
                        .find(|l| l.index == record.index)
                        .map(|l| Parent { index: l.index, mtu: l.mtu })
                        .or(observed.parent);
                }
                _ => {}
            }
        }
        // Before the neighbors are listed, so that no change is missed.
        self.monitor.watch_neighbours(observed.vxlan.map_or(0, |vxlan| vxlan.index))?;
        if let Some(vxlan) = observed.vxlan {
            for record in neighbours::dump_permanent(&mut self.socket, vxlan.index)? {
                match (record.bridge, record.mac, record.address) {
                    (true, Some(mac), Some(remote)) => {
                        observed.fdb.insert((mac, remote));
                    }
                    (false, Some(mac), Some(address)) if !address.is_multicast() => {
                        observed.neighbours.insert(address, mac);
                    }
                    _ => {}
                }
            }
        }
        match nexthops::dump_nexthops(&mut self.socket) {
            Ok(all) => {
                observed.nexthop_objects = true;
                let translated = |n: &NexthopRecord| (n.id, translation::nexthop(n, config.route_protocol));
                observed.nexthops = all.iter().map(translated).collect();
            }
            Err(error) if error.errno == EOPNOTSUPP => {}
            Err(error) => return Err(error),
        }
        observed.rules = probe_routing::dump_rules(&mut self.socket)?.into_iter().collect();
        let probes = probe_routing::dump_routes(&mut self.socket)?;
        observed.probe_routes = probes.into_iter().map(|r| ((r.path, r.address), r.via)).collect();
        Ok(observed)
    }
}

impl Dataplane for KernelDataplane {
    fn observe(&mut self, config: &Config) -> Result<ObservedState, DataplaneError> {
        Ok(self.observe_all(config)?)
    }

    fn list_routes(&mut self, config: &Config) {
        self.writer.list(config.route_protocol);
    }

    async fn next_listed(&mut self) -> Result<Option<Vec<ListedRoute>>, DataplaneError> {
        self.writer.listed().await
    }

    fn submit(&mut self, config: &Config, ops: &[RouteOp]) {
        self.writer.submit(&mut self.socket, config.route_protocol, ops);
    }

    async fn completed(&mut self) -> Vec<(usize, DataplaneError)> {
        self.writer.completed().await
    }

    fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>> {
        self.writer.try_completed()
    }

    async fn apply(&mut self, config: &Config, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        let mut results = self.execute(config, ops).await;
        for (op, result) in ops.iter().zip(&mut results) {
            let Err(error) = result else { continue };
            match op {
                // Another device has our endpoints: the next observation treats tunl0 as ours.
                Op::CreateIpip(_)
                    if error.errno == EEXIST
                        && !self.use_tunl0
                        && self.names.values().any(|name| name == TUNL0) =>
                {
                    tracing::warn!("a second ipip device is refused ({error}); using {TUNL0}");
                    self.use_tunl0 = true;
                    *result = Ok(());
                }
                // The object is gone, which is what was requested.
                Op::DeleteLink { .. }
                | Op::DeleteAddress { .. }
                | Op::DeleteFdb { .. }
                | Op::DeleteNeighbour { .. }
                | Op::DeleteNexthop { .. }
                | Op::DeleteRule { .. }
                | Op::DeleteProbeRoute { .. }
                    if matches!(error.errno, ENOENT | ESRCH | ENODEV | EADDRNOTAVAIL) =>
                {
                    *result = Ok(());
                }
                _ => {}
            }
        }
        results
    }

    fn reach(&mut self, address: IpAddr, observed: &ObservedState) -> Reach {
        let ours =
            |index: u32| Device::ALL.iter().any(|d| observed.link(*d).is_some_and(|l| l.index == index));
        match query_reach(&mut self.socket, address) {
            Ok(Reach::OnLink { index } | Reach::Via { index, .. }) if ours(index) => Reach::Tunnel,
            Ok(reach) => reach,
            Err(error) => {
                tracing::warn!(%address, %error, "the route to a next hop cannot be queried");
                Reach::Unreachable
            }
        }
    }

    fn tune(&mut self, config: &Config, observed: &ObservedState) -> Vec<Sysctl> {
        sysctl::tune(config, observed, &|index| self.interface_name(index))
    }

    fn probe(&mut self, config: &Config, observed: &ObservedState, targets: &[ProbeTarget]) {
        self.probes.set_targets(config, observed, targets);
    }

    fn path_measurements(&self, address: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        self.probes.measurements(address)
    }

    fn probe_counts(&self) -> (u64, u64) {
        self.probes.counts()
    }

    fn probe_problem(&self) -> Option<String> {
        self.probes.problem()
    }

    fn interface_name(&self, index: u32) -> Option<String> {
        self.names.get(&index).cloned()
    }

    async fn wait(&mut self, submitted: bool) -> Wakeup {
        tokio::select! {
            errors = self.writer.completed(), if submitted => Wakeup::Completed(errors),
            events = self.monitor.events(self.protocol) => Wakeup::Events(events),
            changes = self.probes.changes() => Wakeup::Events(
                changes.into_iter().map(|(address, path, state)| KernelEvent::PathState { address, path, state }).collect(),
            ),
        }
    }
}

/// Returns whether the address is link-local: the kernel assigns one to every device.
fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(a) if Ipv6Addr::segments(&a)[0] & 0xffc0 == 0xfe80)
}
