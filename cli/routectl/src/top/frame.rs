//! Rendering of one frame from two samples of a daemon. Pure.

use std::time::Duration;

use crate::output::clean;
use api::view::{ExitKind, PeerView, SessionState, StatusView, TunnelView};

/// The lines reserved for tunnels if there are many peers.
const LEAST_ROWS: usize = 3;
/// SGR codes.
const RED: &str = "31";
const YELLOW: &str = "33";
const BOLD: &str = "1";

/// A sample of the daemon's state.
pub(super) struct DaemonSample {
    /// The status.
    pub(super) status: StatusView,
    /// The sessions.
    pub(super) peers: Vec<PeerView>,
    /// The tunnels to other nodes.
    pub(super) tunnels: Vec<TunnelView>,
}

/// One line and its colour.
type FrameLine = (String, Option<&'static str>);

/// Renders a frame within `size` (columns, rows).
pub(super) fn frame(
    now: &DaemonSample,
    before: Option<(&DaemonSample, Duration)>,
    size: Option<(usize, usize)>,
    coloured: bool,
) -> Vec<String> {
    let mut lines = head(now, before);
    let room = size.map(|(_, rows)| rows.saturating_sub(lines.len() + 3));
    let peers = peers(now, before);
    let tunnels = tunnels(now);
    // Problems come first, so healthy entries are left out.
    let rows = (peers.len(), tunnels.len());
    let of_tunnels = room.map(|room| rows.1.min((room / 2).max(LEAST_ROWS).max(room.saturating_sub(rows.0))));
    let of_peers = room.map(|room| room.saturating_sub(of_tunnels.unwrap_or(0)));
    lines.push((String::new(), None));
    lines.extend(shortened(peers, of_peers));
    lines.push((String::new(), None));
    lines.extend(shortened(tunnels, of_tunnels));
    if let Some((_, rows)) = size {
        lines.truncate(rows);
    }
    lines.into_iter().map(|(text, colour)| finished(&text, colour, size, coloured)).collect()
}

fn finished(text: &str, colour: Option<&str>, size: Option<(usize, usize)>, coloured: bool) -> String {
    let text = clean(text);
    let text = match size {
        Some((columns, _)) => text.chars().take(columns).collect(),
        None => text,
    };
    let text = text.trim_end();
    match colour.filter(|_| coloured) {
        Some(colour) => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        None => text.to_owned(),
    }
}

/// Truncates lines to `rows`. The last one has the number of omitted lines.
fn shortened(mut lines: Vec<FrameLine>, room: Option<usize>) -> Vec<FrameLine> {
    if let Some(room) = room.filter(|room| lines.len() > *room) {
        let left = lines.len() - room.saturating_sub(1);
        lines.truncate(room.saturating_sub(1));
        lines.push((format!("and {left} more"), None));
    }
    lines
}

fn head(now: &DaemonSample, before: Option<(&DaemonSample, Duration)>) -> Vec<FrameLine> {
    let status = &now.status;
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let mut lines = vec![(
        format!(
            "{}   routed {}   up {}   {ready}   sessions {}/{}   prefixes {}   installed {}   failing {}",
            status.node,
            status.version,
            long(status.uptime_s),
            status.peers_established,
            status.peers_total,
            status.routes,
            status.routes_installed,
            status.kernel_failures,
        ),
        Some(if status.ready { BOLD } else { RED }),
    )];
    lines.extend(status.not_ready.first().map(|reason| (reason.clone(), Some(RED))));
    let warning = |line: &String| (format!("{line} ({} warning(s))", status.warnings.len()), Some(YELLOW));
    lines.extend(status.warnings.first().map(warning));
    if let Some(store) = &status.store {
        let state =
            if store.connected { "in step".to_owned() } else { format!("away for {}", long(store.lag_s)) };
        let colour = (!store.connected).then_some(YELLOW);
        lines.push((format!("store {state}   {}   relists {}", store.endpoint, store.relists), colour));
    }
    if let (Some(kernel), Some((before, over))) = (&status.kernel, before)
        && let Some(earlier) = &before.status.kernel
    {
        let rate = |now: u64, before: u64| rate(now, before, over);
        let (work, earlier_work) = (&kernel.work, &earlier.work);
        lines.push((
            format!(
                "a second: routes written {}   other objects {}   refused {}   drift {}   probes {}   lost {}",
                rate(work.routes, earlier_work.routes),
                rate(work.objects, earlier_work.objects),
                rate(work.refused, earlier_work.refused),
                rate(kernel.drift, earlier.drift),
                rate(work.probes, earlier_work.probes),
                rate(work.probes_lost, earlier_work.probes_lost),
            ),
            None,
        ));
    }
    lines
}

fn peers(now: &DaemonSample, before: Option<(&DaemonSample, Duration)>) -> Vec<FrameLine> {
    let mut peers: Vec<&PeerView> = now.peers.iter().collect();
    peers.sort_by_key(|peer| (peer.state == SessionState::Established, &peer.name, peer.address));
    let headings =
        ["PEER", "ADDRESS", "STATE", "FOR", "RECEIVED", "ADVERTISED", "UPD IN/S", "UPD OUT/S", "LAST ERROR"];
    let row = |peer: &&PeerView| {
        let same = |other: &&PeerView| other.address == peer.address && other.name == peer.name;
        let updates = |count: fn(&PeerView) -> u64| {
            let rate = before.and_then(|(before, over)| {
                let earlier = before.peers.iter().find(same)?;
                Some(rate(count(peer), count(earlier), over))
            });
            rate.unwrap_or_else(|| "-".into())
        };
        let up = peer.state == SessionState::Established;
        let row = [
            peer.name.clone(),
            peer.address.to_string(),
            format!("{:?}", peer.state),
            if up { long(peer.uptime_s) } else { "-".into() },
            peer.received.to_string(),
            peer.advertised.to_string(),
            updates(|peer| peer.updates_received),
            updates(|peer| peer.updates_sent),
            peer.last_error.clone().filter(|_| !up).unwrap_or_default(),
        ];
        (row, (!up).then_some(RED))
    };
    table(&headings, peers.iter().map(row).collect())
}

fn tunnels(now: &DaemonSample) -> Vec<FrameLine> {
    let mut tunnels: Vec<&TunnelView> = now.tunnels.iter().collect();
    tunnels
        .sort_by_key(|tunnel| (tunnel.in_use == tunnel.preferred && tunnel.in_use.is_some(), &tunnel.node));
    let headings = ["NODE", "IN USE", "PREFERRED", "RTT MS", "MTU", "BLOCKS", "REASON"];
    let row = |tunnel: &&TunnelView| {
        let maybe = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let row = [
            tunnel.node.clone(),
            named(tunnel.in_use),
            named(tunnel.preferred),
            maybe(tunnel.last_probe_ms.map(|millis| format!("{millis:.2}"))),
            maybe(tunnel.mtu.map(|mtu| mtu.to_string())),
            tunnel.blocks.len().to_string(),
            tunnel.reason.clone(),
        ];
        let colour = match tunnel.in_use {
            None => Some(RED),
            in_use => (in_use != tunnel.preferred).then_some(YELLOW),
        };
        (row, colour)
    };
    table(&headings, tunnels.iter().map(row).collect())
}

/// Renders columns padded by three spaces, with headings.
fn table<const N: usize>(
    headings: &[&str; N],
    rows: Vec<([String; N], Option<&'static str>)>,
) -> Vec<FrameLine> {
    let mut widths = headings.map(|heading| heading.chars().count());
    for (row, _) in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &[String; N]| {
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}   ")).collect::<String>()
    };
    let head = (line(&headings.map(ToOwned::to_owned)), Some(BOLD));
    let rows = rows.iter().map(|(row, colour)| (line(row), *colour));
    std::iter::once(head).chain(rows).collect()
}

/// Returns the rate of a counter per second; `-` after a reset.
fn rate(now: u64, before: u64, over: Duration) -> String {
    let Some(more) = now.checked_sub(before).filter(|_| !over.is_zero()) else { return "-".into() };
    let millis = u64::try_from(over.as_millis()).unwrap_or(u64::MAX).max(1);
    let tenths = more.saturating_mul(10_000) / millis;
    if tenths == 0 || tenths >= 100 {
        (tenths / 10).to_string()
    } else {
        format!("{}.{}", tenths / 10, tenths % 10)
    }
}

fn named(exit: Option<ExitKind>) -> String {
    exit.map_or_else(|| "-".into(), |exit| format!("{exit:?}").to_lowercase())
}

/// Formats a duration: `45s`, `3m12s`, `5h03m`, `2d07h`.
fn long(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m{:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h{:02}m", minutes % 60),
        (days, hours, _) => format!("{days}d{:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sample(routes: u64, received: u64, down: usize, peers: usize) -> DaemonSample {
        let at = "2026-01-31T12:00:00Z";
        let status = json!({
            "node": "node-1", "version": "0.1.0", "started": at, "uptime_s": 3790, "ready": true, "not_ready": [],
            "asn": 64512, "router_id": null, "listen_port": 179, "peers_established": peers - down, "peers_total": peers,
            "routes": 7, "routes_installed": 6, "kernel_failures": 1, "dataplane": "kernel", "in_sync": true,
            "datastore": "file:/r", "revision": null, "mistakes": [], "warnings": ["beware"],
            "kernel": {
                "next_hops": "objects", "drift": 0, "devices": [], "sysctls": [], "failures": [],
                "work": { "routes": routes, "objects": 0, "refused": 0, "fallbacks_ipip": 0, "fallbacks_bgp": 0, "probes": 10, "probes_lost": 0 },
            },
        });
        let peer = |number: usize| {
            let is_down = number >= peers - down;
            json!({
                "name": format!("node-{:02}", number + 2), "address": format!("192.168.0.{}", number + 2), "port": 179, "asn": 64512,
                "type": "mesh", "state": if is_down { "Idle" } else { "Established" }, "since": at, "uptime_s": 61,
                "received": received, "accepted": received, "stale": 0, "stale_until": null, "advertised": 1,
                "hold_time_s": null, "router_id": null, "updates_received": received, "updates_sent": 40, "last_error": "hold\u{1b}[31m timer",
            })
        };
        let tunnel = |number: usize| {
            json!({
                "node": format!("node-{:02}", number + 2), "address": null, "preferred": "ipip",
                "in_use": if number == 0 { "vxlan" } else { "ipip" }, "since": at, "reason": "Always", "last_probe_ms": 0.25,
                "mtu": 1480, "blocks": ["10.1.2.0/26"],
            })
        };
        let read = |all: Vec<Value>| Value::Array(all);
        DaemonSample {
            status: serde_json::from_value(status).unwrap(),
            peers: serde_json::from_value(read((0..peers).map(peer).collect())).unwrap(),
            tunnels: serde_json::from_value(read((0..peers).map(tunnel).collect())).unwrap(),
        }
    }

    #[test]
    fn what_is_wrong_stands_first_and_rates_are_of_the_time_between_two_looks() {
        let (before, now) = (sample(100, 5, 1, 3), sample(400, 8, 1, 3));
        let lines = frame(&now, Some((&before, Duration::from_secs(2))), None, false);
        assert!(
            lines[0].starts_with("node-1   routed 0.1.0   up 1h03m   ready   sessions 2/3"),
            "{}",
            lines[0]
        );
        assert_eq!(lines[1], "beware (1 warning(s))");
        assert!(lines[2].starts_with("a second: routes written 150   other objects 0"), "{}", lines[2]);
        assert_eq!(
            lines[4..8],
            [
                "PEER      ADDRESS       STATE         FOR     RECEIVED   ADVERTISED   UPD IN/S   UPD OUT/S   LAST ERROR",
                "node-04   192.168.0.4   Idle          -       8          1            1.5        0           hold\u{fffd}[31m timer",
                "node-02   192.168.0.2   Established   1m01s   8          1            1.5        0",
                "node-03   192.168.0.3   Established   1m01s   8          1            1.5        0",
            ]
        );
        assert!(lines[10].starts_with("node-02   vxlan    ipip"), "{lines:#?}");
    }

    #[test]
    fn a_frame_is_never_larger_than_the_screen() {
        let now = sample(1, 1, 2, 60);
        for size in [(80, 24), (40, 10), (200, 100), (10, 3), (1, 1), (0, 0)] {
            let lines = frame(&now, None, Some(size), false);
            assert!(lines.len() <= size.1, "{size:?}: {} lines", lines.len());
            assert!(lines.iter().all(|line| line.chars().count() <= size.0), "{size:?}");
        }
        let lines = frame(&now, None, Some((80, 24)), false);
        assert!(lines.iter().any(|line| line.starts_with("and ") && line.ends_with(" more")), "{lines:#?}");
        // Sessions that are down are not left out.
        assert_eq!(lines.iter().filter(|line| line.contains("Idle")).count(), 2, "{lines:#?}");
        let all = frame(&now, None, None, false);
        assert_eq!(all.iter().filter(|line| line.contains("192.168.0.")).count(), 60);
    }

    #[test]
    fn colours_are_only_there_where_they_are_wanted() {
        let now = sample(1, 1, 1, 2);
        assert!(!frame(&now, None, None, false).join("").contains('\u{1b}'));
        assert!(frame(&now, None, None, true).join("").contains("\u{1b}[31mnode-03"));
    }

    #[test]
    fn a_counter_that_began_anew_has_no_rate() {
        let second = Duration::from_secs(1);
        assert_eq!((rate(5, 7, second), rate(9, 7, second)), ("-".into(), "2.0".into()));
        assert_eq!((rate(1007, 7, second), rate(7, 7, second)), ("1000".into(), "0".into()));
        assert_eq!((long(59), long(3600), long(90_000)), ("59s".into(), "1h00m".into(), "1d01h".into()));
    }
}
