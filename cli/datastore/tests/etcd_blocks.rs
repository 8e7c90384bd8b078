//! Blocks claimed from a real etcd by many nodes at once.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use datastore::etcd::ClaimOutcome;
use datastore::{Contents, EtcdSettings, EtcdStore, Manifest, Store};
use resource::ipam::audit;
use resource::{Document, Key, Kind, Resource, parse_file};

use testbed::daemon::{HEAD, StandaloneDaemon, etcd, node};
use testbed::etcd_cluster::{EtcdCluster, net};

fn manifests(text: &str) -> Vec<Manifest> {
    let parsed = parse_file("given.yaml", text);
    assert_eq!(parsed.mistakes, []);
    let documents = parsed.documents.into_iter();
    documents.map(|document| Manifest { text: text[document.range.clone()].to_owned(), document }).collect()
}

fn pool(spec: &str) -> String {
    format!("{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec: {{{spec}}}\n")
}

/// The blocks by their nodes; every one must run, which is only so if no two contradict each other.
fn owners(contents: &Contents) -> BTreeMap<String, Vec<String>> {
    assert_eq!(contents.state.refused, []);
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for affinity in &contents.state.snapshot.affinities {
        owners.entry(affinity.node.clone()).or_default().push(affinity.cidr.to_string());
    }
    owners
}

fn findings(documents: &[Document]) -> usize {
    let (mut nodes, mut pools, mut affinities) = (Vec::new(), Vec::new(), Vec::new());
    for document in documents {
        match document.resource.clone() {
            Resource::Node(node) => nodes.push(node),
            Resource::IpPool(pool) => pools.push(pool),
            Resource::BlockAffinity(affinity) => affinities.push(affinity),
            _ => {}
        }
    }
    audit(&nodes, &pools, &affinities).len()
}

/// Sixty blocks of 64 addresses: a /20 less four that a node of its own has.
async fn sixty_blocks(store: &EtcdStore) {
    let reserved =
        format!("{HEAD}kind: Node\nmetadata: {{name: reserve}}\nspec: {{podCIDRs: [10.65.0.0/24]}}\n");
    store.put(manifests(&[pool("cidr: 10.65.0.0/20"), reserved].join("---\n")), None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_nodes_that_claim_concurrently_and_crash_never_own_a_block_twice() {
    let cluster = EtcdCluster::start(3);
    let settings = EtcdSettings::plain(cluster.endpoints());
    let admin = EtcdStore::open(settings.clone(), None);
    sixty_blocks(&admin).await;
    let nodes: Vec<String> =
        (0..50).map(|number| node(&format!("n-{number}"), &format!("10.0.0.{}/24", number + 1))).collect();
    admin.put(manifests(&nodes.join("---\n")), None).await.unwrap();
    let crashes = Arc::new(AtomicUsize::new(0));
    let claimers = (0..50u64).map(|number| {
        let (settings, crashes) = (settings.clone(), Arc::clone(&crashes));
        tokio::spawn(async move {
            let name = format!("n-{number}");
            let mut seed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let until = Instant::now() + Duration::from_secs(90);
            loop {
                assert!(Instant::now() < until, "{name} has no block");
                // A process of its own each time: a crash leaves nothing but what etcd has.
                let store = EtcdStore::open(settings.clone(), None);
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let life = Duration::from_millis(seed % 400);
                match tokio::time::timeout(life, store.claim(&name, true, |_, blocks| blocks.is_empty()))
                    .await
                {
                    Ok(Ok(ClaimOutcome::Unchanged)) => return,
                    Ok(Ok(ClaimOutcome::PoolExhausted(problem))) => panic!("{problem}"),
                    Ok(Ok(ClaimOutcome::Block(_)) | Err(_)) => {}
                    Err(_) => _ = crashes.fetch_add(1, Ordering::Relaxed),
                }
            }
        })
    });
    for claimer in claimers.collect::<Vec<_>>() {
        claimer.await.unwrap();
    }
    println!("{} crashes", crashes.load(Ordering::Relaxed));
    assert!(crashes.load(Ordering::Relaxed) > 10, "nothing was tried");
    let contents = admin.load().await.unwrap();
    let owners = owners(&contents);
    assert_eq!(owners.len(), 50);
    assert!(owners.values().all(|blocks| blocks.len() == 1), "{owners:?}");
    assert_eq!(findings(&contents.documents), 0);
    // Twenty of the nodes are killed for good.
    let gone = (0..20).map(|number| Key { kind: Kind::Node, name: format!("n-{number}") }).collect();
    admin.delete(gone, None).await.unwrap();
    let kept: Vec<_> = owners.iter().filter(|(name, _)| stays(name)).collect();
    let checked = tokio::task::block_in_place(|| check_and_fix(&cluster));
    assert_eq!(checked.matches("Released").count(), 20, "{checked}");
    let contents = admin.load().await.unwrap();
    assert_eq!(findings(&contents.documents), 0);
    assert_eq!(self::owners(&contents).iter().collect::<Vec<_>>(), kept);
}

/// Returns whether a node of the fifty stays.
fn stays(name: &str) -> bool {
    name.strip_prefix("n-").and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number >= 20)
}

/// Returns the output of `ipam check --fix` on a daemon that neither claims nor reclaims blocks.
fn check_and_fix(cluster: &EtcdCluster) -> String {
    let config = "ipam: { blocks: 0, freeAddresses: 0, reclaimAfter: off }\nautodetect: { ipv4: none }\n";
    let mut daemon = StandaloneDaemon::named("observer", &etcd(cluster), config);
    daemon.start();
    daemon.until_connected(true);
    let (status, said, _) = daemon.routectl(&["ipam", "check"]);
    assert!(status == 1 && said.ends_with("20 problem(s)\n"), "{said}");
    let report = daemon.path("report.json");
    let report = report.to_str().unwrap();
    let (status, ..) = daemon.routectl(&["ipam", "check", "-o", report]);
    assert_eq!(status, 1);
    let fixed = daemon.ok(&["ipam", "check", "--fix"]);
    assert!(fixed.ends_with("0 problem(s)\n"), "{fixed}");
    // What the report says is not so any more.
    let late = daemon.ok(&["ipam", "release", &format!("--from-report={report}")]);
    assert_eq!(late, "20 of the report are not as they were and stay\n");
    fixed
}

#[test]
fn daemons_claim_blocks_and_orphaned_blocks_are_found_and_released() {
    let mut cluster = EtcdCluster::in_namespaces(1);
    let start = |cluster: &mut EtcdCluster, number: usize, name: &str, more: &str| {
        let namespace = cluster.host(number, &format!("{}.{}/24", net(), 100 + number));
        let mut daemon = StandaloneDaemon::inside(&namespace, name, &etcd(cluster), more);
        daemon.start();
        daemon.until_connected(true);
        daemon
    };
    let a = start(&mut cluster, 1, "a", "");
    // Eight blocks of sixteen addresses, none of which a pod has yet: one is enough.
    a.apply(&pool("cidr: 10.65.0.0/25, blockSize: 28"));
    a.until("its block", |status| status["routes"] == 1);
    let mut b = start(&mut cluster, 2, "b", "ipam: { blocks: 3, freeAddresses: 0 }\n");
    b.until("its blocks and another's", |status| status["routes"] == 4);
    let shown = a.ok(&["ipam", "show", "--show-blocks"]);
    assert!(
        shown.contains("10.65.0.0/25")
            && shown.lines().filter(|line| line.starts_with("| Block")).count() == 4,
        "{shown}"
    );
    assert_eq!(a.ok(&["ipam", "check"]), "4 block(s), 0 problem(s)\n");
    // A disabled pool hands out nothing, and keeps what it has.
    a.apply(&pool("cidr: 10.65.0.0/25, blockSize: 28, disabled: true"));
    let c = start(&mut cluster, 3, "c", "");
    c.until("the others' routes", |status| status["routes"] == 4);
    assert!(!a.ok(&["get", "blockaffinities"]).contains(" c "));
    // A node goes and leaves its blocks behind.
    b.stop();
    a.ok(&["delete", "node", "b"]);
    let (status, said, _) = a.routectl(&["ipam", "check"]);
    assert!(status == 1 && said.matches("is held for node b, which is no more").count() == 3, "{said}");
    let fixed = a.ok(&["ipam", "check", "--fix"]);
    assert!(fixed.matches("Released").count() == 3 && fixed.ends_with("0 problem(s)\n"), "{fixed}");
    assert_eq!(a.ok(&["ipam", "check"]), "1 block(s), 0 problem(s)\n");
    a.ok(&["ipam", "release", "--node", "a"]);
    a.until("without a block", |status| status["routes"] == 0);
    a.apply(&pool("cidr: 10.65.0.0/25, blockSize: 28"));
    a.until("a block again, and one of c", |status| status["routes"] == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_yields_the_block_of_a_deleted_node() {
    let cluster = EtcdCluster::start(1);
    let store = EtcdStore::open(EtcdSettings::plain(cluster.endpoints()), None);
    let all = [pool("cidr: 10.65.0.0/25, blockSize: 26"), node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24")];
    store.put(manifests(&all.join("---\n")), None).await.unwrap();
    let none = |_: &resource::Node, blocks: &[ipnet::IpNet]| blocks.is_empty();
    let ClaimOutcome::Block(of_a) = store.claim("a", true, none).await.unwrap() else { panic!("no block") };
    let ClaimOutcome::Block(_) = store.claim("b", true, none).await.unwrap() else { panic!("no block") };
    store.put(manifests(&node("c", "10.0.0.3/24")), None).await.unwrap();
    let full = store.claim("c", true, none).await.unwrap();
    assert!(
        matches!(&full, ClaimOutcome::PoolExhausted(problem) if problem.contains("in pool p")),
        "{full:?}"
    );
    let a = Key { kind: Kind::Node, name: "a".into() };
    store.delete(vec![a], None).await.unwrap();
    assert_eq!(store.claim("c", true, none).await.unwrap(), ClaimOutcome::Block(of_a));
    assert_eq!(store.claim("nobody", true, none).await.unwrap(), ClaimOutcome::Unchanged);
    assert_eq!(owners(&store.load().await.unwrap()).keys().collect::<Vec<_>>(), ["b", "c"]);
}
