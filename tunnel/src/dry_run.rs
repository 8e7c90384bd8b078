//! The changes that another configuration would make to the kernel, computed without making them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    desired::{DesiredDevice, DesiredState, Device, RouteTarget},
    node::Mac,
    resolve::Exit,
};

/// Routes that are listed; further ones are counted.
pub const ROUTES_NAMED: usize = 20;

/// The action on an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PlannedAction {
    /// Addition.
    Add,
    /// Replacement of the contents.
    Replace,
    /// Removal.
    Remove,
}

/// A kernel object that would change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectChange {
    /// Action.
    pub change: PlannedAction,
    /// Description of the object.
    pub object: String,
}

/// The changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DryRun {
    /// Changes of everything except routes.
    pub objects: Vec<ObjectChange>,
    /// Number of routes added.
    pub routes_added: usize,
    /// Number of routes with another target.
    pub routes_replaced: usize,
    /// Number of routes removed.
    pub routes_removed: usize,
    /// The first changes of routes, by prefix.
    pub routes: Vec<ObjectChange>,
}

impl DryRun {
    /// Returns whether there is no change.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.routes_added + self.routes_replaced + self.routes_removed == 0
    }

    pub(crate) fn object(&mut self, change: PlannedAction, object: impl fmt::Display) {
        self.objects.push(ObjectChange { change, object: object.to_string() });
    }

    /// Records the change of one route.
    pub(crate) fn route(&mut self, prefix: &IpNet, before: Option<&str>, after: Option<&str>) {
        let (change, text) = match (before, after) {
            (None, None) => return,
            (None, Some(after)) => (PlannedAction::Add, format!("{prefix} {after}")),
            (Some(before), Some(after)) if before == after => return,
            (Some(before), Some(after)) => {
                (PlannedAction::Replace, format!("{prefix} {before}, then {after}"))
            }
            (Some(before), None) => (PlannedAction::Remove, format!("{prefix} {before}")),
        };
        *match change {
            PlannedAction::Add => &mut self.routes_added,
            PlannedAction::Replace => &mut self.routes_replaced,
            PlannedAction::Remove => &mut self.routes_removed,
        } += 1;
        if self.routes.len() < ROUTES_NAMED {
            self.routes.push(ObjectChange { change, object: text });
        }
    }
}

/// Describes a target.
pub(crate) fn leads(target: &RouteTarget, exits: &[Exit]) -> String {
    match target {
        RouteTarget::Exit(exit) => by(exit),
        RouteTarget::Exits(_) => exits.iter().map(by).collect::<Vec<_>>().join(" and "),
        RouteTarget::Blackhole => "blackhole".to_owned(),
        RouteTarget::Device(device) => format!("dev {}", device.name()),
    }
}

fn by(exit: &Exit) -> String {
    match exit {
        Exit::Direct { gateway, .. } => format!("via {gateway}"),
        Exit::Ipip { remote } => format!("via {remote} dev {}", Device::Ipip.name()),
        Exit::Vxlan { vtep } => format!("via {vtep} dev {}", Device::Vxlan.name()),
    }
}

/// Compares everything except learned routes and next hops.
pub(crate) fn compare(before: &DesiredState, after: &DesiredState) -> DryRun {
    let mut changes = DryRun::default();
    device(&mut changes, Device::Ipip, &before.ipip, &after.ipip);
    device(&mut changes, Device::Vxlan, &before.vxlan, &after.vxlan);
    let addresses = |set: &BTreeSet<(Device, IpNet)>| -> BTreeMap<(Device, IpNet), ()> {
        set.iter().map(|address| (*address, ())).collect()
    };
    maps(&mut changes, &addresses(&before.addresses), &addresses(&after.addresses), |(device, address)| {
        format!("address {address} on {}", device.name())
    });
    let neighbours = |entry: &IpAddr| format!("neighbour {entry} on {}", Device::Vxlan.name());
    maps(&mut changes, &before.neighbours, &after.neighbours, neighbours);
    maps(&mut changes, &before.fdb, &after.fdb, |mac: &Mac| {
        let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
        format!("forwarding entry {mac} on {}", Device::Vxlan.name())
    });
    let rules = |set: &BTreeSet<_>| set.iter().map(|path| (*path, ())).collect::<BTreeMap<_, ()>>();
    maps(&mut changes, &rules(&before.rules), &rules(&after.rules), |path| format!("rule for {path} probes"));
    maps(&mut changes, &before.probe_routes, &after.probe_routes, |(path, address)| {
        format!("route for {path} probes to {address}")
    });
    let routes = |desired: &DesiredState| -> BTreeMap<_, _> { desired.routes.iter().copied().collect() };
    let (old, new) = (routes(before), routes(after));
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let text = |target: Option<&RouteTarget>| target.map(|target| leads(target, &[]));
        let (before, after) = (text(old.get(key)), text(new.get(key)));
        changes.route(&key.prefix, before.as_deref(), after.as_deref());
    }
    changes
}

fn device<T: PartialEq>(
    changes: &mut DryRun,
    device: Device,
    before: &DesiredDevice<T>,
    after: &DesiredDevice<T>,
) {
    let change = match (before, after) {
        (DesiredDevice::Absent, DesiredDevice::Absent) => return,
        (DesiredDevice::Absent, _) => PlannedAction::Add,
        (_, DesiredDevice::Absent) => PlannedAction::Remove,
        (before, after) if before == after => return,
        _ => PlannedAction::Replace,
    };
    let later = if change == PlannedAction::Remove { ", in five minutes" } else { "" };
    changes.object(change, format!("device {}{later}", device.name()));
}

fn maps<K: Ord, V: PartialEq>(
    changes: &mut DryRun,
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    name: impl Fn(&K) -> String,
) {
    for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
        match (before.get(key), after.get(key)) {
            (None, Some(_)) => changes.object(PlannedAction::Add, name(key)),
            (Some(_), None) => changes.object(PlannedAction::Remove, name(key)),
            (Some(before), Some(after)) if before != after => {
                changes.object(PlannedAction::Replace, name(key))
            }
            _ => {}
        }
    }
}
