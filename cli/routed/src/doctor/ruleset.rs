//! Analyzes the nftables ruleset: finds rules that drop packets between nodes.
//!
//! Each base chain that such packets pass is walked as the kernel walks it. A match that can't be
//! evaluated here (an address, an interface, a set, an iptables extension) is neither true nor
//! false. A drop after such a match is reported as a drop of some packets if the rule names the
//! flow. An accept after such a match means that the chain's policy is not reported.

use std::fmt;

use serde_json::Value;

/// A kind of packet that nodes send to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// IP protocol 4.
    Ipip,
    /// BGP, to this TCP port.
    Tcp(u16),
    /// VXLAN, to this UDP port.
    Udp(u16),
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flow::Ipip => f.write_str("IP-in-IP (IP protocol 4)"),
            Flow::Tcp(port) => write!(f, "BGP (TCP port {port})"),
            Flow::Udp(port) => write!(f, "VXLAN (UDP port {port})"),
        }
    }
}

impl Flow {
    /// Returns the nft expression that matches the flow.
    pub(super) fn expression(self) -> String {
        match self {
            Flow::Ipip => "meta l4proto 4".to_owned(),
            Flow::Tcp(port) => format!("tcp dport {port}"),
            Flow::Udp(port) => format!("udp dport {port}"),
        }
    }

    /// Returns the names and numbers of the flow's protocol.
    fn protocols(self) -> &'static [&'static str] {
        match self {
            Flow::Ipip => &["4", "ipencap", "ipip", "ipv4"],
            Flow::Tcp(_) => &["6", "tcp"],
            Flow::Udp(_) => &["17", "udp"],
        }
    }
}

/// A rule or policy that drops a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// Family, table and chain.
    pub(super) place: String,
    /// The base chain, as nft commands name it.
    pub(super) chain: String,
    /// The rule, or the policy of the chain.
    pub(super) rule: String,
    /// True if it drops all packets of the flow.
    pub(super) for_all: bool,
}

/// The result of evaluating a match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MatchResult {
    Yes,
    No,
    Unknown,
}

/// The outcome of a chain for a packet.
enum ChainOutcome {
    /// The packet continues after the chain.
    On,
    /// The packet is accepted, or may be.
    Accepted,
    /// The packet is dropped.
    Dropped,
}

/// The depth to which jumps are followed; nftables itself allows 16.
const MAX_DEPTH: usize = 16;

/// Returns everything that drops a flow on this node, in or out.
pub(super) fn obstacles(ruleset: &Value, flow: Flow) -> Vec<Obstacle> {
    let empty = Vec::new();
    let items = ruleset["nftables"].as_array().unwrap_or(&empty);
    let mut walk = Walk { items, flow, found: Vec::new() };
    for chain in items.iter().filter_map(|item| item.get("chain")) {
        let hooks = ["prerouting", "input", "output", "postrouting", "ingress"];
        let on_the_way = hooks.contains(&chain["hook"].as_str().unwrap_or_default());
        let family = chain["family"].as_str().unwrap_or_default();
        if !on_the_way || !["ip", "inet", "netdev"].contains(&family) || chain["type"] == "nat" {
            continue;
        }
        // The table of routed drops packets of unknown nodes only.
        if chain["table"] == "routed" && family == "inet" {
            continue;
        }
        let base = name(chain, "name");
        let mut all_reach = true;
        let fate = walk.chain(chain, &base, &mut all_reach, 0);
        if matches!(fate, ChainOutcome::On) && chain["policy"] == "drop" {
            walk.found.push(Obstacle {
                place: base.clone(),
                chain: base,
                rule: "no rule accepts it, and the policy is drop".to_owned(),
                for_all: true,
            });
        }
    }
    walk.found
}

/// Returns family, table and chain of a chain (`own`: "name") or of a rule ("chain").
fn name(item: &Value, own: &str) -> String {
    let part = |key: &str| item[key].as_str().unwrap_or("?").to_owned();
    format!("{} {} {}", part("family"), part("table"), part(own))
}

struct Walk<'a> {
    items: &'a [Value],
    flow: Flow,
    found: Vec<Obstacle>,
}

impl Walk<'_> {
    /// Walks a chain. `all_reach` is whether all packets reach the chain, and afterwards whether all
    /// packets pass it.
    fn chain(&mut self, chain: &Value, base: &str, all_reach: &mut bool, depth: usize) -> ChainOutcome {
        if depth > MAX_DEPTH {
            return ChainOutcome::Accepted;
        }
        let same = |rule: &&Value| {
            rule["family"] == chain["family"]
                && rule["table"] == chain["table"]
                && rule["chain"] == chain["name"]
        };
        let rules: Vec<&Value> = self.items.iter().filter_map(|item| item.get("rule")).filter(same).collect();
        for rule in rules {
            let empty = Vec::new();
            let expressions = rule["expr"].as_array().unwrap_or(&empty);
            let (mut holds, mut named) = (MatchResult::Yes, false);
            for expression in expressions {
                let (this, names) = self.holds(expression);
                named |= names && this == MatchResult::Yes;
                holds = match (holds, this) {
                    (MatchResult::No, _) | (_, MatchResult::No) => MatchResult::No,
                    (MatchResult::Yes, MatchResult::Yes) => MatchResult::Yes,
                    _ => MatchResult::Unknown,
                };
            }
            if holds == MatchResult::No {
                continue;
            }
            let certain = holds == MatchResult::Yes;
            for expression in expressions {
                let target = ["jump", "goto"].into_iter().find_map(|verdict| {
                    let target = expression.get(verdict)?["target"].as_str()?;
                    Some((verdict, target.to_owned()))
                });
                if expression.get("drop").is_some() || expression.get("reject").is_some() {
                    let for_all = certain && *all_reach;
                    if for_all || named {
                        self.found.push(Obstacle {
                            place: name(rule, "chain"),
                            chain: base.to_owned(),
                            rule: text(expressions),
                            for_all,
                        });
                    }
                    if certain {
                        return ChainOutcome::Dropped;
                    }
                } else if expression.get("accept").is_some() {
                    // Some packets may be accepted here, so a later drop does not concern all
                    // packets.
                    *all_reach &= certain;
                    if certain || named {
                        return ChainOutcome::Accepted;
                    }
                } else if expression.get("return").is_some() {
                    if certain {
                        return ChainOutcome::On;
                    }
                    *all_reach = false;
                } else if let Some((verdict, target)) = target {
                    let next = self.items.iter().filter_map(|item| item.get("chain")).find(|next| {
                        next["family"] == chain["family"]
                            && next["table"] == chain["table"]
                            && next["name"] == target.as_str()
                    });
                    let Some(next) = next else { continue };
                    let mut there = *all_reach && certain;
                    let fate = self.chain(next, base, &mut there, depth + 1);
                    if certain {
                        *all_reach = there;
                        match fate {
                            ChainOutcome::On if verdict == "jump" => {}
                            other => return other,
                        }
                    } else if matches!(fate, ChainOutcome::Accepted) {
                        *all_reach = false;
                    }
                }
            }
        }
        if *all_reach { ChainOutcome::On } else { ChainOutcome::Accepted }
    }

    /// Returns whether an expression matches the flow's packets, and whether it identifies the
    /// flow.
    fn holds(&self, expression: &Value) -> (MatchResult, bool) {
        let Some(found) = expression.get("match") else {
            let harmless =
                ["counter", "log", "accept", "drop", "reject", "jump", "goto", "return", "comment"];
            let known = harmless.iter().any(|key| expression.get(*key).is_some());
            return (if known { MatchResult::Yes } else { MatchResult::Unknown }, false);
        };
        let (left, right) = (&found["left"], &found["right"]);
        let payload = &left["payload"];
        let (protocol, field) = (payload["protocol"].as_str(), payload["field"].as_str());
        let is = match (protocol, field, left["meta"]["key"].as_str()) {
            (Some("ip"), Some("protocol"), _) | (_, _, Some("l4proto")) => {
                one_of(right, &|value| self.flow.protocols().contains(&value))
            }
            (Some(of), Some("dport"), _) if of == "tcp" || of == "udp" || of == "th" => match self.flow {
                Flow::Tcp(port) if of != "udp" => one_of(right, &|value| value == port.to_string()),
                Flow::Udp(port) if of != "tcp" => one_of(right, &|value| value == port.to_string()),
                _ => MatchResult::No,
            },
            (Some("tcp"), _, _) => if_flow(matches!(self.flow, Flow::Tcp(_))),
            (Some("udp"), _, _) => if_flow(matches!(self.flow, Flow::Udp(_))),
            (Some("icmp" | "icmpv6" | "ip6" | "arp"), _, _) => MatchResult::No,
            (_, _, Some("nfproto")) => one_of(right, &|value| value == "ipv4"),
            _ => {
                // The packets considered are those of a new connection.
                let is_state = left["ct"]["key"] == "state";
                let states = one_of(right, &|value| value == "new");
                return (if is_state { states } else { MatchResult::Unknown }, false);
            }
        };
        let is = match (found["op"].as_str(), is) {
            (Some("!="), MatchResult::Yes) => MatchResult::No,
            (Some("!="), MatchResult::No) => MatchResult::Yes,
            (_, is) => is,
        };
        (is, true)
    }
}

fn if_flow(is_match: bool) -> MatchResult {
    if is_match { MatchResult::Unknown } else { MatchResult::No }
}

/// Returns whether a value, an element of a set, or an element of a range satisfies `is`.
fn one_of(right: &Value, is: &dyn Fn(&str) -> bool) -> MatchResult {
    match right {
        Value::String(text) if text.starts_with('@') => MatchResult::Unknown,
        Value::String(text) => yes(is(text)),
        Value::Number(number) => yes(is(&number.to_string())),
        Value::Array(values) => any(values, is),
        Value::Object(object) => {
            if let Some(Value::Array(values)) = object.get("set") {
                return any(values, is);
            }
            if let Some(Value::Array(bounds)) = object.get("range") {
                let bound = |at: usize| bounds.get(at).and_then(Value::as_u64);
                let (Some(low), Some(high)) = (bound(0), bound(1)) else { return MatchResult::Unknown };
                // The limit is the number of ports.
                return yes((low..=high.min(65_535)).any(|value| is(&value.to_string())));
            }
            MatchResult::Unknown
        }
        Value::Null | Value::Bool(_) => MatchResult::Unknown,
    }
}

fn any(values: &[Value], is: &dyn Fn(&str) -> bool) -> MatchResult {
    let all: Vec<MatchResult> = values.iter().map(|value| one_of(value, is)).collect();
    if all.contains(&MatchResult::Yes) {
        return MatchResult::Yes;
    }
    if all.contains(&MatchResult::Unknown) { MatchResult::Unknown } else { MatchResult::No }
}

fn yes(holds: bool) -> MatchResult {
    if holds { MatchResult::Yes } else { MatchResult::No }
}

/// Formats a rule: its matches and its verdict.
fn text(expressions: &[Value]) -> String {
    let words = expressions.iter().filter_map(|expression| {
        if let Some(found) = expression.get("match") {
            let left = &found["left"];
            let left = match (left["payload"]["protocol"].as_str(), left["payload"]["field"].as_str()) {
                (Some(protocol), Some(field)) => format!("{protocol} {field}"),
                _ => match (left["meta"]["key"].as_str(), left["ct"]["key"].as_str()) {
                    (Some(key), _) => key.to_owned(),
                    (_, Some(key)) => format!("ct {key}"),
                    _ => "something".to_owned(),
                },
            };
            let right = found["right"].as_str().map_or_else(|| found["right"].to_string(), str::to_owned);
            let not = if found["op"] == "!=" { "!= " } else { "" };
            return Some(format!("{left} {not}{right}"));
        }
        if let Some(packets) = expression["counter"]["packets"].as_u64() {
            return Some(format!("({packets} packets)"));
        }
        let verdict = ["drop", "reject"].into_iter().find(|key| expression.get(*key).is_some())?;
        Some(verdict.to_owned())
    });
    words.collect::<Vec<_>>().join(" ")
}
