//! The other speakers' configurations, and how each is started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use testbed::{Process, Testbed, eventually};

use super::speakers::{PASSWORD, Setup};
use super::{ASN, THEIRS, THEIRS_V6};

fn text(path: &std::path::Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

pub(super) fn bird(bed: &Testbed, setup: Setup) -> (String, Vec<Process>) {
    let Setup { asn, reflects, .. } = setup;
    let (client, rest) = if reflects { ("rr client;", "accept;") } else { ("", "reject;") };
    let filter = format!(
        "filter {{ if source = RTS_STATIC then {{ bgp_large_community.add((64512, 1, 2)); accept; }} if source = RTS_BGP \
         then {{ {rest} }} reject; }}"
    );
    let (more, paths) = match setup.all {
        true => (format!("password \"{PASSWORD}\";\n  graceful restart on;"), "add paths on;"),
        false => (String::new(), ""),
    };
    let (bfd, watch) = match setup.bfd {
        true => ("bfd on;", "protocol bfd { interface \"*\" { interval 300 ms; multiplier 3; }; }\n"),
        false => ("", ""),
    };
    let session = |name: &str, address: &str, passive: &str| {
        format!(
            "protocol bgp {name} {{\n  {more}\n  {bfd}\n  local 10.0.0.2 as {asn};\n  neighbor {address} as {ASN};\n  {passive}\n  {client}\n  \
             connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  enable extended messages on;\n  \
             ipv4 {{ {paths} import all; export {filter}; }};\n  \
             ipv6 {{ {paths} import all; export {filter}; next hop address fd00::2; }};\n}}\n"
        )
    };
    let mut config = format!(
        "router id 10.0.0.2;\n{watch}protocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
         protocol static {{ ipv4; route {THEIRS} blackhole; }}\n\
         protocol static {{ ipv6; route {THEIRS_V6} blackhole; }}\n"
    );
    config += &session("routed", "10.0.0.1", "");
    if reflects {
        config += &session("third", "10.0.0.3", "passive on;");
    }
    let config = text(&bed.write("bird.conf", &config));
    let (control, pid) = (text(&bed.path("bird.ctl")), text(&bed.path("bird.pid")));
    let mut words = vec!["-f", "-c", &config, "-s", &control, "-P", &pid];
    // Without it BIRD does not set the restart bit.
    words.extend(setup.again.then_some("-R"));
    let process = bed.start("b", "bird", &words);
    (control, vec![process])
}

pub(super) fn frr(bed: &Testbed, setup: Setup) -> (String, Vec<Process>) {
    let Setup { asn, reflects, .. } = setup;
    let mut neighbors = format!(
        " neighbor 10.0.0.1 remote-as {ASN}\n neighbor 10.0.0.1 timers connect 1\n neighbor 10.0.0.1 \
         advertisement-interval 0\n"
    );
    let (mut v4, mut v6) = (String::new(), " neighbor 10.0.0.1 activate\n".to_owned());
    if setup.all {
        neighbors += &format!(
            " neighbor 10.0.0.1 password {PASSWORD}\n bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n"
        );
        v4 += " neighbor 10.0.0.1 addpath-tx-all-paths\n";
    }
    if reflects {
        neighbors += &format!(
            " neighbor 10.0.0.3 remote-as {ASN}\n neighbor 10.0.0.3 passive\n neighbor 10.0.0.3 advertisement-interval \
             0\n"
        );
        v6 += " neighbor 10.0.0.3 activate\n";
        for address in ["10.0.0.1", "10.0.0.3"] {
            let line = format!(" neighbor {address} route-reflector-client\n");
            v4 += &line;
            v6 += &line;
        }
    }
    let bgpd = bed.write(
        "frr/bgpd.conf",
        &format!(
            "router bgp {asn}\n bgp router-id 10.0.0.2\n no bgp network import-check\n no bgp \
             ebgp-requires-policy\n{neighbors} address-family ipv4 unicast\n  network {THEIRS} route-map own\n{v4} \
             exit-address-family\n address-family ipv6 unicast\n  network {THEIRS_V6} route-map own6\n{v6} \
             exit-address-family\n!\nroute-map own permit 10\n set large-community 64512:1:2\nroute-map own6 permit 10\n set large-community 64512:1:2\n set ipv6 next-hop global fd00::2\n"
        ),
    );
    let zebra = bed.write("frr/zebra.conf", "hostname frr\n");
    let directory = text(&bed.path("frr"));
    for (path, mode) in [(bed.path(""), 0o755), (bed.path("frr"), 0o777)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its permissions");
    }
    let zserv = format!("{directory}/zserv.api");
    let start = |name: &str, config: &str| {
        let pid = format!("{directory}/{name}.pid");
        let words = ["-f", config, "-i", &pid, "-z", &zserv, "--vty_socket", &directory, "-A", "127.0.0.1"];
        bed.start("b", &format!("/usr/lib/frr/{name}"), &words)
    };
    let mut processes = vec![start("zebra", &text(&zebra)), start("bgpd", &text(&bgpd))];
    if setup.bfd {
        let bfdd = bed.write(
            "frr/bfdd.conf",
            "bfd\n peer 10.0.0.1 local-address 10.0.0.2 interface br0\n  receive-interval 300\n  transmit-interval 300\n  \
             detect-multiplier 3\n  no shutdown\n",
        );
        let (config, pid, control) =
            (text(&bfdd), format!("{directory}/bfdd.pid"), format!("{directory}/bfdd.sock"));
        let words = ["-f", &config, "-i", &pid, "-z", &zserv, "--vty_socket", &directory, "-A", "127.0.0.1"];
        let words = [&words[..], &["--bfdctl", &control]].concat();
        processes.push(bed.start("b", "/usr/lib/frr/bfdd", &words));
    }
    (directory.clone(), processes)
}

pub(super) fn gobgp(bed: &Testbed, setup: Setup) -> (String, Vec<Process>) {
    let Setup { asn, reflects, .. } = setup;
    let neighbor = |address: &str, passive: bool| {
        let client = if reflects {
            "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = \
             \"10.0.0.2\"\n"
        } else {
            ""
        };
        let (mut password, mut restart, mut family) = (String::new(), "", "");
        if setup.all {
            password = format!("    auth-password = \"{PASSWORD}\"\n");
            restart = "  [neighbors.graceful-restart.config]\n    enabled = true\n    restart-time = 60\n";
            family = "    [neighbors.afi-safis.mp-graceful-restart.config]\n      enabled = true\n    \
                      [neighbors.afi-safis.add-paths.config]\n      receive = true\n      send-max = 8\n";
        }
        format!(
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {ASN}\n{password}  \
             [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n  \
             [neighbors.transport.config]\n    passive-mode = {passive}\n    local-address = \"10.0.0.2\"\n{client}{restart}  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv4-unicast\"\n{family}  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv6-unicast\"\n{family}\n"
        )
    };
    let mut config = format!("[global.config]\n  as = {asn}\n  router-id = \"10.0.0.2\"\n\n");
    config += &neighbor("10.0.0.1", false);
    if reflects {
        config += &neighbor("10.0.0.3", true);
    }
    let config = text(&bed.write("gobgp.toml", &config));
    let process = bed.start("b", "gobgpd", &["-f", &config, "--log-plain"]);
    for (family, prefix, next_hop) in [("ipv4", THEIRS, "10.0.0.2"), ("ipv6", THEIRS_V6, "fd00::2")] {
        let add = [
            "global",
            "rib",
            "-a",
            family,
            "add",
            prefix,
            "nexthop",
            next_hop,
            "large-community",
            "64512:1:2",
        ];
        eventually("gobgpd to take its route", Duration::from_secs(30), || {
            let output = Command::new("ip")
                .args(["netns", "exec", &bed.namespace("b"), "gobgp"])
                .args(add)
                .output()
                .expect("gobgp to run");
            output.status.success().then_some(())
        });
    }
    (String::new(), vec![process])
}

pub(super) fn openbgpd(bed: &Testbed, setup: Setup) -> (String, Vec<Process>) {
    let Setup { asn, reflects, .. } = setup;
    fs::create_dir_all("/run/openbgpd").expect("where it locks itself in");
    let neighbor = |address: &str, passive: &str| {
        let client = if reflects { "  route-reflector 10.0.0.2\n" } else { "" };
        let more =
            if setup.all { "  announce add-path recv yes\n  announce add-path send all\n" } else { "" };
        format!(
            "neighbor {address} {{\n  remote-as {ASN}\n  local-address 10.0.0.2\n  announce IPv4 unicast\n  announce IPv6 \
             unicast\n{more}{passive}{client}}}\n"
        )
    };
    let control = text(&bed.path("openbgpd.sock"));
    let mut config = format!(
        "AS {asn}\nrouter-id 10.0.0.2\nlisten on 10.0.0.2\nsocket \"{control}\"\nfib-update no\nnetwork {THEIRS} set \
         large-community 64512:1:2\nnetwork {THEIRS_V6} set {{ large-community 64512:1:2 nexthop fd00::2 }}\n"
    );
    config += &neighbor("10.0.0.1", "");
    if reflects {
        config += &neighbor("10.0.0.3", "  passive\n");
    }
    config += "allow from any\nallow to any\n";
    let path = bed.write("openbgpd.conf", &config);
    // It refuses a configuration that others could change.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its permissions");
    let process = bed.start("b", "/usr/sbin/bgpd", &["-d", "-f", &text(&path)]);
    // Before that it takes sessions, and doesn't know that it reflects.
    eventually("openbgpd to have read its configuration", Duration::from_secs(30), || {
        process.output().contains("RDE soft reconfiguration done").then_some(())
    });
    (control, vec![process])
}

pub(super) fn exabgp(bed: &Testbed, setup: Setup) -> (String, Vec<Process>) {
    let asn = setup.asn;
    let heard = text(&bed.path("heard.json"));
    let script = bed
        .write("heard.sh", &format!("#!/bin/sh\nwhile read -r line; do echo \"$line\" >> {heard}; done\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let (more, password) = match setup.all {
        true => ("add-path send/receive; graceful-restart 60;", format!("  md5-password {PASSWORD};\n")),
        false => ("", String::new()),
    };
    let config = bed.write(
        "exabgp.conf",
        &format!(
            "process heard {{ run {}; encoder json; }}\nneighbor 10.0.0.1 {{\n  router-id 10.0.0.2;\n  local-address \
             10.0.0.2;\n  local-as {asn};\n  peer-as {ASN};\n  family {{ ipv4 unicast; ipv6 unicast; }}\n  capability {{ \
             route-refresh; extended-message enable; {more} }}\n{password}  api {{ processes [ heard ]; receive {{ parsed; update; }} }}\n  \
             announce {{\n    ipv4 {{ unicast {THEIRS} next-hop 10.0.0.2 large-community [ 64512:1:2 ]; }}\n    ipv6 {{ unicast \
             {THEIRS_V6} next-hop fd00::2 large-community [ 64512:1:2 ]; }}\n  }}\n}}\n",
            script.display()
        ),
    );
    let settings = ["exabgp.daemon.user=root", "exabgp.api.ack=false", "exabgp.log.level=INFO"];
    let config = text(&config);
    let words: Vec<&str> = settings.into_iter().chain(["exabgp", &config]).collect();
    (heard, vec![bed.start("b", "env", &words)])
}
