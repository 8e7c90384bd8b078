//! OpenBGPD: three processes. Nothing to tune: no timer delays updates, and its backlog is built in.

use std::{fmt::Write, fs};

use anyhow::{Context, Result};

use super::{Daemon, Reflector};
use crate::{
    bed::{Bed, DAEMON},
    contender::Contender,
    load::AS_NUMBER,
};

/// The chroot of its processes; systemd creates it for the packaged service.
const CHROOT: &str = "/run/openbgpd";

/// Starts it as a reflector.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    fs::create_dir_all(CHROOT).with_context(|| format!("can't make {CHROOT}"))?;
    let path = bed.write("openbgpd.conf", &config(bed, reflector))?;
    // It refuses a configuration that other users could change.
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Daemon::start(
        &contender.program,
        ["-d".as_ref(), "-f".as_ref(), path.as_path()],
        bed.path("openbgpd.log"),
    )
}

fn config(bed: &Bed, reflector: &Reflector) -> String {
    let mut text = format!(
        "AS {AS_NUMBER}\n\
         router-id {DAEMON}\n\
         listen on {DAEMON}\n\
         socket \"{}\"\n\
         fib-update no\n\
         nexthop qualify via default\n\
         allow from any\n\
         allow to any\n\
         group \"clients\" {{\n  \
           remote-as {AS_NUMBER}\n  \
           passive\n  \
           route-reflector {DAEMON}\n",
        bed.path("openbgpd.sock").display()
    );
    for (_, address) in reflector.clients() {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  neighbor {address}");
    }
    text + "}\n"
}
