//! BIRD 2. There is nothing to tune: no timer delays updates, and its backlog of 8 is built in.

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
    let path = bed.write("bird.conf", &config(reflector))?;
    let (control, pid) = (bed.path("bird.ctl"), bed.path("bird.pid"));
    let arguments =
        ["-f".as_ref(), "-c".as_ref(), path.as_path(), "-s".as_ref(), &control, "-P".as_ref(), &pid];
    Daemon::start(&contender.program, arguments, bed.path("bird.log"))
}

fn config(reflector: &Reflector) -> String {
    let mut text = format!(
        "router id {DAEMON};\n\
         log stderr {{ warning, error, fatal, bug }};\n\
         protocol device {{}}\n\
         template bgp node {{\n  \
           local {DAEMON} as {AS_NUMBER};\n  direct;\n  passive yes;\n  rr client;\n  rr cluster id {DAEMON};\n  \
           ipv4 {{ import all; export all; }};\n\
         }}\n"
    );
    for (number, address) in reflector.clients() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "protocol bgp c{number} from node {{ neighbor {address} as {AS_NUMBER}; }}");
    }
    text
}
