//! Members of an etcd cluster (the package `etcd-server`).

use std::path::PathBuf;
use std::process::Command;

/// The program.
pub const PROGRAM: &str = "etcd";

/// The settings of a member.
#[derive(Clone, Debug)]
pub struct EtcdMember {
    /// The member's name.
    pub name: String,
    /// The URL for clients.
    pub client: String,
    /// The URL for the other members.
    pub peer: String,
    /// The name and peer URL of each member, this one among them.
    pub cluster: Vec<(String, String)>,
    /// The directory of the member's data.
    pub data: PathBuf,
    /// Further arguments.
    pub more: Vec<String>,
}

impl EtcdMember {
    /// Returns the member's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let all: Vec<String> = self.cluster.iter().map(|(name, peer)| format!("{name}={peer}")).collect();
        let data = self.data.display().to_string();
        let pairs = [
            ["--name", &self.name],
            ["--data-dir", &data],
            ["--listen-client-urls", &self.client],
            ["--advertise-client-urls", &self.client],
            ["--listen-peer-urls", &self.peer],
            ["--initial-advertise-peer-urls", &self.peer],
            ["--initial-cluster", &all.join(",")],
            ["--initial-cluster-state", "new"],
            ["--logger", "zap"],
            ["--log-level", "warn"],
        ];
        pairs.as_flattened().iter().map(ToString::to_string).chain(self.more.iter().cloned()).collect()
    }

    /// Returns the command that runs the member in the calling thread's namespace.
    pub fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(self.arguments());
        command
    }
}
