//! The `routed` binary with invalid configurations and resources.

#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const HEAD: &str = "apiVersion: projectcalico.org/v3\n";

/// The directory of a node: its configuration, resources and socket.
struct Node {
    directory: TempDir,
}

impl Node {
    fn new() -> Self {
        let node = Node { directory: TempDir::new().unwrap() };
        fs::create_dir(node.path("resources")).unwrap();
        node.write(
            "routed.yaml",
            &format!(
                "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {{ file: {} }}\n",
                node.path("routed.sock").display(),
                node.path("state").display(),
                node.path("resources").display()
            ),
        );
        node.write(
            "resources/nodes.yaml",
            &format!(
                "{HEAD}kind: Node\nmetadata: {{name: node-a}}\nspec: {{bgp: {{ipv4Address: 127.0.0.1/8}}}}\n---\n\
                 {HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{routed: {{bgp: disabled}}}}\n"
            ),
        );
        node
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn routed(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_routed"));
        command.arg("--config").arg(self.path("routed.yaml")).args(more).stderr(Stdio::piped());
        command
    }

    /// Runs the daemon, which has to exit. Returns its exit status and the lines of its standard
    /// error.
    fn run_to_exit(&self, more: &[&str]) -> (i32, Vec<String>) {
        let output = self.routed(more).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), stderr.lines().map(str::to_owned).collect())
    }

    fn routectl(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(testbed::product("routectl"))
            .args(arguments)
            .env("ROUTED_SOCKET", self.path("routed.sock"))
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    }

    /// Waits until `show status` satisfies `wanted`.
    fn status_until(&self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (status, text) = self.routectl(&["show", "status", "-o", "json"]);
            if status == 0 {
                let view = serde_json::from_str(&text).unwrap();
                if wanted(&view) {
                    return view;
                }
            }
            assert!(Instant::now() < deadline, "{what}: {text}");
            // why: the state of another process is polled.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A daemon process that ends with the test.
struct DaemonProcess(Child);

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn each_mistake_in_the_resources_is_one_line_and_the_exit_status_is_2() {
    let node = Node::new();
    node.write(
        "resources/pools.yaml",
        &format!(
            "{HEAD}kind: IPPool\nmetadata: {{name: p}}\nspec:\n  cidr: 10.0.0.0/16\n  ipipMode: Always\n  vxlanMode: \
             Always\n  colour: red\n---\n{HEAD}kind: IPPool\nmetadata: {{name: q}}\nspec: {{cidr: 10.0.0.0/24, \
             blockSize: small}}\n---\n{HEAD}kind: Node\nmetadata: {{name: node-b}}\nspec: {{bgp: {{ipv4Address: \
             127.0.0.1/8}}, podCIDRs: [10.9.0.0/26]}}\n"
        ),
    );
    let file = node.path("resources/pools.yaml").display().to_string();
    let older = node.path("resources/nodes.yaml").display().to_string();
    let expected = [
        format!("{file}:6: spec.ipipMode: only one of ipipMode and vxlanMode may be other than Never"),
        format!(
            "{file}:8: spec.colour: unknown field (known here: allowedUses, assignmentMode, blockSize, cidr, \
             disableBGPExport, disabled, ipip, ipipMode, namespaceSelector, nat-outgoing, natOutgoing, nodeSelector, vxlanMode)"
        ),
        format!("{file}:13: spec.blockSize: must be a whole number from 0 to 128 (got \"small\")"),
        format!("{file}:13: spec.cidr: must not overlap another pool: 10.0.0.0/16 of \"p\" is at {file}:5"),
        format!("{file}:18: spec.bgp.ipv4Address: must be unique: 127.0.0.1 is also node-a's, at {older}:4"),
        format!("{file}:18: spec.podCIDRs[0]: must lie inside an IPPool: no pool holds 10.9.0.0/26"),
    ];
    for arguments in [&[][..], &["--check"]] {
        let (status, said) = node.run_to_exit(arguments);
        assert_eq!(said, expected, "{arguments:?}");
        assert_eq!(status, 2);
    }
}

#[test]
fn a_missing_file_or_directory_is_reported_and_the_exit_status_is_2() {
    let node = Node::new();
    fs::rename(node.path("resources"), node.path("elsewhere")).unwrap();
    let directory = node.path("resources");
    assert_eq!(
        node.run_to_exit(&[]),
        (
            2,
            vec![format!("{}: no such directory: create it, or correct datastore.file", directory.display())]
        )
    );
    fs::remove_file(node.path("routed.yaml")).unwrap();
    let config = node.path("routed.yaml");
    assert_eq!(
        node.run_to_exit(&[]),
        (2, vec![format!("{}: can't be read: No such file or directory (os error 2)", config.display())])
    );
}

#[test]
fn a_mistake_in_the_configuration_is_one_line_and_the_exit_status_is_2() {
    let node = Node::new();
    node.write("routed.yaml", "node: node-a\nsockets: /run/x\ndatastore: { file: resources }\n");
    let config = node.path("routed.yaml").display().to_string();
    assert_eq!(
        node.run_to_exit(&["--check"]),
        (
            2,
            vec![
                format!("{config}:2: sockets: unknown field (did you mean socket?)"),
                format!("{config}:3: datastore.file: must be an absolute path (got \"resources\")"),
            ]
        )
    );
}

#[test]
fn an_invalid_reload_keeps_the_last_valid_resources_and_is_reported_until_corrected() {
    let node = Node::new();
    let mut daemon = DaemonProcess(node.routed(&[]).spawn().unwrap());
    let mut said = BufReader::new(daemon.0.stderr.take().unwrap()).lines();
    let before = node.status_until("the start", |view| view["ready"] == true);
    assert_eq!(node.routectl(&["show", "nodes", "-o", "json"]).1.matches("\"name\"").count(), 1);

    let valid = fs::read_to_string(node.path("resources/nodes.yaml")).unwrap();
    node.write("resources/nodes.yaml", &valid.replace("127.0.0.1/8", "127.0.0.1/33"));
    let mistake = format!(
        "{}:4: spec.bgp.ipv4Address: must be an IPv4 address with its subnet's length, such as 192.168.0.2/24 (got \
         \"127.0.0.1/33\")",
        node.path("resources/nodes.yaml").display()
    );
    let broken = node.status_until("the mistake", |view| view["mistakes"] == serde_json::json!([mistake]));
    assert_eq!(broken["revision"], before["revision"], "the running configuration stays");
    assert!(said.any(|line| line.unwrap().contains(&mistake)), "the mistake is logged");
    assert_eq!(node.routectl(&["show", "nodes", "-o", "json"]).1.matches("\"name\"").count(), 1);

    let mended = valid
        + "---\n"
        + HEAD
        + "kind: Node\nmetadata: {name: node-b}\nspec: {bgp: {ipv4Address: 127.0.0.2/8}}\n";
    node.write("resources/nodes.yaml", &mended);
    let after = node.status_until("the mended state", |view| view["mistakes"] == serde_json::json!([]));
    assert_ne!(after["revision"], before["revision"]);
    assert_eq!(after["started"], before["started"], "by the same daemon");
    assert_eq!(node.routectl(&["show", "nodes", "-o", "json"]).1.matches("\"name\"").count(), 2);
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let node = Node::new();
    let _daemon = DaemonProcess(node.routed(&[]).spawn().unwrap());
    node.status_until("the start", |_| true);
    let (status, said) = node.run_to_exit(&[]);
    let socket = node.path("routed.sock");
    let expected = format!(
        "{}: another routed listens here: stop it, or set `socket` to another path",
        socket.display()
    );
    assert_eq!(status, 1);
    assert!(said.last().is_some_and(|line| line.ends_with(&expected)), "{said:?}");
}
