//! A `routed` process without a dataplane, and `routectl` for it.

pub use crate::manifest::{HEAD, node};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::etcd_cluster::{EtcdCluster, PATIENCE};
use crate::programs::product;

/// A daemon without a dataplane, which leaves the machine as it is. Killed when dropped.
pub struct StandaloneDaemon {
    directory: TempDir,
    process: Option<Child>,
    /// The network namespace it runs in, if not the tests' own.
    namespace: Option<String>,
}

impl StandaloneDaemon {
    /// Writes the configuration of the daemon `node-a`, which [`StandaloneDaemon::start`] starts.
    ///
    /// # Panics
    /// The configuration can't be written.
    pub fn new(datastore: &str) -> Self {
        StandaloneDaemon::named("node-a", datastore, "")
    }

    /// Starts a daemon with a directory of resources and further lines in routed.yaml.
    ///
    /// # Panics
    /// The daemon does not answer.
    pub fn over_files(more: &str) -> Self {
        let mut daemon = StandaloneDaemon::named("node-a", "{ file: RESOURCES }", more);
        fs::create_dir(daemon.path("resources")).expect("a working test bed");
        let file = daemon.path("routed.yaml");
        let resources = daemon.path("resources").display().to_string();
        fs::write(
            &file,
            fs::read_to_string(&file).expect("a working test bed").replace("RESOURCES", &resources),
        )
        .expect("a working test bed");
        let alone = format!(
            "{HEAD}kind: BGPConfiguration\nmetadata: {{name: default}}\nspec: {{routed: {{bgp: disabled}}}}\n"
        );
        fs::write(daemon.path("resources/configuration.yaml"), alone).expect("a working test bed");
        daemon.start();
        daemon.until("an answer", |status| status["revision"].is_string());
        daemon
    }

    /// Returns the daemon's process id.
    ///
    /// # Panics
    /// The daemon does not run.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("a working test bed").id()
    }

    /// Writes the configuration of a daemon in a network namespace, with further lines in
    /// routed.yaml.
    ///
    /// # Panics
    /// The configuration can't be written.
    pub fn inside(namespace: &str, node: &str, datastore: &str, more: &str) -> Self {
        let mut daemon = StandaloneDaemon::named(node, datastore, more);
        daemon.namespace = Some(namespace.to_owned());
        daemon
    }

    /// Writes the configuration of a daemon in the test's own namespace, with further lines in
    /// routed.yaml.
    ///
    /// # Panics
    /// The configuration can't be written.
    pub fn named(node: &str, datastore: &str, more: &str) -> Self {
        let directory = TempDir::new().expect("a working test bed");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let text = format!(
            "node: {node}\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {datastore}\n{more}",
            path("routed.sock"),
            path("state")
        );
        fs::write(directory.path().join("routed.yaml"), text).expect("a working test bed");
        StandaloneDaemon { directory, process: None, namespace: None }
    }

    /// Returns a path in the daemon's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts the daemon.
    ///
    /// # Panics
    /// The daemon can't be started.
    pub fn start(&mut self) {
        let log =
            fs::File::options().create(true).append(true).open(self.path("log")).expect("a working test bed");
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
        self.process = Some(command.spawn().expect("a working test bed"));
    }

    /// Kills the daemon.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Runs `routectl` against the daemon; returns the exit status, stdout and stderr.
    ///
    /// # Panics
    /// The program can't be run.
    pub fn routectl(&self, arguments: &[&str]) -> (i32, String, String) {
        routectl(arguments, &self.path("routed.sock"))
    }

    /// Runs `routectl`, which must succeed, and returns stdout.
    ///
    /// # Panics
    /// The command fails.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let (status, stdout, stderr) = self.routectl(arguments);
        assert_eq!(status, 0, "routectl {arguments:?}: {stdout}{stderr}");
        stdout
    }

    /// Applies resources and returns stdout.
    ///
    /// # Panics
    /// The daemon refuses them.
    pub fn apply(&self, text: &str) -> String {
        let file = self.path("given.yaml");
        fs::write(&file, text).expect("a working test bed");
        self.ok(&["apply", "-f", file.to_str().expect("a working test bed")])
    }

    /// Returns `show status` as JSON; `null` without an answer.
    ///
    /// # Panics
    /// `routectl` can't be run.
    pub fn status(&self) -> serde_json::Value {
        let (_, stdout, _) = self.routectl(&["show", "status", "-o", "json"]);
        serde_json::from_str(&stdout).unwrap_or_default()
    }

    /// Waits until the status satisfies a condition, and returns the time that it took.
    ///
    /// # Panics
    /// The timeout expires.
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

    /// Waits until the daemon is connected to, or disconnected from, its datastore.
    ///
    /// # Panics
    /// The timeout expires.
    pub fn until_connected(&self, connected: bool) -> Duration {
        self.until("connected or not", |status| status["store"]["connected"] == connected)
    }
}

impl Drop for StandaloneDaemon {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs `routectl` against a socket; returns the exit status, stdout and stderr.
///
/// # Panics
/// The program can't be run.
pub fn routectl(arguments: &[&str], socket: &Path) -> (i32, String, String) {
    let done = Command::new(product("routectl"))
        .env("ROUTED_SOCKET", socket)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("a working test bed");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
}

/// Returns the setting `datastore` of routed.yaml for a cluster.
pub fn etcd(cluster: &EtcdCluster) -> String {
    format!("{{ etcd: {{ endpoints: {} }} }}", cluster.yaml())
}
