//! One owner of both pictures: takes in configuration, routes and events, and keeps the kernel in step.

mod carry_out;
mod rehearse;
mod shared;
mod stand;
mod told;
mod turn;

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use self::told::Told;
pub use self::turn::Turn;
use crate::{
    dataplane::{Dataplane, DataplaneError, Event},
    desired::{Device, Parent, RouteKey, Wanted},
    diff::Object,
    fib::{Fib, RouteOp, Want},
    intern::NONE,
    ledger::Ledger,
    news::ExitChange,
    node::{Config, DEFAULT_ROUTE_METRIC, Encapsulation, Learned, Mode, RouteChange},
    report::{ExitKind, KernelLatency, Work, describe},
    resolve::{Reach, resolve},
    standing::Standings,
    sysctl::Sysctl,
    table::State,
};

/// Events kept while routes are listed; more than that are answered by listing once more.
const MAX_HELD: usize = 16 * 1024;
/// Answers of [`resolve`] that are kept.
const MAX_ANSWERS: usize = 64 * 1024;
/// How often the exits in use are noted while routes change.
const NOTE_INTERVAL: Duration = Duration::from_millis(100);

/// How much of the kernel's state has to be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    /// All but routes.
    Base,
    /// All; differences are the doing of others.
    Whole,
    /// All, after changes of our own that have effects of the kernel's own: whose doing a difference is cannot be told.
    Expected,
}

/// What [`resolve`] depends on: the path, and of the prefix what its pool says and its family.
type Question = (Learned, Option<(Encapsulation, Mode)>, bool);

/// The state of the tunnel task.
pub struct Reconciler<D> {
    pub(crate) dataplane: D,
    pub(crate) config: Option<Arc<Config>>,
    pub(crate) fib: Fib,
    pub(crate) ledger: Ledger,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) in_sync: bool,
    pub(crate) drift: u64,
    pub(crate) permission_denied: bool,
    pub(crate) observe_error: Option<DataplaneError>,
    /// Per node name: the encapsulation in use, and since when.
    pub(crate) in_use: HashMap<String, (Option<Encapsulation>, Timestamp)>,
    /// What was done since the start, but probes.
    pub(crate) work: Work,
    /// How long the kernel took for it.
    pub(crate) latency: KernelLatency,
    /// What is known of the nodes.
    pub(crate) standings: Standings,
    /// Everything came to rest once after all routes were known: what an earlier run left is known.
    adopted: bool,
    /// All has to be resolved once more, after what is resolved now.
    resolve_due: bool,
    /// Some sysctl has changed.
    pub(crate) sysctls_due: bool,
    /// Whom to ask after has to be found out anew.
    aims_due: bool,
    /// Since when no pool uses a tunnel device.
    unused_since: HashMap<Device, Instant>,
    /// Metric of learned routes.
    metric: u32,
    look: Option<Look>,
    /// The look that the routes are being listed for.
    listing: Option<Look>,
    held: Vec<Event>,
    observe_at: Option<Instant>,
    must_resolve: bool,
    /// Where resolving everything anew stands.
    resolving: Option<u32>,
    answers: HashMap<Question, Want>,
    last_answer: Option<(Question, Want)>,
    reach_stale: bool,
    reached: HashMap<IpAddr, Reach>,
    parent: Option<Parent>,
    /// Links, addresses and neighbours have to be compared.
    base_due: bool,
    /// Host routes come before next hops.
    hosts_due: bool,
    /// With when each was submitted.
    in_flight: VecDeque<(Vec<RouteOp>, Instant)>,
    /// When the last of them was completed.
    completed_at: Option<Instant>,
    /// A turn ended because nothing can be done before one of them is completed.
    writing: bool,
    spare: Vec<Vec<RouteOp>>,
    /// When the turns began that have not come to rest yet.
    pub(crate) running: Option<Instant>,
    /// When what was due was last marked: when those turns began, or the last ones that came to rest.
    marked_at: Option<Instant>,
    /// Since then all was observed.
    fresh: bool,
    /// So many plans other than of routes were made one after the other.
    passes: u32,
    healing: bool,
    fights: HashMap<Object, (u32, Instant)>,
    exits_stale: bool,
    noted_at: Option<Instant>,
    pub(crate) told: Told,
}

impl<D: Dataplane> Reconciler<D> {
    /// With nothing configured it touches nothing.
    pub fn new(dataplane: D) -> Self {
        Self {
            dataplane,
            config: None,
            fib: Fib::default(),
            ledger: Ledger::default(),
            sysctls: Vec::new(),
            in_sync: false,
            drift: 0,
            permission_denied: false,
            observe_error: None,
            in_use: HashMap::new(),
            work: Work::default(),
            latency: KernelLatency::default(),
            standings: Standings::default(),
            adopted: false,
            resolve_due: false,
            sysctls_due: false,
            aims_due: false,
            unused_since: HashMap::new(),
            metric: DEFAULT_ROUTE_METRIC,
            look: None,
            listing: None,
            held: Vec::new(),
            observe_at: None,
            must_resolve: false,
            resolving: None,
            answers: HashMap::new(),
            last_answer: None,
            reach_stale: false,
            reached: HashMap::new(),
            parent: None,
            base_due: false,
            hosts_due: false,
            in_flight: VecDeque::new(),
            completed_at: None,
            writing: false,
            spare: Vec::new(),
            running: None,
            marked_at: None,
            fresh: false,
            passes: 0,
            healing: false,
            fights: HashMap::new(),
            exits_stale: false,
            noted_at: None,
            told: Told::default(),
        }
    }

    fn must_look(&mut self, look: Look) {
        self.look = self.look.max(Some(look));
    }

    /// Takes a new configuration.
    pub fn configure(&mut self, config: Config) {
        if self.config.as_deref() == Some(&config) {
            return;
        }
        let protocol = self.config.as_ref().map(|c| c.route_protocol);
        // Nothing that was said of routes with the same protocol number is wrong now.
        self.must_look(if protocol == Some(config.route_protocol) { Look::Base } else { Look::Whole });
        self.config = Some(Arc::new(config));
        self.must_resolve = true;
        self.ledger.retry_all(Instant::now());
    }

    /// Takes changes of best paths.
    pub fn routes(&mut self, changes: Vec<RouteChange>) {
        let config = self.config.clone().filter(|_| !self.must_resolve && self.fib.observed.is_some());
        self.passes = 0;
        // What is adopted needs no change of the kernel's to be in use.
        self.exits_stale = true;
        for RouteChange { prefix, learned, others } in changes {
            let key = RouteKey { prefix: prefix.trunc(), metric: self.metric };
            let Some((slot, _)) = self.fib.learn(&key, learned, &others) else { continue };
            if let Some(learned) = learned {
                self.note_bgp(&learned);
                for next_hop in others {
                    self.note_bgp(&Learned { next_hop, ..learned });
                }
            }
            match (&config, learned) {
                (Some(config), _) => self.resolve_one(config, slot),
                // What will be resolved later is what is learned then.
                (None, None) => self.fib.want_learned(slot, Want::default()),
                (None, Some(_)) => self.must_resolve = true,
            }
        }
    }

    /// All routes are known: what is ours and unwanted may go.
    pub fn in_sync(&mut self) {
        if !self.in_sync {
            self.in_sync = true;
            self.fib.mark_all();
            self.fib.may_sweep = true;
            self.exits_stale = true;
            tracing::info!("in sync: leftovers of earlier runs are swept");
        }
    }

    /// When [`Self::reconcile`] wants to be called again without any event.
    pub fn next_retry(&self) -> Option<Instant> {
        let note_at = self.noted_at.filter(|_| self.exits_stale).map(|at| at + NOTE_INTERVAL);
        let returned_at = self.config.as_ref().and_then(|c| self.standings.deadline(c.probing.recover_after));
        let swept_at = Device::ALL.into_iter().filter_map(|device| self.lingers_until(device)).min();
        // What was due when the turns before began was their business, whatever came of it. What came due since is
        // not: nothing may have had a turn between then and now.
        let [returned_at, swept_at] = [returned_at, swept_at]
            .map(|at| at.filter(|at| self.marked_at.is_none_or(|marked| *at > marked)));
        let times = [self.ledger.next_retry(), self.observe_at, note_at, returned_at, swept_at];
        times.into_iter().flatten().min()
    }

    /// Reads the sysctls again: of some nobody tells when they change.
    pub fn audit(&mut self) {
        let (Some(config), Some(observed)) = (&self.config, &self.fib.observed) else { return };
        let before = std::mem::replace(&mut self.sysctls, self.dataplane.tune(config, observed));
        let known = |name: &str| before.iter().any(|sysctl| sysctl.name == name && sysctl.problem.is_none());
        for sysctl in self.sysctls.iter().filter(|sysctl| sysctl.set && known(&sysctl.name)) {
            self.drift += 1;
            self.told.news.drift(1, Some(|| format!("sysctl {}", sysctl.name)));
            tracing::info!(sysctl = sysctl.name, value = sysctl.value, "another program's change is undone");
        }
    }

    /// Takes note of what others did.
    pub fn handle(&mut self, mut events: Vec<Event>) {
        self.take_passages(&mut events);
        if self.listing.is_some() {
            self.held.extend(events);
            if self.held.len() > MAX_HELD {
                self.held = vec![Event::Overrun];
            }
            return;
        }
        for event in events {
            self.handle_one(event);
        }
    }

    fn handle_one(&mut self, event: Event) {
        let Some(observed) = &self.fib.observed else { return };
        let index_matters = |index: u32| {
            Device::ALL.iter().any(|d| observed.link(*d).is_some_and(|l| l.index == index))
                || self.parent.is_none_or(|p| p.index == index)
                || self.reached.values().any(|r| match r {
                    Reach::OnLink { index: i } | Reach::Via { index: i, .. } => *i == index,
                    Reach::Tunnel | Reach::Unreachable => false,
                })
        };
        let look = match &event {
            Event::Overrun => Some(Look::Whole),
            Event::Link { index, name } => {
                let desired = &self.fib.desired;
                let incomplete = matches!(desired.ipip, Wanted::Present(_)) && observed.ipip.is_none()
                    || matches!(desired.vxlan, Wanted::Present(_)) && observed.vxlan.is_none();
                let named = Device::ALL.iter().any(|d| d.name() == name);
                (incomplete || named || index_matters(*index)).then_some(Look::Whole)
            }
            // No route goes with an address that comes, and there may be a million to list.
            Event::Address { index, gone } => {
                index_matters(*index).then_some(if *gone { Look::Whole } else { Look::Base })
            }
            Event::Neighbour { index, .. } => {
                observed.vxlan.is_some_and(|l| l.index == *index).then_some(Look::Whole)
            }
            Event::Nexthop { ours } => ours.then_some(Look::Whole),
            Event::Probing => Some(Look::Base),
            Event::Sysctl => {
                self.sysctls_due = true;
                None
            }
            // Taken in before.
            Event::Passage { .. } => None,
            Event::Route { key, via, ours } => {
                self.reach_stale |= self.reached.keys().any(|a| key.prefix.contains(a));
                if *ours && self.fib.event(key, *via) {
                    self.drift += 1;
                    self.told.news.drift(1, Some(|| describe(&Object::Route(*key))));
                    self.healing = true;
                    self.exits_stale = true;
                }
                None
            }
        };
        if let Some(look) = look {
            tracing::debug!(?event, ?look, "the kernel is looked at again");
            self.must_look(look);
        }
    }

    /// Asks again how each next hop is reached, and resolves anew if an answer changed.
    fn recheck_reach(&mut self) {
        let (true, Some(observed)) = (self.reach_stale, &self.fib.observed) else { return };
        self.reach_stale = false;
        let mut changed = false;
        for (address, before) in &mut self.reached {
            let after = self.dataplane.reach(*address, observed);
            changed |= after != *before;
            *before = after;
        }
        self.must_resolve |= changed;
    }

    /// Finds the exit of a route by what was learned.
    fn resolve_one(&mut self, config: &Config, slot: u32) {
        let state = *self.fib.table().state(slot);
        let want = match self.fib.learned(&state).copied() {
            Some(learned) if self.fib.others(&state).is_empty() => {
                self.answer_or_adopt(config, slot, learned, &state)
            }
            Some(learned) => return self.resolve_all(config, slot, learned),
            None => Want::default(),
        };
        self.fib.want_learned(slot, want);
    }

    fn answer_or_adopt(&mut self, config: &Config, slot: u32, learned: Learned, state: &State) -> Want {
        let want = self.answer(config, slot, learned);
        if state.via != NONE && self.adopts(config, &learned, &want, state) {
            return self.answer(config, slot, learned);
        }
        want
    }

    fn answer(&mut self, config: &Config, slot: u32, learned: Learned) -> Want {
        let prefix = self.fib.table().key(slot).prefix;
        let own = config.local.blocks.contains(&prefix);
        let question: Question = (learned, config.policy(&prefix), prefix.addr().is_ipv4());
        if !own {
            // Blocks of one node come one after the other.
            if let Some((last, want)) = &self.last_answer
                && *last == question
            {
                return *want;
            }
            if let Some(want) = self.answers.get(&question) {
                self.last_answer = Some((question, *want));
                return *want;
            }
        }
        let Some(observed) = &self.fib.observed else { return Want::default() };
        let (reached, dataplane) = (&mut self.reached, &mut self.dataplane);
        let resolution = resolve(config, &self.standings, &prefix, &learned, &mut |address| {
            *reached.entry(address).or_insert_with(|| dataplane.reach(address, observed))
        });
        let target = match resolution.reason {
            crate::resolve::Reason::Discard => Some(crate::desired::Target::Blackhole),
            _ => resolution.exit.map(crate::desired::Target::Exit),
        };
        let want = Want { target, reason: Some(resolution.reason) };
        if !own {
            if self.answers.len() >= MAX_ANSWERS {
                self.answers.clear();
            }
            self.answers.insert(question, want);
            self.last_answer = Some((question, want));
        }
        want
    }

    /// A learned route's entry.
    pub(crate) fn route(&self, prefix: &ipnet::IpNet) -> Option<&State> {
        let slot = self.fib.table().find(&RouteKey { prefix: *prefix, metric: self.metric })?;
        Some(self.fib.table().state(slot))
    }

    /// Notes by which encapsulation each node is reached, if that may have changed. Between turns what is resolved anew may
    /// not be known to be in the kernel yet although it is: that nothing is in use is seen at rest alone.
    pub(crate) fn note_exits_in_use(&mut self, at_rest: bool) {
        let Some(config) = self.config.clone().filter(|_| self.exits_stale) else { return };
        self.exits_stale = !at_rest;
        self.noted_at = Some(Instant::now());
        self.tell_strangers();
        if self.in_use.len() > config.nodes.len() {
            let names: std::collections::HashSet<&str> =
                config.nodes.iter().map(|n| n.name.as_str()).collect();
            self.in_use.retain(|name, _| names.contains(name.as_str()));
        }
        for node in &config.nodes {
            let now = node.blocks.iter().find_map(|block| self.installed(&block.trunc(), node));
            if now.is_none() && !at_rest {
                continue;
            }
            let before = self.in_use.get(&node.name);
            if before.is_none_or(|(before, _)| *before != now) {
                if before.is_some() || now.is_some() {
                    let word = |e: Option<Encapsulation>| match e {
                        Some(Encapsulation::Ipip) => "ipip",
                        Some(Encapsulation::Vxlan) => "vxlan",
                        Some(Encapsulation::None) => "direct",
                        None => "nothing",
                    };
                    let from = word(before.and_then(|(e, _)| *e));
                    tracing::info!(node = %node.name, from, to = word(now), "exit changed");
                    let before = before.and_then(|(before, _)| *before);
                    let reason = node
                        .blocks
                        .iter()
                        .find_map(|block| self.fib.want(self.route(&block.trunc())?).reason);
                    self.told.news.exit(|| ExitChange {
                        node: node.name.clone(),
                        from: before.map(ExitKind::from),
                        to: now.map(ExitKind::from),
                        reason,
                    });
                }
                self.in_use.insert(node.name.clone(), (now, Timestamp::now()));
            }
        }
        self.told.news.tell();
    }
}

#[cfg(test)]
mod tests;
