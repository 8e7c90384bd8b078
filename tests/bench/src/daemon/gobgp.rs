//! GoBGP. Nothing to tune: no timer delays updates.

use std::fmt::Write;

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{
    bed::{Bed, DAEMON},
    contender::Contender,
    load::AS_NUMBER,
};

/// Starts it as a reflector.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    let path = bed.write("gobgp.toml", &config(reflector))?;
    let path = path.to_string_lossy().into_owned();
    let api = "--api-hosts=127.0.0.1:50051";
    let arguments = ["-f", &path, "--log-plain", "--log-level=warn", "--pprof-disable", api];
    Daemon::start(&contender.program, arguments, bed.path("gobgp.log"))
}

fn config(reflector: &Reflector) -> String {
    let mut text = format!(
        "[global.config]\n  as = {AS_NUMBER}\n  router-id = \"{DAEMON}\"\n  \
         local-address-list = [\"{DAEMON}\"]\n"
    );
    for (_, address) in reflector.clients() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "[[neighbors]]\n  \
               [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {AS_NUMBER}\n  \
               [neighbors.transport.config]\n    passive-mode = true\n    local-address = \"{DAEMON}\"\n  \
               [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
                 route-reflector-cluster-id = \"{DAEMON}\"\n"
        );
    }
    text
}
