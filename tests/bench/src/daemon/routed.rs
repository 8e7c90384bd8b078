//! Ours.

use std::net::Ipv4Addr;

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{
    bed::{Bed, DAEMON},
    contender::Contender,
    load::AS_NUMBER,
};

/// A port on which no client listens: `routed` has no passive sessions, and what it dials is refused.
const CLOSED_PORT: u16 = 9;

/// The name of its control socket in the bed.
pub(super) const SOCKET: &str = "routed.sock";

/// Starts it as a reflector.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    start_with(contender, bed, "reflector", "none", &resources(reflector))
}

/// Starts it as a node with these resources, in an AS without a mesh, and this `dataplane`.
pub(crate) fn start_with(
    contender: &Contender,
    bed: &Bed,
    node: &str,
    dataplane: &str,
    resources: &str,
) -> Result<Daemon> {
    let resources = format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: BGPConfiguration\n\
         metadata: {{ name: default }}\n\
         spec: {{ asNumber: {AS_NUMBER}, nodeToNodeMeshEnabled: false, routed: {{ fallback: none }} }}\n\
         ---\n{resources}"
    );
    bed.write("resources/all.yaml", &resources)?;
    let config = format!(
        "node: {node}\n\
         socket: {}\n\
         stateDir: {}\n\
         status: off\n\
         dataplane: {dataplane}\n\
         datastore: {{ file: {} }}\n\
         log: warn\n",
        bed.path(SOCKET).display(),
        bed.path("state").display(),
        bed.path("resources").display()
    );
    let path = bed.write("routed.yaml", &config)?;
    Daemon::start(&contender.program, ["--config".as_ref(), path.as_path()], bed.path("routed.log"))
}

/// Returns the BGPPeer of a client that connects.
pub(crate) fn caller(name: &str, address: Ipv4Addr) -> String {
    format!(
        "---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: BGPPeer\n\
         metadata: {{ name: {name} }}\n\
         spec: {{ peerIP: \"{address}:{CLOSED_PORT}\", asNumber: {AS_NUMBER} }}\n"
    )
}

fn resources(reflector: &Reflector) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: Node\n\
         metadata: {{ name: reflector }}\n\
         spec: {{ bgp: {{ ipv4Address: {DAEMON}/8, routeReflectorClusterID: {DAEMON} }} }}\n"
    );
    for (number, address) in reflector.clients() {
        text += &caller(&format!("c-{number}"), address);
    }
    text
}
