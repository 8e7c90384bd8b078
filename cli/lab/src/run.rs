//! The course of a lab, from the first namespace to the verdict.

use std::{
    env,
    path::PathBuf,
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};

use nix::sys::utsname::uname;
use tokio::runtime::Runtime;

use testbed::Namespace;

use super::{
    block_claims,
    capture::{Capture, Counts},
    coloured,
    daemons::Daemons,
    error::LabError,
    expectations::{DaemonReport, PairResult, Progress, faults, progress, wires},
    firewall::{self, BlockedProtocol},
    interrupt::{POLL_INTERVAL, check_interrupted},
    layout::{BgpMode, LabDatastore, LabEncapsulation, LabNode, LabPoolMode, Layout},
    ping::ping,
    wiring::{Wiring, port_indexes},
};
use api::client::Client;

/// The timeout for the cluster to become ready, and the addition for each node. Emulated kernels
/// are slow.
const READY_WITHIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3));
/// Runs a lab. Returns true if it passed.
pub(super) fn run(layout: &Layout, keep: bool, interrupted: &AtomicBool) -> Result<bool, LabError> {
    println!("{}", describe(layout));
    check_neighbour_table(layout.nodes.len())?;
    let wiring = Wiring::build(layout)?;
    for (node, what) in drops(layout) {
        firewall::drop_packets(&wiring.network, node.address.addr(), what)?;
    }
    let mut daemons = Daemons::start(layout, &wiring)?;
    let mut layout = layout.clone();
    if layout.claims() {
        let patience = patience(&layout);
        block_claims::await_blocks(&mut layout, &mut daemons, patience, interrupted)?;
    }
    wiring.address_pods(&layout)?;
    let outcome = examine(&layout, &wiring, &mut daemons, interrupted);
    if keep && !matches!(outcome, Err(LabError::Interrupted)) {
        leave(&layout, &wiring, &mut daemons)?;
    }
    outcome
}

/// Returns the nodes whose packets are dropped, with the protocol.
fn drops(layout: &Layout) -> impl Iterator<Item = (&LabNode, BlockedProtocol)> {
    [(layout.blocked, BlockedProtocol::Bgp), (layout.dropped, BlockedProtocol::Ipip)]
        .into_iter()
        .filter_map(|(node, what)| Some((layout.nodes.get(node?)?, what)))
}

/// Checks the size of the neighbour table. Each node has an entry for every other on the wire and
/// one on the VXLAN device, and two for its pod. A full table would look like a network that drops
/// packets.
fn check_neighbour_table(nodes: usize) -> Result<(), LabError> {
    let needed = nodes * nodes * 2;
    // Only the first namespace has the file. Without it the size is unknown.
    let limit = std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok();
    match limit.and_then(|text| text.trim().parse().ok()) {
        Some(limit) if needed > limit => Err(LabError::Neighbours { nodes, needed, limit }),
        _ => Ok(()),
    }
}

fn examine(
    layout: &Layout,
    wiring: &Wiring,
    daemons: &mut Daemons,
    interrupted: &AtomicBool,
) -> Result<bool, LabError> {
    let reached = wait_until_ready(layout, daemons, interrupted)?;
    let mut capture = open_capture(layout, wiring)?;
    let results = ping_all(layout, wiring, &mut capture, interrupted)?;
    for node in &layout.nodes {
        for table in ["peers", "routes"] {
            println!("\n{}: routectl show {table}", node.name);
            show(daemons.socket(&node.name), table)?;
        }
    }
    println!("\n{}", ping_table(layout, &results, capture.counts()));

    let mut complaints = reached.unmet.clone();
    complaints.extend(faults(layout, &results, capture.counts()));
    for (node, what) in drops(layout) {
        let count = firewall::dropped(&wiring.network, what)?;
        println!("{} of {} is dropped on the wire: {count} packets", what.text(), node.name);
        if count == 0 {
            complaints.push(format!("the rule that drops {} of {} met no packet", what.text(), node.name));
        }
    }
    for complaint in &complaints {
        println!("{}: {complaint}", paint("31", "wrong"));
    }
    if !complaints.is_empty() {
        for node in &layout.nodes {
            eprintln!("\n{}: the end of routed's log\n{}", node.name, daemons.last_words(&node.name));
        }
    }
    let answered = results.iter().filter(|r| r.pinged.received == r.pinged.sent).count();
    let verdict = if complaints.is_empty() { paint("32", "passed") } else { paint("31", "failed") };
    println!(
        "{verdict}: {answered}/{} pairs of pods ping, {}/{} sessions and {}/{} routes are as they should be",
        layout.pairs().count(),
        reached.sessions.0,
        reached.sessions.1,
        reached.routes.0,
        reached.routes.1,
    );
    Ok(complaints.is_empty())
}

fn describe(layout: &Layout) -> String {
    let release = uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let mode = match layout.mode {
        BgpMode::Mesh => "a full mesh",
        BgpMode::Reflector => "a route reflector (node-1)",
    };
    let encapsulation = match layout.encapsulation {
        LabEncapsulation::Ipip => "ipip",
        LabEncapsulation::Vxlan => "vxlan",
    };
    let pool = match layout.pool_mode {
        LabPoolMode::Always => "always",
        LabPoolMode::CrossSubnet => "cross-subnet",
    };
    let store = match layout.datastore {
        LabDatastore::File => "",
        LabDatastore::Etcd => ", three etcd members",
    };
    format!(
        "lab: {} nodes in {} subnet(s), {mode}, {encapsulation} {pool}{store}, Linux {release}",
        layout.nodes.len(),
        layout.gateways().len(),
    )
}

/// Polls the daemons until all are in the expected state or the time is over. Reports the progress
/// on stderr.
fn wait_until_ready(
    layout: &Layout,
    daemons: &mut Daemons,
    interrupted: &AtomicBool,
) -> Result<Progress, LabError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::system("runtime"))?;
    let clients: Vec<Client> =
        layout.nodes.iter().map(|node| Client::new(&daemons.socket(&node.name))).collect();
    let patience = patience(layout);
    let deadline = Instant::now() + patience;
    let mut told = None;
    loop {
        check_interrupted(interrupted)?;
        daemons.check()?;
        let said: Vec<DaemonReport> = clients.iter().map(|client| ask(&runtime, client)).collect();
        let now = progress(layout, &said);
        let counts = (now.sessions, now.routes);
        if told != Some(counts) {
            let ((sessions, of_sessions), (routes, of_routes)) = counts;
            eprintln!("lab: sessions {sessions}/{of_sessions}, routes {routes}/{of_routes}");
            told = Some(counts);
        }
        if now.unmet.is_empty() {
            return Ok(now);
        }
        if Instant::now() >= deadline {
            eprintln!("lab: not as it should be after {} s; pinging nevertheless", patience.as_secs());
            return Ok(now);
        }
        thread::sleep(POLL_INTERVAL); // why: what the daemons have learned can only be asked for again
    }
}

fn patience(layout: &Layout) -> Duration {
    READY_WITHIN.0 + READY_WITHIN.1 * u32::try_from(layout.nodes.len()).unwrap_or(0)
}

fn ask(runtime: &Runtime, client: &Client) -> DaemonReport {
    runtime.block_on(async {
        // A daemon that does not answer yet has an empty report.
        DaemonReport {
            peers: client.get("/v1/peers").await.unwrap_or_default(),
            routes: client.get("/v1/routes").await.unwrap_or_default(),
        }
    })
}

fn open_capture(layout: &Layout, wiring: &Wiring) -> Result<Capture, LabError> {
    let layout = layout.clone();
    let open = move || {
        let ports = port_indexes(&layout)?;
        Capture::open(ports).map_err(LabError::system("a packet socket on the bridge"))
    };
    wiring.network.run(open).map_err(LabError::namespace)?
}

fn ping_all(
    layout: &Layout,
    wiring: &Wiring,
    capture: &mut Capture,
    interrupted: &AtomicBool,
) -> Result<Vec<PairResult>, LabError> {
    let mut results = Vec::new();
    for (number, (from, to)) in layout.pairs().enumerate() {
        check_interrupted(interrupted)?;
        let (Some(pod), Some(node)) = (wiring.pods.get(from), layout.nodes.get(to)) else { continue };
        let (destination, identifier) = (node.pod, u16::try_from(number).unwrap_or(u16::MAX));
        let pinged = pod
            .run(move || ping(destination, identifier))
            .map_err(LabError::namespace)?
            .map_err(LabError::system("ping"))?;
        results.push(PairResult { from, to, pinged });
        // All answered packets have passed the bridge by now.
        capture.drain().map_err(LabError::system("the packet socket on the bridge"))?;
    }
    Ok(results)
}

/// Prints a table of `routectl show`.
fn show(socket: PathBuf, table: &str) -> Result<(), LabError> {
    let own = env::current_exe().map_err(LabError::system("own path"))?;
    let status = Command::new(own)
        .arg("--socket")
        .arg(socket)
        .args(["show", table])
        .status()
        .map_err(LabError::system("routectl"))?;
    if status.success() {
        return Ok(());
    }
    Err(LabError::Program { program: "routectl show", text: status.to_string() })
}

fn ping_table(layout: &Layout, results: &[PairResult], counts: &Counts) -> String {
    let mut rows = vec![["FROM", "TO", "POD", "PINGS", "RTT", "ON THE WIRE"].map(str::to_owned)];
    for result in results {
        let (Some(from), Some(to)) = (layout.nodes.get(result.from), layout.nodes.get(result.to)) else {
            continue;
        };
        let seen: Vec<String> = wires(layout, counts, result.from, result.to)
            .iter()
            .map(|(wire, count)| format!("{} ({count} packets)", wire.text()))
            .collect();
        let time = result
            .pinged
            .round_trip
            .map_or_else(|| "-".to_owned(), |time| format!("{:.2} ms", time.as_secs_f64() * 1000.0));
        rows.push([
            from.name.clone(),
            to.name.clone(),
            to.pod.to_string(),
            format!("{}/{}", result.pinged.received, result.pinged.sent),
            time,
            if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") },
        ]);
    }
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("   ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Names the namespaces, and prints how to inspect and remove the cluster.
fn leave(layout: &Layout, wiring: &Wiring, daemons: &mut Daemons) -> Result<(), LabError> {
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    let mut name = |namespace: &Namespace, suffix: String| {
        let name = format!("routed-lab-{suffix}");
        match namespace.name(&name) {
            Ok(path) => {
                named.push((name, path));
                Ok(())
            }
            Err(error) => Err(LabError::System { what: "naming a namespace in /run/netns", source: error }),
        }
    };
    let mut outcome = name(&wiring.network, "network".to_owned());
    for (index, node) in layout.nodes.iter().enumerate() {
        if let (Ok(()), Some(inside), Some(pod)) = (&outcome, wiring.nodes.get(index), wiring.pods.get(index))
        {
            outcome =
                name(inside, node.name.clone()).and_then(|()| name(pod, format!("pod-{}", node.number)));
        }
    }
    if let Err(error) = outcome {
        for (_, path) in named {
            // The error is reported even if the cleanup fails.
            let _ = Namespace::unname(&path);
        }
        return Err(error);
    }
    daemons.keep();
    let work = daemons.work().display();
    let pids: Vec<String> = daemons.pids().iter().map(u32::to_string).collect();
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    println!("\nThe cluster keeps running. Look around:");
    println!("  routectl --socket {} show peers", daemons.socket("node-1").display());
    println!("  ip netns exec routed-lab-node-1 ip route");
    if let Some(other) = layout.nodes.get(1) {
        println!("  ip netns exec routed-lab-pod-1 ping {}", other.pod);
    }
    println!("  {work}/resources/lab.yaml can be edited, and {work}/node-1/routed.log read");
    println!("Remove it:");
    println!("  kill {}", pids.join(" "));
    println!("  for n in {}; do ip netns delete $n; done", names.join(" "));
    println!("  rm -r {work}");
    Ok(())
}

fn paint(colour: &str, text: &str) -> String {
    if coloured() { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
}
