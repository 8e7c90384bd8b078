//! `routectl show peers NAME`: one session in full.

use super::output;
use api::view::{OpenView, PeerDetail, TrafficView};

/// Renders a session in full, one property per line.
pub(super) fn text(detail: &PeerDetail) -> String {
    let peer = &detail.peer;
    let maybe = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let mut lines = vec![
        ("Name", peer.name.clone()),
        ("Address", format!("{} port {}", peer.address, peer.port)),
        ("Local address", maybe(detail.local_address.map(|address| address.to_string()))),
        ("AS", peer.asn.to_string()),
        ("Type", output::json_name(peer.r#type)),
        ("State", format!("{:?} since {} ({} s)", peer.state, output::timestamp(&peer.since), peer.uptime_s)),
        ("Established", format!("{} times", detail.established)),
        ("Router ID", maybe(peer.router_id.map(|id| id.to_string()))),
    ];
    if let Some(hold) = peer.hold_time_s {
        let keepalive = detail.keepalive_s.map_or_else(|| "none".to_owned(), |s| format!("every {s} s"));
        lines.push(("Timers", format!("hold {hold} s, KEEPALIVE {keepalive}")));
    }
    if let Some(longest) = detail.longest_message {
        lines.push(("Messages", format!("of up to {longest} octets")));
    }
    let limit = detail.max_prefixes.map(|max| format!(" of {max} allowed")).unwrap_or_default();
    lines.push((
        "Prefixes",
        format!(
            "{} received{limit}, {} accepted, {} stale, {} advertised",
            peer.received, peer.accepted, peer.stale, peer.advertised
        ),
    ));
    if let Some(until) = peer.stale_until.as_ref().filter(|_| peer.stale > 0) {
        lines.push(("  stale until", output::timestamp(until)));
    }
    if let Some(error) = &peer.last_error {
        let at = detail
            .last_error_at
            .as_ref()
            .map(|at| format!("{}: ", output::timestamp(at)))
            .unwrap_or_default();
        lines.push(("Last error", format!("{at}{error}")));
    }
    if let Some(bfd) = &peer.bfd {
        lines.push((
            "BFD",
            format!(
                "{} since {}, {}",
                output::json_name(bfd.state),
                output::timestamp(&bfd.since),
                bfd.diagnostic
            ),
        ));
    }
    if peer.update_errors > 0 {
        let errors = format!(
            "{} UPDATEs: {} withdrawn for it, {} taken without the attribute",
            peer.update_errors, peer.treated_as_withdraw, peer.discarded
        );
        lines.push(("Update errors", errors));
    }
    if let Some(last) = &peer.last_update_error {
        lines.push(("  the last", format!("{}: {} ({})", output::timestamp(&last.at), last.rule, last.hex)));
    }
    let mut text: String =
        lines.iter().map(|(name, value)| format!("{name:<14} {}\n", output::clean(value))).collect();
    text.push_str(&traffic("Sent", &detail.sent));
    text.push_str(&traffic("Received", &detail.received_messages));
    for (name, open) in [("Our OPEN", &detail.ours), ("Their OPEN", &detail.theirs)] {
        if let Some(open) = open {
            text.push_str(&said(name, open));
        }
    }
    text
}

fn traffic(name: &str, traffic: &TrafficView) -> String {
    let at = |time_of: &Option<jiff::Timestamp>| {
        time_of.as_ref().map_or_else(|| "never".to_owned(), output::timestamp)
    };
    format!(
        "{name:<14} {} UPDATE (last {}), {} KEEPALIVE (last {}), {} OPEN, {} NOTIFICATION, {} ROUTE-REFRESH; {} octets\n",
        traffic.update,
        at(&traffic.last_update),
        traffic.keepalive,
        at(&traffic.last_keepalive),
        traffic.open,
        traffic.notification,
        traffic.route_refresh,
        traffic.octets
    )
}

fn said(name: &str, open: &OpenView) -> String {
    let mut text =
        format!("{name:<14} AS {}, {}, hold time {} s\n", open.asn, open.router_id, open.hold_time_s);
    for capability in &open.capabilities {
        text.push_str(&format!("  {:<12} {}\n", "", output::clean(capability)));
    }
    text
}
