//! Address autodetection: selects the node's address among the addresses of this machine, with
//! Calico's methods and exclusions. No I/O.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use regex_lite::Regex;

use resource::reader::Rule;

/// A method of address autodetection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AutodetectMethod {
    /// The node has no address of this family.
    None,
    /// The first global address, from the last interface to the first, without excluded interfaces.
    FirstFound,
    /// The source address of packets to this host.
    CanReach(String),
    /// The first address of an interface whose name contains a match of one of these patterns.
    Interface(Vec<Pattern>),
    /// Like [`AutodetectMethod::FirstFound`], without interfaces whose name contains a match of one
    /// of these patterns.
    SkipInterface(Vec<Pattern>),
    /// The first address inside one of these prefixes.
    Cidr(Vec<IpNet>),
}

/// A regular expression. Two patterns with the same text are equal.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// Prefixes of the names of interfaces that `first-found` and `skip-interface` exclude.
const EXCLUDED_PREFIXES: [&str; 18] = [
    "docker",
    "cbr",
    "dummy",
    "podman",
    "virbr",
    "lxcbr",
    "veth",
    "br-",
    "cali",
    "tunl",
    "flannel",
    "kube-ipvs",
    "cni",
    "wireguard.cali",
    "wg-v6.cali",
    "vxlan.calico",
    "vxlan-v6.calico",
    "routed.",
];

/// Names of interfaces that are excluded too.
const EXCLUDED_NAMES: [&str; 2] = ["lo", "nodelocaldns"];

impl AutodetectMethod {
    /// Parses a method.
    ///
    /// # Errors
    /// The rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, Rule> {
        const RULE: &str =
            "must be first-found, can-reach=HOST, interface=REGEX, skip-interface=REGEX, cidr=CIDR or none";
        let patterns = |list: &str| {
            let read = |text: &str| {
                Regex::new(text).map(Pattern).map_err(|error| {
                    Rule::from(format!("must have regular expressions: {text:?} is none ({error})"))
                })
            };
            list.split(',').map(read).collect::<Result<Vec<_>, _>>()
        };
        match (text, text.split_once('=')) {
            ("none", _) => Ok(AutodetectMethod::None),
            ("first-found", _) => Ok(AutodetectMethod::FirstFound),
            (_, Some((_, ""))) => Err(RULE.into()),
            (_, Some(("can-reach", host))) => Ok(AutodetectMethod::CanReach(host.to_owned())),
            (_, Some(("interface", list))) => patterns(list).map(AutodetectMethod::Interface),
            (_, Some(("skip-interface", list))) => patterns(list).map(AutodetectMethod::SkipInterface),
            (_, Some(("cidr", list))) => {
                let read = |text: &str| {
                    text.parse().map_err(|_| Rule::from(format!("must have prefixes: {text:?} is none")))
                };
                list.split(',').map(read).collect::<Result<_, Rule>>().map(AutodetectMethod::Cidr)
            }
            _ => Err(RULE.into()),
        }
    }
}

impl fmt::Display for AutodetectMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |patterns: &[Pattern]| {
            patterns.iter().map(|pattern| pattern.0.as_str()).collect::<Vec<_>>().join(",")
        };
        match self {
            AutodetectMethod::None => f.write_str("none"),
            AutodetectMethod::FirstFound => f.write_str("first-found"),
            AutodetectMethod::CanReach(host) => write!(f, "can-reach={host}"),
            AutodetectMethod::Interface(patterns) => write!(f, "interface={}", joined(patterns)),
            AutodetectMethod::SkipInterface(patterns) => write!(f, "skip-interface={}", joined(patterns)),
            AutodetectMethod::Cidr(nets) => {
                write!(f, "cidr={}", nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

/// The addresses of an interface that is up, each with the length of its subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddresses {
    /// Interface name.
    pub name: String,
    /// The addresses, in the kernel's order.
    pub addresses: Vec<IpNet>,
}

/// Returns the node's address of one family, with the length of its subnet. `links` are ordered by
/// index; `reached` is the source address of packets to the host of `can-reach`.
pub fn choose(
    method: &AutodetectMethod,
    links: &[InterfaceAddresses],
    v4: bool,
    reached: Option<IpAddr>,
) -> Option<IpNet> {
    let fits = |net: &IpNet| net.addr().is_ipv4() == v4 && is_global(net.addr());
    let first = |link: &InterfaceAddresses| link.addresses.iter().copied().find(fits);
    let matches = |patterns: &[Pattern], link: &InterfaceAddresses| {
        patterns.iter().any(|pattern| pattern.0.is_match(&link.name))
    };
    match method {
        AutodetectMethod::None => None,
        AutodetectMethod::FirstFound => {
            links.iter().rev().filter(|link| !is_excluded(&link.name)).find_map(first)
        }
        AutodetectMethod::SkipInterface(patterns) => links
            .iter()
            .rev()
            .filter(|link| !is_excluded(&link.name) && !matches(patterns, link))
            .find_map(first),
        AutodetectMethod::Interface(patterns) => {
            links.iter().filter(|link| matches(patterns, link)).find_map(first)
        }
        AutodetectMethod::Cidr(nets) => {
            let inside = |net: &IpNet| fits(net) && nets.iter().any(|cidr| cidr.contains(&net.addr()));
            links.iter().find_map(|link| link.addresses.iter().copied().find(inside))
        }
        AutodetectMethod::CanReach(_) => {
            let reached = reached?;
            let own = links.iter().flat_map(|link| &link.addresses).find(|net| net.addr() == reached);
            own.copied().filter(fits)
        }
    }
}

fn is_excluded(name: &str) -> bool {
    EXCLUDED_NAMES.contains(&name) || EXCLUDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_loopback()
                || address.is_link_local()
                || address.is_multicast()
                || address.is_broadcast()
                || address == Ipv4Addr::UNSPECIFIED)
        }
        IpAddr::V6(address) => {
            !(address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || address == Ipv6Addr::UNSPECIFIED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Vec<InterfaceAddresses> {
        let link = |name: &str, addresses: &[&str]| InterfaceAddresses {
            name: name.to_owned(),
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        vec![
            link("lo", &["127.0.0.1/8", "::1/128"]),
            link("eth0", &["169.254.1.1/16", "10.0.0.5/24", "10.0.0.6/24", "fe80::1/64", "fd00::5/64"]),
            link("eth1", &["192.168.1.5/16"]),
            link("docker0", &["172.17.0.1/16"]),
            link("cali123", &["10.9.9.9/32"]),
            link("routed.ipip", &["10.65.0.0/32"]),
        ]
    }

    fn select(method: &str, v4: bool) -> Option<String> {
        let method = AutodetectMethod::parse(method).unwrap();
        choose(&method, &links(), v4, Some("10.0.0.6".parse().unwrap())).map(|net| net.to_string())
    }

    #[test]
    fn each_method_selects_the_same_address_as_calico() {
        for (method, expected) in [
            ("first-found", Some("192.168.1.5/16")),
            ("skip-interface=eth1", Some("10.0.0.5/24")),
            ("skip-interface=eth.*", None),
            ("interface=eth0,eth1", Some("10.0.0.5/24")),
            ("interface=1", Some("192.168.1.5/16")),
            ("interface=docker", Some("172.17.0.1/16")),
            ("cidr=172.16.0.0/12,192.168.0.0/16", Some("192.168.1.5/16")),
            ("cidr=10.0.0.6/32", Some("10.0.0.6/24")),
            ("can-reach=10.0.0.1", Some("10.0.0.6/24")),
            ("none", None),
        ] {
            assert_eq!(select(method, true).as_deref(), expected, "{method}");
            assert_eq!(AutodetectMethod::parse(method).unwrap().to_string(), method);
        }
        assert_eq!(select("first-found", false).as_deref(), Some("fd00::5/64"));
    }

    #[test]
    fn invalid_methods_are_refused() {
        for wrong in ["", "first", "interface=", "interface=(", "cidr=x", "can-reach"] {
            assert!(AutodetectMethod::parse(wrong).is_err(), "{wrong}");
        }
    }
}
