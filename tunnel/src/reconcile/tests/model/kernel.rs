//! The model of the kernel: side effects, refusals at any call, lost events.

use std::collections::BTreeMap;

use super::*;

pub(super) const PARENT: Parent = Parent { index: 2, mtu: 1500 };

/// The kernel.
#[derive(Default)]
pub(super) struct KernelModel {
    pub(super) state: ObservedState,
    pub(super) routes: BTreeMap<RouteKey, Via>,
    answers: VecDeque<Vec<(usize, DataplaneError)>>,
    /// True if batches complete only when they are waited for.
    pub(super) slow: bool,
    list: Option<Vec<ListedRoute>>,
    last_index: u32,
    /// Number of calls until one fails, and the errno.
    pub(super) failures: VecDeque<(u32, i32)>,
    /// Events of changes by other programs.
    pub(super) events: Vec<KernelEvent>,
}

impl KernelModel {
    /// Returns the errno if this call fails.
    fn fails(&mut self) -> Option<i32> {
        let (calls, errno) = self.failures.front_mut()?;
        if *calls > 0 {
            *calls -= 1;
            return None;
        }
        let errno = *errno;
        self.failures.pop_front();
        Some(errno)
    }

    fn remove_routes_by(&mut self, gone: impl Fn(&Via) -> bool) {
        self.routes.retain(|_, via| !gone(via));
    }

    /// Removes the next-hop objects of a device and their IPv4 routes, without an event.
    pub(super) fn take_down(&mut self, index: u32) {
        let ids: Vec<u32> =
            self.state.nexthops.iter().filter(|(_, n)| n.index == index).map(|(id, _)| *id).collect();
        self.remove_nexthops(&ids);
        self.remove_routes_by(
            |via| matches!(via, Via::Link(i) | Via::Gateway { index: i, .. } if *i == index),
        );
        self.state.probe_routes.retain(|_, via| via.is_none_or(|(_, i)| i != index));
    }

    /// Removes objects from their groups, groups that become empty, and the routes of all of them.
    pub(super) fn remove_nexthops(&mut self, ids: &[u32]) {
        for id in ids {
            self.state.apply(&Op::DeleteNexthop { id: *id });
        }
        let left: Vec<u32> = self.state.nexthops.keys().copied().collect();
        self.remove_routes_by(|via| matches!(via, Via::Nexthop(id) if !left.contains(id)));
    }

    pub(super) fn delete_link(&mut self, device: Device) {
        if let Some(index) = self.state.link(device).map(|link| link.index) {
            self.take_down(index);
            self.state.remove_link(device);
        }
    }

    fn create(&mut self, device: Device, mtu: u32, mac: crate::node::Mac, kind: LinkKind) -> Result<(), i32> {
        if self.state.link(device).is_some() {
            return Err(EEXIST);
        }
        self.last_index += 1;
        let link = ObservedLink { index: 100 + self.last_index, up: false, mtu, mac, kind };
        match device {
            Device::Ipip => self.state.ipip = Some(link),
            Device::Vxlan => self.state.vxlan = Some(link),
        }
        Ok(())
    }

    fn usable(&self, index: u32) -> bool {
        let of = |d: &Device| self.state.link(*d).filter(|link| link.index == index);
        index == PARENT.index || Device::ALL.iter().filter_map(of).any(|link| link.up)
    }

    fn execute(&mut self, op: &Op) -> Result<(), i32> {
        if let Some(errno) = self.fails() {
            return Err(errno);
        }
        match *op {
            Op::CreateIpip(spec) => {
                let kind = LinkKind::Ipip { local: Some(spec.local.into()), remote: None, pmtudisc: true };
                return self.create(Device::Ipip, spec.mtu, [0; 6], kind);
            }
            Op::CreateVxlan(spec) => {
                let kind = LinkKind::Vxlan {
                    vni: VXLAN_VNI,
                    port: VXLAN_PORT,
                    local: Some(spec.local),
                    parent: spec.parent,
                    learning: false,
                };
                return self.create(Device::Vxlan, spec.mtu, spec.mac, kind);
            }
            Op::DeleteLink { device, .. } => {
                self.delete_link(device);
                return Ok(());
            }
            Op::AddNexthop { id, index, .. } => {
                if self.state.nexthops.contains_key(&id) {
                    return Err(EEXIST);
                }
                if !self.usable(index) {
                    return Err(EINVAL);
                }
            }
            Op::ReplaceNexthop { id, index, .. } => {
                if !self.state.nexthops.contains_key(&id) {
                    return Err(ENOENT);
                }
                if !self.usable(index) {
                    return Err(EINVAL);
                }
            }
            Op::AddGroup { id, members } => {
                if self.state.nexthops.contains_key(&id) {
                    return Err(EEXIST);
                }
                let single = |id: &u32| self.state.nexthops.get(id).is_some_and(|n| n.members.is_empty());
                if !members.ids().iter().all(single) {
                    return Err(EINVAL);
                }
            }
            Op::DeleteNexthop { id } => {
                self.remove_nexthops(&[id]);
                return Ok(());
            }
            Op::AddRule { path } if self.state.rules.contains(&path) => return Err(EEXIST),
            Op::SetProbeRoute { index, .. } if !self.usable(index) => return Err(EINVAL),
            Op::SetLink { device, .. } | Op::AddAddress { device, .. }
                if self.state.link(device).is_none() =>
            {
                return Err(19);
            }
            Op::SetFdb { .. } | Op::SetNeighbour { .. } if self.state.vxlan.is_none() => return Err(19),
            _ => {}
        }
        self.state.apply(op);
        Ok(())
    }

    fn carry_out_route(&mut self, op: &RouteOp) -> Result<(), i32> {
        if let Some(errno) = self.fails() {
            return Err(errno);
        }
        match op.verb {
            RouteAction::Add(Via::Nexthop(id)) | RouteAction::Replace(Via::Nexthop(id))
                if !self.state.nexthops.contains_key(&id) =>
            {
                return Err(EINVAL);
            }
            RouteAction::Add(Via::Link(index)) | RouteAction::Replace(Via::Link(index))
                if !self.usable(index) =>
            {
                return Err(100);
            }
            RouteAction::Add(_) if self.routes.contains_key(&op.key) => return Err(EEXIST),
            RouteAction::Replace(_) if !self.routes.contains_key(&op.key) => return Err(ENOENT),
            RouteAction::Delete if !self.routes.contains_key(&op.key) => return Err(3),
            RouteAction::Add(via) | RouteAction::Replace(via) => self.routes.insert(op.key, via),
            RouteAction::Delete => self.routes.remove(&op.key),
        };
        Ok(())
    }
}

fn error(errno: i32) -> DataplaneError {
    DataplaneError { errno, message: String::new() }
}

impl Dataplane for KernelModel {
    fn observe(&mut self, _: &Config) -> Result<ObservedState, DataplaneError> {
        if let Some(errno) = self.fails() {
            return Err(error(errno));
        }
        self.state.nexthop_objects = true;
        self.state.parent = Some(PARENT);
        Ok(self.state.clone())
    }

    fn list_routes(&mut self, _: &Config) {
        let record = |(key, via): (&RouteKey, &Via)| ListedRoute { key: *key, via: *via };
        self.list = Some(self.routes.iter().map(record).collect());
    }

    async fn next_listed(&mut self) -> Result<Option<Vec<ListedRoute>>, DataplaneError> {
        match self.fails() {
            Some(errno) => {
                self.list = None;
                Err(error(errno))
            }
            None => Ok(self.list.take()),
        }
    }

    fn submit(&mut self, _: &Config, ops: &[RouteOp]) {
        let results: Vec<_> = ops.iter().map(|op| self.carry_out_route(op)).collect();
        let refused = (0..).zip(results).filter_map(|(i, r)| Some((i, error(r.err()?))));
        self.answers.push_back(refused.collect());
    }

    async fn completed(&mut self) -> Vec<(usize, DataplaneError)> {
        self.answers.pop_front().expect("a batch was submitted")
    }

    fn try_completed(&mut self) -> Option<Vec<(usize, DataplaneError)>> {
        if self.slow { None } else { self.answers.pop_front() }
    }

    async fn apply(&mut self, _: &Config, ops: &[Op]) -> Vec<Result<(), DataplaneError>> {
        ops.iter().map(|op| self.execute(op).map_err(error)).collect()
    }

    fn reach(&mut self, address: IpAddr, _: &ObservedState) -> Reach {
        match address {
            IpAddr::V4(a) if a.octets()[2] == 0 => Reach::OnLink { index: PARENT.index },
            _ => Reach::Via { gateway: [192, 168, 0, 254].into(), index: PARENT.index },
        }
    }

    fn probe(&mut self, _: &Config, _: &ObservedState, _: &[ProbeTarget]) {}

    fn path_measurements(&self, _: Ipv4Addr) -> Option<[PathMeasurement; 3]> {
        None
    }

    fn probe_problem(&self) -> Option<String> {
        None
    }

    fn interface_name(&self, _: u32) -> Option<String> {
        None
    }

    fn tune(&mut self, _: &Config, _: &ObservedState) -> Vec<Sysctl> {
        Vec::new()
    }

    async fn wait(&mut self, submitted: bool) -> Wakeup {
        if submitted { Wakeup::Completed(self.completed().await) } else { Wakeup::Events(Vec::new()) }
    }
}
