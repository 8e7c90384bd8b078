//! Network namespaces, the links between them and the programs inside them, all gone with the test.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

pub use crate::patience::{eventually, eventually_or};

/// A program of the product, built if it isn't yet.
///
/// # Panics
/// It can't be built.
pub fn product(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let directory = BUILT.get_or_init(|| {
        // .../target/PROFILE/deps/TEST, or .../target/PROFILE/PROGRAM
        let own = std::env::current_exe().expect("the own path");
        let mut directory = own.parent().expect("a directory");
        if directory.ends_with("deps") {
            directory = directory.parent().expect("a profile's directory");
        }
        let directory = directory.to_owned();
        // Before the guest was started, or with all tests: alone they are built with other features, anew from the start.
        if is_guest() || std::env::var_os(PROGRAMS_BUILT).is_some() {
            return directory;
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "routed", "--package", "routectl", "--bins"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo to run").success(), "the programs to build");
        directory
    });
    directory.join(name)
}

/// Says to a test that the programs are as new as it is.
const PROGRAMS_BUILT: &str = "ROUTED_TEST_PROGRAMS_BUILT";
/// Says to a test that it runs in the guest.
const IN_GUEST: &str = "ROUTED_TEST_IN_GUEST";

fn is_guest() -> bool {
    std::env::var_os(IN_GUEST).is_some()
}

/// Runs a test where the kernel has the IP-in-IP device: here, or the same test, called `name`, in a
/// User-Mode Linux guest.
///
/// # Panics
/// The test fails, or there is neither.
pub fn with_ipip(name: &str, test: fn()) {
    if has_ipip() {
        return test();
    }
    assert!(!is_guest(), "the guest's kernel has no ipip either");
    let own = std::env::current_exe().expect("the test's own path");
    let own = own.to_str().expect("a path in UTF-8");
    let routectl = product("routectl");
    let output = Command::new(&routectl)
        .args(["guest", "--", own, "--exact", name, "--nocapture", "--test-threads=1"])
        .env(IN_GUEST, "1")
        .output()
        .expect("routectl to run");
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).join("");
    // Indented, since who reads what tests print would take a guest's headings and results for our own.
    let told: String = said.lines().map(|line| format!("    {line}\n")).collect();
    assert!(output.status.success(), "in the guest:\n{told}");
    println!("{told}");
    // A name that no test has would be a success too.
    assert!(said.contains("test result: ok. 1 passed"), "in the guest:\n{told}");
}

fn has_ipip() -> bool {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let namespace = format!("rtp{}-{number}", std::process::id());
    run("ip", &["netns", "add", &namespace]);
    let probe = ["-n", &namespace, "link", "add", "probe", "type", "ipip", "local", "10.0.0.1"];
    let found = Command::new("ip").args(probe).output().expect("ip to run").status.success();
    run("ip", &["netns", "delete", &namespace]);
    found
}

/// Runs a command to its end and gives what it printed.
///
/// # Panics
/// It can't be run or fails.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}: install it (`make test` does)"));
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A directory and network namespaces of one test.
pub struct Bed {
    directory: TempDir,
    prefix: String,
    namespaces: Vec<String>,
}

impl Bed {
    /// A bed with two namespaces, `a` and `b`, at 10.0.0.1/24 and 10.0.0.2/24 of one Ethernet.
    ///
    /// # Panics
    /// Without the privilege to make namespaces: a test that can't run must not pass.
    pub fn with_two_nodes() -> Self {
        let mut bed = Bed::empty();
        bed.add("a");
        bed.add("b");
        bed.ip("a", &format!("link add eth0 type veth peer name eth0 netns {}", bed.namespace("b")));
        for (node, address) in [("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")] {
            bed.ip(node, &format!("address add {address} dev eth0"));
            bed.ip(node, "link set eth0 up");
        }
        bed
    }

    /// A bed without namespaces.
    ///
    /// # Panics
    /// There is no room for its directory.
    pub fn empty() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("rt{}-{number}", std::process::id());
        Bed { directory: TempDir::new().expect("a directory"), prefix, namespaces: Vec::new() }
    }

    /// Adds a namespace with nothing but its loopback interface.
    ///
    /// # Panics
    /// It can't be made.
    pub fn add(&mut self, node: &str) {
        let namespace = self.namespace(node);
        run("ip", &["netns", "add", &namespace]);
        self.namespaces.push(namespace);
        self.ip(node, "link set lo up");
    }

    /// Adds node `c` at an address of the same Ethernet, which from now on is a bridge in `b`.
    ///
    /// # Panics
    /// A namespace, a bridge or a link can't be made.
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

    /// The namespace of a node.
    pub fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.prefix)
    }

    /// A path in the bed's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file there and gives its path.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("a directory");
        }
        fs::write(&path, text).expect("a file");
        path
    }

    /// Starts a program in a node's namespace; what it says goes to a file that is shown if the
    /// test fails.
    ///
    /// # Panics
    /// It can't be started.
    pub fn start(&self, node: &str, program: &str, arguments: &[&str]) -> Process {
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let log = self.path(&format!("{node}-{name}.log"));
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let child = Command::new("ip")
            .args(["netns", "exec", &self.namespace(node), program])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a log file"))
            .stderr(file)
            .spawn()
            .expect("ip to run");
        Process { name, child: Some(child), log }
    }

    /// The routes of a node's main table that are of `protocol`, as `ip -j route` shows them.
    ///
    /// # Panics
    /// `ip` fails.
    pub fn routes(&self, node: &str, protocol: &str) -> Vec<Value> {
        let text = self.ip(node, &format!("-j -d route show protocol {protocol}"));
        serde_json::from_str(&text).expect("ip to write JSON")
    }

    /// Runs a program in a node's namespace to its end and gives what it printed.
    ///
    /// # Panics
    /// It can't be run or fails.
    pub fn exec(&self, node: &str, words: &[&str]) -> String {
        let namespace = self.namespace(node);
        let words: Vec<&str> =
            ["netns", "exec", &namespace].into_iter().chain(words.iter().copied()).collect();
        run("ip", &words)
    }

    /// Runs `ip` with these words, separated by blanks, in a node's namespace.
    ///
    /// # Panics
    /// It fails.
    pub fn ip(&self, node: &str, words: &str) -> String {
        let namespace = self.namespace(node);
        let words: Vec<&str> = ["-n", &namespace].into_iter().chain(words.split(' ')).collect();
        run("ip", &words)
    }

    /// Opens sockets, or does something else, in a node's namespace; a socket stays there.
    ///
    /// # Panics
    /// The namespace can't be entered, or `work` panics.
    pub fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(node))).expect("the namespace");
        // A thread of its own, since a thread doesn't find back by itself.
        std::thread::scope(|scope| {
            let entered = scope.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).expect("to enter the namespace");
                work()
            });
            entered.join().expect("the work in the namespace")
        })
    }

    /// The next-hop objects of a node, as `ip -j nexthop` shows them.
    ///
    /// # Panics
    /// `ip` fails.
    pub fn next_hops(&self, node: &str) -> Vec<Value> {
        let text = self.ip(node, "-j nexthop show");
        // Of none at all `ip` prints nothing.
        if text.trim().is_empty() {
            Vec::new()
        } else {
            serde_json::from_str(&text).expect("ip to write JSON")
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// A program that runs in a bed; killed with its owner.
pub struct Process {
    name: String,
    child: Option<Child>,
    log: PathBuf,
}

impl Process {
    /// Its process id.
    ///
    /// # Panics
    /// It has ended.
    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("a running program").id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// It has ended.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("a running program");
        let pid = i32::try_from(child.id()).expect("a process id");
        // `ip netns exec` becomes the program, so its id is the program's.
        kill(Pid::from_raw(pid), signal).unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Sends SIGTERM and waits for the end; gives the exit status.
    ///
    /// # Panics
    /// It doesn't end in time.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        let mut child = self.child.take().expect("a running program");
        let ended = eventually(&format!("{} to end", self.name), Duration::from_secs(20), || {
            child.try_wait().expect("its state")
        });
        ended.code()
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _: io::Result<()> = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.name, self.said());
        }
    }
}
