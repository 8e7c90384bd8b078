//! `/`: the state of the node for a browser. A page without scripts, from the same views as the
//! other answers.

use std::fmt::Write as _;

use super::view::{ExitKind, PeerView, SessionState, StatusView, TunnelView};

/// The maximum number of rows in a table. Rows without problems come last and are left out first.
const ROWS: usize = 200;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;max-width:75em}table{border-collapse:collapse;margin:.5em 0 1.5em}\
th,td{text-align:left;padding:.2em 1.2em .2em 0;border-bottom:1px solid #ddd}th{font-weight:600}.bad{color:#b00020}.odd{color:#8a5a00}\
code{font-family:ui-monospace,monospace}";

/// The format of times: seconds, as in `routectl`.
const TIME: &str = "%Y-%m-%dT%H:%M:%SZ";

/// Returns the page as HTML.
pub(super) fn page(status: &StatusView, peers: &[PeerView], tunnels: &[TunnelView]) -> String {
    let mut html = String::new();
    let node = escaped(&status.node);
    let ready = if status.ready { "ready" } else { "<span class=bad>not ready</span>" };
    // Writing to a String cannot fail.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <meta http-equiv=refresh content=10><title>{node}: routed</title><style>{STYLE}</style></head><body>\n\
         <h1>{node}: {ready}</h1>\n<p>routed {}, since {}; AS {}, sessions {} of {}, {} prefixes, {} routes in the kernel, {} refused. \
         <a href=\"/metrics\">metrics</a></p>\n",
        escaped(&status.version),
        status.started.strftime(TIME),
        status.asn,
        status.peers_established,
        status.peers_total,
        status.routes,
        status.routes_installed,
        status.kernel_failures,
    );
    list(&mut html, "Not ready", "bad", &status.not_ready);
    list(&mut html, "Warnings", "odd", &status.warnings);
    let store = status.store.as_ref().map(|store| match store.connected {
        true => format!("{}, in step with {}", status.datastore, store.endpoint),
        false => format!("{}, out of reach for {} s", status.datastore, store.lag_s),
    });
    let store = store.unwrap_or_else(|| status.datastore.clone());
    let revision = status.revision.as_deref().unwrap_or("none");
    let _ =
        writeln!(html, "<p>Resources: <code>{}</code>, revision {}</p>", escaped(&store), escaped(revision));
    let mut peers: Vec<&PeerView> = peers.iter().collect();
    peers.sort_by_key(|peer| (peer.state == SessionState::Established, &peer.name, peer.address));
    let row = |peer: &&PeerView| {
        let up = peer.state == SessionState::Established;
        let cells = [
            peer.name.clone(),
            peer.address.to_string(),
            peer.asn.to_string(),
            format!("{:?}", peer.state),
            peer.since.strftime(TIME).to_string(),
            peer.received.to_string(),
            peer.accepted.to_string(),
            peer.advertised.to_string(),
            peer.last_error.clone().filter(|_| !up).unwrap_or_default(),
        ];
        (cells, if up { "" } else { "bad" })
    };
    let headings =
        ["Peer", "Address", "AS", "State", "Since", "Received", "Accepted", "Advertised", "Last error"];
    table(&mut html, "Sessions", &headings, peers.len(), peers.iter().take(ROWS).map(row));
    let mut tunnels: Vec<&TunnelView> = tunnels.iter().collect();
    tunnels
        .sort_by_key(|tunnel| (tunnel.in_use == tunnel.preferred && tunnel.in_use.is_some(), &tunnel.node));
    let row = |tunnel: &&TunnelView| {
        let cells = [
            tunnel.node.clone(),
            named(tunnel.in_use),
            named(tunnel.preferred),
            tunnel.last_probe_ms.map_or_else(|| "-".into(), |millis| format!("{millis:.2}")),
            tunnel.blocks.len().to_string(),
            tunnel.reason.clone(),
        ];
        let class = match tunnel.in_use {
            None => "bad",
            in_use if in_use != tunnel.preferred => "odd",
            _ => "",
        };
        (cells, class)
    };
    let headings = ["Node", "In use", "Preferred", "Round trip, ms", "Blocks", "Reason"];
    table(&mut html, "Other nodes", &headings, tunnels.len(), tunnels.iter().take(ROWS).map(row));
    html.push_str("</body></html>\n");
    html
}

fn list(html: &mut String, heading: &str, class: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let _ = write!(html, "<h2>{heading}</h2>\n<ul class={class}>\n");
    for line in lines.iter().take(ROWS) {
        let _ = writeln!(html, "<li>{}</li>", escaped(line));
    }
    html.push_str("</ul>\n");
}

fn table<const N: usize>(
    html: &mut String,
    heading: &str,
    headings: &[&str; N],
    count: usize,
    rows: impl Iterator<Item = ([String; N], &'static str)>,
) {
    let _ = write!(html, "<h2>{heading}</h2>\n<table>\n<tr>");
    headings.iter().for_each(|text| _ = write!(html, "<th>{text}</th>"));
    html.push_str("</tr>\n");
    for (cells, class) in rows {
        let _ = write!(html, "<tr class=\"{class}\">");
        cells.iter().for_each(|cell| _ = write!(html, "<td>{}</td>", escaped(cell)));
        html.push_str("</tr>\n");
    }
    html.push_str("</table>\n");
    if count > ROWS {
        let _ = writeln!(html, "<p>and {} more</p>", count - ROWS);
    }
}

fn named(exit: Option<ExitKind>) -> String {
    exit.map_or_else(|| "-".into(), |exit| format!("{exit:?}").to_lowercase())
}

/// Escapes text for HTML: names and errors come from other systems.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_other_systems_is_escaped() {
        assert_eq!(escaped("<script>'\"&\u{1b}"), "&lt;script&gt;&#39;&quot;&amp;\u{fffd}");
    }
}
