//! Records changes of the resources, one line each.

use std::cmp::Ordering;

use api::view::EventKind;
use resource::{Kind, Snapshot};

use crate::daemon::state::DaemonState;
use crate::journal::JournalHandle;

/// The number of resources of a kind that are named.
const NAMED: usize = 3;
/// The number of problems that are recorded for one change; `show status` has all of them.
const PROBLEMS: usize = 8;

/// Records the differences between two states.
pub(super) fn record(journal: &JournalHandle, before: &DaemonState, now: &DaemonState) {
    let kind = EventKind::Configuration;
    if before.snapshot != now.snapshot {
        let revision = now.revision.as_ref().map(ToString::to_string);
        journal.record(kind, "changed", revision.as_deref(), differences(&before.snapshot, &now.snapshot));
    }
    let added = |before: &[String], now: &[String]| {
        let is_new = |line: &&String| !before.contains(line);
        now.iter().filter(is_new).take(PROBLEMS).cloned().collect::<Vec<_>>()
    };
    for mistake in added(&before.mistakes, &now.mistakes) {
        journal.record(kind, "refused", None, mistake);
    }
    for problem in added(&before.problems, &now.problems) {
        journal.record(kind, "problem", None, problem);
    }
    if now.mistakes.is_empty()
        && now.problems.is_empty()
        && !(before.mistakes.is_empty() && before.problems.is_empty())
    {
        journal.record(kind, "valid", None, "all resources run");
    }
}

/// Returns the differences as in `nodes: +node-6; ippools: ~default, -old`.
fn differences(before: &Snapshot, now: &Snapshot) -> String {
    let mut parts = Vec::new();
    let mut part = |kind: Kind, changes: ChangeList| parts.extend(changes.text(kind));
    part(Kind::Node, changes(&before.nodes, &now.nodes, |node| &node.name));
    part(Kind::IpPool, changes(&before.pools, &now.pools, |pool| &pool.name));
    part(Kind::BgpPeer, changes(&before.peers, &now.peers, |peer| &peer.name));
    part(Kind::BgpFilter, changes(&before.filters, &now.filters, |filter| &filter.name));
    part(Kind::BlockAffinity, changes(&before.affinities, &now.affinities, |affinity| &affinity.name));
    if before.configuration != now.configuration {
        parts.push(format!("{}: ~default", Kind::BgpConfiguration.plural()));
    }
    parts.join("; ")
}

/// The first changes by name, and the number of the others.
#[derive(Default)]
struct ChangeList {
    named: Vec<String>,
    more: usize,
}

impl ChangeList {
    fn add(&mut self, sign: char, name: &str) {
        if self.named.len() < NAMED { self.named.push(format!("{sign}{name}")) } else { self.more += 1 }
    }

    fn text(self, kind: Kind) -> Option<String> {
        let more = if self.more > 0 { format!(" and {} more", self.more) } else { String::new() };
        (!self.named.is_empty()).then(|| format!("{}: {}{more}", kind.plural(), self.named.join(", ")))
    }
}

/// Compares two lists that are sorted by name.
fn changes<T: PartialEq>(before: &[T], now: &[T], name: impl Fn(&T) -> &str) -> ChangeList {
    let mut changes = ChangeList::default();
    let (mut before, mut now) = (before.iter().peekable(), now.iter().peekable());
    loop {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return changes,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => name(old).cmp(name(new)),
        };
        match order {
            Ordering::Less => before.next().into_iter().for_each(|old| changes.add('-', name(old))),
            Ordering::Greater => now.next().into_iter().for_each(|new| changes.add('+', name(new))),
            Ordering::Equal => {
                if let (Some(old), Some(new)) = (before.next(), now.next())
                    && old != new
                {
                    changes.add('~', name(new));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use resource::{assemble, parse_file};

    use super::*;

    fn snapshot(parts: &[(&str, &str, &str)]) -> Snapshot {
        let document = |(kind, name, spec): &(&str, &str, &str)| {
            format!(
                "---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n"
            )
        };
        let parsed = parse_file("f", &parts.iter().map(document).collect::<String>());
        assert_eq!(parsed.mistakes, []);
        assemble(&parsed.documents).snapshot
    }

    #[test]
    fn added_removed_and_changed_resources_are_named_by_kind() {
        let before = snapshot(&[
            ("IPPool", "old", "cidr: 10.1.0.0/16"),
            ("IPPool", "stays", "cidr: 10.2.0.0/16"),
            ("Node", "b", ""),
        ]);
        let now = snapshot(&[
            ("IPPool", "stays", "cidr: 10.2.0.0/16, natOutgoing: true"),
            ("IPPool", "young", "cidr: 10.3.0.0/16"),
            ("Node", "a", ""),
            ("Node", "b", ""),
            ("BGPConfiguration", "default", "asNumber: 64513"),
        ]);
        assert_eq!(
            differences(&before, &now),
            "nodes: +a; ippools: -old, ~stays, +young; bgpconfigurations: ~default"
        );
    }

    #[test]
    fn only_the_first_of_many_resources_are_named() {
        let nodes: Vec<String> = (0..9).map(|number| format!("n-{number}")).collect();
        let nodes: Vec<_> = nodes.iter().map(|name| ("Node", name.as_str(), "")).collect();
        assert_eq!(differences(&snapshot(&[]), &snapshot(&nodes)), "nodes: +n-0, +n-1, +n-2 and 6 more");
    }
}
