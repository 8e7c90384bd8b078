//! BGPFilter: rules for the routes that are received from and advertised to a peer.

use bgp::{Asn, Family};
use ipnet::IpNet;
use routing::policy::{
    Action, Community, Filter, FilterRule, Operation, Operator, PeerKind, PrefixMatch, local_pref_of,
    priority_of,
};

use super::mistake::Origin;
use super::reader::{Fields, Report};
use super::reader::{Rule, rule};
use super::scalar;
use super::tree::Value;

/// The largest number of operations of one rule, and of AS numbers of one prepending.
const MOST_OPERATIONS: usize = 10;

/// A filter that BGPPeers refer to by name.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpFilter {
    /// The file and line of the resource.
    pub origin: Origin,
    /// `metadata.name`.
    pub name: String,
    /// The rules.
    pub filter: Filter,
}

/// Reads the `spec` of a BGPFilter.
pub(crate) fn read(
    origin: Origin,
    name: String,
    spec: Option<Fields<'_>>,
    report: &mut Report,
) -> Option<BgpFilter> {
    let Some(mut spec) = spec else {
        return Some(BgpFilter { origin, name, filter: Filter::default() });
    };
    let mut rules = |key, family, direction| read_rules(&mut spec, key, family, direction, report);
    let filter = Filter {
        export_v4: rules("exportV4", Family::Ipv4Unicast, Direction::Export),
        import_v4: rules("importV4", Family::Ipv4Unicast, Direction::Import),
        export_v6: rules("exportV6", Family::Ipv6Unicast, Direction::Export),
        import_v6: rules("importV6", Family::Ipv6Unicast, Direction::Import),
    };
    spec.finish(report);
    Some(BgpFilter { origin, name, filter })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Import,
    Export,
}

fn read_rules(
    spec: &mut Fields<'_>,
    key: &'static str,
    family: Family,
    direction: Direction,
    report: &mut Report,
) -> Vec<FilterRule> {
    let mut rules = Vec::new();
    for (number, mut fields) in spec.items(key, report).into_iter().enumerate() {
        let rule = read_rule(&mut fields, family, report);
        let (path, line) = (fields.path(""), fields.line(""));
        let path = path.trim_end_matches('.').to_owned();
        fields.finish(report);
        let Some(rule) = rule else { continue };
        if let Some(reason) = unreachable_reason(&rule, &rules, number, direction) {
            report.warning(line, &path, format!("can't match: {reason}"));
        }
        rules.push(rule);
    }
    rules
}

fn read_rule(fields: &mut Fields<'_>, family: Family, report: &mut Report) -> Option<FilterRule> {
    let before = report.mistakes.len();
    let net = fields.optional("cidr", report, |value| prefix_of(family, value));
    let operators = &[
        ("Equal", Operator::Equal),
        ("NotEqual", Operator::NotEqual),
        ("In", Operator::In),
        ("NotIn", Operator::NotIn),
    ];
    let operator = fields.optional("matchOperator", report, scalar::one_of(operators));
    let is_written =
        |fields: &Fields<'_>, report: &Report, key: &str| report.lines.contains_key(&fields.path(key));
    let (has_net, has_operator) =
        (is_written(fields, report, "cidr"), is_written(fields, report, "matchOperator"));
    if has_net != has_operator {
        let (there, missing) = if has_net { ("cidr", "matchOperator") } else { ("matchOperator", "cidr") };
        let path = fields.path(missing);
        report.mistake(fields.line(there), &path, format!("is required with {there}"));
    }
    let has_lengths = fields.take("prefixLength", report).is_some();
    let lengths = if has_lengths {
        let path = fields.path("prefixLength");
        if !has_net {
            report.mistake(fields.line("prefixLength"), &path, "must be left out where there is no cidr");
        }
        fields.fields("prefixLength", report).map(|mut lengths| {
            let longest = i128::from(family.max_prefix_len());
            let min = lengths.optional("min", report, scalar::number::<u8>(0, longest));
            let max = lengths.optional("max", report, scalar::number::<u8>(0, longest));
            lengths.finish(report);
            (min, max)
        })
    } else {
        None
    };
    let (min, max) = lengths.unwrap_or_default();
    let prefix = net.zip(operator).map(|(net, operator)| PrefixMatch {
        net,
        operator,
        min: min.unwrap_or(net.prefix_len()),
        max: max.unwrap_or(net.max_prefix_len()),
    });
    let from_peers =
        fields.optional("source", report, scalar::one_of(&[("RemotePeers", true)])).unwrap_or(false);
    let interface = fields.optional("interface", report, interface);
    let kinds = &[("eBGP", PeerKind::External), ("iBGP", PeerKind::Internal)];
    let peer = fields.optional("peerType", report, scalar::one_of(kinds));
    let community = fields.fields("communities", report).and_then(|mut communities| {
        let values = communities.list("values", report, community);
        let count = communities.take("values", report).map_or(0, |at| match &at.value {
            Value::List(items) => items.len(),
            _ => 0,
        });
        if count != 1 {
            let path = communities.path("values");
            report.mistake(communities.line("values"), &path, format!("must be one community (got {count})"));
        }
        communities.finish(report);
        values.first().copied()
    });
    let as_path_prefix = fields.list("asPathPrefix", report, asn);
    let priority = fields.optional("priority", report, scalar::number(1, i128::from(i32::MAX - 1)));
    let actions = &[("Accept", Action::Accept), ("Reject", Action::Reject)];
    let action = fields.required("action", report, scalar::one_of(actions));
    let operations = read_operations(fields, action, report);
    if report.mistakes.len() > before {
        return None;
    }
    Some(FilterRule {
        prefix,
        from_peers,
        interface,
        peer,
        community,
        as_path_prefix,
        priority,
        action: action?,
        operations,
    })
}

fn read_operations(fields: &mut Fields<'_>, action: Option<Action>, report: &mut Report) -> Vec<Operation> {
    let items = fields.items("operations", report);
    let (path, line) = (fields.path("operations"), fields.line("operations"));
    if !items.is_empty() && action == Some(Action::Reject) {
        report.mistake(line, &path, "must be left out where action is Reject");
    }
    if items.len() > MOST_OPERATIONS {
        let rule = format!("must be at most {MOST_OPERATIONS} operations (got {})", items.len());
        report.mistake(line, &path, rule);
    }
    let mut operations = Vec::new();
    for mut item in items {
        let mut found = Vec::new();
        let mut written = 0;
        if let Some(mut add) = item.fields("addCommunity", report) {
            written += 1;
            found.extend(add.required("value", report, community).map(Operation::AddCommunity));
            add.finish(report);
        }
        if let Some(mut prepend) = item.fields("prependASPath", report) {
            written += 1;
            let asns = prepend.list("prefix", report, asn);
            let count = asns.len();
            if count == 0 || count > MOST_OPERATIONS {
                let path = prepend.path("prefix");
                let rule = format!("must be 1 to {MOST_OPERATIONS} AS numbers (got {count})");
                report.mistake(prepend.line("prefix"), &path, rule);
            }
            prepend.finish(report);
            found.push(Operation::PrependAsPath(asns));
        }
        if let Some(mut set) = item.fields("setPriority", report) {
            written += 1;
            let value = set.required("value", report, scalar::number(1, i128::from(i32::MAX - 1)));
            found.extend(value.map(Operation::SetPriority));
            set.finish(report);
        }
        if written != 1 {
            let path = item.path("");
            let rule = "must be exactly one of addCommunity, prependASPath, setPriority";
            report.mistake(item.line(""), path.trim_end_matches('.'), rule);
        }
        item.finish(report);
        operations.extend(found);
    }
    operations
}

/// Returns the reason why a rule can never match: a contradiction in itself, or an earlier rule
/// that always matches first.
fn unreachable_reason(
    rule: &FilterRule,
    earlier: &[FilterRule],
    number: usize,
    direction: Direction,
) -> Option<String> {
    if rule.prefix.as_ref().is_some_and(PrefixMatch::is_empty) {
        return Some("no prefix is what cidr, matchOperator and prefixLength ask for together".to_owned());
    }
    // An external peer sends no LOCAL_PREF, so its routes have the default.
    let default = priority_of(local_pref_of(i32::MAX as u32 - 100));
    if direction == Direction::Import
        && rule.peer == Some(PeerKind::External)
        && rule.priority.is_some_and(|priority| Some(priority) != default)
    {
        return Some("a route of an external peer has no LOCAL_PREF, and so no priority".to_owned());
    }
    let first = earlier.iter().position(|earlier| covers(earlier, rule))?;
    Some(format!("rule {first} matches first whatever rule {number} would match"))
}

/// Returns whether `earlier` certainly matches every route that `later` matches.
fn covers(earlier: &FilterRule, later: &FilterRule) -> bool {
    let same = |rule: &FilterRule| FilterRule {
        prefix: None,
        action: Action::Accept,
        operations: Vec::new(),
        ..rule.clone()
    };
    let unconditional = FilterRule::default();
    if same(earlier) != unconditional && same(earlier) != same(later) {
        return false;
    }
    match (&earlier.prefix, &later.prefix) {
        (None, _) => true,
        (Some(one), Some(other)) if one == other => true,
        (Some(one), Some(other)) => {
            one.operator == Operator::In
                && matches!(other.operator, Operator::In | Operator::Equal)
                && one.net.contains(&other.net)
                && one.min <= other.min
                && one.max >= other.max
        }
        (Some(_), None) => false,
    }
}

fn prefix_of(family: Family, value: &Value) -> Result<IpNet, Rule> {
    let net = scalar::prefix(value)?;
    if Family::of(&net) == family {
        return Ok(net);
    }
    let wanted = if family == Family::Ipv4Unicast { "IPv4" } else { "IPv6" };
    Err(rule!("must be an {wanted} prefix in this list"))
}

/// Parses a community, `a:b` or `a:b:c`.
pub(super) fn community(value: &Value) -> Result<Community, Rule> {
    let text = scalar::text(value)?;
    text.parse().map_err(|error: routing::policy::InvalidCommunity| error.to_string().into())
}

fn asn(value: &Value) -> Result<Asn, Rule> {
    scalar::as_number(value).map(Asn)
}

/// Parses the name of a link, in which `*` stands for any characters.
fn interface(value: &Value) -> Result<String, Rule> {
    let text = scalar::text(value)?;
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '*' | ':' | '@');
    if text.is_empty() || text.len() > 15 || !text.chars().all(known) {
        return Err("must be a link's name, at most 15 characters, in which * stands for any".into());
    }
    Ok(text)
}
