//! Every verb on resources, by the real `routectl` against the control API over a store of files.

use std::fs;
use testbed::manifest::{node, pool};

use crate::daemon::{Daemon, Run};

fn said(run: &Run) -> (i32, &str, &str) {
    (run.status, run.stdout.as_str(), run.stderr.as_str())
}

fn three_nodes(daemon: &Daemon) {
    let labelled = |name: &str, address: &str, labels: &str| {
        node(name, address).replace("}\nspec", &format!(", labels: {labels}}}\nspec"))
    };
    let text = [
        labelled("a", "10.0.0.1/24", "{rack: r1, zone: x}"),
        labelled("b", "10.0.0.2/24", "{rack: r2}"),
        node("c", "10.0.0.3/24"),
    ];
    daemon.write("nodes.yaml", &text.join("---\n"));
}

#[test]
fn create_adds_new_resources_and_refuses_existing_ones_by_name() {
    let daemon = Daemon::start();
    let created = daemon.routectl(&["create", "-f", "-"]).stdin(&node("a", "10.0.0.1/24")).run();
    assert_eq!(said(&created), (0, "Successfully created 1 'Node' resource(s)\n", ""));
    let both = [node("b", "10.0.0.2/24"), node("a", "10.0.0.9/24")].join("---\n");
    let refused = daemon.routectl(&["create", "-f", "-"]).stdin(&both).run();
    assert_eq!(
        said(&refused),
        (
            1,
            "",
            "stdin:8: metadata.name: Node \"a\" is there already: `routectl apply` changes it, --skip-exists leaves it \
             as it is\n"
        )
    );
    assert_eq!(daemon.routectl(&["get", "nodes"]).run().stdout, "NAME\na\n", "all or nothing");
    let skipped = daemon.routectl(&["create", "--skip-exists", "-f", "-"]).stdin(&both).run();
    assert_eq!(said(&skipped), (0, "Successfully created 2 'Node' resource(s)\n", ""));
    let address = "jsonpath={.items[*].spec.bgp.ipv4Address}";
    assert_eq!(daemon.routectl(&["get", "nodes", "-o", address]).run().stdout, "10.0.0.1/24 10.0.0.2/24");
    let again = daemon.routectl(&["create", "--skip-exists", "-f", "-"]).stdin(&both).run();
    assert_eq!(said(&again), (0, "Successfully created 2 'Node' resource(s)\n", ""));
    let v1 = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 192.168.0.0/16}\n";
    daemon.write("pool.yaml", &pool("default", "{cidr: 192.168.0.0/16}"));
    let refused = daemon.routectl(&["create", "-f", "-"]).stdin(v1).run();
    assert!(refused.status == 1 && refused.stderr.contains("is there already"), "{refused:?}");
}

#[test]
fn a_patch_changes_the_named_fields_and_its_result_is_validated() {
    let daemon = Daemon::start();
    daemon.write("b.yaml", &node("b", "10.0.0.2/24"));
    daemon.write("x.yaml", &node("x", "10.0.0.1/24"));
    let reflector = r#"{"spec":{"bgp":{"routeReflectorClusterID":"244.0.0.1"}}}"#;
    let patched = daemon.routectl(&["patch", "node", "x", "-p", reflector]).run();
    assert_eq!(said(&patched), (0, "Successfully patched 1 'Node' resource\n", ""));
    let bgp = |name: &str| daemon.json(&["get", "node", name, "-o", "json"])["spec"]["bgp"].clone();
    assert_eq!(
        bgp("x"),
        serde_json::json!({"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "244.0.0.1"})
    );
    for (arguments, wanted) in [
        (&["--type", "merge", "-p", "spec: {bgp: {asNumber: 65000}}"][..], Some(65000)),
        (
            &["--type", "json", "-p", r#"[{"op":"replace","path":"/spec/bgp/asNumber","value":65001}]"#],
            Some(65001),
        ),
        (&["-t", "json", "--patch", r#"{"spec":{"bgp":{"asNumber":null}}}"#], None),
    ] {
        let run = daemon.routectl(&[&["patch", "nodes", "x"], arguments].concat()).run();
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(bgp("x")["asNumber"].as_u64(), wanted);
    }
    for (patch, error) in [
        (
            r#"{"spec":{"bgp":{"ipv4Address":"nowhere"}}}"#,
            "Node x: spec.bgp.ipv4Address: must be an IPv4 address",
        ),
        (r#"{"spec":{"bgp":{"ipv4Address":"10.0.0.2/24"}}}"#, "Node x: spec.bgp.ipv4Address: must be unique"),
        (r#"{"spec":{"colour":"red"}}"#, "Node x: spec.colour: unknown field"),
        (r#"{"metadata":{"name":"y"}}"#, "metadata.name can't be patched"),
        (r#"{"metadata":{"resourceVersion":"1"}}"#, "Node \"x\" has changed: its resourceVersion is"),
        (r#"{"spec":{"$patch":"replace"}}"#, "$patch: directives of strategic patches"),
    ] {
        let run = daemon.routectl(&["patch", "node", "x", "-p", patch]).run();
        assert!(run.status == 1 && run.stderr.contains(error), "{patch}: {run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
    }
    let failing = r#"[{"op":"test","path":"/spec/bgp/ipv4Address","value":"10.9.9.9/24"}]"#;
    let run = daemon.routectl(&["patch", "node", "x", "--type=json", "-p", failing]).run();
    assert!(run.status == 1 && run.stderr.contains("the patch fails"), "{run:?}");
    let run = daemon.routectl(&["patch", "node", "x", "-p", "{"]).run();
    assert!(run.status == 2 && run.stderr.starts_with("routectl: --patch: line 1"), "{run:?}");
    let run = daemon.routectl(&["patch", "node", "none", "-p", "{}"]).run();
    assert_eq!(said(&run), (1, "", "routectl: no Node \"none\": `routectl get nodes` lists what there is\n"));
    let unchanged = fs::read_to_string(daemon.resource("b.yaml")).unwrap();
    assert_eq!(unchanged, node("b", "10.0.0.2/24"), "other files stay byte for byte");

    daemon.write("pool.yaml", &pool("p", "{cidr: 10.1.0.0/16}"));
    let run = daemon.routectl(&["patch", "ippool", "p", "-p", r#"{"spec":{"cidr":"10.2.0.0/16"}}"#]).run();
    assert!(run.status == 1 && run.stderr.contains("IPPool p: spec.cidr: can't be changed"), "{run:?}");
}

#[test]
fn labels_are_set_and_removed_as_calicoctl_and_kubectl_do() {
    let daemon = Daemon::start();
    three_nodes(&daemon);
    let label = |arguments: &[&str]| daemon.routectl(&[&["label"], arguments].concat()).run();
    assert_eq!(
        said(&label(&["nodes", "c", "cluster=x"])),
        (0, "Successfully set label cluster on nodes c\n", "")
    );
    let refused = label(&["nodes", "c", "cluster=y"]);
    assert_eq!(
        said(&refused),
        (
            1,
            "",
            "routectl: Node \"c\" has the label cluster already, with the value \"x\": --overwrite sets another\n"
        )
    );
    let updated = label(&["node", "c", "cluster=y", "--overwrite"]);
    assert_eq!(said(&updated), (0, "Successfully updated label cluster on node c\n", ""));
    let both = label(&["no", "c", "zone=z", "cluster-"]);
    assert_eq!(
        said(&both),
        (0, "Successfully removed label cluster from no c\nSuccessfully set label zone on no c\n", "")
    );
    assert_eq!(
        said(&label(&["node", "c", "zone", "--remove"])),
        (0, "Successfully removed label zone from node c\n", "")
    );
    assert!(label(&["node", "c", "zone", "--remove"]).stderr.contains("has no label zone"));
    assert!(label(&["node", "c", "a b=c"]).stderr.contains("is no label"));
    for usage in [&["node", "c"][..], &["node", "c", "zone"], &["node", "c", "x=y", "--remove"]] {
        assert_eq!(label(usage).status, 2, "{usage:?}");
    }
    assert_eq!(daemon.json(&["get", "node", "c", "-o", "json"])["metadata"].get("labels"), None);
}

#[test]
fn twenty_concurrent_changes_of_one_resource_are_all_kept() {
    let daemon = Daemon::start();
    daemon.write("a.yaml", &node("a", "10.0.0.1/24"));
    std::thread::scope(|scope| {
        for number in 0..20 {
            let daemon = &daemon;
            scope.spawn(move || {
                let label = format!("l{number}=v");
                let patch = format!(r#"{{"metadata":{{"annotations":{{"p{number}":"v"}}}}}}"#);
                let run = match number % 2 {
                    0 => daemon.routectl(&["label", "node", "a", &label]).run(),
                    _ => daemon.routectl(&["patch", "node", "a", "-p", &patch]).run(),
                };
                assert_eq!(run.status, 0, "{run:?}");
            });
        }
    });
    let metadata = daemon.json(&["get", "node", "a", "-o", "json"])["metadata"].clone();
    let count = |field: &str| metadata[field].as_object().map(serde_json::Map::len);
    assert_eq!((count("labels"), count("annotations")), (Some(10), Some(10)), "{metadata}");
}

#[test]
fn subdirectories_are_read_with_recursive_only() {
    let daemon = Daemon::start();
    let directory = tempfile::TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir_all(path("below/deeper")).unwrap();
    fs::write(path("a.yaml"), node("a", "10.0.0.1/24")).unwrap();
    fs::write(path("b.yml"), node("b", "10.0.0.2/24")).unwrap();
    fs::write(
        path("c.json"),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"c"}}"#,
    )
    .unwrap();
    fs::write(path("notes.txt"), "not a resource").unwrap();
    fs::write(path(".hidden.yaml"), "not: [").unwrap();
    fs::write(path("below/deeper/d.yaml"), node("d", "10.0.0.4/24")).unwrap();
    std::os::unix::fs::symlink(directory.path(), path("below/back")).unwrap();
    let top = directory.path().to_str().unwrap();
    let note = format!("{}: not read: -R reads what is in directories below\n", path("below").display());
    for (verb, done) in
        [("create", "created"), ("apply", "applied"), ("replace", "replaced"), ("delete", "deleted")]
    {
        let run = daemon.routectl(&[verb, "-f", top]).run();
        assert_eq!(
            said(&run),
            (0, format!("Successfully {done} 3 'Node' resource(s)\n").as_str(), note.as_str())
        );
    }
    let valid = daemon.routectl(&["validate", "-f", top]).run();
    assert_eq!(said(&valid), (0, "valid: 3 Node\n", note.as_str()));
    let run = daemon.routectl(&["create", "--recursive", "-f", top]).run();
    assert_eq!(said(&run), (0, "Successfully created 4 'Node' resource(s)\n", ""));
    assert_eq!(daemon.routectl(&["get", "-R", "-f", top]).run().stdout, "NAME\na\nb\nc\nd\n");
    assert_eq!(daemon.routectl(&["validate", "-R", "-f", top]).run().stdout, "valid: 4 Node\n");
    assert_eq!(
        daemon.routectl(&["delete", "-R", "-f", top]).run().stdout,
        "Successfully deleted 4 'Node' resource(s)\n"
    );
    let empty = tempfile::TempDir::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let run = daemon.routectl(&["apply", "-f", empty]).run();
    assert_eq!(said(&run), (1, "", format!("{empty}: holds no resource\n").as_str()));
    for verb in ["create", "apply", "replace", "delete", "get"] {
        let run = daemon.routectl(&[verb, "--skip-empty", "-f", empty]).run();
        assert_eq!(said(&run), (0, "No resources specified\n", ""), "{verb}");
    }
}

#[test]
fn delete_accepts_several_names_and_skips_missing_ones_on_request() {
    let daemon = Daemon::start();
    three_nodes(&daemon);
    let run = daemon.routectl(&["delete", "node", "a", "none"]).run();
    assert_eq!(said(&run), (1, "", "routectl: no Node \"none\": `routectl get nodes` lists what there is\n"));
    let run = daemon.routectl(&["delete", "nodes", "a", "none", "b", "--skip-not-exists"]).run();
    assert_eq!(said(&run), (0, "Successfully deleted 3 'Node' resource(s)\n", ""));
    assert_eq!(daemon.routectl(&["get", "nodes"]).run().stdout, "NAME\nc\n");
    let run = daemon.routectl(&["delete", "-s", "-f", "-"]).stdin(&node("a", "10.0.0.1/24")).run();
    assert_eq!(said(&run), (0, "Successfully deleted 1 'Node' resource(s)\n", ""));
}

#[test]
fn get_accepts_names_files_selectors_and_columns() {
    let daemon = Daemon::start();
    three_nodes(&daemon);
    daemon.write("pool.yaml", &pool("p", "{cidr: 192.168.0.0/16}"));
    let get = |arguments: &[&str]| daemon.routectl(&[&["get"], arguments].concat()).run();
    assert_eq!(get(&["nodes", "c", "a"]).stdout, "NAME\na\nc\n");
    let run = get(&["nodes", "none", "a"]);
    assert_eq!(
        said(&run),
        (1, "NAME\na\n", "routectl: no Node \"none\": `routectl get nodes` lists what there is\n")
    );
    let v1 = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 192.168.0.0/16}\n";
    let file = format!("{}---\n{v1}", node("b", "10.9.9.9/24"));
    let run = daemon.routectl(&["get", "-f", "-"]).stdin(&file).run();
    assert_eq!(
        said(&run),
        (0, "NAME\nb\n\nNAME   CIDR             SELECTOR\np      192.168.0.0/16   all()\n", "")
    );
    for selector in ["has(zone)", "zone == 'x'", "zone=x", "zone", "rack in (r1),zone!=y"] {
        assert_eq!(get(&["nodes", "-l", selector]).stdout, "NAME\na\n", "{selector}");
    }
    assert_eq!(get(&["nodes", "--selector", "!rack"]).stdout, "NAME\nc\n");
    assert_eq!(get(&["nodes", "-l", "zone x"]).status, 2);
    assert_eq!(
        get(&["nodes", "-o", "custom-columns=NAME,IPV4"]).stdout,
        "NAME   IPV4\na      10.0.0.1/24\nb      10.0.0.2/24\nc      10.0.0.3/24\n"
    );
    assert_eq!(
        get(&["nodes", "-o", "custom-columns=WHO:.metadata.name,RACK:{.metadata.labels.rack},ASN"]).stdout,
        "WHO   RACK     ASN\na     r1       (64512)\nb     r2       (64512)\nc     <none>   (64512)\n"
    );
    let run = get(&["nodes", "-o", "custom-columns=COLOUR"]);
    assert_eq!(
        said(&run),
        (2, "", "routectl: nodes: no column COLOUR: there are NAME,ASN,IPV4,IPV6, and HEADING:.PATH\n")
    );
    assert_eq!(get(&["node", "a", "-o", "jsonpath={.metadata.labels.zone}"]).stdout, "x");
    let range = r#"jsonpath={range .items[?(@.metadata.labels.rack)]}{.metadata.name}{"\n"}{end}"#;
    assert_eq!(get(&["nodes", "-o", range]).stdout, "a\nb\n");
    assert!(get(&["nodes", "-o", "go-template={{.}}"]).stderr.contains("-o jsonpath="));
}

#[test]
fn an_export_lacks_fields_of_this_cluster_and_can_be_created_elsewhere() {
    let daemon = Daemon::start();
    let text = "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata:\n  name: a\n  uid: 1f0a\n  creationTimestamp: '2020-01-01'\n  \
                annotations: {routed/host: h-1, keep: me}\nspec: {bgp: {ipv4Address: 10.0.0.1/24}}\n";
    daemon.write("a.yaml", text);
    let exported = daemon.json(&["get", "node", "a", "--export", "-o", "json"]);
    assert_eq!(exported["metadata"], serde_json::json!({"name": "a", "annotations": {"keep": "me"}}));
    let yaml = daemon.routectl(&["get", "nodes", "--export", "-o", "yaml"]).run().stdout;
    assert!(!yaml.contains("resourceVersion") && !yaml.contains("uid"), "{yaml}");
    let elsewhere = Daemon::start();
    let created = elsewhere.routectl(&["create", "-f", "-"]).stdin(&yaml).run();
    assert_eq!(said(&created), (0, "Successfully created 1 'Node' resource(s)\n", ""));
}

#[test]
fn the_output_of_calicoctl_and_kubectl_can_be_applied() {
    let daemon = Daemon::start();
    let calicoctl = "apiVersion: projectcalico.org/v3\nitems:\n- apiVersion: projectcalico.org/v3\n  kind: Node\n  metadata:\n    \
                     annotations:\n      projectcalico.org/kube-labels: '{}'\n    creationTimestamp: '2024-01-01T00:00:00Z'\n    \
                     name: a\n    resourceVersion: '431'\n    uid: 1f0a\n  spec:\n    addresses:\n    - address: 10.0.0.1/24\n      \
                     type: CalicoNodeIP\n    bgp:\n      ipv4Address: 10.0.0.1/24\n      ipv4IPIPTunnelAddr: 10.1.0.1\n    \
                     orchRefs:\n    - nodeName: a\n      orchestrator: k8s\n  status:\n    podCIDRs:\n    - 10.244.0.0/24\nkind: \
                     NodeList\nmetadata:\n  resourceVersion: '500'\n";
    let run = daemon.routectl(&["apply", "-f", "-"]).stdin(calicoctl).run();
    assert_eq!(
        said(&run),
        (
            0,
            "Successfully applied 1 'Node' resource(s)\n",
            "stdin:24: status.podCIDRs: is what Calico reports and gives the node no blocks: write them in spec.podCIDRs, or \
             as BlockAffinity\n"
        )
    );
    let kubectl = r#"{"apiVersion": "v1", "kind": "List", "items": [{"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool",
        "metadata": {"name": "p", "generation": 2}, "spec": {"cidr": "10.1.0.0/16", "ipipMode": "Always", "blockSize": 26,
        "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"]}}]}"#;
    let run = daemon.routectl(&["create", "-f", "-"]).stdin(kubectl).run();
    assert_eq!(said(&run), (0, "Successfully created 1 'IPPool' resource(s)\n", ""));
    let stored = fs::read_to_string(daemon.resource("IPPool-p.yaml")).unwrap();
    assert!(stored.contains("apiVersion: projectcalico.org/v3") && !stored.contains("items"), "{stored}");
    let run = daemon.routectl(&["delete", "-f", "-"]).stdin(calicoctl).run();
    assert_eq!(run.stdout, "Successfully deleted 1 'Node' resource(s)\n");
}

#[test]
fn a_store_of_files_reads_converted_resources_unchanged() {
    let text = "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 192.168.0.0/16}\nspec: {ipip: {enabled: true, mode: cross-subnet}}\n---\n\
                apiVersion: v1\nkind: List\nitems:\n- apiVersion: crd.projectcalico.org/v1\n  kind: BGPPeer\n  metadata: {name: p, \
                uid: x, resourceVersion: '7'}\n  spec: {peerIP: 10.0.0.1, asNumber: 65000}\n";
    let daemon = Daemon::start();
    let run = daemon.routectl(&["convert", "-f", "-"]).stdin(text).run();
    assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
    daemon.write("all.yaml", &run.stdout);
    assert_eq!(
        daemon.routectl(&["get", "ippools", "-o", "custom-columns=NAME,IPIPMODE"]).run().stdout,
        "NAME             IPIPMODE\n192-168-0-0-16   CrossSubnet\n"
    );
    assert_eq!(
        daemon.routectl(&["get", "bgppeers", "-o", "custom-columns=NAME,ASN"]).run().stdout,
        "NAME   ASN\np      65000\n"
    );
    let json = daemon.routectl(&["convert", "-o", "json", "-f", "-"]).stdin(text).run();
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json[1]["metadata"], serde_json::json!({"name": "p"}));
    let wrong = daemon.routectl(&["convert", "-f", "-"]).stdin("kind: Node\n").run();
    assert!(wrong.status == 1 && wrong.stderr.starts_with("stdin:1: apiVersion: is required"), "{wrong:?}");
}
