//! The other speakers at 10.0.0.2: their features, and how they are queried and refreshed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;
use testbed::{Process, Testbed};

use super::configuration::{bird, exabgp, frr, gobgp, openbgpd};
use super::shown_route::{ShownRoute, large, numbers};

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

    /// Returns whether it sends messages beyond 4,096 octets.
    pub(super) fn has_extended_messages(self) -> bool {
        matches!(self, Kind::Bird | Kind::Frr | Kind::ExaBgp)
    }

    /// Returns whether it reflects routes.
    pub(super) fn reflects(self) -> bool {
        self != Kind::ExaBgp
    }

    /// Returns whether it has BFD.
    pub(super) fn has_bfd(self) -> bool {
        matches!(self, Kind::Bird | Kind::Frr)
    }

    /// Returns whether it signs TCP segments on Linux.
    pub(super) fn has_passwords(self) -> bool {
        self != Kind::OpenBgpd
    }

    /// Returns whether it keeps routes for a peer that restarts.
    pub(super) fn waits_for_restarts(self) -> bool {
        matches!(self, Kind::Bird | Kind::Frr | Kind::GoBgp)
    }

    /// Returns whether it sets the restart bit and the forwarding bits.
    pub(super) fn restarts(self) -> bool {
        self != Kind::OpenBgpd
    }

    /// Returns whether it knows the markers around a refresh (RFC 7313).
    pub(super) fn has_marked_refreshes(self) -> bool {
        matches!(self, Kind::Bird | Kind::Frr)
    }

    /// Returns whether it can request all routes again; GoBGP uses those that it kept.
    pub(super) fn asks_again(self) -> bool {
        !matches!(self, Kind::ExaBgp | Kind::GoBgp)
    }
}

/// The configuration of a speaker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Its AS.
    pub(super) asn: u32,
    /// 10.0.0.1 and 10.0.0.3 are its clients.
    pub(super) reflects: bool,
    /// A password, several paths to a prefix, graceful restart: all that it has of these.
    pub(super) all: bool,
    /// It ran before, and sets the restart bit.
    pub(super) again: bool,
    /// It watches 10.0.0.1 by BFD.
    pub(super) bfd: bool,
}

/// The password of sessions that have one.
pub(super) const PASSWORD: &str = "secret";

/// A running speaker.
pub(super) struct Peer {
    kind: Kind,
    control: String,
    namespace: String,
    processes: Vec<Process>,
}

impl Peer {
    /// Starts it.
    pub(super) fn start(bed: &Testbed, kind: Kind, setup: Setup) -> Peer {
        let namespace = bed.namespace("b");
        let (control, processes) = match kind {
            Kind::Bird => bird(bed, setup),
            Kind::Frr => frr(bed, setup),
            Kind::GoBgp => gobgp(bed, setup),
            Kind::OpenBgpd => openbgpd(bed, setup),
            Kind::ExaBgp => exabgp(bed, setup),
        };
        Peer { kind, control, namespace, processes }
    }

    /// The route to a prefix as it shows it.
    pub(super) fn seen(&self, prefix: &str) -> Option<ShownRoute> {
        match self.kind {
            Kind::Bird => self.bird_route(prefix),
            Kind::Frr => self.frr_route(prefix),
            Kind::GoBgp => self.gobgp_route(prefix),
            Kind::OpenBgpd => self.openbgpd_route(prefix),
            Kind::ExaBgp => self.exabgp_route(prefix),
        }
    }

    /// Ends it without a word.
    pub(super) fn kill(&self) {
        self.processes.iter().for_each(|process| process.signal(Signal::SIGKILL));
    }

    /// Returns the number of paths to a prefix.
    pub(super) fn paths(&self, prefix: &str) -> usize {
        let found = match self.kind {
            Kind::Bird => self
                .ask(&["birdc", "-s", &self.control, "show", "route", prefix, "all"])
                .map(|text| text.matches("BGP.next_hop").count()),
            Kind::Frr => {
                let show = format!("show bgp ipv4 unicast {prefix} json");
                let words = ["vtysh", "--vty_socket", &self.control, "-d", "bgpd", "-c", &show];
                self.json(&words).and_then(|answer| Some(answer["paths"].as_array()?.len()))
            }
            Kind::GoBgp => self
                .json(&["gobgp", "-j", "global", "rib", "-a", "ipv4", prefix])
                .and_then(|answer| Some(answer.get(prefix)?.as_array()?.len())),
            Kind::OpenBgpd => self
                .json(&["bgpctl", "-j", "-s", &self.control, "show", "rib", "detail", prefix])
                .and_then(|answer| Some(answer["rib"].as_array()?.len())),
            // It prints each path of an UPDATE with its identifier.
            Kind::ExaBgp => fs::read_to_string(&self.control).ok().map(|text| {
                let lines = text.lines().filter(|line| line.contains(prefix));
                let ids = lines.filter_map(|line| line.split("path-information").nth(1)?.get(..20));
                ids.collect::<BTreeSet<_>>().len()
            }),
        };
        found.unwrap_or(0)
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

    fn bird_route(&self, prefix: &str) -> Option<ShownRoute> {
        let text = self.ask(&["birdc", "-s", &self.control, "show", "route", prefix, "all"])?;
        if !text.contains("BGP.next_hop") {
            return None;
        }
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
            line.unwrap_or_default().trim_start_matches(':').trim().to_owned()
        };
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        Some(ShownRoute {
            next_hop: words(field("BGP.next_hop")).first()?.clone(),
            as_path: numbers(&field("BGP.as_path")),
            large: large(&field("BGP.large_community")),
            originator: Some(field("BGP.originator_id")).filter(|id| !id.is_empty()),
            clusters: words(field("BGP.cluster_list")),
        })
    }

    fn frr_route(&self, prefix: &str) -> Option<ShownRoute> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let show = format!("show bgp {family} unicast {prefix} json");
        let answer = self.json(&["vtysh", "--vty_socket", &self.control, "-d", "bgpd", "-c", &show])?;
        let path = answer["paths"].get(0)?;
        let hops = path["nexthops"].as_array()?;
        let global = hops.iter().find(|hop| hop["scope"] != "link-local")?;
        let list = path["clusterList"]["list"].as_array().cloned().unwrap_or_default();
        Some(ShownRoute {
            next_hop: global["ip"].as_str()?.to_owned(),
            as_path: numbers(path["aspath"]["string"].as_str().unwrap_or_default()),
            large: large(path["largeCommunity"]["string"].as_str().unwrap_or_default()),
            originator: path["originatorId"].as_str().map(str::to_owned),
            clusters: list.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect(),
        })
    }

    fn gobgp_route(&self, prefix: &str) -> Option<ShownRoute> {
        let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
        let answer = self.json(&["gobgp", "-j", "global", "rib", "-a", family, prefix])?;
        let path = answer.get(prefix)?.as_array()?.iter().find(|path| path["best"] == true)?.clone();
        let attributes = path["attrs"].as_array()?.clone();
        let of = |code: u64| attributes.iter().find(move |attribute| attribute["type"] == code).cloned();
        let next_hop = of(3).or_else(|| of(14))?;
        let text = |value: &Value| value.to_string();
        let clusters = of(10).map(|list| list["value"].as_array().cloned().unwrap_or_default());
        Some(ShownRoute {
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

    fn openbgpd_route(&self, prefix: &str) -> Option<ShownRoute> {
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
        Some(ShownRoute {
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

    fn exabgp_route(&self, prefix: &str) -> Option<ShownRoute> {
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
                    seen = Some(ShownRoute {
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
