//! The report of the tunnel task.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    dataplane::Dataplane,
    desired::{BLACKHOLE_METRIC, DesiredDevice, Device, RouteKey, RouteTarget},
    diff::Object,
    latency::Latency,
    node::{Config, Encapsulation, LearnedPath, PathKind},
    observed::ObservedLink,
    reachability::Reachability,
    reconcile::Reconciler,
    resolve::{Exit, ExitReason, Reach, resolve},
    sysctl::Sysctl,
};

mod paths;
mod problems;

pub use paths::PathReport;
pub(crate) use problems::describe;
use problems::mac_text;

/// Problem line for a missing privilege.
pub const PERMISSION_DENIED: &str = "no CAP_NET_ADMIN: the kernel refuses to change links and routes, BGP runs on; \
     run routed as root or grant it (systemd: AmbientCapabilities=CAP_NET_ADMIN; container: add NET_ADMIN)";

/// Routes per page of the report: about a millisecond.
const PAGE_ROUTES: usize = 4096;
/// Failures listed in a report; `failures_total` counts all.
const MAX_FAILURES: usize = 200;

/// The state of the dataplane.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataplaneReport {
    /// True if all routes are known and leftovers were swept.
    pub in_sync: bool,
    /// Form of the next hops of routes.
    pub next_hops: NextHops,
    /// Number of our entries that other programs changed, since the start.
    pub drift: u64,
    /// Work since the start.
    pub work: Work,
    /// Durations of that work in the kernel.
    pub latency: KernelLatency,
    /// The tunnel devices.
    pub devices: Vec<DeviceReport>,
    /// Sysctls that forwarding depends on.
    pub sysctls: Vec<Sysctl>,
    /// Failures, at most 200.
    pub failures: Vec<FailureReport>,
    /// Number of all failures.
    pub failures_total: usize,
    /// Problems that need intervention, one line each.
    pub problems: Vec<String>,
    /// Number of learned prefixes and own blocks whose route is installed as desired.
    pub routes_installed: usize,
    /// Number of changes of routes that wait to be written.
    pub routes_waiting: usize,
    /// Learned prefixes and own blocks, by prefix; empty in a summary.
    pub routes: Vec<RouteReport>,
    /// The other nodes.
    pub tunnels: Vec<TunnelReport>,
}

/// Durations of the kernel's work since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelLatency {
    /// Durations of batches of routes, at most 256 each.
    pub routes: Latency,
    /// Durations of batches of other objects.
    pub objects: Latency,
}

/// Work since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Number of routes added, replaced or deleted.
    pub routes: u64,
    /// Number of other objects added, replaced or deleted.
    pub objects: u64,
    /// Number of refused changes of both kinds.
    pub refused: u64,
    /// Number of nodes that moved to the fallback because IP-in-IP did not pass.
    pub fallbacks_ipip: u64,
    /// Number of nodes that moved to the fallback because BGP was lost or never came up.
    pub fallbacks_bgp: u64,
    /// Number of probes sent.
    pub probes: u64,
    /// Number of probes without an answer.
    pub probes_lost: u64,
}

/// The form of the next hops of routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NextHops {
    /// Ids of next-hop objects.
    Objects,
    /// Plain gateways: the kernel has no next-hop objects.
    Gateways,
    /// Unknown: there was no observation yet.
    Unknown,
}

/// A tunnel device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceReport {
    /// Interface name.
    pub name: String,
    /// Encapsulation.
    pub encapsulation: Encapsulation,
    /// True if a pool uses the device, or the fallback may.
    pub wanted: bool,
    /// Up, down or missing.
    pub state: DeviceState,
    /// MTU in octets.
    pub mtu: Option<u32>,
    /// Addresses.
    pub addresses: Vec<IpNet>,
    /// Ethernet address, of VXLAN devices.
    pub mac: Option<String>,
}

/// The state of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceState {
    /// Administratively up.
    Up,
    /// Administratively down.
    Down,
    /// Missing.
    Missing,
}

/// An object that the kernel refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FailureReport {
    /// Description of the object.
    pub object: String,
    /// `errno`.
    pub errno: i32,
    /// The kernel's message.
    pub text: String,
    /// Number of attempts.
    pub attempts: u32,
}

/// A prefix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteReport {
    /// Destination.
    pub prefix: IpNet,
    /// Next hop of the path; none for own blocks.
    pub next_hop: Option<IpAddr>,
    /// Origin of the path; none for own blocks.
    pub kind: Option<PathKind>,
    /// Kind of the exit.
    pub exit: Option<ExitKind>,
    /// Interface name.
    pub device: Option<String>,
    /// True if the kernel has the route as desired.
    pub installed: bool,
    /// Reason for this exit, or for none.
    pub reason: String,
    /// Exits that share the packets; empty for a single exit.
    pub legs: Vec<LegReport>,
}

/// One of the exits that share a prefix's packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegReport {
    /// Kind of the exit.
    pub exit: ExitKind,
    /// Gateway on the device: the node or a router to it, or with VXLAN the node's VTEP.
    pub gateway: IpAddr,
    /// Interface name.
    pub device: Option<String>,
}

/// The kind of an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitKind {
    /// Plain.
    Direct,
    /// IP in IP.
    Ipip,
    /// VXLAN.
    Vxlan,
    /// Discard.
    Blackhole,
}

/// The tunnel to another node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TunnelReport {
    /// Name.
    pub node: String,
    /// Address.
    pub address: Option<IpAddr>,
    /// Exit of its first block with a BGP path.
    pub preferred: Option<ExitKind>,
    /// Exit in use.
    pub in_use: Option<ExitKind>,
    /// Time since when it is in use.
    pub since: Option<Timestamp>,
    /// Reason.
    pub reason: String,
    /// Round-trip time of the last probe, in milliseconds; `None` if none was answered.
    pub last_probe_ms: Option<f64>,
    /// MTU of the device in use, in octets.
    pub mtu: Option<u32>,
    /// Measurements of the tunnel paths.
    #[serde(default)]
    pub ways: Vec<PathReport>,
    /// Difference of its clock to this node's at the last answer to a probe, in milliseconds;
    /// positive if its clock is ahead.
    #[serde(default)]
    pub clock_ahead_ms: Option<f64>,
    /// Blocks.
    pub blocks: Vec<IpNet>,
}

impl From<Encapsulation> for ExitKind {
    fn from(encapsulation: Encapsulation) -> Self {
        match encapsulation {
            Encapsulation::None => ExitKind::Direct,
            Encapsulation::Ipip => ExitKind::Ipip,
            Encapsulation::Vxlan => ExitKind::Vxlan,
        }
    }
}

impl<D: Dataplane> Reconciler<D> {
    /// Returns the report without the single routes.
    pub fn summary(&mut self) -> DataplaneReport {
        self.update_exits_in_use(!self.is_running());
        let next_hops = match &self.fib.observed {
            None => NextHops::Unknown,
            Some(o) if o.nexthop_objects => NextHops::Objects,
            Some(_) => NextHops::Gateways,
        };
        let failures = self
            .ledger
            .failures()
            .iter()
            .take(MAX_FAILURES)
            .map(|(object, failure)| FailureReport {
                object: describe(object),
                errno: failure.errno,
                text: failure.text.clone(),
                attempts: failure.attempts,
            })
            .collect();
        DataplaneReport {
            in_sync: self.is_in_sync(),
            next_hops,
            drift: self.drift(),
            work: {
                let (probes, probes_lost) = self.dataplane.probe_counts();
                Work { probes, probes_lost, ..self.work }
            },
            latency: self.latency,
            devices: Device::ALL.into_iter().map(|d| self.report_device(d)).collect(),
            sysctls: self.sysctls.clone(),
            failures,
            failures_total: self.ledger.failures().len(),
            problems: self.problems(),
            routes_installed: self.fib.count_installed(),
            routes_waiting: self.fib.queued(),
            routes: Vec::new(),
            tunnels: self.report_tunnels(),
        }
    }

    fn report_device(&self, device: Device) -> DeviceReport {
        let observed = self.fib.observed.as_ref();
        let link = observed.and_then(|o| o.link(device));
        let (encapsulation, wanted) = match device {
            Device::Ipip => (Encapsulation::Ipip, self.fib.desired.ipip != DesiredDevice::Absent),
            Device::Vxlan => (Encapsulation::Vxlan, self.fib.desired.vxlan != DesiredDevice::Absent),
        };
        DeviceReport {
            name: self.device_name(device),
            encapsulation,
            wanted,
            state: match link {
                None => DeviceState::Missing,
                Some(link) if link.up => DeviceState::Up,
                Some(_) => DeviceState::Down,
            },
            mtu: link.map(|l| l.mtu),
            addresses: observed
                .map(|o| o.addresses.iter().filter(|(d, _)| *d == device).map(|(_, a)| *a).collect())
                .unwrap_or_default(),
            mac: link.filter(|_| device == Device::Vxlan).map(|l| mac_text(&l.mac)),
        }
    }

    fn device_name(&self, device: Device) -> String {
        let tunl0 = device == Device::Ipip && self.fib.observed.as_ref().is_some_and(|o| o.ipip_is_tunl0);
        if tunl0 { "tunl0".to_owned() } else { device.name().to_owned() }
    }

    fn exit_device(&self, exit: &Exit) -> Option<String> {
        match exit {
            Exit::Ipip { .. } => Some(self.device_name(Device::Ipip)),
            Exit::Vxlan { .. } => Some(self.device_name(Device::Vxlan)),
            Exit::Direct { index, .. } => self.dataplane.interface_name(*index),
        }
    }

    /// Returns a page of routes, in no order, and the cursor of the next page; the first cursor is
    /// 0.
    pub fn route_page(&self, cursor: u32) -> (Vec<RouteReport>, Option<u32>) {
        let mut routes = Vec::new();
        let mut cursor = cursor;
        while let Some(slot) = self.fib.table().next(cursor) {
            if routes.len() == PAGE_ROUTES {
                return (routes, Some(slot));
            }
            cursor = slot + 1;
            routes.extend(self.report_route(slot));
        }
        (routes, None)
    }

    /// Returns the report of one prefix, if it was learned or is an own block.
    pub fn prefix_routes(&self, prefix: &IpNet) -> Vec<RouteReport> {
        let metrics = [self.config.as_ref().map(|c| c.route_metric), Some(BLACKHOLE_METRIC)];
        let keys = metrics.into_iter().flatten().map(|metric| RouteKey { prefix: *prefix, metric });
        keys.filter_map(|key| self.report_route(self.fib.table().find(&key)?)).collect()
    }

    fn report_route(&self, slot: u32) -> Option<RouteReport> {
        let (key, state) = (self.fib.table().key(slot), self.fib.table().state(slot));
        let want = self.fib.desired_route(state);
        let installed = self.fib.is_installed(state);
        if want.target == Some(RouteTarget::Blackhole) && want.reason != Some(ExitReason::Discard) {
            return Some(RouteReport {
                prefix: key.prefix,
                next_hop: None,
                kind: None,
                exit: Some(ExitKind::Blackhole),
                device: None,
                installed,
                reason: match self.failure(&key) {
                    Some(text) => text,
                    None => "this node's own block: unassigned addresses".to_owned(),
                },
                legs: Vec::new(),
            });
        }
        let learned = self.fib.learned(state)?;
        let exits = want.target.as_ref().map_or(&[][..], |target| self.fib.exits_of(target));
        let exit = exits.first();
        Some(RouteReport {
            prefix: key.prefix,
            next_hop: Some(learned.next_hop),
            kind: Some(learned.kind),
            exit: match want.target {
                Some(RouteTarget::Blackhole) => Some(ExitKind::Blackhole),
                _ => exit.map(|e| e.encapsulation().into()),
            },
            device: exit.and_then(|e| self.exit_device(e)),
            installed: installed && want.target.is_some(),
            reason: match want.reason {
                Some(reason) => self.reason(&key.prefix, reason),
                None => "not looked at yet".to_owned(),
            },
            legs: if exits.len() > 1 { exits.iter().map(|e| self.leg(e)).collect() } else { Vec::new() },
        })
    }

    fn leg(&self, exit: &Exit) -> LegReport {
        let gateway = match exit {
            Exit::Direct { gateway, .. } => *gateway,
            Exit::Ipip { remote } => (*remote).into(),
            Exit::Vxlan { vtep } => *vtep,
        };
        LegReport { exit: exit.encapsulation().into(), gateway, device: self.exit_device(exit) }
    }

    /// Returns the reason of the resolution, with the failure that keeps the route from being
    /// installed.
    fn reason(&self, prefix: &IpNet, reason: ExitReason) -> String {
        let metric = self.config.as_ref().map_or(0, |c| c.route_metric);
        let failure = self.failure(&RouteKey { prefix: *prefix, metric });
        match failure {
            Some(text) => format!("{reason}; {text}"),
            None => reason.to_string(),
        }
    }

    fn failure(&self, key: &RouteKey) -> Option<String> {
        let object = Object::Route(*key);
        let failure = self.ledger.failures().get(&object)?;
        let kind = if key.metric == BLACKHOLE_METRIC { "blackhole refused" } else { "refused" };
        Some(format!("{kind}: {}", failure.text))
    }

    fn report_tunnels(&mut self) -> Vec<TunnelReport> {
        let Some(config) = self.config.clone() else { return Vec::new() };
        config.nodes.iter().map(|node| self.report_tunnel(&config, node)).collect()
    }

    fn report_tunnel(&mut self, config: &Config, node: &crate::node::RemoteNode) -> TunnelReport {
        let address = config
            .local
            .underlay()
            .and_then(|underlay| node.address_like(underlay))
            .or_else(|| node.ipv4.map(|n| n.addr().into()))
            .or_else(|| node.ipv6.map(|n| n.addr().into()));
        let first = node.blocks.first().map(IpNet::trunc);
        let mut preferred = None;
        if let (Some(prefix), Some(next_hop), Some(observed)) = (first, address, &self.fib.observed) {
            let learned = LearnedPath { next_hop, kind: PathKind::Bgp };
            let dataplane = &mut self.dataplane;
            let reach = &mut |a| -> Reach { dataplane.reach(a, observed) };
            preferred = resolve(config, &Reachability::trusting(), &prefix, &learned, reach)
                .exit
                .map(|e| e.encapsulation().into());
        }
        let (in_use, since) = match self.exits.by_node.get(&node.name) {
            Some((encapsulation, since)) => (encapsulation.map(ExitKind::from), Some(*since)),
            None => (None, None),
        };
        let resolved = node
            .blocks
            .iter()
            .map(IpNet::trunc)
            .find_map(|b| Some((b, self.fib.desired_route(self.route(&b)?).reason?)));
        let elsewhere = node.blocks.iter().map(IpNet::trunc).find_map(|b| {
            let learned = self.fib.learned(self.route(&b)?).filter(|l| l.kind != PathKind::Static)?;
            let other = config.node_with_address(learned.next_hop).is_none_or(|n| n.name != node.name);
            other.then_some((b, learned.next_hop))
        });
        let reason = match resolved {
            // The table is an assumption; BGP reports the actual owner.
            Some(_) if let Some((block, next_hop)) = elsewhere => {
                format!("BGP gives {block} to {next_hop}, which is believed more than the node table")
            }
            Some((prefix, reason)) => self.reason(&prefix, reason),
            None if node.blocks.is_empty() => "no blocks".to_owned(),
            None => "no path to its blocks".to_owned(),
        };
        let observed = self.fib.observed.as_ref();
        let mtu = match in_use {
            Some(ExitKind::Ipip) => observed.and_then(|o| o.link(Device::Ipip)).map(|l: &ObservedLink| l.mtu),
            Some(ExitKind::Vxlan) => observed.and_then(|o| o.link(Device::Vxlan)).map(|l| l.mtu),
            Some(ExitKind::Direct) => observed.and_then(|o| o.parent).map(|p| p.mtu),
            Some(ExitKind::Blackhole) | None => None,
        };
        TunnelReport {
            node: node.name.clone(),
            address,
            preferred,
            in_use,
            since,
            reason,
            last_probe_ms: node.vtep.and_then(|a| self.round_trip_ms(a)),
            mtu,
            ways: node.vtep.map(|a| self.report_ways(a)).unwrap_or_default(),
            clock_ahead_ms: node.vtep.and_then(|a| self.clock_ahead_ms(a)),
            blocks: node.blocks.clone(),
        }
    }
}
