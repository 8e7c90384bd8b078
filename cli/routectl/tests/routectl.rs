//! The real `routectl` against the control API on a real UNIX socket.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod daemon;
#[path = "routectl/metrics.rs"]
mod metrics;
#[path = "routectl/verbs.rs"]
mod verbs;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use daemon::{Daemon, Run, routectl};

const V1_POOL: &str = "apiVersion: v1
kind: ipPool
metadata:
  cidr: 192.168.0.0/16
spec:
  ipip:
    enabled: true
    mode: cross-subnet
  nat-outgoing: true
";

fn node(name: &str, address: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: {name}\nspec:\n  bgp:\n    ipv4Address: {address}\n"
    )
}

#[test]
fn the_guides_commands_work_word_for_word() {
    let daemon = Daemon::start();
    daemon.write(
        "nodes.yaml",
        &format!("{}---\n{}", node("node1", "10.0.2.15/24"), node("node2", "10.0.2.10/32")),
    );
    let applied = daemon.routectl(&["apply", "-f", "-"]).stdin(V1_POOL).run();
    assert_eq!(applied.status, 0, "{applied:?}");
    assert_eq!(applied.stdout, "Successfully applied 1 'IPPool' resource(s)\n");
    assert_eq!(applied.stderr, "");
    let nodes = daemon.routectl(&["get", "nodes", "--output=wide"]).run();
    assert_eq!(
        nodes.stdout,
        "NAME    ASN       IPV4           IPV6\n\
         node1   (64512)   10.0.2.15/24\n\
         node2   (64512)   10.0.2.10/32\n"
    );
    assert_eq!(
        nodes.stderr,
        format!(
            "{}:15: spec.bgp.ipv4Address: node2 has 10.0.2.10/32, a subnet of one address: cross-subnet (pool \
             192-168-0-0-16) can never see it as a neighbour and always tunnels; write its real subnet, such as \
             10.0.2.10/24\n",
            daemon.resource("nodes.yaml").display()
        )
    );
    let pools = daemon.routectl(&["get", "ippool", "-o", "wide"]).run();
    assert_eq!(
        pools.stdout,
        "NAME             CIDR             NAT    IPIPMODE      VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE\n\
         192-168-0-0-16   192.168.0.0/16   true   CrossSubnet   Never       false      false              all()      Automatic\n"
    );
}

#[test]
fn a_v1_pool_changes_the_pool_of_its_cidr_and_keeps_what_it_has_no_field_for() {
    let daemon = Daemon::start();
    daemon.write(
        "pool.yaml",
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: default}\nspec: {cidr: 192.168.0.0/16, \
         blockSize: 24, vxlanMode: Always}\n",
    );
    let applied = daemon.routectl(&["apply", "-f", "-"]).stdin(V1_POOL).run();
    assert_eq!(applied.status, 0, "{applied:?}");
    let pool = daemon.json(&["get", "ippool", "default", "-o", "json"]);
    assert_eq!(pool["spec"]["ipipMode"], "CrossSubnet");
    assert_eq!(pool["spec"]["blockSize"], 24);
    assert_eq!(pool["spec"].get("vxlanMode"), None);
    let deleted = daemon.routectl(&["delete", "-f", "-"]).stdin(V1_POOL).run();
    assert_eq!(deleted.stdout, "Successfully deleted 1 'IPPool' resource(s)\n", "{deleted:?}");
    assert!(!daemon.resource("pool.yaml").exists());
}

#[test]
fn a_cluster_configuration_sets_the_encapsulation_and_names_what_it_ignores() {
    let daemon = Daemon::start();
    let text = |line: &str| {
        format!(
            "kind: ClusterConfiguration\napiVersion: example.com/v1beta1\nmetadata: {{name: c}}\nspec:\n  \
             kubernetes:\n    containerNetworking:\n      calico:\n        version: v3.8.2\n{line}"
        )
    };
    for (line, wanted) in [
        ("        encapsulation: vxlan\n", "vxlan"),
        ("        encapsulation: none\n", "none"),
        ("        encapsulation: ipip\n", "ipip"),
        ("        encapsulation: vxlan\n", "vxlan"),
        ("", "ipip"),
    ] {
        let applied = daemon.routectl(&["apply", "-f", "-"]).stdin(&text(line)).run();
        assert_eq!(applied.stdout, "Successfully applied 1 'BGPConfiguration' resource(s)\n", "{applied:?}");
        assert_eq!(
            applied.stderr,
            "stdin:3: metadata: ignored: not about routing\n\
             stdin:8: spec.kubernetes.containerNetworking.calico.version: ignored: not about routing\n"
        );
        let configuration = daemon.json(&["get", "bgpconfig", "default", "-o", "json"]);
        assert_eq!(configuration["spec"]["routed"]["encapsulation"], wanted);
    }
    // What was there already stays.
    daemon.write(
        "BGPConfiguration-default.yaml",
        "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 65000}\n",
    );
    let applied = daemon.routectl(&["apply", "-f", "-"]).stdin(&text("        encapsulation: vxlan\n")).run();
    assert_eq!(applied.status, 0, "{applied:?}");
    let configuration = daemon.json(&["get", "bgpconfig", "default", "-o", "json"]);
    assert_eq!(configuration["spec"]["asNumber"], 65000);
    assert_eq!(configuration["spec"]["routed"]["encapsulation"], "vxlan");
}

#[test]
fn apply_accepts_the_output_of_get() {
    let daemon = Daemon::start();
    let text = format!(
        "{}---\n{}---\napiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: '007'\n  labels: {{a: 'no', b: \
         '1e3', c: ''}}\nspec:\n  podCIDRs: ['10.0.0.0/26']\n",
        node("b", "10.0.0.2/24"),
        node("a", "10.0.0.1/24")
    );
    let file = daemon.file("nodes.yaml", &text);
    let applied = daemon.routectl(&["apply", "-f", &file]).run();
    assert_eq!(applied.stdout, "Successfully applied 3 'Node' resource(s)\n", "{applied:?}");
    let yaml = daemon.routectl(&["get", "node", "-o", "yaml"]).run().stdout;
    // The version is the text's, which is laid out anew.
    let versionless = |mut list: serde_json::Value| {
        for resource in list.as_array_mut().unwrap() {
            resource["metadata"].as_object_mut().unwrap().remove("resourceVersion").unwrap();
        }
        list
    };
    let before = versionless(daemon.json(&["get", "no", "-o", "json"]));
    assert_eq!(before.as_array().map(Vec::len), Some(3));
    let again = daemon.routectl(&["apply", "-f", "-"]).stdin(&yaml).run();
    assert_eq!(again.stdout, "Successfully applied 3 'Node' resource(s)\n", "{again:?}");
    assert_eq!(versionless(daemon.json(&["get", "nodes", "-o", "json"])), before);
    assert_eq!(daemon.routectl(&["get", "nodes"]).run().stdout, "NAME\n007\na\nb\n");
    assert_eq!(
        daemon.routectl(&["get", "node", "a", "-o", "wide"]).run().stdout,
        "NAME   ASN       IPV4          IPV6\na      (64512)   10.0.0.1/24\n"
    );
}

#[test]
fn delete_accepts_names_and_files() {
    let daemon = Daemon::start();
    let file =
        daemon.file("nodes.yaml", &format!("{}---\n{}", node("a", "10.0.0.1/24"), node("b", "10.0.0.2/24")));
    daemon.routectl(&["apply", "-f", &file]).run();
    let one = daemon.routectl(&["delete", "node", "a"]).run();
    assert_eq!((one.status, one.stdout.as_str()), (0, "Successfully deleted 1 'Node' resource(s)\n"));
    let gone = daemon.routectl(&["delete", "-f", &file]).run();
    assert_eq!(gone.status, 1);
    assert_eq!(gone.stderr, "routectl: no Node \"a\": `routectl get nodes` lists what there is\n");
    assert_eq!(
        daemon.routectl(&["get", "nodes"]).run().stdout,
        "NAME\nb\n",
        "nothing of a refused batch is done"
    );
}

#[test]
fn mistakes_are_one_line_each_with_the_users_file_and_line() {
    let daemon = Daemon::start();
    daemon.write("a.yaml", &node("a", "10.0.0.1/24"));
    let bad = daemon.file("bad.yaml", "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {name: b}\nspec: {bgp: {ipv4Address: x}, colour: red}\n");
    let run = daemon.routectl(&["apply", "-f", &bad]).run();
    assert_eq!((run.status, run.stdout.as_str(), run.stderr.lines().count()), (1, "", 2), "{run:?}");
    assert!(run.stderr.lines().all(|line| line.starts_with(&format!("{bad}:4: spec."))), "{run:?}");

    let duplicate = daemon.file("duplicate.yaml", &node("b", "10.0.0.1/24"));
    let run = daemon.routectl(&["apply", "-f", &duplicate]).run();
    assert_eq!(run.status, 1);
    assert_eq!(
        run.stderr,
        format!(
            "{duplicate}:7: spec.bgp.ipv4Address: must be unique: 10.0.0.1 is also a's, at {}:7\n",
            daemon.resource("a.yaml").display()
        )
    );
    let missing = daemon.routectl(&["apply", "-f", "/nonexistent.yaml"]).run();
    assert_eq!(
        (missing.status, missing.stderr.as_str()),
        (1, "routectl: /nonexistent.yaml: No such file or directory (os error 2)\n")
    );
    let empty = daemon.routectl(&["apply", "-f", "-"]).stdin("# nothing\n").run();
    assert_eq!((empty.status, empty.stderr.as_str()), (1, "stdin: holds no resource\n"));
}

#[test]
fn a_pools_range_can_not_change() {
    let daemon = Daemon::start();
    let pool = |cidr: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: p}}\nspec:\n  cidr: {cidr}\n"
        )
    };
    assert_eq!(daemon.routectl(&["apply", "-f", "-"]).stdin(&pool("10.0.0.0/16")).run().status, 0);
    let run = daemon.routectl(&["apply", "-f", "-"]).stdin(&pool("10.1.0.0/16")).run();
    assert_eq!(
        (run.status, run.stderr.as_str()),
        (1, "stdin:5: spec.cidr: can't be changed (is 10.0.0.0/16): delete the pool and apply it anew\n")
    );
}

#[test]
fn show_prints_stable_tables_on_a_pipe_and_the_api_as_json() {
    let daemon = Daemon::start();
    assert_eq!(
        daemon.routectl(&["show", "peers"]).run().stdout,
        "NAME     ADDRESS    ASN     TYPE     STATE         SINCE                  RECEIVED   ACCEPTED   ADVERTISED\n\
         node-b   10.0.0.2   64512   mesh     Established   2026-01-02T03:04:05Z   2          1          1\n\
         tor      fd00::9    65000   global   Active        2026-01-02T03:04:05Z   0          0          0\n"
    );
    let wide = daemon.routectl(&["show", "peers", "-o", "wide"]).run().stdout;
    assert!(
        wide.contains("peer said: \u{fffd}[31mno"),
        "a peer's words must not steer the terminal: {wide:?}"
    );
    assert!(
        wide.contains(
            "3 (1 withdrawn, 2 discarded)   COMMUNITIES (8): COMMUNITIES has four octets for each, at least one: \
             treat as withdraw c00803fde801"
        ),
        "{wide}"
    );
    assert!(wide.contains("up, 150 ms"), "{wide}");
    let peers = daemon.json(&["show", "peers", "-o", "json"]);
    assert_eq!(peers[0]["type"], "mesh");
    assert_eq!((&peers[0]["update_errors"], &peers[0]["discarded"]), (&3.into(), &2.into()));
    assert_eq!(peers[0]["last_update_error"]["verdict"], "treat_as_withdraw");
    assert_eq!(peers[0]["state"], "Established");
    assert_eq!(peers[0]["since"], "2026-01-02T03:04:05Z");
    assert_eq!(peers[1]["last_error"], "peer said: \u{1b}[31mno");
    assert_eq!(
        daemon.routectl(&["show", "routes"]).run().stdout,
        "PREFIX        NEXT HOP   SOURCE   EXIT        DEVICE        INSTALLED\n\
         10.1.1.0/26   -          local    blackhole   -             yes\n\
         10.1.2.0/26   10.0.0.2   ibgp     ipip        routed.ipip   no\n"
    );
    let routes = daemon.json(&["show", "routes", "-o", "json"]);
    assert_eq!(routes[1]["exit"], "ipip");
    assert_eq!(routes[0]["next_hop"], serde_json::Value::Null);
    assert_eq!(
        daemon.routectl(&["show", "tunnels"]).run().stdout,
        "NODE     ADDRESS    PREFERRED   IN USE   SINCE                  BLOCKS   REASON\n\
         node-b   10.0.0.2   ipip        vxlan    2026-01-02T03:04:05Z   1        session down\n"
    );
    let nodes = daemon.routectl(&["show", "nodes", "-o", "yaml"]).run().stdout;
    assert!(nodes.contains("name: node-b"), "{nodes}");
    let status = daemon.routectl(&["show", "status"]).run().stdout;
    assert!(status.contains("Peers          1 of 2 Established\n"), "{status}");
    let explained = daemon.routectl(&["explain", "10.1.2.0/26"]).run().stdout;
    assert_eq!(
        explained,
        "Target     10.1.2.0/26\n\
         \n\
         PREFIX        NEXT HOP   SOURCE   EXIT      DEVICE         INSTALLED   PEER     REASON\n\
         10.1.2.0/26   10.0.0.2   ibgp     2 exits   -              no          node-b   only path\n\
         \x20             10.0.0.2            ipip      routed.ipip\n\
         \x20             10.1.3.0            vxlan     routed.vxlan\n\
         \n\
         BEST   SOURCE   PEER     NEXT HOP   REASON\n\
         *      ibgp     node-b   10.0.0.2   lower router ID\n\
         +      ibgp     node-c   10.0.0.3   lower router ID\n\
         \n\
         Verdict    packets go to node-b, IP-in-IP: only path (there is no dataplane here); whether the pod is there, \
         that node knows\n"
    );
    let none = daemon.routectl(&["explain", "192.0.2.1"]).run();
    let outside =
        "Verdict    192.0.2.1/32 is in no pool and no node's block: this node's own routes decide\n";
    assert!(none.stdout.ends_with(outside), "{none:?}");
}

#[test]
fn rejected_routes_are_shown_with_the_reason() {
    let daemon = Daemon::start();
    assert_eq!(
        daemon.routectl(&["show", "routes", "--rejected"]).run().stdout,
        "PREFIX        NEXT HOP   SOURCE   EXIT   DEVICE        INSTALLED   PEER     REASON\n\
         10.1.2.0/26   10.0.0.2   ibgp     ipip   routed.ipip   no          node-b   a filter rejects it\n"
    );
    let rejected = daemon.json(&["show", "routes", "--rejected", "-o", "json"]);
    assert_eq!(rejected[0]["reason"], "a filter rejects it");
    let wrong = daemon.routectl(&["show", "peers", "--rejected"]).run();
    assert_eq!(
        (wrong.status, wrong.stderr.as_str()),
        (2, "routectl: --rejected is for routes: show routes --rejected\n")
    );
}

#[test]
fn the_exit_status_tells_wrong_usage_from_no_daemon() {
    let directory = tempfile::TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    let none = routectl(&["--socket", socket, "show", "peers"]).run();
    assert_eq!(none.status, 3);
    assert_eq!(
        none.stderr,
        format!(
            "routectl: {socket}: no daemon answers (No such file or directory (os error 2)): start routed, or name its \
             socket with --socket or ROUTED_SOCKET\n"
        )
    );
    assert_eq!(routectl(&["get", "nodes"]).env("ROUTED_SOCKET", socket).run().status, 3);
    for usage in [
        &["show", "everything"][..],
        &["get", "pods"],
        &["apply"],
        &["delete"],
        &["delete", "node"],
        &["explain", "nowhere"],
        &["get", "nodes", "../x"],
        &["apply", "-f", "-", "-f", "-"],
    ] {
        let run = routectl(usage).run();
        assert_eq!(run.status, 2, "{usage:?}: {run:?}");
    }
    assert_eq!(routectl(&["--help"]).run().status, 0);
}

#[test]
fn validate_needs_no_daemon() {
    let directory = tempfile::TempDir::new().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let a = write("a.yaml", &node("a", "10.0.0.1/24"));
    let run = routectl(&["validate", "-f", &a, "-f", "-"]).stdin(V1_POOL).run();
    assert_eq!((run.status, run.stdout.as_str()), (0, "valid: 1 Node, 1 IPPool\n"), "{run:?}");
    let b = write("b.yaml", &node("b", "10.0.0.1/24"));
    let path = directory.path().to_str().unwrap();
    for arguments in [&["validate", "-f", &a, "-f", &b][..], &["validate", "-f", path]] {
        let run = routectl(arguments).run();
        assert_eq!(run.status, 1);
        assert_eq!(
            run.stderr,
            format!("{b}:7: spec.bgp.ipv4Address: must be unique: 10.0.0.1 is also a's, at {a}:7\n")
        );
    }
}

#[test]
fn the_socket_is_owners_and_groups_and_a_stale_one_is_replaced() {
    let daemon = Daemon::start();
    let mode = fs::metadata(daemon.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.runtime().block_on(async {
        let error = api::bind(daemon.socket()).unwrap_err();
        assert!(matches!(error, api::BindError::Live(_)), "{error}");
        let stale = daemon.socket().with_file_name("stale.sock");
        drop(api::bind(&stale).unwrap());
        assert!(stale.exists(), "a socket outlives its listener");
        drop(api::bind(&stale).unwrap());
        let file = daemon.socket().with_file_name("file");
        fs::write(&file, "").unwrap();
        let error = api::bind(&file).unwrap_err();
        assert!(matches!(error, api::BindError::NotASocket(_)), "{error}");
    });
}

#[test]
fn curl_can_use_the_api() {
    let daemon = Daemon::start();
    let Run { stdout, .. } = daemon.curl(&["-s", "-w", "%{http_code}", "http://routed/readyz"]);
    assert_eq!(stdout, "tor is not Established\n503");
    let metrics = daemon.curl(&["-s", "http://routed/metrics"]).stdout;
    for line in ["established{} 1", "established{tor} 0", "update_errors_total{} 3", "bfd_up{} 1"] {
        let line = line.replace("{}", "{peer=\"node-b\",address=\"10.0.0.2\"}");
        let line = line.replace("{tor}", "{peer=\"tor\",address=\"fd00::9\"}");
        assert!(metrics.contains(&format!("routed_peer_{line}\n")), "{line} in {metrics}");
    }
    assert!(!metrics.contains("bfd_up{peer=\"tor\""), "where there is no BFD it is not down: {metrics}");
    let file = daemon.file("pool.yaml", V1_POOL);
    let put = ["-s", "-X", "PUT", "-H", "content-type: application/yaml", "--data-binary"];
    let put = daemon.curl(&[&put[..], &[&format!("@{file}"), "http://routed/v1/resources"]].concat());
    let answer: serde_json::Value = serde_json::from_str(&put.stdout).unwrap();
    assert_eq!(answer["applied"][0]["name"], "192-168-0-0-16");
    let old =
        ["-s", "-X", "DELETE", "-H", "if-match: \"0\"", "http://routed/v1/resources/ippools/192-168-0-0-16"];
    let refused: serde_json::Value = serde_json::from_str(&daemon.curl(&old).stdout).unwrap();
    assert!(refused["error"].as_str().unwrap().contains("have changed since revision 0"), "{refused}");
    let unknown =
        daemon.curl(&["-s", "-w", "%{http_code}", "-o", "/dev/null", "http://routed/v1/nothing"]).stdout;
    assert_eq!(unknown, "404");
}

#[test]
fn replace_requires_the_version_that_was_read() {
    let daemon = Daemon::start();
    daemon.write("a.yaml", &node("a", "10.0.0.1/24"));
    let read = daemon.routectl(&["get", "node", "a", "-o", "yaml"]).run().stdout;
    let changed = read.replace("10.0.0.1/24", "10.0.0.9/24");
    let replaced = daemon.routectl(&["replace", "-f", "-"]).stdin(&changed).run();
    assert_eq!(replaced.stdout, "Successfully replaced 1 'Node' resource(s)\n", "{replaced:?}");
    let again = daemon.routectl(&["replace", "-f", "-"]).stdin(&changed).run();
    assert!(
        again.status == 1 && again.stderr.contains("Node \"a\" has changed: its resourceVersion is"),
        "{again:?}"
    );
    let unknown = daemon.routectl(&["replace", "-f", "-"]).stdin(&node("b", "10.0.0.2/24")).run();
    assert!(unknown.status == 1 && unknown.stderr.contains("no Node \"b\""), "{unknown:?}");
    assert!(!fs::read_to_string(daemon.resource("a.yaml")).unwrap().contains("resourceVersion"));
}
