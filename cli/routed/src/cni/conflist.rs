//! The text of the network configuration: the addresses of pods, and the plugin that connects them
//! (CNI specification 1.0.0; plugins `ptp`, `bridge` and `host-local`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::Serialize;

use resource::{CniPlugin, CniSettings};

/// A version that all current runtimes and plugins support. No feature of a later version is
/// needed.
const CNI_VERSION: &str = "0.4.0";

/// The input of the network configuration, without the MTU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CniNetwork {
    /// The settings in the resources.
    pub(crate) settings: CniSettings,
    /// This node's blocks.
    pub(crate) blocks: Vec<IpNet>,
    /// Addresses that pods must not get: those of the tunnel devices.
    pub(crate) taken: Vec<IpAddr>,
}

/// The reason why there is no network configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CniNetworkError {
    /// No block has addresses for pods.
    #[error(
        "spec.routed.cni is set, but this node has no block that pods can have addresses of: give its Node resource \
         podCIDRs larger than /31 (IPv6: /127), or a BlockAffinity"
    )]
    NoBlock,
    /// The configuration could not be written as JSON.
    #[error("the network configuration can't be written as JSON: {0}")]
    Json(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfList<'a> {
    cni_version: &'a str,
    name: &'a str,
    plugins: [PluginConfig<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PluginConfig<'a> {
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    bridge: Option<&'a str>,
    /// True if the bridge gets the gateway's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_gateway: Option<bool>,
    /// True if a pod can reach itself by a service's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    hairpin_mode: Option<bool>,
    /// Always false: the node's nftables table masquerades for all pools.
    ip_masq: bool,
    mtu: u32,
    ipam: IpamConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IpamConfig {
    r#type: &'static str,
    /// Sets of ranges; a pod gets one address of each set.
    ranges: Vec<Vec<IpamRange>>,
    routes: Vec<IpamRoute>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct IpamRange {
    subnet: IpNet,
    range_start: IpAddr,
    range_end: IpAddr,
    gateway: IpAddr,
}

#[derive(Serialize)]
struct IpamRoute {
    dst: &'static str,
}

impl CniNetwork {
    /// Returns the text of the configuration, for pods with this MTU.
    ///
    /// # Errors
    /// [`CniNetworkError`].
    pub(crate) fn text(&self, mtu: u32) -> Result<String, CniNetworkError> {
        let mut sets: Vec<Vec<IpamRange>> = Vec::new();
        let mut routes = Vec::new();
        for (v4, dst) in [(true, "0.0.0.0/0"), (false, "::/0")] {
            let ranges = self.ranges(v4);
            if !ranges.is_empty() {
                sets.push(ranges);
                routes.push(IpamRoute { dst });
            }
        }
        if sets.is_empty() {
            return Err(CniNetworkError::NoBlock);
        }
        let (kind, bridge) = match &self.settings.plugin {
            CniPlugin::Ptp => ("ptp", None),
            CniPlugin::Bridge(name) => ("bridge", Some(name.as_str())),
        };
        let plugin = PluginConfig {
            r#type: kind,
            bridge,
            is_gateway: bridge.map(|_| true),
            hairpin_mode: bridge.map(|_| true),
            ip_masq: false,
            mtu,
            ipam: IpamConfig { r#type: "host-local", ranges: sets, routes },
        };
        let list = ConfList { cni_version: CNI_VERSION, name: &self.settings.name, plugins: [plugin] };
        let mut text =
            serde_json::to_string_pretty(&list).map_err(|error| CniNetworkError::Json(error.to_string()))?;
        text.push('\n');
        Ok(text)
    }

    /// Returns a line about blocks that the configuration can't use.
    pub(crate) fn unused(&self) -> Option<String> {
        let CniPlugin::Bridge(_) = self.settings.plugin else { return None };
        let blocks = self.usable(true);
        let (_, rest) = blocks.split_first()?;
        (!rest.is_empty()).then(|| {
            format!(
                "spec.routed.cni: the bridge plugin has one IPv4 gateway, so pods get no addresses of {} of this node's \
                 blocks: use plugin: ptp",
                rest.len()
            )
        })
    }

    /// Returns the blocks of a family that have space for a gateway and a pod, sorted.
    fn usable(&self, v4: bool) -> Vec<IpNet> {
        let fits =
            |block: &&IpNet| block.addr().is_ipv4() == v4 && block.prefix_len() + 2 <= block.max_prefix_len();
        let mut blocks: Vec<IpNet> = self.blocks.iter().filter(fits).map(IpNet::trunc).collect();
        blocks.sort();
        blocks.dedup();
        blocks
    }

    fn ranges(&self, v4: bool) -> Vec<IpamRange> {
        let mut blocks = self.usable(v4);
        if v4 && matches!(self.settings.plugin, CniPlugin::Bridge(_)) {
            blocks.truncate(1);
        }
        blocks.iter().flat_map(|block| ranges_of(block, &self.taken)).collect()
    }
}

/// Returns the ranges of a block that pods can have: all addresses except the network address, the
/// broadcast address, the gateway, and the taken addresses.
fn ranges_of(block: &IpNet, taken: &[IpAddr]) -> Vec<IpamRange> {
    let broadcast = u128::from(block.addr().is_ipv4());
    let (first, last) = (number(block.network()) + 1, number(block.broadcast()) - broadcast);
    let mut taken: Vec<u128> =
        taken.iter().filter(|address| block.contains(*address)).map(|address| number(*address)).collect();
    taken.sort_unstable();
    let free = subranges(first..=last, &taken);
    let Some(gateway) = free.first().map(|part| *part.start()).filter(|gateway| *gateway < last) else {
        return Vec::new();
    };
    let address = |number: u128| match block {
        // The number is inside the block, so it fits the family.
        IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX))),
        IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    };
    let range = |part: RangeInclusive<u128>| IpamRange {
        subnet: *block,
        range_start: address(*part.start()),
        range_end: address(*part.end()),
        gateway: address(gateway),
    };
    subranges(gateway + 1..=last, &taken).into_iter().map(range).collect()
}

/// Returns the parts of a range without some numbers, which are sorted.
fn subranges(range: RangeInclusive<u128>, without: &[u128]) -> Vec<RangeInclusive<u128>> {
    let (mut start, end) = range.into_inner();
    let mut parts = Vec::new();
    for number in without.iter().copied() {
        if !(start..=end).contains(&number) {
            continue;
        }
        if number > start {
            parts.push(start..=number - 1);
        }
        if number == end {
            return parts;
        }
        start = number + 1;
    }
    if start <= end {
        parts.push(start..=end);
    }
    parts
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(plugin: CniPlugin, blocks: &[&str], taken: &[&str]) -> CniNetwork {
        CniNetwork {
            settings: CniSettings { directory: "/etc/cni/net.d".into(), name: "routed".into(), plugin },
            blocks: blocks.iter().map(|block| block.parse().expect("a prefix")).collect(),
            taken: taken.iter().map(|address| address.parse().expect("an address")).collect(),
        }
    }

    #[test]
    fn each_family_has_a_set_and_single_addresses_are_not_used() {
        let blocks = ["10.1.2.0/26", "10.1.1.0/26", "10.1.9.9/32", "10.1.9.0/31", "fd10::1:0/122"];
        let text = network(CniPlugin::Ptp, &blocks, &["10.1.1.0", "fd10::1:0"]).text(1450).expect("text");
        assert_eq!(
            text,
            r#"{
  "cniVersion": "0.4.0",
  "name": "routed",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": false,
      "mtu": 1450,
      "ipam": {
        "type": "host-local",
        "ranges": [
          [
            {
              "subnet": "10.1.1.0/26",
              "rangeStart": "10.1.1.2",
              "rangeEnd": "10.1.1.62",
              "gateway": "10.1.1.1"
            },
            {
              "subnet": "10.1.2.0/26",
              "rangeStart": "10.1.2.2",
              "rangeEnd": "10.1.2.62",
              "gateway": "10.1.2.1"
            }
          ],
          [
            {
              "subnet": "fd10::1:0/122",
              "rangeStart": "fd10::1:2",
              "rangeEnd": "fd10::1:3f",
              "gateway": "fd10::1:1"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          },
          {
            "dst": "::/0"
          }
        ]
      }
    }
  ]
}
"#
        );
    }

    #[test]
    fn ranges_exclude_the_tunnel_address() {
        let ranges = |block: &str, taken: &[&str]| -> Vec<String> {
            let taken: Vec<IpAddr> =
                taken.iter().map(|address| address.parse().expect("an address")).collect();
            let of =
                |range: &IpamRange| format!("{}-{} {}", range.range_start, range.range_end, range.gateway);
            ranges_of(&block.parse().expect("a prefix"), &taken).iter().map(of).collect()
        };
        assert_eq!(ranges("10.1.1.0/29", &["10.1.1.1"]), ["10.1.1.3-10.1.1.6 10.1.1.2"]);
        assert_eq!(
            ranges("10.1.1.0/29", &["10.1.1.4", "10.1.2.4"]),
            ["10.1.1.2-10.1.1.3 10.1.1.1", "10.1.1.5-10.1.1.6 10.1.1.1"]
        );
        assert_eq!(ranges("10.1.1.0/29", &["10.1.1.2", "10.1.1.6"]), ["10.1.1.3-10.1.1.5 10.1.1.1"]);
        assert_eq!(ranges("10.1.1.0/30", &["10.1.1.1"]), Vec::<String>::new());
        assert_eq!(ranges("10.1.1.0/30", &[]), ["10.1.1.2-10.1.1.2 10.1.1.1"]);
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(
            ranges("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", &[last]),
            ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe \
              ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd"]
        );
        assert_eq!(ranges("0.0.0.0/0", &[]), ["0.0.0.2-255.255.255.254 0.0.0.1"]);
        assert_eq!(ranges("::/0", &[]), ["::2-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ::1"]);
    }

    #[test]
    fn a_bridge_uses_one_ipv4_block_and_reports_the_others() {
        let bridge = CniPlugin::Bridge("routed.pods".into());
        let two = network(bridge.clone(), &["10.1.2.0/26", "10.1.1.0/26"], &[]);
        let text = two.text(1450).expect("text");
        assert!(
            text.contains("\"bridge\": \"routed.pods\"") && text.contains("\"isGateway\": true"),
            "{text}"
        );
        assert!(text.contains("10.1.1.0/26") && !text.contains("10.1.2.0/26"), "{text}");
        assert!(two.unused().is_some_and(|line| line.contains("1 of this node's blocks")));
        assert_eq!(network(bridge, &["10.1.1.0/26"], &[]).unused(), None);
        assert_eq!(network(CniPlugin::Ptp, &["10.1.1.0/32"], &[]).text(1450), Err(CniNetworkError::NoBlock));
    }
}
