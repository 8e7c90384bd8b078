//! Rulesets in the JSON of `nft`, and the obstacles they contain.

use serde_json::{Value, json};

use super::ruleset::{Flow, obstacles};

const BGP: Flow = Flow::Tcp(179);
const VXLAN: Flow = Flow::Udp(4789);

/// Returns a ruleset with a base chain on `input` and further chains.
fn ruleset(policy: &str, rules: &[Value], others: &[(&str, &[Value])]) -> Value {
    let chain = |name: &str| json!({ "family": "inet", "table": "filter", "name": name });
    let mut base = chain("input");
    for (key, value) in [("hook", "input"), ("type", "filter"), ("policy", policy)] {
        base[key] = json!(value);
    }
    let rule = |name: &str, expr: &Value| json!({ "rule": { "family": "inet", "table": "filter", "chain": name, "expr": expr } });
    let mut items = vec![json!({ "metainfo": { "version": "1.0.6" } }), json!({ "chain": base })];
    items.extend(rules.iter().map(|expr| rule("input", expr)));
    for (name, rules) in others {
        items.push(json!({ "chain": chain(name) }));
        items.extend(rules.iter().map(|expr| rule(name, expr)));
    }
    json!({ "nftables": items })
}

fn is(left: Value, right: Value) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right } })
}

fn payload(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn drop() -> Value {
    json!({ "drop": null })
}

fn accept() -> Value {
    json!({ "accept": null })
}

fn l4proto() -> Value {
    json!({ "meta": { "key": "l4proto" } })
}

/// Returns the number of obstacles for all packets, and for some packets.
fn count(ruleset: &Value, flow: Flow) -> (usize, usize) {
    let found = obstacles(ruleset, flow);
    let all = found.iter().filter(|obstacle| obstacle.for_all).count();
    (all, found.len() - all)
}

#[test]
fn a_rule_that_drops_a_flow_is_an_obstacle_of_this_flow_only() {
    let by_port = ruleset("accept", &[json!([is(payload("tcp", "dport"), json!(179)), drop()])], &[]);
    assert_eq!(count(&by_port, BGP), (1, 0));
    assert_eq!((count(&by_port, VXLAN), count(&by_port, Flow::Ipip)), ((0, 0), (0, 0)));
    let by_protocol =
        ruleset("accept", &[json!([is(payload("ip", "protocol"), json!("ipencap")), drop()])], &[]);
    assert_eq!((count(&by_protocol, Flow::Ipip), count(&by_protocol, BGP)), ((1, 0), (0, 0)));
    let in_set = ruleset(
        "accept",
        &[
            json!([is(payload("udp", "dport"), json!({ "set": [53, { "range": [4000, 5000] }] })), { "reject": null }]),
        ],
        &[],
    );
    assert_eq!((count(&in_set, VXLAN), count(&in_set, BGP)), ((1, 0), (0, 0)));
    let others =
        json!({ "match": { "op": "!=", "left": l4proto(), "right": { "set": ["tcp", "udp", "icmp"] } } });
    let but_those = ruleset("accept", &[json!([others, drop()])], &[]);
    assert_eq!((count(&but_those, Flow::Ipip), count(&but_those, BGP)), ((1, 0), (0, 0)));
    assert!(obstacles(&by_port, BGP)[0].rule.contains("tcp dport 179"));
}

#[test]
fn a_rule_with_further_matches_is_a_partial_obstacle_if_it_names_the_flow() {
    let from = is(payload("ip", "saddr"), json!("192.168.0.3"));
    let one = ruleset("accept", &[json!([from, is(payload("tcp", "dport"), json!(179)), drop()])], &[]);
    assert_eq!((count(&one, BGP), count(&one, VXLAN)), ((0, 1), (0, 0)));
    let all_of_one = ruleset("accept", &[json!([from, drop()])], &[]);
    assert_eq!(count(&all_of_one, BGP), (0, 0));
}

#[test]
fn a_drop_policy_is_an_obstacle_unless_a_rule_may_accept_the_flow() {
    let bare = ruleset("drop", &[json!([is(payload("tcp", "dport"), json!(22)), accept()])], &[]);
    assert_eq!(count(&bare, BGP), (1, 0));
    let open = ruleset("drop", &[json!([is(payload("tcp", "dport"), json!(179)), accept()])], &[]);
    assert_eq!((count(&open, BGP), count(&open, VXLAN)), ((0, 0), (1, 0)));
    let from = is(payload("ip", "saddr"), json!("@nodes"));
    let by_set = ruleset("drop", &[json!([from, accept()])], &[]);
    assert_eq!(count(&by_set, BGP), (0, 0));
    let of_iptables = ruleset("drop", &[json!([{ "xt": null }, accept()])], &[]);
    assert_eq!(count(&of_iptables, BGP), (0, 0));
    let established = is(json!({ "ct": { "key": "state" } }), json!(["established", "related"]));
    let only_answers = ruleset("drop", &[json!([established, accept()])], &[]);
    assert_eq!(count(&only_answers, BGP), (1, 0));
}

#[test]
fn jumps_and_returns_are_followed() {
    let jump = json!([{ "jump": { "target": "guard" } }]);
    let dropped = [json!([is(l4proto(), json!("udp")), is(payload("udp", "dport"), json!(4789)), drop()])];
    let guarded = ruleset("accept", std::slice::from_ref(&jump), &[("guard", &dropped)]);
    assert_eq!((count(&guarded, VXLAN), count(&guarded, BGP)), ((1, 0), (0, 0)));
    assert_eq!(obstacles(&guarded, VXLAN)[0].place, "inet filter guard");
    let returns = [json!([{ "return": null }]), json!([drop()])];
    let back = ruleset("accept", std::slice::from_ref(&jump), &[("guard", &returns)]);
    assert_eq!(count(&back, VXLAN), (0, 0));
    // The kernel refuses a chain that jumps to itself, but a listing could contain one.
    let itself = [json!([{ "jump": { "target": "guard" } }])];
    assert_eq!(count(&ruleset("accept", &[jump], &[("guard", &itself)]), VXLAN), (0, 0));
}

#[test]
fn invalid_listings_have_no_obstacles() {
    for invalid in
        [json!(null), json!({ "nftables": 7 }), json!({ "nftables": [{ "chain": 3 }, { "rule": [] }] })]
    {
        assert_eq!(obstacles(&invalid, BGP), []);
    }
}
