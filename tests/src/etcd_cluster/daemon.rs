//! The real `routed` and `routectl` beside an etcd.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{Cluster, PATIENCE};
use crate::bed::product;

/// A daemon of its own; without a dataplane, so that the machine stays as it is.
pub struct Daemon {
    directory: TempDir,
    process: Option<Child>,
    /// The network namespace it runs in, if not the tests' own.
    namespace: Option<String>,
}

impl Daemon {
    pub fn new(datastore: &str) -> Self {
        Daemon::named("node-a", datastore, "")
    }

    /// A daemon over a directory of files of its own, with further lines in routed.yaml.
    pub fn over_files(more: &str) -> Self {
        let mut daemon = Daemon::named("node-a", "{ file: RESOURCES }", more);
        fs::create_dir(daemon.path("resources")).unwrap();
        let file = daemon.path("routed.yaml");
        let resources = daemon.path("resources").display().to_string();
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("RESOURCES", &resources)).unwrap();
        let alone = format!(
            "{HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{routed: {{bgp: disabled}}}}\n"
        );
        fs::write(daemon.path("resources/configuration.yaml"), alone).unwrap();
        daemon.start();
        daemon.until("an answer", |status| status["revision"].is_string());
        daemon
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// A daemon in a network namespace, with further lines in routed.yaml.
    pub fn inside(namespace: &str, node: &str, datastore: &str, more: &str) -> Self {
        let mut daemon = Daemon::named(node, datastore, more);
        daemon.namespace = Some(namespace.to_owned());
        daemon
    }

    /// A daemon of that name, in the tests' own namespace, with further lines in routed.yaml.
    pub fn named(node: &str, datastore: &str, more: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        let text = format!(
            "node: {node}\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {datastore}\n{more}",
            path("routed.sock"),
            path("state")
        );
        fs::write(directory.path().join("routed.yaml"), text).unwrap();
        Daemon { directory, process: None, namespace: None }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = match &self.namespace {
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(product("routed"));
                command
            }
            None => Command::new(product("routed")),
        };
        command
            .arg("--config")
            .arg(self.path("routed.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.process = Some(command.spawn().unwrap());
    }

    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    pub fn routectl(&self, arguments: &[&str]) -> (i32, String, String) {
        routectl(arguments, &self.path("routed.sock"))
    }

    pub fn ok(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.routectl(arguments);
        assert_eq!(status, 0, "routectl {arguments:?}: {stdout}{stderr}");
        stdout
    }

    pub fn apply(&self, text: &str) -> String {
        let file = self.path("given.yaml");
        fs::write(&file, text).unwrap();
        self.ok(&["apply", "-f", file.to_str().unwrap()])
    }

    pub fn status(&self) -> serde_json::Value {
        let (_, stdout, _) = self.routectl(&["show", "status", "-o", "json"]);
        serde_json::from_str(&stdout).unwrap_or_default()
    }

    pub fn until(&self, what: &str, is_it: impl Fn(&serde_json::Value) -> bool) -> Duration {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if is_it(&status) {
                return begin.elapsed();
            }
            if begin.elapsed() > PATIENCE {
                panic!(
                    "never {what}: {status:#}\n{}",
                    fs::read_to_string(self.path("log")).unwrap_or_default()
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn until_connected(&self, connected: bool) -> Duration {
        self.until("connected or not", |status| status["store"]["connected"] == connected)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

pub fn routectl(arguments: &[&str], socket: &Path) -> (i32, String, String) {
    let done = Command::new(product("routectl"))
        .env("ROUTED_SOCKET", socket)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

pub const HEAD: &str = "apiVersion: projectcalico.org/v3\n";

pub fn node(name: &str, address: &str) -> String {
    format!("{HEAD}kind: Node\nmetadata: {{name: {name}}}\nspec: {{bgp: {{ipv4Address: {address}}}}}\n")
}

pub fn etcd(cluster: &Cluster) -> String {
    format!("{{ etcd: {{ endpoints: {} }} }}", cluster.yaml())
}
