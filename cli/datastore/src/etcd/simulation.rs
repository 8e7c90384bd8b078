//! Simulation of a follower with an etcd that loses, repeats, reorders and delays events, compacts
//! revisions and fails: the follower ends in the state of the store, and never drops a resource
//! that stayed in it. Virtual time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, stream};
use timing::Jitter;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::backend::{Backend, BackendError, Commit, Digest, KeyEvent, KeyEventStream, Listing, StoredValue};
use super::follower;
use super::keys::Keys;
use crate::{StoreHealth, StoreUpdate};
use resource::{Key, Kind};

/// The number of schedules of a run, unless `ROUTED_SCHEDULES` sets another.
const SCHEDULES: u64 = 1000;
/// The number of nodes that exist from the beginning to the end.
const KEPT: usize = 4;
/// The number of nodes that are added and deleted.
const OTHERS: usize = 6;
/// The time within which the follower must have the state of a healed store. Lost events are found
/// by the check, which runs every four minutes.
const CAUGHT_UP: Duration = Duration::from_secs(300);

struct SimulatedStore {
    revision: i64,
    compacted: i64,
    entries: BTreeMap<String, StoredValue>,
    log: Vec<(i64, KeyEvent)>,
    jitter: Jitter,
    faulty: bool,
}

/// A backend that injects the faults of a network and a cluster.
struct FaultyBackend {
    store: Arc<Mutex<SimulatedStore>>,
    changed: watch::Sender<i64>,
}

#[derive(Clone, Copy)]
enum Fault {
    None,
    Error,
    Slow(Duration),
    Lost,
    Twice,
    Reordered,
    Ended,
}

impl SimulatedStore {
    fn new(seed: u64, faulty: bool) -> SimulatedStore {
        SimulatedStore {
            revision: 1,
            compacted: 0,
            entries: BTreeMap::new(),
            log: Vec::new(),
            jitter: Jitter::new(seed),
            faulty,
        }
    }

    fn fault(&mut self) -> Fault {
        if !self.faulty {
            return Fault::None;
        }
        match self.jitter.number() % 20 {
            0 | 1 => Fault::Error,
            2 => Fault::Slow(Duration::from_millis(self.jitter.number() % 6000)),
            3 => Fault::Lost,
            4 | 5 => Fault::Twice,
            6 => Fault::Reordered,
            7 => Fault::Ended,
            _ => Fault::None,
        }
    }

    fn put(&mut self, key: String, value: Vec<u8>) {
        self.revision += 1;
        let create_revision = self.entries.get(&key).map_or(self.revision, |stored| stored.create_revision);
        let stored = StoredValue { key: key.clone(), value, create_revision, mod_revision: self.revision };
        self.entries.insert(key, stored.clone());
        self.log.push((self.revision, KeyEvent::Put(stored)));
    }

    fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.revision += 1;
            self.log
                .push((self.revision, KeyEvent::Delete { key: key.to_owned(), mod_revision: self.revision }));
        }
    }
}

fn away() -> BackendError {
    BackendError::Away("the simulation says no".into())
}

impl FaultyBackend {
    fn store(&self) -> std::sync::MutexGuard<'_, SimulatedStore> {
        self.store.lock().unwrap()
    }

    /// Injects a fault into a request.
    async fn inject_fault(&self) -> Result<(), BackendError> {
        let fault = self.store().fault();
        match fault {
            Fault::Error | Fault::Ended => Err(away()),
            Fault::Slow(time) => {
                // why: the fault itself, on a virtual clock as all of these.
                sleep(time).await;
                Ok(())
            }
            Fault::Lost => std::future::pending().await,
            Fault::None | Fault::Twice | Fault::Reordered => Ok(()),
        }
    }
}

impl Backend for FaultyBackend {
    fn list<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Listing, BackendError>> {
        async {
            self.inject_fault().await?;
            let listing = {
                let store = self.store();
                Listing {
                    cluster_id: 1,
                    revision: store.revision,
                    entries: store.entries.values().cloned().collect(),
                }
            };
            // A response that is old when it arrives.
            self.inject_fault().await?;
            Ok(listing)
        }
        .boxed()
    }

    fn watch<'a>(&'a self, _: &'a str, from: i64) -> BoxFuture<'a, Result<KeyEventStream, BackendError>> {
        async move {
            self.inject_fault().await?;
            let (store, changed) = (Arc::clone(&self.store), self.changed.subscribe());
            let begin = (from, Vec::<Vec<KeyEvent>>::new(), changed);
            let events = stream::unfold(Some(begin), move |state| {
                let store = Arc::clone(&store);
                async move {
                    let (mut next, mut waiting, mut changed) = state?;
                    loop {
                        if let Some(batch) = waiting.pop() {
                            return Some((Ok(batch), Some((next, waiting, changed))));
                        }
                        let (fault, ready) = {
                            let mut store = store.lock().unwrap();
                            if next <= store.compacted {
                                return Some((Err(BackendError::Compacted), None));
                            }
                            let ready: Vec<(i64, KeyEvent)> = store
                                .log
                                .iter()
                                .filter(|(revision, _)| *revision >= next)
                                .take(3)
                                .cloned()
                                .collect();
                            let fault = if ready.is_empty() { Fault::None } else { store.fault() };
                            (fault, ready)
                        };
                        let Some((last, _)) = ready.last() else {
                            let _ = changed.changed().await;
                            continue;
                        };
                        next = last + 1;
                        let mut batch: Vec<Vec<KeyEvent>> =
                            ready.into_iter().map(|(_, event)| vec![event]).collect();
                        match fault {
                            Fault::Error => return Some((Err(away()), None)),
                            Fault::Ended => return None,
                            Fault::Lost => batch.clear(),
                            Fault::Twice => batch.extend(batch.clone()),
                            Fault::Reordered => batch.reverse(),
                            // why: the fault itself, on a virtual clock.
                            Fault::Slow(time) => sleep(time).await,
                            Fault::None => {}
                        }
                        batch.reverse();
                        waiting = batch;
                    }
                }
            });
            Ok(events.boxed())
        }
        .boxed()
    }

    fn digest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Digest, BackendError>> {
        async {
            self.inject_fault().await?;
            let store = self.store();
            let newest = store.entries.values().map(|stored| stored.mod_revision).max().unwrap_or(0);
            let count = i64::try_from(store.entries.len()).unwrap();
            Ok(Digest { cluster_id: 1, revision: store.revision, count, newest })
        }
        .boxed()
    }

    fn revision(&self) -> BoxFuture<'_, Result<i64, BackendError>> {
        async {
            self.inject_fault().await?;
            Ok(self.store().revision)
        }
        .boxed()
    }

    fn commit(&self, _: Commit) -> BoxFuture<'_, Result<Option<i64>, BackendError>> {
        async { Err(away()) }.boxed()
    }

    fn fail_over(&self) {}

    fn endpoint(&self) -> String {
        "simulation".into()
    }
}

fn key(keys: &Keys, name: &str) -> String {
    keys.etcd_key(&Key { kind: Kind::Node, name: name.to_owned() })
}

fn node(name: &str, address: u64) -> Vec<u8> {
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{bgp: {{ipv4Address: 10.0.{}.{}/16}}}}\n",
        address / 250,
        address % 250 + 1
    );
    text.into_bytes()
}

fn disconnected() -> StoreHealth {
    StoreHealth {
        connected: false,
        endpoint: String::new(),
        last_in_step: None,
        since: jiff::Timestamp::UNIX_EPOCH,
        problem: None,
        from_snapshot: false,
        relists: 0,
    }
}

fn names() -> Vec<String> {
    let kept = (0..KEPT).map(|number| format!("keep-{number}"));
    kept.chain((0..OTHERS).map(|number| format!("other-{number}"))).collect()
}

/// Runs one schedule and returns the number of states that were received.
async fn schedule(seed: u64) -> usize {
    let keys = Keys::new("/routed");
    let mut choice = Jitter::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995);
    for _ in 0..8 {
        choice.number();
    }
    let mut store = SimulatedStore::new(choice.number(), true);
    let names = names();
    for (number, name) in names.iter().enumerate().take(KEPT) {
        store.put(key(&keys, name), node(name, 2000 + number as u64 * 10));
    }
    let store = Arc::new(Mutex::new(store));
    let changed = watch::Sender::new(0);
    let backend = Arc::new(FaultyBackend { store: Arc::clone(&store), changed: changed.clone() });
    let health = watch::Sender::new(disconnected());
    let mut updates = follower::start(backend, keys.clone(), None, health.clone(), choice.number());
    let mut seen = 0;
    let mut last: Option<Vec<(String, String)>> = None;
    let mut take = |update: StoreUpdate| {
        let loaded = update.unwrap();
        let nodes: Vec<(String, String)> = loaded
            .snapshot
            .nodes
            .iter()
            .map(|node| (node.name.clone(), node.ipv4.map(|net| net.to_string()).unwrap_or_default()))
            .collect();
        for kept in &names[..KEPT] {
            assert!(
                nodes.iter().any(|(name, _)| name == kept),
                "seed {seed}: {kept} was given up: {nodes:?}"
            );
        }
        seen += 1;
        last = Some(nodes);
    };
    // The first state, however long it takes, so that there are resources to drop.
    let first = tokio::time::timeout(Duration::from_secs(3600), updates.recv()).await;
    take(first.unwrap_or_else(|_| panic!("seed {seed}: no state at all")).unwrap());
    for _ in 0..40 {
        {
            let mut store = store.lock().unwrap();
            for _ in 0..choice.number() % 4 {
                let at = usize::try_from(choice.number()).unwrap_or(usize::MAX) % names.len();
                let (name, roll) = (&names[at], choice.number() % 10);
                match roll {
                    0 | 1 if at >= KEPT => store.delete(&key(&keys, name)),
                    2 => store.put(key(&keys, name), b"kind: [".to_vec()),
                    // Nodes that come and go often conflict with each other.
                    _ if at >= KEPT => store.put(key(&keys, name), node(name, choice.number() % 8)),
                    _ => {
                        store.put(key(&keys, name), node(name, 2000 + at as u64 * 10 + choice.number() % 10))
                    }
                }
            }
            if choice.number().is_multiple_of(8) {
                store.compacted = store.revision - i64::try_from(choice.number() % 3).unwrap();
                let kept = store.compacted;
                store.log.retain(|(revision, _)| *revision > kept);
            }
        }
        changed.send_modify(|number| *number += 1);
        // why: the next fault comes at a time of the seed's choice.
        let pause = sleep(Duration::from_millis(choice.number() % 3000));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                update = updates.recv() => take(update.unwrap()),
            }
        }
    }
    // The store works again, and all resources are valid.
    let expected: Vec<(String, String)> = {
        let mut store = store.lock().unwrap();
        store.faulty = false;
        let mut expected = Vec::new();
        for (number, name) in names.iter().enumerate() {
            if number >= KEPT && choice.number().is_multiple_of(2) {
                store.delete(&key(&keys, name));
                continue;
            }
            let address = 1000 + number as u64;
            store.put(key(&keys, name), node(name, address));
            expected.push((name.clone(), format!("10.0.{}.{}/16", address / 250, address % 250 + 1)));
        }
        expected
    };
    changed.send_modify(|number| *number += 1);
    // why: the time limit itself.
    let latest = sleep(CAUGHT_UP);
    tokio::pin!(latest);
    loop {
        tokio::select! {
            () = &mut latest => break,
            update = updates.recv() => take(update.unwrap()),
        }
    }
    assert_eq!(last.as_ref(), Some(&expected), "seed {seed}: not the state that the store describes");
    assert!(health.borrow().connected, "seed {seed}: {:?}", health.borrow());
    seen
}

#[test]
fn the_follower_converges_and_never_drops_a_resource_that_stays() {
    let schedules =
        std::env::var("ROUTED_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let seen: usize = (1..=schedules).map(|seed| runtime.block_on(schedule(seed))).sum();
    println!("{schedules} schedules, {seen} states");
}

#[tokio::test(start_paused = true)]
async fn the_check_finds_a_lost_event() {
    let keys = Keys::new("/routed");
    let store = SimulatedStore::new(7, false);
    let store = Arc::new(Mutex::new(store));
    store.lock().unwrap().put(key(&keys, "a"), node("a", 1));
    let changed = watch::Sender::new(0);
    let backend = Arc::new(FaultyBackend { store: Arc::clone(&store), changed: changed.clone() });
    let health = watch::Sender::new(disconnected());
    let mut updates: mpsc::Receiver<StoreUpdate> = follower::start(backend, keys.clone(), None, health, 1);
    assert_eq!(updates.recv().await.unwrap().unwrap().snapshot.nodes.len(), 1);
    // In the store, but the event is lost.
    {
        let mut store = store.lock().unwrap();
        store.put(key(&keys, "b"), node("b", 2));
        store.log.clear();
    }
    let found = tokio::time::timeout(CAUGHT_UP, updates.recv()).await.expect("a check").unwrap().unwrap();
    assert_eq!(found.snapshot.nodes.len(), 2);
}
