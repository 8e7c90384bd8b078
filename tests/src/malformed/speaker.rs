//! The speakers that are put to the test, each as a route reflector of AS 65000 at 10.99.0.1 that
//! takes everything from its six peers and passes it on.

use std::fmt::{self, Write};
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::case::{DUT, DUT_AS, Role};
use testbed::{Process, Testbed, product, run};

/// A BGP speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// Ours.
    Routed,
    /// BIRD 2.
    Bird,
    /// FRR's bgpd, without zebra.
    Frr,
    /// GoBGP.
    Gobgp,
    /// OpenBGPD.
    Openbgpd,
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speaker::Routed => "routed",
            Speaker::Bird => "bird",
            Speaker::Frr => "frr",
            Speaker::Gobgp => "gobgp",
            Speaker::Openbgpd => "openbgpd",
        })
    }
}

impl Speaker {
    /// All of them, ours first.
    pub const ALL: [Speaker; 5] =
        [Speaker::Routed, Speaker::Bird, Speaker::Frr, Speaker::Gobgp, Speaker::Openbgpd];

    /// Its Debian package; ours has none.
    pub fn package(self) -> Option<&'static str> {
        match self {
            Speaker::Routed => None,
            Speaker::Bird => Some("bird2"),
            Speaker::Frr => Some("frr"),
            Speaker::Gobgp => Some("gobgpd"),
            Speaker::Openbgpd => Some("openbgpd"),
        }
    }

    /// The version that is installed.
    ///
    /// # Panics
    /// Its package is not installed.
    pub fn version(self) -> String {
        match self.package() {
            None => env!("CARGO_PKG_VERSION").to_owned(),
            Some(package) => run("dpkg-query", &["-W", "-f", "${Version}", package]),
        }
    }

    /// Returns the output of `routectl show peers -o json`, for routed alone.
    pub(super) fn show_peers(self, bed: &Testbed) -> Option<Value> {
        if self != Speaker::Routed {
            return None;
        }
        let routectl = product("routectl");
        let arguments = ["--socket", &text(bed, "routed.sock"), "show", "peers", "-o", "json"];
        let shown = run(routectl.to_str().expect("UTF-8"), &arguments);
        Some(serde_json::from_str(&shown).expect("JSON"))
    }

    pub(super) fn start(self, bed: &Testbed) -> Process {
        match self {
            Speaker::Routed => routed(bed),
            Speaker::Bird => bird(bed),
            Speaker::Frr => frr(bed),
            Speaker::Gobgp => gobgp(bed),
            Speaker::Openbgpd => openbgpd(bed),
        }
    }
}

fn text(bed: &Testbed, name: &str) -> String {
    bed.path(name).to_str().expect("UTF-8").to_owned()
}

fn routed(bed: &Testbed) -> Process {
    const V3: &str = "apiVersion: projectcalico.org/v3";
    let mut resources = format!(
        "{V3}\nkind: Node\nmetadata: {{ name: dut }}\nspec: {{ bgp: {{ ipv4Address: {DUT}/24, \
         ipv6Address: \"2001:db8:99::1/64\", asNumber: {DUT_AS}, routeReflectorClusterID: {DUT} }} }}\n"
    );
    for role in Role::ALL {
        // Writing to a String cannot fail.
        let _ = write!(
            resources,
            "---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: {} }}\nspec: {{ peerIP: {}, asNumber: {}, filters: [everything] }}\n",
            format!("{role:?}").to_lowercase(),
            role.address(),
            role.asn()
        );
    }
    // Without a filter an external peer's routes are not taken (RFC 8212).
    let accept = "[{ action: Accept }]";
    resources += &format!(
        "---\n{V3}\nkind: BGPFilter\nmetadata: {{ name: everything }}\n\
         spec: {{ importV4: {accept}, importV6: {accept}, exportV4: {accept}, exportV6: {accept} }}\n"
    );
    bed.write("resources/all.yaml", &resources);
    let config = format!(
        "node: dut\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {{ file: {} }}\nlog: warn\n",
        text(bed, "routed.sock"),
        text(bed, "state"),
        text(bed, "resources")
    );
    bed.write("routed.yaml", &config);
    let program = product("routed");
    bed.start("a", program.to_str().expect("UTF-8"), &["--config", &text(bed, "routed.yaml")])
}

fn bird(bed: &Testbed) -> Process {
    let mut config = format!(
        "router id {DUT};\nlog stderr {{ fatal, bug }};\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
         template bgp plain {{\n  local {DUT} as {DUT_AS};\n  direct;\n  passive yes;\n  \
         error wait time 1, 1;\n  ipv4 {{ import all; export where source = RTS_BGP; }};\n  \
         ipv6 {{ import all; export where source = RTS_BGP; }};\n}}\n\
         template bgp reflected from plain {{ rr client; rr cluster id {DUT}; }}\n"
    );
    for role in Role::ALL {
        let template = if role.is_internal() { "reflected" } else { "plain" };
        let _ = writeln!(
            config,
            "protocol bgp p{} from {template} {{ neighbor {} as {}; }}",
            role as u8,
            role.address(),
            role.asn()
        );
    }
    bed.write("bird.conf", &config);
    let [conf, control, pid] = ["bird.conf", "bird.ctl", "bird.pid"].map(|name| text(bed, name));
    bed.start("a", "/usr/sbin/bird", &["-f", "-c", &conf, "-s", &control, "-P", &pid])
}

fn frr(bed: &Testbed) -> Process {
    let mut config = format!(
        "log stdout errors\nrouter bgp {DUT_AS}\n bgp router-id {DUT}\n bgp cluster-id {DUT}\n \
         no bgp default ipv4-unicast\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         coalesce-time 0\n"
    );
    for role in Role::ALL {
        let address = role.address();
        let _ = write!(
            config,
            " neighbor {address} remote-as {}\n neighbor {address} passive\n \
             neighbor {address} advertisement-interval 0\n",
            role.asn()
        );
    }
    for family in ["ipv4", "ipv6"] {
        let _ = writeln!(config, " address-family {family} unicast");
        for role in Role::ALL {
            let _ = writeln!(config, "  neighbor {} activate", role.address());
            if role.is_internal() {
                let _ = writeln!(config, "  neighbor {} route-reflector-client", role.address());
            }
        }
        config.push_str(" exit-address-family\n");
    }
    bed.write("bgpd.conf", &config);
    let [conf, pid] = ["bgpd.conf", "bgpd.pid"].map(|name| text(bed, name));
    let directory = text(bed, "");
    let arguments = [
        "--no_zebra",
        "--skip_runas",
        "--config_file",
        &conf,
        "--pid_file",
        &pid,
        "--vty_socket",
        &directory,
        "--vty_port",
        "0",
    ];
    bed.start("a", "/usr/lib/frr/bgpd", &arguments)
}

fn gobgp(bed: &Testbed) -> Process {
    let mut config = format!(
        "[global.config]\n  as = {DUT_AS}\n  router-id = \"{DUT}\"\n  local-address-list = [\"{DUT}\"]\n"
    );
    for role in Role::ALL {
        let _ = write!(
            config,
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{}\"\n    peer-as = {}\n  \
             [neighbors.timers.config]\n    idle-hold-time-after-reset = 1\n  \
             [neighbors.transport.config]\n    passive-mode = true\n    local-address = \"{DUT}\"\n  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv4-unicast\"\n  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv6-unicast\"\n",
            role.address(),
            role.asn()
        );
        if role.is_internal() {
            let _ = write!(
                config,
                "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    \
                 route-reflector-cluster-id = \"{DUT}\"\n"
            );
        }
    }
    bed.write("gobgp.toml", &config);
    let conf = text(bed, "gobgp.toml");
    let arguments =
        ["-f", &conf, "--log-plain", "--log-level=warn", "--pprof-disable", "--api-hosts=127.0.0.1:50051"];
    bed.start("a", "/usr/bin/gobgpd", &arguments)
}

fn openbgpd(bed: &Testbed) -> Process {
    // The chroot of its processes; systemd creates it for the packaged service.
    fs::create_dir_all("/run/openbgpd").expect("to make /run/openbgpd");
    let mut config = format!(
        "AS {DUT_AS}\nrouter-id {DUT}\nlisten on {DUT}\nsocket \"{}\"\nfib-update no\n\
         nexthop qualify via default\nallow from any\nallow to any\n",
        text(bed, "openbgpd.sock")
    );
    for role in Role::ALL {
        let reflector = if role.is_internal() { format!("  route-reflector {DUT}\n") } else { String::new() };
        let _ = write!(
            config,
            "neighbor {} {{\n  remote-as {}\n  passive\n  announce IPv4 unicast\n  announce IPv6 unicast\n{reflector}}}\n",
            role.address(),
            role.asn()
        );
    }
    let path = bed.write("openbgpd.conf", &config);
    // It refuses a configuration that others could change.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("to set permissions");
    bed.start("a", "/usr/sbin/bgpd", &["-d", "-f", &text(bed, "openbgpd.conf")])
}
