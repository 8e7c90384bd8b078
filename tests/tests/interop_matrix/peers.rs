//! The other speakers at 10.0.0.2: how each is configured, asked, and told to refresh.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::bed::{Bed, Process, eventually};

use super::seen::{Seen, large, numbers};
use super::{ASN, THEIRS, THEIRS_V6};

/// A speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bird,
    Frr,
    GoBgp,
    OpenBgpd,
    ExaBgp,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [Kind::Bird, Kind::Frr, Kind::GoBgp, Kind::OpenBgpd, Kind::ExaBgp];

    /// Its Debian package and its name.
    pub(super) fn package(self) -> (&'static str, &'static str) {
        match self {
            Kind::Bird => ("bird2", "BIRD"),
            Kind::Frr => ("frr", "FRR"),
            Kind::GoBgp => ("gobgpd", "GoBGP"),
            Kind::OpenBgpd => ("openbgpd", "OpenBGPD"),
            Kind::ExaBgp => ("exabgp", "ExaBGP"),
        }
    }

    /// Whether it sends messages beyond 4,096 octets.
    pub(super) fn has_extended_messages(self) -> bool {
        matches!(self, Kind::Bird | Kind::Frr | Kind::ExaBgp)
    }

    /// Whether it passes routes on at all.
    pub(super) fn reflects(self) -> bool {
        self != Kind::ExaBgp
    }

    /// Whether it can be told to ask for all routes again; GoBGP looks at those that it kept.
    pub(super) fn asks_again(self) -> bool {
        !matches!(self, Kind::ExaBgp | Kind::GoBgp)
    }
}

/// A running speaker.
pub(super) struct Peer {
    kind: Kind,
    control: String,
    namespace: String,
    _processes: Vec<Process>,
}

impl Peer {
    /// Starts it in AS `asn`; with `reflects` 10.0.0.1 and 10.0.0.3 are its clients.
    pub(super) fn start(bed: &Bed, kind: Kind, asn: u32, reflects: bool) -> Peer {
        let namespace = bed.namespace("b");
        let (control, processes) = match kind {
            Kind::Bird => bird(bed, asn, reflects),
            Kind::Frr => frr(bed, asn, reflects),
            Kind::GoBgp => gobgp(bed, asn, reflects),
            Kind::OpenBgpd => openbgpd(bed, asn, reflects),
            Kind::ExaBgp => exabgp(bed, asn),
        };
        Peer { kind, control, namespace, _processes: processes }
    }

    /// The route to a prefix as it shows it.
    pub(super) fn seen(&self, prefix: &str) -> Option<Seen> {
        match self.kind {
            Kind::Bird => self.bird_route(prefix),
            Kind::Frr => self.frr_route(prefix),
            Kind::GoBgp => self.gobgp_route(prefix),
            Kind::OpenBgpd => self.openbgpd_route(prefix),
            Kind::ExaBgp => self.exabgp_route(prefix),
        }
    }

    /// Makes it ask 10.0.0.1 for all routes again.
    pub(super) fn ask_again(&self) {
        let words: &[&str] = match self.kind {
            Kind::Bird => &["birdc", "-s", &self.control, "reload", "in", "routed"],
            Kind::Frr => {
                &["vtysh", "--vty_socket", &self.control, "-d", "bgpd", "-c", "clear bgp 10.0.0.1 soft in"]
            }
            Kind::OpenBgpd => &["bgpctl", "-s", &self.control, "neighbor", "10.0.0.1", "refresh"],
            Kind::GoBgp | Kind::ExaBgp => return,
        };
        assert!(self.ask(words).is_some(), "{words:?} fails");
    }

    fn ask(&self, words: &[&str]) -> Option<String> {
        let output = Command::new("ip")
            .args(["netns", "exec", &self.namespace])
            .args(words)
            .output()
            .expect("ip to run");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn json(&self, words: &[&str]) -> Option<Value> {
        serde_json::from_str(&self.ask(words)?).ok()
    }

    fn bird_route(&self, prefix: &str) -> Option<Seen> {
        let text = self.ask(&["birdc", "-s", &self.control, "show", "route", prefix, "all"])?;
        if !text.contains("BGP.next_hop") {
            return None;
        }
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_default().trim_start_matches(':').trim().to_owned()
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Some(Seen {
            next_hop: words(field("BGP.next_hop")).first()?.clone(),
            as_path: numbers(&field("BGP.as_path")),
            large: large(&field("BGP.large_community")),
            originator: Some(field("BGP.originator_id")).filter(|id| !id.is_empty()),
            clusters: words(field("BGP.cluster_list")),
        })
    }

    fn frr_route(&self, prefix: &str) -> Option<Seen> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let show = format!("show bgp {family} unicast {prefix} json");
        let answer = self.json(&["vtysh", "--vty_socket", &self.control, "-d", "bgpd", "-c", &show])?;
        let path = answer["paths"].get(0)?;
        let hops = path["nexthops"].as_array()?;
        let global = hops.iter().find(|hop| hop["scope"] != "link-local")?;
        let list = path["clusterList"]["list"].as_array().cloned().unwrap_or_default();
        Some(Seen {
            next_hop: global["ip"].as_str()?.to_owned(),
            as_path: numbers(path["aspath"]["string"].as_str().unwrap_or_default()),
            large: large(path["largeCommunity"]["string"].as_str().unwrap_or_default()),
            originator: path["originatorId"].as_str().map(str::to_owned),
            clusters: list.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        })
    }

    fn gobgp_route(&self, prefix: &str) -> Option<Seen> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let answer = self.json(&["gobgp", "-j", "global", "rib", "-a", family, prefix])?;
        let path = answer.get(prefix)?.as_array()?.iter().find(|path| path["best"] == true)?.clone();
        let attributes = path["attrs"].as_array()?.clone();
        let of = |code: u64| attributes.iter().find(move |attribute| attribute["type"] == code).cloned();
        let next_hop = of(3).or_else(|| of(14))?;
        let text = |value: &Value| value.to_string();
        let clusters = of(10).map(|list| list["value"].as_array().cloned().unwrap_or_default());
        Some(Seen {
            next_hop: next_hop["nexthop"].as_str()?.to_owned(),
            as_path: of(2).map_or_else(Vec::new, |path| {
                let segments = path["as_paths"].as_array().cloned().unwrap_or_default();
                segments.iter().flat_map(|segment| numbers(&text(&segment["asns"]))).collect()
            }),
            large: of(32)
                .and_then(|list| list["value"].as_array().cloned())
                .unwrap_or_default()
                .iter()
                .map(|one| format!("{}:{}:{}", one["ASN"], one["LocalData1"], one["LocalData2"]))
                .collect(),
            originator: of(9).and_then(|id| id["value"].as_str().map(str::to_owned)),
            clusters: clusters
                .unwrap_or_default()
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
        })
    }

    fn openbgpd_route(&self, prefix: &str) -> Option<Seen> {
        let answer = self.json(&["bgpctl", "-j", "-s", &self.control, "show", "rib", "detail", prefix])?;
        let path = answer["rib"].as_array()?.iter().find(|path| path["prefix"] == prefix)?.clone();
        if path["aspath"].is_null() || path["neighbor"].is_null() {
            return None;
        }
        let attributes = path["attributes"].as_array().cloned().unwrap_or_default();
        let of = |name: &str| {
            let found = attributes.iter().find(|attribute| attribute["type"] == name);
            found.cloned().unwrap_or_default()
        };
        let clusters = of("Cluster Id List")["cluster_list"].as_array().cloned();
        Some(Seen {
            next_hop: path["exit_nexthop"].as_str()?.to_owned(),
            as_path: numbers(path["aspath"].as_str().unwrap_or_default()),
            large: large(&path["large_communities"].to_string()),
            originator: of("Originator Id")["originator"].as_str().map(str::to_owned),
            clusters: clusters
                .unwrap_or_default()
                .iter()
                .filter_map(|id| id.as_str().map(str::to_owned))
                .collect(),
        })
    }

    fn exabgp_route(&self, prefix: &str) -> Option<Seen> {
        let text = fs::read_to_string(&self.control).ok()?;
        let mut seen = None;
        for line in text.lines() {
            let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
            let update = &message["neighbor"]["message"]["update"];
            for family in ["ipv4 unicast", "ipv6 unicast"] {
                let gone = update["withdraw"][family].as_array().cloned().unwrap_or_default();
                if gone.iter().any(|one| one["nlri"] == prefix) {
                    seen = None;
                }
                let Some(hops) = update["announce"][family].as_object() else { continue };
                for (next_hop, list) in hops {
                    if !list.as_array().is_some_and(|list| list.iter().any(|one| one["nlri"] == prefix)) {
                        continue;
                    }
                    let attribute = &update["attribute"];
                    let clusters = attribute["cluster-list"].as_array().cloned().unwrap_or_default();
                    seen = Some(Seen {
                        next_hop: next_hop.clone(),
                        as_path: numbers(&attribute["as-path"].to_string()),
                        large: large(&attribute["large-community"].to_string()),
                        originator: attribute["originator-id"].as_str().map(str::to_owned),
                        clusters: clusters.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
                    });
                }
            }
        }
        seen
    }
}

fn text(path: &std::path::Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}

fn bird(bed: &Bed, asn: u32, reflects: bool) -> (String, Vec<Process>) {
    let (client, rest) = if reflects { ("rr client;", "accept;") } else { ("", "reject;") };
    let filter = format!(
        "filter {{ if source = RTS_STATIC then {{ bgp_large_community.add((64512, 1, 2)); accept; }} if source = RTS_BGP \
         then {{ {rest} }} reject; }}"
    );
    let session = |name: &str, address: &str, passive: &str| {
        format!(
            "protocol bgp {name} {{\n  local 10.0.0.2 as {asn};\n  neighbor {address} as {ASN};\n  {passive}\n  {client}\n  \
             connect delay time 1;\n  connect retry time 1;\n  error wait time 1, 2;\n  enable extended messages on;\n  \
             ipv4 {{ import all; export {filter}; }};\n  \
             ipv6 {{ import all; export {filter}; next hop address fd00::2; }};\n}}\n"
        )
    };
    let mut config = format!(
        "router id 10.0.0.2;\nprotocol device {{}}\nprotocol direct {{ ipv4; ipv6; }}\n\
         protocol static {{ ipv4; route {THEIRS} blackhole; }}\n\
         protocol static {{ ipv6; route {THEIRS_V6} blackhole; }}\n"
    );
    config += &session("routed", "10.0.0.1", "");
    if reflects {
        config += &session("third", "10.0.0.3", "passive on;");
    }
    let config = text(&bed.write("bird.conf", &config));
    let (control, pid) = (text(&bed.path("bird.ctl")), text(&bed.path("bird.pid")));
    (control.clone(), vec![bed.start("b", "bird", &["-f", "-c", &config, "-s", &control, "-P", &pid])])
}

fn frr(bed: &Bed, asn: u32, reflects: bool) -> (String, Vec<Process>) {
    let mut neighbors = format!(
        " neighbor 10.0.0.1 remote-as {ASN}\n neighbor 10.0.0.1 timers connect 1\n neighbor 10.0.0.1 \
         advertisement-interval 0\n"
    );
    let (mut v4, mut v6) = (String::new(), " neighbor 10.0.0.1 activate\n".to_owned());
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
             exit-address-family\n address-family ipv6 unicast\n  network {THEIRS_V6} route-map own\n{v6} \
             exit-address-family\n!\nroute-map own permit 10\n set large-community 64512:1:2\n"
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
    let processes = vec![start("zebra", &text(&zebra)), start("bgpd", &text(&bgpd))];
    (directory.clone(), processes)
}

fn gobgp(bed: &Bed, asn: u32, reflects: bool) -> (String, Vec<Process>) {
    let neighbor = |address: &str, passive: bool| {
        let client = if reflects {
            "  [neighbors.route-reflector.config]\n    route-reflector-client = true\n    route-reflector-cluster-id = \
             \"10.0.0.2\"\n"
        } else {
            ""
        };
        format!(
            "[[neighbors]]\n  [neighbors.config]\n    neighbor-address = \"{address}\"\n    peer-as = {ASN}\n  \
             [neighbors.timers.config]\n    connect-retry = 1\n    idle-hold-time-after-reset = 1\n  \
             [neighbors.transport.config]\n    passive-mode = {passive}\n    local-address = \"10.0.0.2\"\n{client}  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv4-unicast\"\n  \
             [[neighbors.afi-safis]]\n    [neighbors.afi-safis.config]\n      afi-safi-name = \"ipv6-unicast\"\n\n"
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

fn openbgpd(bed: &Bed, asn: u32, reflects: bool) -> (String, Vec<Process>) {
    fs::create_dir_all("/run/openbgpd").expect("where it locks itself in");
    let neighbor = |address: &str, passive: &str| {
        let client = if reflects { "  route-reflector 10.0.0.2\n" } else { "" };
        format!(
            "neighbor {address} {{\n  remote-as {ASN}\n  local-address 10.0.0.2\n  announce IPv4 unicast\n  announce IPv6 \
             unicast\n{passive}{client}}}\n"
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
        process.said().contains("RDE soft reconfiguration done").then_some(())
    });
    (control, vec![process])
}

fn exabgp(bed: &Bed, asn: u32) -> (String, Vec<Process>) {
    let heard = text(&bed.path("heard.json"));
    let script = bed
        .write("heard.sh", &format!("#!/bin/sh\nwhile read -r line; do echo \"$line\" >> {heard}; done\n"));
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("its permissions");
    let config = bed.write(
        "exabgp.conf",
        &format!(
            "process heard {{ run {}; encoder json; }}\nneighbor 10.0.0.1 {{\n  router-id 10.0.0.2;\n  local-address \
             10.0.0.2;\n  local-as {asn};\n  peer-as {ASN};\n  family {{ ipv4 unicast; ipv6 unicast; }}\n  capability {{ \
             route-refresh; extended-message enable; }}\n  api {{ processes [ heard ]; receive {{ parsed; update; }} }}\n  \
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
