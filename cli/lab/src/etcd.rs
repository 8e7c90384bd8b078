//! The shared datastore of the lab: three etcd members on its bridge.

use std::{
    env,
    fs::File,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use testbed::Namespace;
use testbed::etcd::{EtcdMember, PROGRAM};

use super::error::LabError;

/// The number of members. Three is the smallest number that tolerates a failure.
const MEMBERS: u16 = 3;
/// The ports of the first member. Those of the others follow.
const PORTS: (u16, u16) = (2379, 2389);
/// The timeout for the election of a leader. Emulated kernels are slow.
const READY_WITHIN: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The running members, which are killed on drop unless they are kept.
pub(super) struct EtcdMembers {
    address: Ipv4Addr,
    running: Vec<Child>,
}

impl EtcdMembers {
    /// Starts the members on an address of the bridge, with their data and logs in `work`.
    ///
    /// # Errors
    /// The program is missing or can't be started.
    pub(super) fn start(network: &Namespace, address: Ipv4Addr, work: &Path) -> Result<Self, LabError> {
        let url = |port: u16| format!("http://{address}:{port}");
        let name = |member: u16| format!("etcd-{member}");
        let cluster: Vec<(String, String)> =
            (0..MEMBERS).map(|member| (name(member), url(PORTS.1 + member))).collect();
        let mut etcd = EtcdMembers { address, running: Vec::new() };
        for member in 0..MEMBERS {
            let name = name(member);
            let log =
                File::create(work.join(format!("{name}.log"))).map_err(LabError::system("etcd's log"))?;
            let settings = EtcdMember {
                client: url(PORTS.0 + member),
                peer: url(PORTS.1 + member),
                cluster: cluster.clone(),
                data: work.join(&name),
                more: Vec::new(),
                name,
            };
            let mut command = settings.command();
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
            let child = network.run(move || command.spawn()).map_err(LabError::namespace)?;
            etcd.running.push(child.map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    LabError::Missing { program: PROGRAM, remedy: "apt-get install etcd-server" }
                }
                _ => LabError::System { what: "etcd", source: error },
            })?);
        }
        Ok(etcd)
    }

    /// Returns the members' URLs.
    pub(super) fn endpoints(&self) -> Vec<String> {
        (0..MEMBERS).map(|member| format!("http://{}:{}", self.address, PORTS.0 + member)).collect()
    }

    /// Copies the resources of a directory into the members, with `routectl datastore migrate`.
    ///
    /// # Errors
    /// The members don't answer in time, or routectl fails.
    pub(super) fn fill(&self, network: &Namespace, resources: &Path) -> Result<(), LabError> {
        let own = env::current_exe().map_err(LabError::system("own path"))?;
        let (from, to) =
            (format!("file:{}", resources.display()), format!("etcd:{}", self.endpoints().join(",")));
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let mut command = Command::new(&own);
            command.args(["datastore", "migrate", "--from", &from, "--to", &to]).stdin(Stdio::null());
            let done = network.run(move || command.output()).map_err(LabError::namespace)?;
            let done = done.map_err(LabError::system("routectl datastore migrate"))?;
            if done.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
                return Err(LabError::Datastore(said));
            }
            thread::sleep(LOOK_AGAIN); // why: a member that begins to answer has no event
        }
    }

    /// Returns the members' process ids.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> {
        self.running.iter().map(Child::id)
    }

    /// Keeps the members running.
    pub(super) fn let_go(&mut self) {
        self.running.clear();
    }
}

impl Drop for EtcdMembers {
    fn drop(&mut self) {
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
