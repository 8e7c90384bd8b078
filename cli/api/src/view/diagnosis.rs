//! What `routectl doctor` is answered.

use serde::{Deserialize, Serialize};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The daemon does not do all it should.
    NotReady,
    /// Resources are wrong, and do not run.
    Resources,
    /// Two nodes have one tunnel address, or one Ethernet address.
    DuplicateTunnelAddress,
    /// A node's subnet is a /32, while a pool is cross-subnet.
    NodeSubnet,
    /// Of two nodes one is in the other's subnet, but not the other way round.
    SubnetAsymmetry,
    /// The datastore is out of reach.
    Store,
    /// A session is not Established.
    Session,
    /// Nobody can call this node.
    NotListening,
    /// A tunnel is not answered.
    Tunnel,
    /// The clock differs from another node's.
    Clock,
    /// The kernel lacks a module.
    Module,
    /// The kernel refuses what it is told.
    Kernel,
    /// A sysctl is not as it must be.
    Sysctl,
    /// The kernel drops what arrives by another way than answers leave by.
    RpFilter,
    /// A firewall drops what nodes send each other.
    Firewall,
    /// Another program's route is used instead of routed's.
    ForeignRoute,
    /// A rule of policy routing comes before table main.
    ForeignRule,
    /// Packets are longer than what fits.
    Mtu,
    /// Anything else that somebody should know of.
    Warning,
}

impl Code {
    /// Every one.
    pub const ALL: [Code; 19] = [
        Code::NotReady,
        Code::Resources,
        Code::DuplicateTunnelAddress,
        Code::NodeSubnet,
        Code::SubnetAsymmetry,
        Code::Store,
        Code::Session,
        Code::NotListening,
        Code::Tunnel,
        Code::Clock,
        Code::Module,
        Code::Kernel,
        Code::Sysctl,
        Code::RpFilter,
        Code::Firewall,
        Code::ForeignRoute,
        Code::ForeignRule,
        Code::Mtu,
        Code::Warning,
    ];
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Packets are lost, or will be.
    Error,
    /// It works, but not as it is meant to, or it may stop to.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub code: Code,
    /// It in words, one line.
    pub text: String,
    /// What it was seen by, one line.
    pub evidence: String,
    /// The command that mends it, or what to do.
    pub remedy: String,
}

impl Finding {
    /// Makes a finding of [`Level::Error`].
    pub fn error(
        code: Code,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding {
            level: Level::Error,
            code,
            text: text.into(),
            evidence: evidence.into(),
            remedy: remedy.into(),
        }
    }

    /// Makes a finding of [`Level::Warning`].
    pub fn warning(
        code: Code,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { level: Level::Warning, ..Finding::error(code, text, evidence, remedy) }
    }
}

/// What was found, and how much was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The node that was looked at.
    pub node: String,
    /// How many things were looked at.
    pub checks: usize,
    /// What could not be looked at, one line each.
    pub not_seen: Vec<String>,
    /// What is wrong, the worst first.
    pub findings: Vec<Finding>,
}
