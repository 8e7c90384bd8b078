//! The bed of a test: a directory, network namespaces and the links between them, all removed on
//! drop.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Process, run};

/// A directory and network namespaces of one test.
pub struct Testbed {
    directory: TempDir,
    prefix: String,
    namespaces: Vec<String>,
}

impl Testbed {
    /// Creates a bed with two namespaces, `a` and `b`, at 10.0.0.1/24 and 10.0.0.2/24 of one
    /// Ethernet.
    ///
    /// # Panics
    /// The privilege to create namespaces is missing: a test that can't run must not pass.
    pub fn with_two_nodes() -> Self {
        let mut bed = Testbed::empty();
        bed.add("a");
        bed.add("b");
        bed.ip("a", &format!("link add eth0 type veth peer name eth0 netns {}", bed.namespace("b")));
        for (node, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
            bed.ip(node, &format!("address add {address} dev eth0"));
            bed.ip(node, "link set eth0 up");
        }
        bed
    }

    /// Creates a bed without namespaces.
    ///
    /// # Panics
    /// The directory can't be created.
    pub fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rt{}-{number}", std::process::id());
        Testbed { directory: TempDir::new().expect("a directory"), prefix, namespaces: Vec::new() }
    }

    /// Adds a namespace with only its loopback interface.
    ///
    /// # Panics
    /// The namespace can't be created.
    pub fn add(&mut self, node: &str) {
        let namespace = self.namespace(node);
        run("ip", &["netns", "add", &namespace]);
        self.namespaces.push(namespace);
        self.ip(node, "link set lo up");
    }

    /// Adds node `c` at an address of the same Ethernet, which becomes a bridge in `b`.
    ///
    /// # Panics
    /// A namespace, a bridge or a link can't be created.
    pub fn add_third_node(&mut self, address: &str) {
        self.add("c");
        let namespace = self.namespace("c");
        self.ip("b", "link add br0 type bridge");
        self.ip("b", &format!("link add to-c type veth peer name eth0 netns {namespace}"));
        self.ip("b", "address delete 10.0.0.2/24 dev eth0");
        for words in [
            "link set eth0 master br0",
            "link set to-c master br0",
            "link set to-c up",
            "link set br0 up",
            "address add 10.0.0.2/24 dev br0",
        ] {
            self.ip("b", words);
        }
        self.ip("c", &format!("address add {address} dev eth0"));
        self.ip("c", "link set eth0 up");
    }

    /// Returns the namespace of a node.
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// Returns a path in the bed's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file in the bed's directory and returns its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory");
        }
        fs::write(&path, text).expect("a file");
        path
    }

    /// Starts a program in a node's namespace. Its output goes to a file that is shown if the
    /// test fails.
    ///
    /// # Panics
    /// The program can't be started.
    pub fn start(&self, node: &str, program: &str, arguments: &[&str]) -> Process {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut command = Command::new("ip");
        // `ip netns exec` becomes the program, so that its process id is the program's.
        command.args(["netns", "exec", &self.namespace(node), program]).args(arguments);
        Process::start(&name, command, self.path(&format!("{node}-{name}.log")))
    }

    /// Returns the routes with `protocol` of a node's main table, as `ip -j route` shows them.
    ///
    /// # Panics
    /// `ip` fails.
    pub fn routes(&self, node: &str, protocol: &str) -> Vec<Value> {
        let text = self.ip(node, &format!("-j -d route show protocol {protocol}"));
        serde_json::from_str(&text).expect("ip to write JSON")
    }

    /// Runs a program in a node's namespace to its end and returns its output.
    ///
    /// # Panics
    /// The program can't be run or fails.
    pub fn exec(&self, node: &str, words: &[&str]) -> String {
        let namespace = self.namespace(node);
        let words: Vec<&str> =
            ["netns", "exec", &namespace].into_iter().chain(words.iter().copied()).collect();
        run("ip", &words)
    }

    /// Runs `ip` with arguments separated by blanks, in a node's namespace.
    ///
    /// # Panics
    /// The command fails.
    pub fn ip(&self, node: &str, words: &str) -> String {
        let namespace = self.namespace(node);
        let words: Vec<&str> = ["-n", &namespace].into_iter().chain(words.split(' ')).collect();
        run("ip", &words)
    }

    /// Runs `work` in a node's namespace. Sockets that it opens stay there.
    ///
    /// # Panics
    /// The namespace can't be entered, or `work` panics.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(node))).expect("the namespace");
        // A new thread, since a thread can't return to its previous namespace reliably.
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("to enter the namespace");
                work()
            });
            entered.join().expect("the work in the namespace")
        })
    }

    /// Returns the next-hop objects of a node, as `ip -j nexthop` shows them.
    ///
    /// # Panics
    /// `ip` fails.
    pub fn next_hops(&self, node: &str) -> Vec<Value> {
        let text = self.ip(node, "-j nexthop show");
        // `ip` prints nothing if there are none.
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).expect("ip to write JSON")
        }
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}
