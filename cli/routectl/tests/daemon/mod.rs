//! A control API with known views over a file store, and the programs that speak to it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use api::view::Diagnosis;
use api::view::{
    BfdView, ExitKind, ExplainFacts, ExplainView, FamilyView, KernelLatencyView, LatencyView, NodeView,
    PathView, PeerDetail, PeerType, PeerView, PlanView, RouteMemberView, RouteSource, RouteView,
    SessionState, StatusView, TunnelView, UpdateErrorView,
};
use api::view::{FirewallView, KernelView, StoreView, WorkView};
use api::{
    Control, ControlError, ControlSocket, ExplainRequest, Proposal, RouteQuery, WhichRoutes, bind, router,
    serve,
};
use datastore::FileStore;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use routed::explain::judge;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// The fixed views of the tests' daemon.
struct Views;

fn since() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

fn latency() -> LatencyView {
    let mut latency = LatencyView::default();
    // 1 ms, 3 ms and 300 ms.
    [3, 5, 11].into_iter().for_each(|class| latency.counts[class] = 1);
    latency.sum_us = 304_000;
    latency
}

fn family(family: &str, received: u64) -> FamilyView {
    FamilyView { family: family.into(), received, accepted: 1, advertised: 1, stale: 0 }
}

fn learned() -> RouteView {
    RouteView {
        prefix: "10.1.2.0/26".parse().unwrap(),
        next_hop: Some("10.0.0.2".parse().unwrap()),
        source: RouteSource::Ibgp,
        peer: Some("node-b".into()),
        exit: Some(ExitKind::Ipip),
        device: Some("routed.ipip".into()),
        installed: false,
        reason: "only path".into(),
        legs: Vec::new(),
    }
}

impl Control for Views {
    fn drain(&self, _: std::time::Duration) -> BoxFuture<'_, Result<(), ControlError>> {
        async { Err(ControlError::AlreadyDraining) }.boxed()
    }

    fn peers(&self) -> BoxFuture<'_, Vec<PeerView>> {
        let up = PeerView {
            name: "node-b".into(),
            address: "10.0.0.2".parse().unwrap(),
            port: 179,
            asn: 64512,
            r#type: PeerType::Mesh,
            state: SessionState::Established,
            since: since(),
            uptime_s: 5,
            received: 2,
            accepted: 1,
            advertised: 1,
            stale: 0,
            stale_until: None,
            hold_time_s: Some(90),
            router_id: Some([10, 0, 0, 2].into()),
            last_error: None,
            bfd: Some(BfdView {
                state: api::view::BfdState::Up,
                since: since(),
                diagnostic: "no diagnostic".into(),
                detection_time_ms: 150,
            }),
            update_errors: 3,
            treated_as_withdraw: 1,
            discarded: 2,
            last_update_error: Some(UpdateErrorView {
                at: since(),
                attribute: Some(8),
                name: Some("COMMUNITIES".into()),
                rule: "COMMUNITIES has four octets for each, at least one".into(),
                verdict: "treat_as_withdraw".into(),
                hex: "c00803fde801".into(),
            }),
            updates_received: 7,
            updates_sent: 4,
            families: vec![family("ipv4", 1), family("ipv6", 1)],
        };
        let down = PeerView {
            name: "tor".into(),
            address: "fd00::9".parse().unwrap(),
            asn: 65000,
            r#type: PeerType::Global,
            state: SessionState::Active,
            uptime_s: 0,
            received: 0,
            accepted: 0,
            advertised: 0,
            stale: 2,
            stale_until: None,
            hold_time_s: None,
            router_id: None,
            last_error: Some("peer said: \u{1b}[31mno".into()),
            bfd: None,
            update_errors: 0,
            last_update_error: None,
            families: Vec::new(),
            ..up.clone()
        };
        async { vec![up, down] }.boxed()
    }

    fn peer(&self, _: String) -> BoxFuture<'_, Option<PeerDetail>> {
        async { None }.boxed()
    }

    fn routes(&self, asked: RouteQuery) -> BoxFuture<'_, Result<Vec<RouteView>, ControlError>> {
        if asked.which == WhichRoutes::Rejected {
            let rejected = RouteView { reason: "a filter rejects it".into(), ..learned() };
            return async move { Ok(vec![rejected]) }.boxed();
        }
        let local = RouteView {
            prefix: "10.1.1.0/26".parse().unwrap(),
            next_hop: None,
            source: RouteSource::Local,
            peer: None,
            exit: Some(ExitKind::Blackhole),
            device: None,
            installed: true,
            reason: "own block".into(),
            legs: Vec::new(),
        };
        async { Ok(vec![local, learned()]) }.boxed()
    }

    fn tunnels(&self) -> BoxFuture<'_, Vec<TunnelView>> {
        let tunnel = TunnelView {
            node: "node-b".into(),
            address: Some("10.0.0.2".parse().unwrap()),
            preferred: Some(ExitKind::Ipip),
            in_use: Some(ExitKind::Vxlan),
            since: Some(since()),
            reason: "session down".into(),
            last_probe_ms: None,
            mtu: Some(1450),
            ways: Vec::new(),
            clock_ahead_ms: None,
            blocks: vec!["10.1.2.0/26".parse().unwrap()],
        };
        async { vec![tunnel] }.boxed()
    }

    fn nodes(&self) -> BoxFuture<'_, Vec<NodeView>> {
        let node = NodeView {
            name: "node-b".into(),
            local: false,
            ipv4: Some("10.0.0.2/24".into()),
            ipv6: None,
            asn: 64512,
            asn_inherited: true,
            cluster_id: None,
            vtep: None,
            vtep_mac: None,
            blocks: vec!["10.1.2.0/26".parse().unwrap()],
        };
        async { vec![node] }.boxed()
    }

    fn status(&self) -> BoxFuture<'_, StatusView> {
        let status = StatusView {
            kernel: Some(KernelView {
                next_hops: "objects".into(),
                drift: 1,
                latency: KernelLatencyView { routes: latency(), ..KernelLatencyView::default() },
                work: WorkView {
                    routes: 2,
                    probes: 9,
                    probes_lost: 1,
                    fallbacks_ipip: 1,
                    ..WorkView::default()
                },
                devices: Vec::new(),
                sysctls: Vec::new(),
                failures: Vec::new(),
            }),
            firewall: Some(FirewallView {
                dropped_ipip: Some(4),
                dropped_vxlan: Some(0),
                ..FirewallView::default()
            }),
            cni: None,
            loop_latency: latency(),
            node: "node-a".into(),
            version: "0.0.0".into(),
            started: since(),
            uptime_s: 5,
            ready: false,
            not_ready: vec!["tor is not Established".into()],
            asn: 64512,
            router_id: None,
            listen_port: Some(179),
            peers_established: 1,
            peers_total: 2,
            routes: 2,
            paths: 3,
            attribute_sets: 2,
            suppressed: 0,
            routes_installed: 1,
            kernel_failures: 1,
            dataplane: "kernel".into(),
            in_sync: true,
            datastore: "file".into(),
            store: Some(StoreView {
                connected: false,
                endpoint: "http://10.0.0.9:2379".into(),
                since: since(),
                lag_s: 7,
                problem: Some("no answer in time".into()),
                from_snapshot: false,
                relists: 2,
                refused: 0,
            }),
            revision: None,
            mistakes: Vec::new(),
            warnings: Vec::new(),
        };
        async { status }.boxed()
    }

    fn plan(&self, _: Proposal) -> BoxFuture<'_, Result<PlanView, ControlError>> {
        async { Err(ControlError::Task("nothing is rehearsed here".to_owned())) }.boxed()
    }

    fn doctor(&self) -> BoxFuture<'_, Result<Diagnosis, ControlError>> {
        async { Err(ControlError::Task("nobody is ill here".to_owned())) }.boxed()
    }

    fn explain(&self, request: ExplainRequest) -> BoxFuture<'_, Result<ExplainView, ControlError>> {
        async move {
            let target = request.target.to_string();
            if target != "10.1.2.0/26" {
                let facts = ExplainFacts { target, ..ExplainFacts::default() };
                let verdict = judge(&facts);
                return Ok(ExplainView { facts, verdict });
            }
            let path = PathView {
                source: RouteSource::Ibgp,
                peer: Some("node-b".into()),
                next_hop: Some("10.0.0.2".parse().unwrap()),
                as_path: String::new(),
                local_pref: Some(100),
                med: None,
                best: true,
                shares: false,
                reason: "lower router ID".into(),
            };
            let other = PathView {
                peer: Some("node-c".into()),
                next_hop: Some("10.0.0.3".parse().unwrap()),
                best: false,
                shares: true,
                ..path.clone()
            };
            let prefix = "10.1.2.0/26".parse().ok();
            let leg = |exit, gateway: &str, device: &str| RouteMemberView {
                exit,
                gateway: gateway.parse().unwrap(),
                device: Some(device.into()),
            };
            let legs = vec![
                leg(ExitKind::Ipip, "10.0.0.2", "routed.ipip"),
                leg(ExitKind::Vxlan, "10.1.3.0", "routed.vxlan"),
            ];
            let route = RouteView { legs, ..learned() };
            let paths = vec![path, other];
            let facts = ExplainFacts { target, prefix, route: Some(route), paths, ..ExplainFacts::default() };
            let verdict = judge(&facts);
            Ok(ExplainView { facts, verdict })
        }
        .boxed()
    }
}

/// The control API on a socket of its own, over a store of its own.
pub(crate) struct Daemon {
    directory: TempDir,
    socket: PathBuf,
    runtime: Runtime,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let resources = directory.path().join("resources");
        fs::create_dir(&resources).unwrap();
        let socket = directory.path().join("run/routed.sock");
        let runtime = Runtime::new().unwrap();
        runtime.block_on(async {
            // Bound before anyone is told of it: who connects from now on is answered.
            let listener = bind(&socket).unwrap();
            let store = FileStore::open(&resources).unwrap();
            let api = router(Arc::new(Views), Arc::new(store));
            tokio::spawn(serve(listener, api, ControlSocket::Owners { path: socket.clone() }));
        });
        Daemon { directory, socket, runtime }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The path of a file in the store.
    pub(crate) fn resource(&self, name: &str) -> PathBuf {
        self.directory.path().join("resources").join(name)
    }

    /// Writes a file into the store.
    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.resource(name), text).unwrap();
    }

    /// Writes a file elsewhere and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn routectl(&self, arguments: &[&str]) -> Program {
        routectl(arguments).env("ROUTED_SOCKET", self.socket.to_str().unwrap())
    }

    /// Runs routectl and reads its JSON.
    pub(crate) fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let run = self.routectl(arguments).run();
        serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
    }

    pub(crate) fn curl(&self, arguments: &[&str]) -> Run {
        let socket = self.socket.to_str().unwrap();
        Program::new("curl", &[&["--unix-socket", socket], arguments].concat()).run()
    }
}

/// The real routectl, with a socket nobody listens on.
pub(crate) fn routectl(arguments: &[&str]) -> Program {
    Program::new(env!("CARGO_BIN_EXE_routectl"), arguments).env("ROUTED_SOCKET", "/nonexistent/routed.sock")
}

/// A program to be run.
pub(crate) struct Program {
    command: Command,
    stdin: String,
}

/// The exit status of a program and its output.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    fn new(program: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Program { command, stdin: String::new() }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, text: &str) -> Self {
        self.stdin = text.to_owned();
        self
    }

    pub(crate) fn run(mut self) -> Run {
        let mut child = self.command.spawn().unwrap();
        // A program that doesn't read its input closes the pipe; that is no failure here.
        let _ = child.stdin.take().unwrap().write_all(self.stdin.as_bytes());
        let output = child.wait_with_output().unwrap();
        Run {
            status: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
