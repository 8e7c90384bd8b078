//! Commands of calicoctl: all of docs/calico-commands.md, and every verb on every kind by every name,
//! against `routed` with a store of files and with etcd.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use testbed::daemon::{HEAD, StandaloneDaemon, etcd, node};
use testbed::etcd_cluster::{EtcdCluster, port};

/// A daemon, and a directory in which its user types, with a `calicoctl` that is `routectl`.
struct Desk {
    daemon: StandaloneDaemon,
    directory: TempDir,
    _cluster: Option<EtcdCluster>,
}

/// The exit status of a command and its output.
#[derive(Debug)]
struct Said {
    status: i32,
    stdout: String,
    stderr: String,
}

/// A port of its own for BGP, since many daemons run here at once.
fn configuration() -> String {
    format!(
        "{HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{listenPort: {}, nodeToNodeMeshEnabled: true}}\n",
        port()
    )
}

impl Desk {
    fn with_files() -> Self {
        let directory = TempDir::new().unwrap();
        let store = directory.path().join("store");
        fs::create_dir(&store).unwrap();
        fs::write(store.join("configuration.yaml"), configuration()).unwrap();
        Desk::start(&format!("{{ file: {} }}", store.display()), directory, None)
    }

    fn with_etcd() -> Self {
        let cluster = EtcdCluster::start(1);
        cluster.etcdctl(0, &["put", "/routed/resources/v3/bgpconfigurations/default", &configuration()]);
        Desk::start(&etcd(&cluster), TempDir::new().unwrap(), Some(cluster))
    }

    fn start(store: &str, directory: TempDir, cluster: Option<EtcdCluster>) -> Self {
        let mut daemon = StandaloneDaemon::new(store);
        daemon.start();
        daemon.until("an answer", |status| status["revision"].is_string());
        let path = |name: &str| directory.path().join(name);
        fs::create_dir_all(path("bin")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_routectl"), path("bin/calicoctl")).unwrap();
        fs::create_dir_all(path("resources/nodes")).unwrap();
        fs::create_dir_all(path("empty")).unwrap();
        for kind in Sample::ALL {
            fs::write(path(kind.file), kind.text("one")).unwrap();
        }
        let pool = format!(
            "{HEAD}kind: IPPool\nmetadata: {{name: default}}\nspec: {{cidr: 192.168.0.0/16, natOutgoing: true}}\n"
        );
        fs::write(path("ippool.yaml"), pool).unwrap();
        let old =
            "apiVersion: v1\nkind: ipPool\nmetadata: {cidr: 172.20.0.0/16}\nspec: {ipip: {enabled: true}}\n";
        fs::write(path("old.yaml"), old).unwrap();
        let peer = r#"{"apiVersion": "projectcalico.org/v3", "kind": "BGPPeer", "metadata": {"name": "peer1"},
            "spec": {"peerIP": "192.0.2.1", "asNumber": 64567}}"#;
        fs::write(path("bgppeer.json"), peer).unwrap();
        for (number, name) in ["node1", "node2"].into_iter().enumerate() {
            let text = node(name, &format!("10.0.0.{}/24", number + 1));
            fs::write(path(&format!("resources/nodes/{name}.yaml")), text).unwrap();
        }
        let filter = format!(
            "{HEAD}kind: BGPFilter\nmetadata: {{name: deny}}\nspec: {{importV4: [{{action: Reject}}]}}\n"
        );
        fs::write(path("resources/filter.yaml"), filter).unwrap();
        let affinity = format!(
            "{HEAD}kind: BlockAffinity\nmetadata: {{name: 192-168-1-0-26}}\nspec: {{cidr: 192.168.1.0/26, node: node1, state: \
             confirmed}}\n"
        );
        fs::write(path("resources/affinity.yaml"), affinity).unwrap();
        Desk { daemon, directory, _cluster: cluster }
    }

    /// Types a line into a shell.
    fn types(&self, line: &str) -> Said {
        let path =
            format!("{}:{}", self.directory.path().join("bin").display(), std::env::var("PATH").unwrap());
        let done = Command::new("sh")
            .args(["-c", line])
            .current_dir(self.directory.path())
            .env("PATH", path)
            .env("ROUTED_SOCKET", self.daemon.path("routed.sock"))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            status: done.status.code().unwrap_or(-1),
            stdout: text(&done.stdout),
            stderr: text(&done.stderr),
        }
    }

    fn says(&self, line: &str, wanted: &str) {
        let said = self.types(line);
        assert!(
            said.status == 0 && said.stdout.contains(wanted),
            "{line}: {wanted:?} is not what it says: {said:?}"
        );
    }
}

/// The rows of the page's tables: what is typed, and the answer.
fn rows() -> Vec<(String, String)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/calico-commands.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let (typed, answer) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((typed.replace("\\|", "|"), answer.strip_suffix(" |")?.to_owned()))
    };
    page.lines().filter_map(row).collect()
}

fn all_of_the_page(desk: &Desk) {
    let rows = rows();
    assert!(rows.len() > 100, "the page has {} commands", rows.len());
    for (typed, answer) in rows {
        let said = desk.types(&typed);
        if let Some(line) = answer.strip_prefix("instead: ") {
            let wanted = (2, "", format!("routectl: {line}\n"));
            assert_eq!((said.status, said.stdout.as_str(), said.stderr), wanted, "{typed}");
        } else {
            let says = answer.strip_prefix("works").unwrap_or_else(|| panic!("{typed}: what is {answer:?}?"));
            let says = says.strip_prefix(": `").and_then(|says| says.strip_suffix('`')).unwrap_or("");
            assert!(said.status == 0 && said.stdout.contains(says), "{typed}: {answer}, but: {said:?}");
        }
    }
}

#[test]
fn all_of_calicoctls_commands_do_as_the_page_says_with_a_store_of_files() {
    all_of_the_page(&Desk::with_files());
}

#[test]
fn all_of_calicoctls_commands_do_as_the_page_says_with_etcd() {
    all_of_the_page(&Desk::with_etcd());
}

/// A kind, the names it goes by, and a resource of it.
struct Sample {
    kind: &'static str,
    names: &'static str,
    file: &'static str,
    spec: &'static str,
}

impl Sample {
    const ALL: [Sample; 6] = [
        Sample {
            kind: "Node",
            names: "node nodes no nos Node",
            file: "node.yaml",
            spec: "{bgp: {ipv4Address: 10.9.0.1/24}}",
        },
        Sample {
            kind: "IPPool",
            names: "ippool ippools ipp ipps pool pools ipPool",
            file: "pool.yaml",
            spec: "{cidr: 172.16.0.0/16, disabled: true}",
        },
        Sample {
            kind: "BGPPeer",
            names: "bgppeer bgppeers bgpp bgpps bp bps bgpPeer",
            file: "peer.yaml",
            spec: "{peerIP: 192.0.2.9, asNumber: 65000}",
        },
        Sample {
            kind: "BGPConfiguration",
            names: "bgpconfiguration bgpconfigurations bgpconfig bgpconfigs bgpc bgpConfiguration",
            file: "bgpconfiguration.yaml",
            spec: "{}",
        },
        Sample {
            kind: "BGPFilter",
            names: "bgpfilter bgpfilters bgpf bgpfs bf bfs BGPFilter",
            file: "filter.yaml",
            spec: "{exportV4: [{action: Accept}]}",
        },
        Sample {
            kind: "BlockAffinity",
            names: "blockaffinity blockaffinities affinity affinities",
            file: "affinity.yaml",
            spec: "{cidr: 172.16.1.0/26, node: gone, state: pending}",
        },
    ];

    /// The name that resources of this kind can have.
    fn name<'a>(&self, other: &'a str) -> &'a str {
        if self.kind == "BGPConfiguration" { "default" } else { other }
    }

    fn text(&self, name: &str) -> String {
        format!("{HEAD}kind: {}\nmetadata: {{name: {}}}\nspec: {}\n", self.kind, self.name(name), self.spec)
    }
}

fn every_verb_on_every_kind(desk: &Desk) {
    for sample in Sample::ALL {
        let Sample { kind, names, file, .. } = sample;
        let (one, done) =
            (sample.name("one"), |verb: &str| format!("Successfully {verb} 1 '{kind}' resource"));
        // A port of its own, of which nothing else is asked: one of this kind is there from the beginning.
        if kind == "BGPConfiguration" {
            fs::write(desk.directory.path().join(file), configuration()).unwrap();
            desk.says("calicoctl delete bgpconfig default", &done("deleted"));
        }
        for spelt in names.split_whitespace() {
            desk.says(&format!("calicoctl validate -f {file}"), &format!("valid: 1 {kind}"));
            desk.says(&format!("calicoctl create -f {file}"), &done("created"));
            let again = desk.types(&format!("calicoctl create -f {file}"));
            assert!(again.status == 1 && again.stderr.contains("is there already"), "{spelt}: {again:?}");
            desk.says(&format!("calicoctl apply -f {file}"), &done("applied"));
            desk.says(&format!("calicoctl replace -f {file}"), &done("replaced"));
            desk.says(&format!("calicoctl get {spelt}"), one);
            desk.says(&format!("calicoctl get {spelt} {one} -o wide"), one);
            desk.says(&format!("calicoctl get {spelt} {one} -o yaml"), &format!("kind: {kind}"));
            desk.says(&format!("calicoctl get {spelt} {one} -o json"), &format!("\"kind\": \"{kind}\""));
            desk.says(&format!("calicoctl get {spelt} {one} -o custom-columns=NAME"), one);
            desk.says(&format!("calicoctl get {spelt} -o jsonpath='{{.items[0].kind}}'"), kind);
            desk.says(
                &format!(
                    "calicoctl patch {spelt} {one} -p '{{\"metadata\":{{\"annotations\":{{\"x\":\"y\"}}}}}}'"
                ),
                &done("patched"),
            );
            desk.says(&format!("calicoctl get {spelt} {one} -o jsonpath='{{.metadata.annotations.x}}'"), "y");
            desk.says(
                &format!("calicoctl label {spelt} {one} a=b"),
                &format!("Successfully set label a on {spelt} {one}"),
            );
            desk.says(&format!("calicoctl get {spelt} -l a=b"), one);
            desk.says(
                &format!("calicoctl label {spelt} {one} a --remove"),
                &format!("Successfully removed label a from {spelt} {one}"),
            );
            desk.says(
                &format!("calicoctl get {spelt} {one} -o yaml > read.yaml; calicoctl replace -f read.yaml"),
                &done("replaced"),
            );
            desk.says(&format!("calicoctl delete {spelt} {one}"), &done("deleted"));
            let gone = desk.types(&format!("calicoctl get {spelt} {one}"));
            assert!(gone.status == 1 && gone.stderr.starts_with("routectl: no "), "{spelt}: {gone:?}");
            desk.says(
                &format!("cat {file} | calicoctl apply -f -; calicoctl delete -f {file}"),
                &done("deleted"),
            );
        }
    }
}

#[test]
fn every_verb_works_on_every_kind_by_every_name_with_a_store_of_files() {
    every_verb_on_every_kind(&Desk::with_files());
}

#[test]
fn every_verb_works_on_every_kind_by_every_name_with_etcd() {
    every_verb_on_every_kind(&Desk::with_etcd());
}

#[test]
fn twenty_who_change_one_resource_of_etcds_at_once_lose_nothing() {
    let desk = Desk::with_etcd();
    desk.says("calicoctl apply -f node.yaml", "Successfully applied 1 'Node' resource(s)");
    std::thread::scope(|scope| {
        for number in 0..20 {
            let desk = &desk;
            scope.spawn(move || match number % 2 {
                0 => desk.says(&format!("calicoctl label node one l{number}=v"), "Successfully set label"),
                _ => desk.says(
                    &format!("calicoctl patch node one -p '{{\"metadata\":{{\"annotations\":{{\"p{number}\":\"v\"}}}}}}'"),
                    "Successfully patched 1 'Node' resource",
                ),
            });
        }
    });
    let all = |path: &str| {
        desk.types(&format!("calicoctl get node one -o jsonpath='{{.metadata.{path}.*}}'")).stdout
    };
    assert_eq!(
        (all("labels").as_str(), all("annotations").as_str()),
        ("v v v v v v v v v v", "v v v v v v v v v v")
    );
}
