//! The report about the reconciler's state.

mod paths;
mod problems;

use ipnet::IpNet;

use super::Reconciler;
use crate::{
    dataplane::Dataplane,
    desired::{BLACKHOLE_METRIC, DesiredDevice, Device, RouteKey, RouteTarget},
    diff::Object,
    node::{Config, Encapsulation, LearnedPath, PathKind, RemoteNode},
    observed::ObservedLink,
    reachability::Reachability,
    report::{
        DataplaneReport, DeviceReport, DeviceState, ExitKind, FailureReport, MemberReport, NextHops,
        RouteReport, TunnelReport, Work, describe, mac_text,
    },
    resolve::{Exit, ExitReason, Reach, resolve},
};

/// Routes per page of the report: about a millisecond.
const PAGE_ROUTES: usize = 4096;
/// Failures listed in a report; `failures_total` counts all.
const MAX_FAILURES: usize = 200;

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

    fn leg(&self, exit: &Exit) -> MemberReport {
        let gateway = match exit {
            Exit::Direct { gateway, .. } => *gateway,
            Exit::Ipip { remote } => (*remote).into(),
            Exit::Vxlan { vtep } => *vtep,
        };
        MemberReport { exit: exit.encapsulation().into(), gateway, device: self.exit_device(exit) }
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

    fn report_tunnel(&mut self, config: &Config, node: &RemoteNode) -> TunnelReport {
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
