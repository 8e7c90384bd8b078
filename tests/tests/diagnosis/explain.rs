//! Each verdict of `routectl explain`, provoked.

use std::time::Duration;

use serde_json::Value;
use testbed::{eventually_or, with_ipip};
use tests::cluster::{Cluster, Settings};

use crate::fixture::{apply, routectl, unapply, up};

const SOON: Duration = Duration::from_secs(10);

/// Returns the answer of `routectl explain` on a node, and whether its exit status reports no
/// fault.
fn explain(cluster: &Cluster, index: usize, words: &[&str]) -> Option<Value> {
    let all: Vec<&str> = ["explain"].iter().chain(words).chain(&["-o", "json"]).copied().collect();
    let output = routectl(cluster, index, &all);
    let view: Value = serde_json::from_slice(&output.stdout).ok()?;
    assert_eq!(output.status.success(), view["verdict"]["ok"] == true, "{view}");
    Some(view)
}

/// Waits for a verdict of node 1.
fn says(cluster: &Cluster, words: &[&str], code: &str) -> Value {
    node_says(cluster, 0, words, code)
}

fn node_says(cluster: &Cluster, index: usize, words: &[&str], code: &str) -> Value {
    eventually_or(&format!("explain {words:?} to say {code}"), SOON, || {
        let view = explain(cluster, index, words).ok_or("no answer")?;
        if view["verdict"]["code"] == code { Ok(view) } else { Err(format!("{view:#}")) }
    })
}

/// Changes the resources.
fn edit(cluster: &Cluster, from: &str, to: &str) {
    let all = cluster.bed.path("resources/all.yaml");
    let text = std::fs::read_to_string(&all).expect("the resources");
    assert!(text.contains(from), "{from}: {text}");
    cluster.bed.write("resources/.new", &text.replace(from, to));
    std::fs::rename(cluster.bed.path("resources/.new"), all).expect("to rename");
}

#[test]
fn faults_of_the_kernel_and_the_node_table_are_named() {
    let cluster = up(&Settings::default().modes("Never", "Always"), 3, "vxlan");
    let bed = &cluster.bed;
    cluster.reach_all();

    let view = says(&cluster, &["10.1.2.2"], "reached");
    assert_eq!(view["owner"]["node"], "node-2");
    assert_eq!(view["kernel"]["prefix"], "10.1.2.0/26");
    assert_eq!(view["kernel"]["ours"], true);
    assert_eq!(view["neighbour"]["forwarded_to"], "192.168.0.2");
    assert_eq!(view["outer"]["destination"], "192.168.0.2");
    let view = says(&cluster, &["10.1.2.2", "--from", "10.1.1.2"], "reached");
    assert_eq!((&view["from"]["device"], &view["from"]["local"]), (&"cali0".into(), &true.into()));
    says(&cluster, &["10.1.1.2"], "local_pod");
    says(&cluster, &["203.0.113.9"], "outside_cluster");
    says(&cluster, &["10.1.2.2", "--from", "10.1.3.2"], "ask_there");
    says(&cluster, &["10.1.2.2", "--from", "10.1.1.9"], "no_such_source");
    says(&cluster, &["10.1.77.3"], "no_owner");
    says(&cluster, &["10.1.1.50"], "no_such_pod");

    bed.ip("n1", "route add 10.1.2.0/27 via 192.168.0.254");
    let view = says(&cluster, &["10.1.2.2"], "shadowed");
    assert!(view["verdict"]["text"].as_str().is_some_and(|text| text.contains("10.1.2.0/27")), "{view}");
    bed.ip("n1", "route delete 10.1.2.0/27");

    bed.ip("n1", "rule add to 10.1.2.0/24 prohibit");
    says(&cluster, &["10.1.2.2"], "no_route");
    bed.ip("n1", "rule delete to 10.1.2.0/24 prohibit");

    bed.exec("n1", &["sysctl", "-qw", "net.ipv4.conf.cali0.forwarding=0"]);
    says(&cluster, &["10.1.2.2", "--from", "10.1.1.2"], "not_forwarded");
    bed.exec("n1", &["sysctl", "-qw", "net.ipv4.conf.cali0.forwarding=1"]);

    bed.ip("n1", "link set cali0 mtu 1500");
    says(&cluster, &["10.1.2.2", "--from", "10.1.1.2"], "mtu_too_large");
    bed.ip("n1", "link set cali0 mtu 1450");
    says(&cluster, &["10.1.2.2", "--from", "10.1.1.2"], "reached");

    apply(
        &cluster,
        "apiVersion: projectcalico.org/v3\nkind: BlockAffinity\nmetadata: { name: node-9-10-1-9-0-26 }\n\
         spec: { node: node-9, cidr: 10.1.9.0/26, state: confirmed, deleted: 'false' }\n",
    );
    says(&cluster, &["10.1.9.7"], "owner_unknown");
    unapply(&cluster);
    says(&cluster, &["10.1.9.7"], "no_owner");

    // The fabric drops VXLAN, the only way there is.
    cluster.drop_packets("fabric", &["udp dport 4789"]);
    let view = says(&cluster, &["10.1.2.2"], "unanswered");
    assert!(view["verdict"]["remedy"].as_str().is_some_and(|text| text.contains("UDP port 4789")), "{view}");
    cluster.pass("fabric");
    says(&cluster, &["10.1.2.2"], "reached");

    // Another program takes entries of the VXLAN device away as fast as they are put back.
    let vtep = view_mac(&cluster);
    let rival =
        format!("while :; do bridge fdb del {vtep} dev routed.vxlan dst 192.168.0.2 2>/dev/null; done");
    let rival = cluster.bed.start("n1", "sh", &["-c", &rival]);
    says(&cluster, &["10.1.2.2"], "no_vtep_entry");
    drop(rival);
    says(&cluster, &["10.1.2.2"], "reached");

    // The node is switched off: its table stays for a while, and the wire does not know it.
    cluster.bed.ip("n2", "link set eth0 down");
    cluster.bed.ip("n1", "neighbour flush dev eth0");
    says(&cluster, &["10.1.2.2"], "no_neighbour");
}

fn view_mac(cluster: &Cluster) -> String {
    let view = says(cluster, &["10.1.2.2"], "reached");
    view["outer"]["mac"].as_str().expect("an Ethernet address").to_owned()
}

#[test]
fn missing_bgp_paths_are_named() {
    let settings = Settings::default().modes("Never", "Always").with("fallback", "none");
    let mut cluster = Cluster::new(3, 1);
    cluster.configure(&settings);
    cluster.start(0);
    cluster.start(1);
    let view = says(&cluster, &["10.1.3.2"], "no_session");
    assert!(
        view["verdict"]["remedy"].as_str().is_some_and(|text| text.contains("show peers node-3")),
        "{view}"
    );
    // Another program has a route of the same metric.
    cluster.bed.ip("n1", "route add 10.1.3.0/26 via 192.168.0.254 metric 512");
    cluster.start(2);
    says(&cluster, &["10.1.3.2"], "not_installed");
    cluster.bed.ip("n1", "route delete 10.1.3.0/26 via 192.168.0.254 metric 512");
    says(&cluster, &["10.1.3.2"], "reached");

    let block = |name: &str, spec: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{ name: {name} }}\nspec: {{ {spec} }}\n"
        )
    };
    // A block of a pool that is not announced has no path on other nodes.
    cluster.nodes[2].more = ", podCIDRs: [10.1.3.0/26, 10.2.3.0/26]".into();
    cluster.configure(&settings);
    apply(
        &cluster,
        &block("hidden", "cidr: 10.2.0.0/16, vxlanMode: Always, ipipMode: Never, disableBGPExport: true"),
    );
    says(&cluster, &["10.2.3.7"], "not_announced");
    unapply(&cluster);

    // A block of one address leaves the node without a VTEP.
    cluster.nodes[2].more = ", podCIDRs: [10.1.3.2/32]".into();
    cluster.configure(&settings);
    says(&cluster, &["10.1.3.2"], "no_exit");

    // Its block is announced with BLACKHOLE (RFC 7999).
    cluster.nodes[2].more = ", podCIDRs: [10.1.3.0/26]".into();
    cluster.configure(&settings);
    let advertised =
        "prefixAdvertisements: [{ cidr: 10.1.3.0/26, communities: ['65535:666'] }], nodeToNodeMeshEnabled";
    edit(&cluster, "nodeToNodeMeshEnabled", advertised);
    says(&cluster, &["10.1.3.2"], "discarded");

    // A filter rejects it.
    apply(
        &cluster,
        &format!(
            "{}---\napiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {{ name: deny }}\nspec: {{ importV4: [{{ \
             action: Reject, cidr: 10.1.3.0/26, matchOperator: Equal }}] }}\n",
            block("other", "cidr: 10.2.0.0/16, vxlanMode: Always, ipipMode: Never")
        ),
    );
    let reflected = Settings { mesh: false, ..settings.clone() };
    cluster.configure(&reflected);
    edit(&cluster, "peerSelector: reflects == 'yes' }", "peerSelector: reflects == 'yes', filters: [deny] }");
    node_says(&cluster, 1, &["10.1.3.2"], "rejected");
}

#[test]
fn a_tunnel_that_carries_nothing_is_named() {
    with_ipip("explain::a_tunnel_that_carries_nothing_is_named", || {
        let cluster = up(&Settings::default(), 2, "ipip");
        says(&cluster, &["10.1.2.2"], "reached");
        cluster.drop_packets("tunnels", &["ip protocol 4", "udp dport 4789"]);
        let view = says(&cluster, &["10.1.2.2"], "unanswered");
        assert!(view["verdict"]["text"].as_str().is_some_and(|text| text.contains("IP-in-IP")), "{view}");
        cluster.pass("tunnels");
        says(&cluster, &["10.1.2.2"], "reached");
    });
}
