//! BGPPeer: sessions in addition to those of the mesh.

use std::net::IpAddr;
use std::time::Duration;

use super::bfd::{self, BfdSettings};
use super::kind::Kind;
use super::mistake::Origin;
use super::peer_policy::{self, PeerPolicyFields};
use super::reader::{Fields, Report};
use super::scalar;
use super::security::{self, Security};
use super::selector::Selector;
use super::tree::Value;

/// A BGP session, or, with selectors, many.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpPeer {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: String,
    /// The only node that has this peer. If `node_selector` is absent too, every node has it.
    pub node: Option<String>,
    /// The nodes that have this peer.
    pub node_selector: Option<Selector>,
    /// The peer's address and, if given, its port. Exactly one of this, `peer_selector` and
    /// `policy.range` is set.
    pub peer_ip: Option<(IpAddr, Option<u16>)>,
    /// The nodes that are the peers.
    pub peer_selector: Option<Selector>,
    /// The AS number of the peer at `peer_ip`, which always has one.
    pub as_number: Option<u32>,
    /// The local address of the session (`spec.sourceAddress`).
    pub source_address: SourceAddress,
    /// `spec.keepaliveTime`, at least 1 s. `None` is a third of the hold time.
    pub keepalive_time: Option<Duration>,
    /// `spec.maxRestartTime`: the restart time that the node advertises (RFC 4724), 120 s.
    pub max_restart_time: Duration,
    /// `spec.reversePeering`: the configuration of reverse sessions at the selected peers.
    pub reverse_peering: ReversePeering,
    /// The protection of the session.
    pub security: Security,
    /// The BFD parameters (`spec.routed.bfd`); `None` without BFD.
    pub bfd: Option<BfdSettings>,
    /// The policy for routes exchanged with the peer.
    pub policy: PeerPolicyFields,
}

/// The local address of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceAddress {
    /// The node's address.
    #[default]
    UseNodeIp,
    /// The address that the kernel chooses.
    None,
}

/// The configuration of reverse sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReversePeering {
    /// Selected peers get the reverse session without a resource of their own.
    #[default]
    Auto,
    /// Selected peers need a resource of their own.
    Manual,
}

/// Reads the `spec` of a v3 BGPPeer.
pub(crate) fn read_v3(
    origin: Origin,
    name: String,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<BgpPeer> {
    let Some(mut spec) = spec else {
        report.mistake(origin.line, "spec", "is required");
        return None;
    };
    let mut peer = BgpPeer {
        origin,
        name,
        node: spec.optional("node", report, scalar::name),
        node_selector: spec.optional("nodeSelector", report, scalar::selector),
        peer_ip: spec.optional("peerIP", report, scalar::peer_address),
        peer_selector: spec.optional("peerSelector", report, scalar::selector),
        as_number: spec.optional("asNumber", report, scalar::as_number),
        source_address: spec
            .optional(
                "sourceAddress",
                report,
                scalar::one_of(&[("UseNodeIP", SourceAddress::UseNodeIp), ("None", SourceAddress::None)]),
            )
            .unwrap_or_default(),
        keepalive_time: spec.optional("keepaliveTime", report, |value| {
            let time = scalar::duration(value)?;
            if time < Duration::from_secs(1) { Err("must be at least 1s".into()) } else { Ok(time) }
        }),
        max_restart_time: spec
            .optional("maxRestartTime", report, scalar::restart_time)
            .unwrap_or(scalar::DEFAULT_RESTART_TIME),
        reverse_peering: spec
            .optional(
                "reversePeering",
                report,
                scalar::one_of(&[("Auto", ReversePeering::Auto), ("Manual", ReversePeering::Manual)]),
            )
            .unwrap_or_default(),
        policy: peer_policy::read(&mut spec, report),
        security: Security::default(),
        bfd: None,
    };
    for field in ["reachableBy", "localWorkloadSelector"] {
        spec.refused(Kind::BgpPeer, field, report, |value| *value == Value::Text(String::new()));
    }
    let mut routed = spec.fields("routed", report);
    peer.security = security::read_peer(&mut spec, routed.as_mut(), report);
    if let Some(mut routed) = routed {
        peer.bfd = bfd::read(&mut routed, report);
        peer_policy::read_routed(&mut routed, &mut peer.policy, report);
        routed.finish(report);
    }
    let line = |field: &str| spec.line(field);
    let (node, peer_ip, as_number) = (line("node"), line("peerIP"), line("asNumber"));
    let written = |field: &str| report.lines.contains_key(field);
    let has = ["node", "nodeSelector", "peerIP", "peerSelector", "asNumber"]
        .map(|field| written(&format!("spec.{field}")));
    let range = line("routed");
    let has_range = written("spec.routed.peerRange");
    spec.finish(report);

    // The rules test for written fields, so that a field with a mistake of its own isn't
    // reported as missing.
    let [has_node, has_node_selector, has_peer_ip, has_peer_selector, has_as_number] = has;
    if has_node && has_node_selector {
        report.mistake(node, "spec.node", "excludes nodeSelector: keep one of them");
    }
    if has_peer_ip && has_peer_selector {
        report.mistake(peer_ip, "spec.peerIP", "excludes peerSelector: keep one of them");
    }
    if has_as_number && has_peer_selector {
        report.mistake(
            as_number,
            "spec.asNumber",
            "excludes peerSelector: the nodes have their own AS numbers",
        );
    }
    if !has_peer_ip && !has_peer_selector && !has_range {
        let rule = "is required, unless peerSelector or routed.peerRange is given";
        report.mistake(peer_ip, "spec.peerIP", rule);
    }
    if has_range && (has_peer_ip || has_peer_selector) {
        let rule = "excludes peerIP and peerSelector: keep one of them";
        report.mistake(range, "spec.routed.peerRange", rule);
    }
    if has_peer_ip && !has_as_number {
        report.mistake(as_number, "spec.asNumber", "is required with peerIP");
    }
    if has_range && peer.security.password_file.is_some() {
        let rule =
            "excludes passwordFile, which is for one peer at a time: give such peers resources of their own";
        report.mistake(range, "spec.routed.peerRange", rule);
    }
    Some(peer)
}

/// Returns the v3 manifest of a v1 `bgpPeer`.
pub(crate) fn v3_manifest(peer: &BgpPeer) -> serde_json::Value {
    let mut spec = serde_json::Map::new();
    if let Some((address, _)) = peer.peer_ip {
        spec.insert("peerIP".into(), address.to_string().into());
    }
    if let Some(as_number) = peer.as_number {
        spec.insert("asNumber".into(), as_number.into());
    }
    if let Some(node) = &peer.node {
        spec.insert("node".into(), node.clone().into());
    }
    serde_json::json!({
        "apiVersion": super::API_VERSION, "kind": "BGPPeer", "metadata": { "name": peer.name }, "spec": spec,
    })
}

/// Reads a v1 `bgpPeer`. Scope, node and address are in the metadata.
pub(crate) fn read_v1(
    origin: Origin,
    mut metadata: Fields<'_>,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<BgpPeer> {
    let global = metadata.required("scope", report, scalar::one_of(&[("global", true), ("node", false)]));
    let node = metadata.optional("node", report, scalar::name);
    let address = metadata.required("peerIP", report, |value| match scalar::peer_address(value)? {
        (address, None) => Ok(address),
        _ => Err("must be an address without a port".into()),
    });
    let (node_line, has_node) = (metadata.line("node"), report.lines.contains_key("metadata.node"));
    metadata.finish(report);
    match global {
        Some(true) if has_node => {
            report.mistake(node_line, "metadata.node", "must be left out where scope is global")
        }
        Some(false) if !has_node => {
            report.mistake(node_line, "metadata.node", "is required where scope is node")
        }
        _ => {}
    }
    let as_number = match spec {
        Some(mut spec) => {
            let as_number = spec.required("asNumber", report, scalar::as_number);
            spec.finish(report);
            as_number
        }
        None => {
            report.mistake(origin.line, "spec", "is required");
            None
        }
    };
    let address = address?;
    let name = format!("{}-{address}", node.as_deref().unwrap_or("global")).replace(['.', ':'], "-");
    Some(BgpPeer {
        origin,
        name: name.trim_end_matches('-').to_owned(),
        node,
        node_selector: None,
        peer_ip: Some((address, None)),
        peer_selector: None,
        as_number,
        source_address: SourceAddress::default(),
        keepalive_time: None,
        max_restart_time: scalar::DEFAULT_RESTART_TIME,
        reverse_peering: ReversePeering::default(),
        bfd: None,
        security: Security::default(),
        policy: PeerPolicyFields::default(),
    })
}
