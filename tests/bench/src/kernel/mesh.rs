//! S7: a full mesh, one daemon in each of fifty namespaces on one bridge: cold start until every table is whole; then
//! one block more.

use std::{
    fmt::Write,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, gettid},
};
use tunnel::{kernel::query_reach, netlink::RequestSocket, resolve::Reach};

use super::{change_count::Changes, neighbours::NeighbourLimits};
use crate::{
    bed::Bed,
    contender::{Contender, Speaker},
    daemon::{Cpu, Daemon},
    load::AS_NUMBER,
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
};

/// Nodes.
const NODES: u8 = 50;
/// The interval of the checks of a table during the start.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Time in which the daemons must come to rest after the start, and the CPU time that all of them
/// may use in [`RESTING_FOR`] then: hold timers of two thousand sessions continue.
const PATIENCE: Duration = Duration::from_secs(60);
const RESTING_FOR: Duration = Duration::from_secs(1);
const RESTING_CPU: Duration = Duration::from_millis(60);
/// The node that gets a block more.
const GROWING: u8 = 1;

/// Returns the scenario.
pub(super) fn scenario() -> Scenario {
    Scenario {
        name: "S7",
        about: "full mesh of 50 daemons in namespaces: cold start until every table is whole; one block more",
        speakers: &[Speaker::Routed, Speaker::Bird],
        run,
    }
}

fn address(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(172, 29, 0, node)
}

fn block(node: u8) -> Ipv4Addr {
    Ipv4Addr::new(20, 0, node, 0)
}

/// The block that is added later.
fn further_block() -> Ipv4Addr {
    Ipv4Addr::new(20, 0, GROWING, 64)
}

/// A command to a node's thread.
enum Order {
    /// The device is there: configure it, and say that it is done.
    Configure,
    /// Start the daemon, and say when all these blocks are reached through a gateway.
    Start,
    /// Say when this block is.
    Await(Ipv4Addr),
}

/// A node, by the thread that is in its namespace; that thread's end ends the daemon, and the namespace with it.
struct Node {
    number: u8,
    orders: Sender<Order>,
}

/// A message of a node's thread.
enum NodeMessage {
    /// The thread is in its namespace, with this thread id.
    Here(u8, i32),
    /// The order is carried out, at this time.
    Done(Instant),
    /// The daemon has this process id.
    Started(u32),
    /// The thread is not in its namespace.
    Failed(u8, anyhow::Error),
}

fn run(trial: &Trial<'_>) -> Result<Vec<Measurement>> {
    let _raised = NeighbourLimits::new()?;
    trial.bed.ip("link add bridge0 type bridge")?;
    trial.bed.ip("link set bridge0 up")?;
    for number in 1..=NODES {
        write_files(trial.contender, trial.bed, number, false)?;
    }
    thread::scope(|scope| {
        let (tell, told) = channel();
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let (orders, carried_out) = channel();
            let tell = tell.clone();
            let (contender, directory, limit) =
                (trial.contender, trial.bed.path(&format!("node-{number}")), trial.limit);
            scope.spawn(move || {
                if let Err(error) = live(number, contender, &directory, limit, &carried_out, &tell) {
                    // After another failure the receiver is gone.
                    let _ = tell.send(NodeMessage::Failed(number, error));
                }
            });
            nodes.push(Node { number, orders });
        }
        drop(tell);
        // Dropping the nodes ends their threads, whatever came of it.
        Mesh { nodes, told, pids: Vec::new() }.measure(trial)
    })
}

struct Mesh {
    nodes: Vec<Node>,
    told: Receiver<NodeMessage>,
    pids: Vec<u32>,
}

impl Mesh {
    fn measure(&mut self, trial: &Trial<'_>) -> Result<Vec<Measurement>> {
        for _ in 0..NODES {
            match self.told.recv()? {
                NodeMessage::Here(number, thread) => {
                    let (outer, inner) = (format!("port{number}"), format!("inner{number}"));
                    trial.bed.ip(&format!("link add {outer} type veth peer name {inner}"))?;
                    trial.bed.ip(&format!("link set {outer} master bridge0 up"))?;
                    trial.bed.ip(&format!("link set {inner} netns {thread} name eth0"))?;
                }
                NodeMessage::Failed(number, error) => return Err(error.context(format!("node {number}"))),
                NodeMessage::Done(_) | NodeMessage::Started(_) => bail!("a node did what it was not told to"),
            }
        }
        self.order(|_| Order::Configure)?;
        self.wait(trial.limit)?;

        let began = Instant::now();
        self.order(|_| Order::Start)?;
        let ended = self.wait(trial.limit)?;
        let cold = self.measurement("S7 cold start", began, ended, &[]);
        self.rest()?;

        let before: Vec<Cpu> = self.pids.iter().map(|pid| Cpu::of(*pid)).collect();
        let began = Instant::now();
        write_files(trial.contender, trial.bed, GROWING, true)?;
        if trial.contender.speaker == Speaker::Bird {
            let file = trial.bed.path(&format!("node-{GROWING}/bird.pid"));
            let pid = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            kill(Pid::from_raw(pid.trim().parse()?), Signal::SIGHUP)?;
        }
        self.order(|_| Order::Await(further_block()))?;
        let ended = self.wait(trial.limit)?;
        let more = self.measurement("S7 one block more", began, ended, &before);
        Ok(vec![cold, more])
    }

    fn order(&self, order: impl Fn(u8) -> Order) -> Result<()> {
        for node in &self.nodes {
            node.orders.send(order(node.number)).map_err(|_| self.failure())?;
        }
        Ok(())
    }

    /// Why a node's thread has ended.
    fn failure(&self) -> anyhow::Error {
        let failed = self.told.try_iter().find_map(|told| match told {
            NodeMessage::Failed(number, error) => Some(error.context(format!("node {number}"))),
            _ => None,
        });
        failed.unwrap_or_else(|| anyhow!("a node's thread ended"))
    }

    /// Waits until all nodes have executed their commands; returns when the last one had.
    fn wait(&mut self, limit: Duration) -> Result<Instant> {
        let mut last = None;
        for _ in 0..NODES {
            loop {
                // The nodes' threads give up themselves; this is for one that hangs.
                match self.told.recv_timeout(limit + PATIENCE)? {
                    NodeMessage::Done(at) => {
                        last = last.max(Some(at));
                        break;
                    }
                    NodeMessage::Started(pid) => self.pids.push(pid),
                    NodeMessage::Failed(number, error) => return Err(error.context(format!("node {number}"))),
                    NodeMessage::Here(..) => {}
                }
            }
        }
        last.ok_or_else(|| anyhow!("no nodes"))
    }

    /// Waits until nothing but keepalives goes on.
    fn rest(&self) -> Result<()> {
        let all = || self.pids.iter().map(|pid| Cpu::of(*pid)).collect::<Vec<_>>();
        let deadline = Instant::now() + PATIENCE;
        let mut before = all();
        while Instant::now() < deadline {
            // why: this is the interval over which CPU time is looked at.
            thread::sleep(RESTING_FOR);
            let now = all();
            let spent: Duration = now.iter().zip(&before).map(|(now, before)| now.since(before)).sum();
            if spent < RESTING_CPU {
                return Ok(());
            }
            before = now;
        }
        bail!("the daemons are still busy after {PATIENCE:?}")
    }

    fn measurement(&self, row: &str, began: Instant, ended: Instant, before: &[Cpu]) -> Measurement {
        let none = Cpu::default();
        let spent = self.pids.iter().enumerate();
        let spent = spent.map(|(i, pid)| Cpu::of(*pid).since(before.get(i).unwrap_or(&none)));
        let memory: Vec<_> = self.pids.iter().map(|pid| crate::daemon::Memory::of(*pid)).collect();
        let nodes = u64::from(NODES);
        Measurement {
            row: row.to_owned(),
            outcome: Outcome::Done,
            wall_s: (ended - began).as_secs_f64(),
            cpu_s: spent.sum::<Duration>().as_secs_f64(),
            // The average of the daemons.
            rss: memory.iter().map(|m| m.rss).sum::<u64>() / nodes,
            peak_rss: memory.iter().map(|m| m.peak).sum::<u64>() / nodes,
            more: [].into(),
        }
    }
}

/// A node's thread.
fn live(
    number: u8,
    contender: &Contender,
    directory: &Path,
    limit: Duration,
    orders: &Receiver<Order>,
    tell: &Sender<NodeMessage>,
) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("can't make a network namespace")?;
    tell.send(NodeMessage::Here(number, gettid().as_raw()))?;
    let mut socket = None;
    let mut daemon = None;
    let mut changes = None;
    while let Ok(order) = orders.recv() {
        let awaited = match order {
            Order::Configure => {
                ip("link set lo up")?;
                ip(&format!("address add {}/16 dev eth0", address(number)))?;
                ip("link set eth0 up")?;
                socket = Some(RequestSocket::open()?);
                Vec::new()
            }
            Order::Start => {
                let started = start(contender, directory)?;
                tell.send(NodeMessage::Started(started.pid()))?;
                daemon = Some(started);
                (1..=NODES).filter(|other| *other != number).map(block).collect()
            }
            Order::Await(_) if number == GROWING => Vec::new(),
            Order::Await(block) => vec![block],
        };
        if let Some(socket) = &mut socket {
            until_reached(socket, &awaited, changes.as_mut(), limit).inspect_err(|_| {
                if let Some(daemon) = &daemon {
                    eprintln!("node {number}: {}", daemon.log_tail());
                }
            })?;
        }
        let done = Instant::now();
        if daemon.is_some() && changes.is_none() {
            // From now on there are so few events that they are no burden.
            changes = Some(Changes::listen()?);
        }
        tell.send(NodeMessage::Done(done))?;
    }
    Ok(())
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split_whitespace()).output().context("can't run ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Checks after each event with `changes`, else at intervals.
fn until_reached(
    socket: &mut RequestSocket,
    blocks: &[Ipv4Addr],
    mut changes: Option<&mut Changes>,
    limit: Duration,
) -> Result<()> {
    let deadline = Instant::now() + limit;
    let mut left = blocks;
    while let Some(block) = left.first() {
        let inside = IpAddr::from(Ipv4Addr::from_bits(block.to_bits() + 1));
        match query_reach(socket, inside).map_err(|error| anyhow!("{error}"))? {
            Reach::Via { .. } => left = left.get(1..).unwrap_or_default(),
            _ if Instant::now() > deadline => {
                bail!("{} blocks are not reached, {block} first, after {limit:?}", left.len())
            }
            _ => match &mut changes {
                Some(changes) => changes.wait(limit)?,
                // why: the events of fifty tables would be measured too.
                None => thread::sleep(LOOK_AGAIN),
            },
        }
    }
    Ok(())
}

fn start(contender: &Contender, directory: &Path) -> Result<Daemon> {
    let at = |name: &str| directory.join(name).display().to_string();
    let arguments = match contender.speaker {
        Speaker::Routed => vec!["--config".to_owned(), at("routed.yaml")],
        Speaker::Bird => ["-f", "-c", &at("bird.conf"), "-s", &at("bird.ctl"), "-P", &at("bird.pid")]
            .map(str::to_owned)
            .to_vec(),
        other => bail!("{} is in no mesh here", other.name()),
    };
    Daemon::start(&contender.program, arguments, directory.join("log"))
}

/// Writes a node's configuration; `grown`: with the further block.
fn write_files(contender: &Contender, bed: &Bed, number: u8, grown: bool) -> Result<()> {
    let directory = format!("node-{number}");
    if contender.speaker == Speaker::Bird {
        bed.write(&format!("{directory}/bird.conf"), &bird(number, grown))?;
        return Ok(());
    }
    let config = format!(
        "node: node-{number}\n\
         socket: {0}/routed.sock\n\
         stateDir: {0}/state\n\
         status: off\n\
         datastore: {{ file: {0}/resources }}\n\
         log: warn\n",
        bed.path(&directory).display(),
    );
    if !grown {
        bed.write(&format!("{directory}/routed.yaml"), &config)?;
    }
    // In one step: a reader finds the old one or the new one.
    let name = format!("{directory}/resources/cluster.yaml");
    let written = bed.write(&format!("{directory}/cluster.new"), &resources(grown))?;
    let target = bed.path(&name);
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::rename(written, target)?;
    Ok(())
}

/// Routed plainly, as BIRD does.
fn resources(grown: bool) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\n\
         kind: BGPConfiguration\n\
         metadata: {{ name: default }}\n\
         spec: {{ asNumber: {AS_NUMBER}, routed: {{ fallback: none }} }}\n\
         ---\n\
         apiVersion: projectcalico.org/v3\n\
         kind: IPPool\n\
         metadata: {{ name: pods }}\n\
         spec: {{ cidr: 20.0.0.0/16, ipipMode: Never }}\n"
    );
    for number in 1..=NODES {
        let more =
            if grown && number == GROWING { format!(", {}/26", further_block()) } else { String::new() };
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "---\n\
             apiVersion: projectcalico.org/v3\n\
             kind: Node\n\
             metadata: {{ name: node-{number} }}\n\
             spec:\n  \
               bgp: {{ ipv4Address: {}/16 }}\n  \
               podCIDRs: [{}/26{more}]\n",
            address(number),
            block(number),
        );
    }
    text
}

/// As shipped, it waits 5 s before its first connection; that is reduced as far as possible.
fn bird(number: u8, grown: bool) -> String {
    let own = address(number);
    let mut text = format!(
        "router id {own};\n\
         log stderr {{ warning, error, fatal, bug }};\n\
         protocol device {{}}\n\
         protocol direct {{ ipv4; interface \"eth0\"; }}\n\
         protocol kernel {{ ipv4 {{ import none; export where source != RTS_DEVICE; }}; }}\n\
         protocol static blocks {{\n  ipv4;\n  route {}/26 blackhole;\n",
        block(number)
    );
    // Writing to a String cannot fail.
    if grown {
        let _ = writeln!(text, "  route {}/26 blackhole;", further_block());
    }
    let _ = write!(
        text,
        "}}\n\
         template bgp node {{\n  \
           local {own} as {AS_NUMBER};\n  direct;\n  connect delay time 1;\n  connect retry time 1;\n  \
           error wait time 1, 1;\n  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; }};\n\
         }}\n"
    );
    for other in (1..=NODES).filter(|other| *other != number) {
        let _ = writeln!(
            text,
            "protocol bgp n{other} from node {{ neighbor {} as {AS_NUMBER}; }}",
            address(other)
        );
    }
    text
}
