//! The answer to `routectl doctor`.

use serde::{Deserialize, Serialize};

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingCode {
    /// The daemon is not ready.
    NotReady,
    /// Resources have mistakes and are not used.
    Resources,
    /// Two nodes have the same tunnel address or MAC address.
    DuplicateTunnelAddress,
    /// A node's subnet is a /32, while a pool is cross-subnet.
    NodeSubnet,
    /// Only one of two nodes is in the other's subnet.
    SubnetAsymmetry,
    /// The datastore is out of reach.
    Store,
    /// A session is not Established.
    Session,
    /// BGP does not listen, so that no peer can connect.
    NotListening,
    /// A tunnel does not answer.
    Tunnel,
    /// The clock differs from another node's.
    Clock,
    /// The kernel lacks a module.
    Module,
    /// The kernel refuses an object.
    Kernel,
    /// A sysctl does not have the required value.
    Sysctl,
    /// Reverse path filtering drops packets.
    RpFilter,
    /// A firewall drops packets between nodes.
    Firewall,
    /// A route of another program precedes routed's route.
    ForeignRoute,
    /// A policy routing rule precedes table main.
    ForeignRule,
    /// Packets are longer than the MTU of their path.
    Mtu,
    /// Any other warning.
    Warning,
}

impl FindingCode {
    /// All codes.
    pub const ALL: [FindingCode; 19] = [
        FindingCode::NotReady,
        FindingCode::Resources,
        FindingCode::DuplicateTunnelAddress,
        FindingCode::NodeSubnet,
        FindingCode::SubnetAsymmetry,
        FindingCode::Store,
        FindingCode::Session,
        FindingCode::NotListening,
        FindingCode::Tunnel,
        FindingCode::Clock,
        FindingCode::Module,
        FindingCode::Kernel,
        FindingCode::Sysctl,
        FindingCode::RpFilter,
        FindingCode::Firewall,
        FindingCode::ForeignRoute,
        FindingCode::ForeignRule,
        FindingCode::Mtu,
        FindingCode::Warning,
    ];
}

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Packets are lost, or will be.
    Error,
    /// A deviation that does not lose packets yet.
    Warning,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The severity.
    pub level: Severity,
    /// The kind of problem.
    pub code: FindingCode,
    /// The problem, one line.
    pub text: String,
    /// The evidence, one line.
    pub evidence: String,
    /// The command that repairs it, or another remedy.
    pub remedy: String,
}

impl Finding {
    /// Makes a finding of [`Severity::Error`].
    pub fn error(
        code: FindingCode,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding {
            level: Severity::Error,
            code,
            text: text.into(),
            evidence: evidence.into(),
            remedy: remedy.into(),
        }
    }

    /// Makes a finding of [`Severity::Warning`].
    pub fn warning(
        code: FindingCode,
        text: impl Into<String>,
        evidence: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { level: Severity::Warning, ..Finding::error(code, text, evidence, remedy) }
    }
}

/// The findings of all checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// The checked node.
    pub node: String,
    /// The number of checks.
    pub checks: usize,
    /// The aspects that could not be checked, one line each.
    pub not_seen: Vec<String>,
    /// The findings, the most severe first.
    pub findings: Vec<Finding>,
}
