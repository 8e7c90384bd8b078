//! The daemons of the lab: a `routed` process for each node.

use std::{
    env,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, mkdtemp},
};

use super::{
    error::LabError,
    etcd::EtcdMembers,
    layout::{LabDatastore, Layout},
    wiring::Wiring,
};

/// The number of log lines that are shown for a daemon that ended.
const LOG_TAIL: usize = 15;
/// The timeout for daemons to end their sessions.
const GOODBYE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The running daemons and their files.
pub(super) struct Daemons {
    work: PathBuf,
    running: Vec<Daemon>,
    etcd: Option<EtcdMembers>,
    keep: bool,
}

struct Daemon {
    node: String,
    child: Child,
}

impl Daemons {
    /// Writes the resources and starts one daemon for each node, in its namespace.
    ///
    /// # Errors
    /// When `routed` is missing or files cannot be written.
    pub(super) fn start(layout: &Layout, wiring: &Wiring) -> Result<Self, LabError> {
        let program = routed()?;
        let work = mkdtemp("/var/tmp/routed-lab.XXXXXX")
            .map_err(|errno| LabError::System { what: "work directory", source: errno.into() })?;
        let mut daemons = Self { work: work.clone(), running: Vec::new(), etcd: None, keep: false };
        let write =
            |path: PathBuf, text: String| fs::write(path, text).map_err(LabError::system("work directory"));
        let resources = work.join("resources");
        fs::create_dir(&resources).map_err(LabError::system("work directory"))?;
        write(resources.join("lab.yaml"), layout.resources())?;
        let mut datastore = format!("{{ file: {} }}", resources.display());
        if layout.datastore == LabDatastore::Etcd
            && let Some(gateway) = layout.gateways().first()
        {
            let etcd = EtcdMembers::start(&wiring.network, gateway.addr(), &work)?;
            datastore = format!("{{ etcd: {{ endpoints: [{}] }} }}", etcd.endpoints().join(", "));
            daemons.etcd.insert(etcd).fill(&wiring.network, &resources)?;
        }
        for (node, namespace) in layout.nodes.iter().zip(&wiring.nodes) {
            let directory = work.join(&node.name);
            fs::create_dir(&directory).map_err(LabError::system("work directory"))?;
            let config = directory.join("routed.yaml");
            write(
                config.clone(),
                format!(
                    "node: {}\nsocket: {}\nstateDir: {}\nstatus: \"off\"\ndatastore: {}\nlog: info\n",
                    node.name,
                    daemons.socket(&node.name).display(),
                    directory.join("state").display(),
                    datastore,
                ),
            )?;
            let log = File::create(daemons.log(&node.name)).map_err(LabError::system("routed's log"))?;
            let mut command = Command::new(&program);
            command.arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            // A process group of its own: Ctrl-C goes to the lab only, which then ends
            // the daemons in order.
            command.process_group(0).env("NO_COLOR", "1");
            let child = namespace
                .run(move || command.spawn())
                .map_err(LabError::namespace)?
                .map_err(LabError::system("routed"))?;
            daemons.running.push(Daemon { node: node.name.clone(), child });
        }
        Ok(daemons)
    }

    /// Returns a daemon's control socket.
    pub(super) fn socket(&self, node: &str) -> PathBuf {
        self.work.join(node).join("routed.sock")
    }

    fn log(&self, node: &str) -> PathBuf {
        self.work.join(node).join("routed.log")
    }

    /// Returns the directory of the resources, configurations and logs.
    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Returns the daemons' process ids.
    pub(super) fn pids(&self) -> Vec<u32> {
        let members = self.etcd.iter().flat_map(EtcdMembers::pids);
        self.running.iter().map(|d| d.child.id()).chain(members).collect()
    }

    /// Checks that no daemon has ended.
    ///
    /// # Errors
    /// The first daemon that has ended, with the end of its log.
    pub(super) fn check(&mut self) -> Result<(), LabError> {
        let work = self.work.clone();
        for daemon in &mut self.running {
            if let Some(status) = daemon.child.try_wait().map_err(LabError::system("routed"))? {
                let log = tail(&work.join(&daemon.node).join("routed.log"));
                return Err(LabError::DaemonEnded { node: daemon.node.clone(), status, log });
            }
        }
        Ok(())
    }

    /// Returns the end of a daemon's log.
    pub(super) fn last_words(&self, node: &str) -> String {
        tail(&self.log(node))
    }

    /// Keeps the daemons and their files when the lab ends.
    pub(super) fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Daemons {
    fn drop(&mut self) {
        if self.keep {
            if let Some(etcd) = &mut self.etcd {
                etcd.let_go();
            }
            return;
        }
        for daemon in &self.running {
            if let Ok(pid) = i32::try_from(daemon.child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let deadline = Instant::now() + GOODBYE;
        for daemon in &mut self.running {
            while matches!(daemon.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                thread::sleep(LOOK_AGAIN); // why: std waits for a child without a deadline or not at all
            }
            let _ = daemon.child.kill();
            let _ = daemon.child.wait();
        }
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// Returns the `routed` in the directory of this program.
fn routed() -> Result<PathBuf, LabError> {
    let path = env::current_exe().map_err(LabError::system("own path"))?.with_file_name("routed");
    if path.is_file() {
        return Ok(path);
    }
    Err(LabError::Missing { program: "routed", remedy: "it has to be in routectl's directory (cargo build)" })
}

fn tail(path: &Path) -> String {
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => io::Error::to_string(&error),
    };
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LOG_TAIL)..).unwrap_or_default().join("\n")
}
