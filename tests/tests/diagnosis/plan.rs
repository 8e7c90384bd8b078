//! The changes that `routectl plan` predicts are those that happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use testbed::eventually;
use tests::cluster::{Cluster, Settings};

use crate::fixture::{routectl, up};

const SOON: Duration = Duration::from_secs(15);

fn said(cluster: &Cluster, words: &[&str]) -> String {
    let output = routectl(cluster, 0, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(cluster: &Cluster, words: &[&str]) -> Value {
    let mut all = words.to_vec();
    all.extend(["-o", "json"]);
    serde_json::from_str(&said(cluster, &all)).expect("JSON")
}

/// Node 1's routes of routed's: prefix, and where they lead.
fn kernel(cluster: &Cluster) -> BTreeMap<String, String> {
    let text = cluster.bed.exec("n1", &["ip", "-j", "route", "show", "proto", "179"]);
    let list: Value = serde_json::from_str(&text).expect("JSON");
    let objects = cluster.bed.next_hops("n1");
    let leads = |route: &Value| {
        let by_object =
            objects.iter().find(|object| object["id"] == route["nhid"] && !route["nhid"].is_null());
        let way = by_object.unwrap_or(route);
        format!("{} {} {}", route["type"], way["gateway"], way["dev"])
    };
    let of = |route: &Value| (route["dst"].as_str().unwrap_or_default().to_owned(), leads(route));
    list.as_array().expect("a list").iter().map(of).collect()
}

/// Since when each session of node 1 is Established; one that is not calls again and again, and is always the same.
fn since(cluster: &Cluster) -> BTreeMap<String, String> {
    let peers = json(cluster, &["show", "peers"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let since = |peer: &Value| match peer["state"].as_str() {
        Some("Established") => text(&peer["since"]),
        _ => "not Established".to_owned(),
    };
    peers.as_array().expect("a list").iter().map(|peer| (text(&peer["name"]), since(peer))).collect()
}

/// Returns what node 1 advertises to each of these peers.
fn told(cluster: &Cluster, peers: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let of = |peer: &&str| {
        let list = json(cluster, &["show", "routes", "--peer", peer, "--advertised"]);
        let prefixes = list.as_array().expect("a list").iter();
        (
            (*peer).to_owned(),
            prefixes.map(|route| route["prefix"].as_str().unwrap_or_default().to_owned()).collect(),
        )
    };
    peers.iter().map(of).collect()
}

fn fates(plan: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sessions = plan["sessions"].as_array().expect("a list");
    sessions.iter().map(|session| (text(&session["name"]), text(&session["fate"]))).collect()
}

fn counts(plan: &Value) -> [u64; 3] {
    ["routes_added", "routes_replaced", "routes_removed"]
        .map(|key| plan["kernel"][key].as_u64().expect("a number"))
}

/// Returns how many routes were added, changed and removed.
fn difference(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> [u64; 3] {
    let added = after.keys().filter(|prefix| !before.contains_key(*prefix)).count();
    let removed = before.keys().filter(|prefix| !after.contains_key(*prefix)).count();
    let replaced =
        after.iter().filter(|(prefix, to)| before.get(*prefix).is_some_and(|was| was != *to)).count();
    [added, replaced, removed].map(|count| count.try_into().expect("a small number"))
}

/// Plans a change, checks that nothing happened, makes it, and checks the prediction.
fn plan_and_do(cluster: &Cluster, file: &str, verb: &str) -> Value {
    let path = cluster.bed.write("change.yaml", file);
    let path = path.to_str().expect("UTF-8");
    let (routes, sessions) = (kernel(cluster), since(cluster));
    let others: Vec<&str> =
        ["node-2", "node-3"].into_iter().filter(|peer| sessions.contains_key(*peer)).collect();
    let heard = told(cluster, &others);
    let plan = match verb {
        "delete" => json(cluster, &["plan", "-f", path, "--delete"]),
        _ => json(cluster, &["plan", "-f", path]),
    };
    assert_eq!((kernel(cluster), since(cluster)), (routes.clone(), sessions.clone()), "nothing has changed");
    said(cluster, &[verb, "-f", path]);
    eventually("what was planned to have happened", SOON, || {
        let now = kernel(cluster);
        let fates = fates(&plan);
        let sessions_now = since(cluster);
        let fate_fits = |(name, fate): (&String, &String)| match fate.as_str() {
            "kept" | "filtered" => sessions_now.get(name) == sessions.get(name),
            "closed" => !sessions_now.contains_key(name),
            "opened" => sessions_now.contains_key(name) && !sessions.contains_key(name),
            _ => sessions_now.get(name).is_some_and(|since| Some(since) != sessions.get(name)),
        };
        let stays: Vec<&str> =
            others.iter().copied().filter(|peer| sessions_now.contains_key(*peer)).collect();
        let said_now = told(cluster, &stays);
        let told_fits = stays.iter().all(|peer| {
            let planned = plan["told"].as_array().expect("a list").iter().find(|told| told["peer"] == **peer);
            let count = |key: &str| planned.and_then(|told| told[key].as_u64()).unwrap_or(0);
            let (was, is) = (&heard[*peer], &said_now[*peer]);
            let new = u64::try_from(is.difference(was).count()).expect("a small number");
            let gone = u64::try_from(was.difference(is).count()).expect("a small number");
            (new, gone) == (count("announced"), count("withdrawn"))
        });
        let fits = difference(&routes, &now) == counts(&plan) && fates.iter().all(fate_fits) && told_fits;
        if !fits {
            println!("{:?} {:?}", difference(&routes, &now), sessions_now);
        }
        fits.then_some(())
    });
    plan
}

#[test]
fn the_plan_is_what_happens() {
    let cluster = up(&Settings::default().modes("Never", "Always").with("holdTime", "9s"), 3, "vxlan");
    cluster.reach_all();

    let pool = |mode: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: pods }}\nspec: {{ cidr: 10.1.0.0/16, \
             ipipMode: Never, vxlanMode: {mode} }}\n"
        )
    };
    let node = |name: &str, number: u8, blocks: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{ name: {name} }}\nspec: {{ bgp: {{ ipv4Address: \
             192.168.0.{number}/24 }}, podCIDRs: [{blocks}] }}\n"
        )
    };
    let kept = BTreeMap::from(["node-2", "node-3"].map(|name| (name.to_owned(), "kept".to_owned())));

    // Unwrapped within the subnet: two routes lead elsewhere, and no session notices.
    let plan = plan_and_do(&cluster, &pool("CrossSubnet"), "apply");
    assert_eq!(
        (counts(&plan), fates(&plan), &plan["told"]),
        ([0, 2, 0], kept.clone(), &Value::Array(Vec::new()))
    );
    let again = json(&cluster, &["plan", "-f", cluster.bed.path("change.yaml").to_str().expect("UTF-8")]);
    assert_eq!((&again["resources"][0]["change"], counts(&again)), (&Value::Null, [0, 0, 0]), "{again:#}");
    assert_eq!(again["kernel"]["objects"], Value::Array(Vec::new()));

    // Another block of this node: it is advertised, and the kernel drops packets to addresses
    // without a pod.
    let plan = plan_and_do(&cluster, &node("node-1", 1, "10.1.1.0/26, 10.1.21.0/26"), "apply");
    assert_eq!((counts(&plan), plan["told"].as_array().map(Vec::len)), ([1, 0, 0], Some(2)), "{plan:#}");
    assert_eq!(plan["told"][0]["announced"], 1);

    // A fourth node, which is not up yet.
    let plan = plan_and_do(&cluster, &node("node-4", 4, "10.1.4.0/26"), "apply");
    assert_eq!(fates(&plan)["node-4"], "opened");
    let text =
        said(&cluster, &["plan", "-f", cluster.bed.path("change.yaml").to_str().expect("UTF-8"), "--delete"]);
    assert!(text.contains("- Node node-4") && text.contains("nothing is changed"), "{text}");

    // Two nodes go.
    plan_and_do(&cluster, &node("node-4", 4, "10.1.4.0/26"), "delete");
    let plan = plan_and_do(&cluster, &node("node-3", 3, "10.1.3.0/26"), "delete");
    assert_eq!((counts(&plan), fates(&plan)["node-3"].as_str()), ([0, 0, 1], "closed"), "{plan:#}");

    // Another hold time is settled by new sessions.
    let configuration = "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: { name: default }\n\
                         spec: { asNumber: 64512, routed: { holdTime: 12s, fallbackAfter: 2s, recoverAfter: 4s } }\n";
    let plan = plan_and_do(&cluster, configuration, "apply");
    assert_eq!(fates(&plan)["node-2"], "reopened");
    assert_eq!(plan["sessions"][0]["reason"], "hold time");
    assert_eq!(counts(&plan), [0, 0, 0], "routes are kept meanwhile");

    // What would be refused is refused in the same words.
    let bad = cluster.bed.write("bad.yaml", &node("node-2", 2, "10.9.0.0/26"));
    let output = routectl(&cluster, 0, &["plan", "-f", bad.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("must lie inside an IPPool"), "{output:?}");
}
