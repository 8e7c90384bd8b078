//! FRR's bgpd, without zebra: nothing is installed and every next hop counts as reachable.

use std::{ffi::OsString, fmt::Write};

use anyhow::Result;

use super::{Daemon, Reflector};
use crate::{
    bed::{Bed, DAEMON},
    contender::Contender,
    load::AS_NUMBER,
};

/// Starts it as a reflector.
pub(super) fn start(contender: &Contender, bed: &Bed, reflector: &Reflector) -> Result<Daemon> {
    let path = bed.write("bgpd.conf", &config(contender.tuned, reflector))?;
    let arguments: Vec<OsString> = vec![
        "--no_zebra".into(),
        "--skip_runas".into(),
        "--listenon".into(),
        DAEMON.to_string().into(),
        "--config_file".into(),
        path.into(),
        "--pid_file".into(),
        bed.path("bgpd.pid").into(),
        "--vty_socket".into(),
        bed.directory().into(),
        "--vty_port".into(),
        "0".into(),
    ];
    Daemon::start(&contender.program, arguments, bed.path("bgpd.log"))
}

fn config(tuned: bool, reflector: &Reflector) -> String {
    let mut text = format!(
        "log stdout warnings\n\
         router bgp {AS_NUMBER}\n \
           bgp router-id {DAEMON}\n \
           bgp cluster-id {DAEMON}\n \
           no bgp default ipv4-unicast\n"
    );
    if tuned {
        // As shipped, a new update group is delayed by 1 s and more.
        text.push_str(" coalesce-time 0\n");
    }
    let _ = write!(
        text,
        " neighbor clients peer-group\n \
          neighbor clients remote-as {AS_NUMBER}\n \
          neighbor clients passive\n"
    );
    if tuned {
        text.push_str(" neighbor clients advertisement-interval 0\n");
    }
    for (_, address) in reflector.clients() {
        let _ = writeln!(text, " neighbor {address} peer-group clients");
    }
    text.push_str(
        " address-family ipv4 unicast\n  \
           neighbor clients activate\n  \
           neighbor clients route-reflector-client\n \
          exit-address-family\n",
    );
    text
}
