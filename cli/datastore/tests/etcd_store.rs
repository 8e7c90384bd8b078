//! The store on a real etcd.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use datastore::{EtcdSettings, EtcdStore, Manifest, Revision, Store, StoreError, StoreState, StoreUpdate};
use resource::{Key, Kind, Mistake, parse_file};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use testbed::etcd_cluster::{EtcdCluster, PATIENCE};
use testbed::manifest::node;
use testbed::proxy::{Proxy, ProxyMode};

fn manifests(text: &str) -> Vec<Manifest> {
    let parsed = parse_file("given.yaml", text);
    assert_eq!(parsed.mistakes, []);
    let documents = parsed.documents.into_iter();
    documents.map(|document| Manifest { text: text[document.range.clone()].to_owned(), document }).collect()
}

fn key(name: &str) -> Key {
    Key { kind: Kind::Node, name: name.to_owned() }
}

fn store(endpoints: Vec<String>) -> EtcdStore {
    EtcdStore::open(EtcdSettings::plain(endpoints), None)
}

async fn put(store: &EtcdStore, name: &str, address: &str) -> Revision {
    // A cluster that elects a leader says no for a moment.
    let until = Instant::now() + PATIENCE;
    loop {
        match store.put(manifests(&node(name, address)), None).await {
            Ok(revision) => return revision,
            Err(StoreError::Unavailable { .. }) if Instant::now() < until => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// A watch, with the names that each of its states must have.
struct WatchedState {
    updates: Receiver<StoreUpdate>,
    always: BTreeSet<String>,
}

fn names(loaded: &StoreState) -> BTreeSet<String> {
    loaded.snapshot.nodes.iter().map(|node| node.name.clone()).collect()
}

impl WatchedState {
    async fn start(store: &EtcdStore) -> Self {
        let mut updates = store.watch().unwrap();
        let first = timeout(PATIENCE, updates.recv()).await.expect("a first state").unwrap().unwrap();
        WatchedState { updates, always: names(&first) }
    }

    async fn until(&mut self, what: &str, is_it: impl Fn(&StoreState) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            let update = timeout(PATIENCE, self.updates.recv())
                .await
                .unwrap_or_else(|_| panic!("no state with {what}"));
            let loaded = update.unwrap().unwrap();
            let names = names(&loaded);
            assert!(names.is_superset(&self.always), "given up: {names:?} lacks some of {:?}", self.always);
            if is_it(&loaded) {
                return begin.elapsed();
            }
        }
    }

    async fn until_node(&mut self, name: &str) -> Duration {
        self.until(name, |loaded| names(loaded).contains(name)).await
    }
}

async fn until_in_step(store: &EtcdStore, is_in_step: bool) {
    let mut health = store.health().unwrap();
    let waited = timeout(PATIENCE, health.wait_for(|health| health.connected == is_in_step)).await;
    waited.unwrap_or_else(|_| panic!("never in step: {is_in_step}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_yields_each_put_and_a_stale_revision_is_a_conflict() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    let first = put(&store, "a", "10.0.0.1/24").await;
    let mut watched = WatchedState::start(&store).await;
    let second = store.put(manifests(&node("b", "10.0.0.2/24")), Some(first.clone())).await.unwrap();
    watched.until_node("b").await;
    let stale = store.put(manifests(&node("c", "10.0.0.3/24")), Some(first.clone())).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    let third = store.delete(vec![key("b")], Some(second.clone())).await.unwrap();
    watched.until("b gone", |loaded| !names(loaded).contains("b")).await;
    // What was deleted has no revision any more, and all the same something has changed.
    let stale = store.put(manifests(&node("c", "10.0.0.3/24")), Some(second)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })), "{stale:?}");
    store.put(manifests(&node("c", "10.0.0.3/24")), Some(third)).await.unwrap();
    assert!(matches!(store.delete(vec![key("b")], None).await, Err(StoreError::NotFound(_))));
    let stored = cluster.etcdctl(0, &["get", "/routed/resources/v3/nodes/a", "--print-value-only"]);
    assert_eq!(stored.trim_end(), node("a", "10.0.0.1/24").trim_end());
    let contents = store.load().await.unwrap();
    assert_eq!(contents.documents.len(), 2);
    let versions: Vec<bool> = contents
        .documents
        .iter()
        .map(|document| document.manifest["metadata"]["resourceVersion"].is_string())
        .collect();
    assert_eq!(versions, [true, true]);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_resources_are_stored_in_parts_and_listed_in_pages() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    let all: Vec<String> = (0..1234)
        .map(|number| node(&format!("n-{number}"), &format!("10.0.{}.{}/16", number / 250, number % 250 + 1)))
        .collect();
    store.put(manifests(&all.join("---\n")), None).await.unwrap();
    assert_eq!(store.load().await.unwrap().state.snapshot.nodes.len(), 1234);
    let mut watched = WatchedState::start(&store).await;
    put(&store, "one-more", "10.1.0.1/16").await;
    watched.until("1235", |loaded| loaded.snapshot.nodes.len() == 1235).await;
    let mistakes = store.put(manifests(&node("twice", "10.0.0.1/16")), None).await;
    let Err(StoreError::Invalid(mistakes)) = mistakes else { panic!("{mistakes:?}") };
    assert!(mistakes[0].rule.contains("n-0"), "{mistakes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_changes_are_all_made() {
    let cluster = EtcdCluster::start(1);
    let stores: Vec<EtcdStore> = (0..8).map(|_| store(cluster.endpoints())).collect();
    let putting = stores.iter().enumerate().map(|(number, store)| async move {
        let text = node(&format!("n-{number}"), &format!("10.0.0.{}/24", number + 1));
        store.put(manifests(&text), None).await.unwrap();
    });
    futures::future::join_all(putting).await;
    assert_eq!(stores[0].load().await.unwrap().state.snapshot.nodes.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_resource_is_refused_by_name_and_the_rest_runs() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    put(&store, "a", "10.0.0.1/24").await;
    put(&store, "b", "10.0.0.2/24").await;
    let mut watched = WatchedState::start(&store).await;
    let place = |name: &str| format!("/routed/resources/v3/nodes/{name}");
    cluster.etcdctl(0, &["put", &place("twice"), &node("twice", "10.0.0.1/24")]);
    cluster.etcdctl(0, &["put", &place("b"), "kind: ["]);
    cluster.etcdctl(0, &["put", "/routed/resources/v3/stranger", "x"]);
    watched.until("three mistakes", |loaded| loaded.refused.len() == 3).await;
    let contents = store.load().await.unwrap();
    let refused: Vec<String> = contents.state.refused.iter().map(Mistake::to_string).collect();
    assert!(
        refused.iter().any(|line| line.starts_with("etcd:/routed/resources/v3/nodes/b:1: is not valid YAML")),
        "{refused:?}"
    );
    assert!(refused.iter().any(|line| line.starts_with("etcd:/routed/resources/v3/nodes/twice:4: spec.bgp.ipv4Address: must be unique: 10.0.0.1 is also a's")), "{refused:?}");
    // The rest can be changed, and what is bad can be deleted.
    put(&store, "c", "10.0.0.3/24").await;
    store.delete(vec![key("twice"), key("b")], None).await.unwrap();
    watched.always.remove("b");
    watched.until("b gone", |loaded| names(loaded) == BTreeSet::from(["a".into(), "c".into()])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_during_a_lost_watch_leads_to_a_listing_and_no_resource_is_dropped() {
    let cluster = EtcdCluster::start(1);
    let direct = store(cluster.endpoints());
    put(&direct, "stays", "10.0.0.1/24").await;
    put(&direct, "goes", "10.0.0.2/24").await;
    let proxy = Proxy::start(&cluster.endpoints()[0]).await;
    let behind = store(vec![proxy.url.clone()]);
    let mut watched = WatchedState::start(&behind).await;
    watched.always.remove("goes");
    until_in_step(&behind, true).await;
    proxy.set(ProxyMode::None);
    until_in_step(&behind, false).await;
    direct.delete(vec![key("goes")], None).await.unwrap();
    put(&direct, "comes", "10.0.0.3/24").await;
    let revision = cluster.revision(0);
    cluster.etcdctl(0, &["compact", &revision.to_string()]);
    let before = behind.health().unwrap().borrow().relists;
    proxy.set(ProxyMode::All);
    watched
        .until("the new state", |loaded| names(loaded) == BTreeSet::from(["comes".into(), "stays".into()]))
        .await;
    assert!(behind.health().unwrap().borrow().relists > before);
    // And without a compaction it goes on from where it was.
    let before = behind.health().unwrap().borrow().relists;
    proxy.set(ProxyMode::None);
    until_in_step(&behind, false).await;
    put(&direct, "later", "10.0.0.4/24").await;
    proxy.set(ProxyMode::All);
    watched.until_node("later").await;
    assert_eq!(behind.health().unwrap().borrow().relists, before);
}

/// Stores that begin with each of the members.
fn one_for_each(cluster: &EtcdCluster) -> Vec<EtcdStore> {
    let endpoints = cluster.endpoints();
    let mut seen = BTreeSet::new();
    let mut stores = Vec::new();
    while stores.len() < endpoints.len() {
        let one = store(endpoints.clone());
        if seen.insert(one.member()) {
            stores.push(one);
        }
    }
    stores
}

async fn all_follow(
    cluster: &EtcdCluster,
    watched: &mut [WatchedState],
    name: &str,
    through: usize,
) -> Duration {
    let begin = Instant::now();
    let writer = store(vec![cluster.endpoints()[through].clone()]);
    put(&writer, name, &format!("10.7.0.{}/16", name.len())).await;
    for one in watched.iter_mut() {
        one.until_node(name).await;
    }
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_of_three_members_stopped_paused_or_cut_off_all_nodes_stay_in_step() {
    let mut cluster = EtcdCluster::in_namespaces(3);
    let stores = one_for_each(&cluster);
    put(&stores[0], "stays", "10.0.0.1/16").await;
    let mut watched = Vec::new();
    for store in &stores {
        watched.push(WatchedState::start(store).await);
    }
    cluster.stop(0);
    let stopped = all_follow(&cluster, &mut watched, "x", 1).await;
    cluster.run(0);
    cluster.await_healthy();
    cluster.pause(1);
    let paused = all_follow(&cluster, &mut watched, "xx", 2).await;
    cluster.resume(1);
    cluster.await_healthy();
    cluster.cut_off(2, true);
    let cut_off = all_follow(&cluster, &mut watched, "xxx", 0).await;
    cluster.cut_off(2, false);
    cluster.await_healthy();
    all_follow(&cluster, &mut watched, "xxxx", 2).await;
    println!("in step with a member stopped: {stopped:?}, paused: {paused:?}, cut off: {cut_off:?}");
    for (what, time) in [("stopped", stopped), ("paused", paused), ("cut off", cut_off)] {
        assert!(time < Duration::from_secs(20), "a member {what}: {time:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_store_is_in_step_within_five_seconds_of_the_return_of_all_members() {
    let mut cluster = EtcdCluster::start(3);
    let directory = TempDir::new().unwrap();
    let settings = EtcdSettings::plain(cluster.endpoints());
    let store = EtcdStore::open(settings.clone(), Some(directory.path()));
    put(&store, "stays", "10.0.0.1/16").await;
    let mut watched = WatchedState::start(&store).await;
    until_in_step(&store, true).await;
    let snapshot = directory.path().join("snapshot.json");
    let until = Instant::now() + PATIENCE;
    while !std::fs::read_to_string(&snapshot).is_ok_and(|text| text.contains("stays")) {
        assert!(Instant::now() < until, "no snapshot");
        // why: the file of another task is polled, up to a deadline.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for at in 0..3 {
        cluster.stop(at);
    }
    until_in_step(&store, false).await;
    // Who starts meanwhile has the snapshot.
    let other = EtcdStore::open(settings, Some(directory.path()));
    let mut started = WatchedState::start(&other).await;
    assert_eq!(started.always, BTreeSet::from(["stays".to_owned()]));
    assert!(other.health().unwrap().borrow().from_snapshot);
    for at in 0..3 {
        cluster.run(at);
    }
    cluster.await_healthy();
    let begin = Instant::now();
    until_in_step(&store, true).await;
    until_in_step(&other, true).await;
    let took = begin.elapsed();
    put(&store, "new", "10.0.0.2/16").await;
    watched.until_node("new").await;
    started.until_node("new").await;
    println!("in step {took:?} after the return");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emptied_etcd_does_not_remove_the_running_state() {
    let mut cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    put(&store, "stays", "10.0.0.1/16").await;
    let mut watched = WatchedState::start(&store).await;
    cluster.stop(0);
    until_in_step(&store, false).await;
    std::fs::remove_dir_all(cluster.directory().join("m0")).unwrap();
    cluster.run(0);
    cluster.await_healthy();
    let mut health = store.health().unwrap();
    let said = timeout(
        PATIENCE,
        health.wait_for(|health| {
            health.problem.as_ref().is_some_and(|problem| problem.contains("has nothing below /routed/"))
        }),
    );
    said.await.expect("a refusal").unwrap();
    // Whoever fills it again is followed.
    put(&EtcdStore::open(EtcdSettings::plain(cluster.endpoints()), None), "stays", "10.0.0.9/16").await;
    let moved = |loaded: &StoreState| loaded.snapshot.nodes[0].ipv4 == Some("10.0.0.9/16".parse().unwrap());
    watched.until("the new address", moved).await;
}

/// Schedules through a proxy; in a run of its own another number by `ROUTED_PROXY_SCHEDULES`.
const SCHEDULES: u64 = 100;

/// One schedule, below a prefix of its own: changes while the proxy holds, cuts and passes.
async fn schedule(cluster: &EtcdCluster, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let prefix = format!("/schedule-{seed}");
    let settings = |endpoints| EtcdSettings { prefix: prefix.clone(), ..EtcdSettings::plain(endpoints) };
    let direct = EtcdStore::open(settings(cluster.endpoints()), None);
    put(&direct, "stays", "10.0.9.1/16").await;
    let proxy = Proxy::start(&cluster.endpoints()[0]).await;
    let behind = EtcdStore::open(settings(vec![proxy.url.clone()]), None);
    let mut watched = WatchedState::start(&behind).await;
    for _ in 0..12 {
        proxy.set(
            [ProxyMode::All, ProxyMode::All, ProxyMode::Held, ProxyMode::None]
                [usize::try_from(next() % 4).unwrap()],
        );
        let name = format!("n-{}", next() % 4);
        match next() % 3 {
            0 => match direct.delete(vec![key(&name)], None).await {
                Ok(_) | Err(StoreError::NotFound(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            },
            _ => _ = put(&direct, &name, &format!("10.0.{}.{}/16", &name[2..], next() % 250 + 1)).await,
        }
        if next() % 10 == 0 {
            // Somebody else may have been quicker.
            let _ = cluster.try_etcdctl(0, &["compact", &cluster.revision(0).to_string()]);
        }
        // why: the next change comes at a time of the seed's choice.
        tokio::time::sleep(Duration::from_millis(next() % 120)).await;
    }
    proxy.set(ProxyMode::All);
    let last = direct.load().await.unwrap().state;
    put(&direct, "last", "10.0.9.2/16").await;
    let (mut expected, wanted) = (names(&last), last.snapshot.nodes);
    expected.insert("last".to_owned());
    let is_it = |loaded: &StoreState| {
        names(loaded) == expected && wanted.iter().all(|node| loaded.snapshot.nodes.contains(node))
    };
    watched.until(&format!("the end of seed {seed}"), is_it).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_follower_converges_in_a_hundred_schedules_of_a_faulty_network() {
    use futures::StreamExt;
    let cluster = EtcdCluster::start(1);
    let schedules =
        std::env::var("ROUTED_PROXY_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    // Ten at a time, each with a prefix and a proxy of its own.
    let all = futures::stream::iter(1..=schedules).map(|seed| schedule(&cluster, seed));
    assert_eq!(all.buffer_unordered(10).count().await as u64, schedules);
}
