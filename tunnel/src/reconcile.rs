//! One owner of both pictures: takes in configuration, routes and events, and keeps the kernel in step.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use jiff::Timestamp;

use crate::{
    dataplane::{Dataplane, Event},
    desired::{Desired, Device, Parent, RouteKey, Target, Wanted},
    diff::{Object, Op, Scope, Sweep, diff},
    ledger::Ledger,
    netlink::{KernelError, socket::EPERM},
    node::{Config, Encapsulation, Learned, RouteChange},
    observed::Observed,
    resolve::{Reach, Resolution, resolve},
    sysctl::Sysctl,
};

/// Operations carried out before other tasks of the thread get their turn.
const TURN: usize = 4096;
/// Comparisons in one go; links, what hangs on them, routes and leftovers need five.
const PASSES: usize = 16;
/// Pause after an observation that failed.
const OBSERVE_RETRY: Duration = Duration::from_secs(1);
/// An object that others change back this often within [`FIGHT_WINDOW`] is left alone for a while.
const FIGHT_LIMIT: u32 = 20;
const FIGHT_WINDOW: Duration = Duration::from_secs(10);
/// `EBUSY`: what the ledger says of an object that is being fought over.
const EBUSY: i32 = 16;

/// Which routes have to be compared.
#[derive(Debug)]
enum Dirty {
    All,
    Routes(HashSet<RouteKey>),
}

/// The state of the tunnel task.
pub struct Reconciler<D> {
    pub(crate) dataplane: D,
    pub(crate) config: Option<Config>,
    pub(crate) learned: HashMap<IpNet, Learned>,
    /// Until in sync: prefixes that were learned since the start and are no more, whose routes are still there. What
    /// nobody has spoken of yet may come back; these will not.
    withdrawn: HashSet<IpNet>,
    pub(crate) resolutions: HashMap<IpNet, Resolution>,
    pub(crate) desired: Desired,
    pub(crate) observed: Option<Observed>,
    pub(crate) ledger: Ledger,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) in_sync: bool,
    pub(crate) drift: u64,
    pub(crate) permission_denied: bool,
    pub(crate) observe_error: Option<KernelError>,
    /// Per node name: the encapsulation in use, and since when.
    pub(crate) in_use: HashMap<String, (Option<Encapsulation>, Timestamp)>,
    dirty: Dirty,
    must_observe: bool,
    observe_at: Option<Instant>,
    must_resolve: bool,
    reach_stale: bool,
    reached: HashMap<IpAddr, Reach>,
    parent: Option<Parent>,
    healing: bool,
    fights: HashMap<Object, (u32, Instant)>,
}

impl<D: Dataplane> Reconciler<D> {
    /// With nothing configured it touches nothing.
    pub fn new(dataplane: D) -> Self {
        Self {
            dataplane,
            config: None,
            learned: HashMap::new(),
            withdrawn: HashSet::new(),
            resolutions: HashMap::new(),
            desired: Desired::default(),
            observed: None,
            ledger: Ledger::default(),
            sysctls: Vec::new(),
            in_sync: false,
            drift: 0,
            permission_denied: false,
            observe_error: None,
            in_use: HashMap::new(),
            dirty: Dirty::All,
            must_observe: false,
            observe_at: None,
            must_resolve: false,
            reach_stale: false,
            reached: HashMap::new(),
            parent: None,
            healing: false,
            fights: HashMap::new(),
        }
    }

    /// Takes a new configuration.
    pub fn configure(&mut self, config: Config) {
        if self.config.as_ref() == Some(&config) {
            return;
        }
        self.config = Some(config);
        self.must_observe = true;
        self.must_resolve = true;
        self.ledger.retry_all(Instant::now());
    }

    /// Takes changes of best paths.
    pub fn routes(&mut self, changes: Vec<RouteChange>) {
        for RouteChange { prefix, learned } in changes {
            let prefix = prefix.trunc();
            match learned {
                Some(learned) => {
                    self.withdrawn.remove(&prefix);
                    self.learned.insert(prefix, learned);
                }
                None => {
                    if self.learned.remove(&prefix).is_some() && !self.in_sync {
                        self.withdrawn.insert(prefix);
                    }
                }
            }
            if !self.must_resolve {
                self.resolve_one(prefix);
            }
        }
    }

    /// All routes are known: what is ours and unwanted may go.
    pub fn in_sync(&mut self) {
        if !self.in_sync {
            self.in_sync = true;
            self.withdrawn = HashSet::new();
            self.dirty = Dirty::All;
            tracing::info!("in sync: leftovers of earlier runs are swept");
        }
    }

    /// When [`Self::reconcile`] wants to be called again without any event.
    pub fn next_retry(&self) -> Option<Instant> {
        [self.ledger.next_retry(), self.observe_at].into_iter().flatten().min()
    }

    /// Reads the sysctls again: nobody tells when they change.
    pub fn audit(&mut self) {
        if let (Some(config), Some(observed)) = (&self.config, &self.observed) {
            self.sysctls = self.dataplane.tune(config, observed);
        }
    }

    /// Takes note of what others did.
    pub fn handle(&mut self, events: Vec<Event>) {
        for event in events {
            self.handle_one(event);
        }
    }

    fn handle_one(&mut self, event: Event) {
        let Some(observed) = &mut self.observed else { return };
        let index_matters = |index: u32| {
            Device::ALL.iter().any(|d| observed.link(*d).is_some_and(|l| l.index == index))
                || self.parent.is_none_or(|p| p.index == index)
                || self.reached.values().any(|r| match r {
                    Reach::OnLink { index: i } | Reach::Via { index: i, .. } => *i == index,
                    Reach::Tunnel | Reach::Unreachable => false,
                })
        };
        match event {
            Event::Overrun => self.must_observe = true,
            Event::Link { index, name } => {
                let incomplete = matches!(self.desired.ipip, Wanted::Present(_)) && observed.ipip.is_none()
                    || matches!(self.desired.vxlan, Wanted::Present(_)) && observed.vxlan.is_none();
                let named = Device::ALL.iter().any(|d| d.name() == name);
                self.must_observe |= incomplete || named || index_matters(index);
            }
            Event::Address { index } => self.must_observe |= index_matters(index),
            Event::Neighbour { index, .. } => {
                self.must_observe |= observed.vxlan.is_some_and(|l| l.index == index);
            }
            Event::Nexthop { ours } => self.must_observe |= ours,
            Event::Route { key, via, ours } => {
                self.reach_stale |= self.reached.keys().any(|a| key.prefix.contains(a));
                let before = observed.routes().get(&key).copied();
                if ours && before != via {
                    observed.set_route(key, via);
                    self.drift += 1;
                    self.healing = true;
                    if let Dirty::Routes(keys) = &mut self.dirty {
                        keys.insert(key);
                    }
                }
            }
        }
    }

    /// Brings the kernel to what is desired, as far as it lets us.
    pub async fn reconcile(&mut self) {
        let Some(config) = self.config.clone() else { return };
        let now = Instant::now();
        if self.observe_at.is_some_and(|at| at <= now) {
            self.observe_at = None;
            self.must_observe = true;
        }
        let mut fresh = false;
        if self.must_observe {
            if !self.observe(&config, true) {
                return;
            }
            fresh = true;
        }
        self.recheck_reach();
        if self.must_resolve {
            self.rebuild(&config);
        }
        let due: Vec<Object> = self.ledger.due(now).copied().collect();
        for object in due {
            match (object, &mut self.dirty) {
                (Object::Route(key), Dirty::Routes(keys)) => {
                    keys.insert(key);
                }
                _ => self.dirty = Dirty::All,
            }
        }
        let metric = config.route_metric;
        let withdrawn: HashSet<_> = self.withdrawn.iter().map(|p| RouteKey { prefix: *p, metric }).collect();
        for _ in 0..PASSES {
            let Some(observed) = &self.observed else { return };
            let blocked = |object: &Object| self.ledger.blocks(object, now);
            let scope = match &self.dirty {
                Dirty::All => Scope::All,
                Dirty::Routes(keys) => Scope::Routes(keys),
            };
            let sweep = if self.in_sync { Sweep::All } else { Sweep::Routes(&withdrawn) };
            let plan = diff(&self.desired, observed, scope, sweep, &blocked);
            if plan.is_empty() {
                self.dirty = Dirty::Routes(HashSet::new());
                // What was due and is neither done nor refused anew has come right by itself.
                self.ledger.settle(now);
                break;
            }
            match self.carry_out(&config, plan.stages, fresh).await {
                Outcome::Done => {}
                Outcome::Failed => self.dirty = Dirty::All,
                Outcome::Observe { expected } => {
                    if !self.observe(&config, !expected) {
                        return;
                    }
                    fresh = true;
                    if self.must_resolve {
                        self.rebuild(&config);
                    }
                }
            }
        }
        self.healing = false;
        if let Some(observed) = &self.observed {
            self.withdrawn.retain(|p| observed.routes().contains_key(&RouteKey { prefix: *p, metric }));
        }
        self.forget_moot_failures();
        self.note_exits_in_use(&config);
    }

    async fn carry_out(&mut self, config: &Config, stages: Vec<Vec<Op>>, fresh: bool) -> Outcome {
        for stage in stages {
            let mut failed = false;
            let mut relinked = false;
            for ops in stage.chunks(TURN) {
                let results = self.dataplane.apply(config, ops).await;
                for (op, result) in ops.iter().zip(results) {
                    relinked |= op.changes_links();
                    match result {
                        Ok(()) => self.succeeded(op),
                        // The picture may have been old: look again before blaming the object.
                        Err(error) if !fresh && error.errno != EPERM => {
                            tracing::debug!(?op, %error, "refused; observing anew");
                            return Outcome::Observe { expected: false };
                        }
                        Err(error) => {
                            failed = true;
                            self.failed(op, &error);
                        }
                    }
                }
                if stage.len() > TURN {
                    tokio::task::yield_now().await;
                }
            }
            if relinked {
                return Outcome::Observe { expected: true };
            }
            if failed {
                return Outcome::Failed;
            }
        }
        Outcome::Done
    }

    fn succeeded(&mut self, op: &Op) {
        if let Some(observed) = &mut self.observed {
            observed.apply(op);
        }
        let object = op.object();
        self.ledger.succeed(&object);
        self.permission_denied = false;
        if !self.healing {
            return;
        }
        let now = Instant::now();
        let (count, since) = self.fights.entry(object).or_insert((0, now));
        if now.duration_since(*since) > FIGHT_WINDOW {
            (*count, *since) = (0, now);
        }
        *count += 1;
        if *count > FIGHT_LIMIT {
            let text = "another program keeps changing it back".to_owned();
            tracing::warn!(?object, "{text}");
            self.ledger.fail(object, EBUSY, text, now);
        }
    }

    fn failed(&mut self, op: &Op, error: &KernelError) {
        let news = self.ledger.fail(op.object(), error.errno, error.to_string(), Instant::now());
        if error.errno == EPERM {
            if !self.permission_denied {
                tracing::error!("{}", crate::report::PERMISSION_DENIED);
            }
            self.permission_denied = true;
        } else if news {
            tracing::warn!(?op, %error, "the kernel refuses; will be tried again");
        }
    }

    /// Takes the whole picture; `count` says whether differences to the old one are drift.
    fn observe(&mut self, config: &Config, count: bool) -> bool {
        match self.dataplane.observe(config) {
            Ok(new) => {
                if let Some(old) = &self.observed
                    && count
                {
                    let differences = old.count_differences(&new);
                    self.drift += differences;
                    self.healing |= differences > 0;
                    if differences > 0 {
                        tracing::info!(differences, "the kernel's state drifted");
                    }
                }
                self.must_resolve |= self.parent != new.parent;
                self.parent = new.parent;
                self.sysctls = self.dataplane.tune(config, &new);
                self.observed = Some(new);
                self.must_observe = false;
                self.observe_error = None;
                self.reach_stale = true;
                self.dirty = Dirty::All;
                true
            }
            Err(error) => {
                if self.observe_error.as_ref() != Some(&error) {
                    tracing::warn!(%error, "the kernel's state cannot be read; will be tried again");
                }
                self.observe_error = Some(error);
                self.must_observe = true;
                self.observe_at = Some(Instant::now() + OBSERVE_RETRY);
                false
            }
        }
    }

    /// Asks again how each next hop is reached, and resolves anew if an answer changed.
    fn recheck_reach(&mut self) {
        let (true, Some(observed)) = (self.reach_stale, &self.observed) else { return };
        self.reach_stale = false;
        let mut changed = false;
        for (address, before) in &mut self.reached {
            let after = self.dataplane.reach(*address, observed);
            changed |= after != *before;
            *before = after;
        }
        self.must_resolve |= changed;
    }

    /// Derives all that is desired from configuration and learned routes.
    fn rebuild(&mut self, config: &Config) {
        self.must_resolve = false;
        self.desired = Desired::from_config(config, self.parent);
        self.resolutions.clear();
        self.reached.clear();
        self.dirty = Dirty::All;
        let prefixes: Vec<IpNet> = self.learned.keys().copied().collect();
        for prefix in prefixes {
            self.resolve_one(prefix);
        }
    }

    fn resolve_one(&mut self, prefix: IpNet) {
        let (Some(config), Some(observed)) = (&self.config, &self.observed) else {
            self.must_resolve = true;
            return;
        };
        let key = RouteKey { prefix, metric: config.route_metric };
        let resolution = self.learned.get(&prefix).map(|learned| {
            let (reached, dataplane) = (&mut self.reached, &mut self.dataplane);
            resolve(config, &prefix, learned, &mut |address| {
                *reached.entry(address).or_insert_with(|| dataplane.reach(address, observed))
            })
        });
        // The host route of a VTEP carries the prefixes behind it; a learned /128 must not move it.
        let reserved = matches!(self.desired.routes().get(&key), Some(Target::Device(_)));
        if !reserved {
            let exit = resolution.and_then(|r| r.exit).map(Target::Exit);
            self.desired.set_route(key, exit);
        }
        match resolution {
            Some(resolution) => self.resolutions.insert(prefix, resolution),
            None => self.resolutions.remove(&prefix),
        };
        if let Dirty::Routes(keys) = &mut self.dirty {
            keys.insert(key);
        }
    }

    /// A failure to install what is wanted no more is none.
    fn forget_moot_failures(&mut self) {
        let Some(observed) = &self.observed else { return };
        let desired = &self.desired;
        let contents: HashSet<_> = if self.ledger.failures().is_empty() {
            return;
        } else {
            desired.exits().keys().filter_map(|e| observed.realise(e)).collect()
        };
        self.ledger.retain(|object| match object {
            Object::Route(key) => desired.routes().contains_key(key) || observed.routes().contains_key(key),
            Object::Nexthop(gateway, index) => contents.contains(&(*gateway, *index)),
            Object::UnwantedNexthop(id) => observed.nexthops.contains_key(id),
            Object::Fdb(mac) => desired.fdb.contains_key(mac) || observed.fdb.iter().any(|(m, _)| m == mac),
            Object::Neighbour(a) => desired.neighbours.contains_key(a) || observed.neighbours.contains_key(a),
            Object::Address(device, address) => {
                let address = (*device, *address);
                desired.addresses.contains(&address) || observed.addresses.contains(&address)
            }
            Object::Link(Device::Ipip) => desired.ipip != Wanted::Absent || observed.ipip.is_some(),
            Object::Link(Device::Vxlan) => desired.vxlan != Wanted::Absent || observed.vxlan.is_some(),
        });
        let now = Instant::now();
        self.fights.retain(|_, (_, since)| now.duration_since(*since) <= FIGHT_WINDOW);
    }

    /// The encapsulation by which a prefix's installed route leads to its exit.
    pub(crate) fn installed(&self, prefix: &IpNet) -> Option<Encapsulation> {
        let (config, observed) = (self.config.as_ref()?, self.observed.as_ref()?);
        let exit = self.resolutions.get(prefix)?.exit?;
        let key = RouteKey { prefix: *prefix, metric: config.route_metric };
        let via = observed.routes().get(&key)?;
        observed.leads_to(via, &exit).then(|| exit.encapsulation())
    }

    fn note_exits_in_use(&mut self, config: &Config) {
        self.in_use.retain(|name, _| config.nodes.iter().any(|n| n.name == *name));
        for node in &config.nodes {
            let now = node.blocks.iter().find_map(|block| self.installed(&block.trunc()));
            let before = self.in_use.get(&node.name);
            if before.is_none_or(|(before, _)| *before != now) {
                if before.is_some() || now.is_some() {
                    let from = before.and_then(|(e, _)| *e);
                    tracing::info!(node = %node.name, ?from, to = ?now, "exit changed");
                }
                self.in_use.insert(node.name.clone(), (now, Timestamp::now()));
            }
        }
    }
}

/// How far a plan got.
enum Outcome {
    /// To its end.
    Done,
    /// Some object was refused and is in the ledger now.
    Failed,
    /// The kernel has to be looked at; `expected` if that is because of our own changes.
    Observe { expected: bool },
}

#[cfg(test)]
mod tests;
