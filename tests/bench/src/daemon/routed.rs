//! Ours.

use std::fmt::Write;

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{
    bed::{Bed, DAEMON},
    contender::Contender,
    load::AS_NUMBER,
};

/// A port on which no client listens: `routed` has no passive sessions, and what it dials is refused.
const CLOSED_PORT: u16 = 9;

/// Its control socket's name in the bed.
pub(super) const SOCKET: &str = "routed.sock";

/// Starts it as a reflector.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    bed.write("resources/reflector.yaml", &resources(reflector))?;
    let config = format!(
        "node: reflector\n\
         socket: {}\n\
         stateDir: {}\n\
         status: off\n\
         dataplane: none\n\
         datastore: {{ file: {} }}\n\
         log: warn\n",
        bed.path(SOCKET).display(),
        bed.path("state").display(),
        bed.path("resources").display()
    );
    let path = bed.write("routed.yaml", &config)?;
    Daemon::start(&contender.program, ["--config".as_ref(), path.as_path()], bed.path("routed.log"))
}

fn resources(reflector: &Reflector) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: BGPConfiguration\n\
         metadata: {{ name: default }}\n\
         spec: {{ asNumber: {AS_NUMBER}, nodeToNodeMeshEnabled: false, routed: {{ fallback: none }} }}\n\
         ---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: Node\n\
         metadata: {{ name: reflector }}\n\
         spec: {{ bgp: {{ ipv4Address: {DAEMON}/8, routeReflectorClusterID: {DAEMON} }} }}\n"
    );
    for (number, address) in reflector.clients() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\n\
             apiVersion: projectcalico.org/v3\n\
             kind: BGPPeer\n\
             metadata: {{ name: c-{number} }}\n\
             spec: {{ peerIP: \"{address}:{CLOSED_PORT}\", asNumber: {AS_NUMBER} }}\n"
        );
    }
    text
}
