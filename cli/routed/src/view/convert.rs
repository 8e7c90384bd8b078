//! Converts types of the libraries to the views of the API, which define the public JSON.

use api::view::{
    BfdState, ChangeKind, ExitKind, FirewallView, KernelChanges, KernelLatencyView, LatencyView,
    ObjectChange, ProbeState, ProbeView, RouteMemberView, RouteSource, SessionState, TunnelView, WorkView,
};
use routing::SourceKind;
use tunnel::FirewallReport;
use tunnel::dry_run::{self, DryRun};
use tunnel::latency::Latency;
use tunnel::probe::PathState;
use tunnel::report::{self, KernelLatency, MemberReport, PathReport, TunnelReport, Work};

pub(crate) fn session_state(state: bgp::session::SessionState) -> SessionState {
    use bgp::session::SessionState as State;
    match state {
        State::Idle => SessionState::Idle,
        State::Active => SessionState::Active,
        State::Connect => SessionState::Connect,
        State::OpenSent => SessionState::OpenSent,
        State::OpenConfirm => SessionState::OpenConfirm,
        State::Established => SessionState::Established,
    }
}

pub(crate) fn bfd_state(state: bgp::bfd::BfdState) -> BfdState {
    use bgp::bfd::BfdState as State;
    match state {
        State::AdminDown => BfdState::AdminDown,
        State::Down => BfdState::Down,
        State::Init => BfdState::Init,
        State::Up => BfdState::Up,
    }
}

pub(crate) fn route_source(kind: SourceKind) -> RouteSource {
    match kind {
        SourceKind::Local => RouteSource::Local,
        SourceKind::Static => RouteSource::Static,
        SourceKind::Ibgp => RouteSource::Ibgp,
        SourceKind::Ebgp => RouteSource::Ebgp,
        SourceKind::Client => RouteSource::Client,
    }
}

pub(crate) fn exit_kind(kind: report::ExitKind) -> ExitKind {
    match kind {
        report::ExitKind::Direct => ExitKind::Direct,
        report::ExitKind::Ipip => ExitKind::Ipip,
        report::ExitKind::Vxlan => ExitKind::Vxlan,
        report::ExitKind::Blackhole => ExitKind::Blackhole,
    }
}

pub(crate) fn route_member_view(member: &MemberReport) -> RouteMemberView {
    RouteMemberView { exit: exit_kind(member.exit), gateway: member.gateway, device: member.device.clone() }
}

pub(crate) fn tunnel_view(tunnel: TunnelReport) -> TunnelView {
    TunnelView {
        node: tunnel.node,
        address: tunnel.address,
        preferred: tunnel.preferred.map(exit_kind),
        in_use: tunnel.in_use.map(exit_kind),
        since: tunnel.since,
        reason: tunnel.reason,
        last_probe_ms: tunnel.last_probe_ms,
        mtu: tunnel.mtu,
        ways: tunnel.ways.iter().map(probe_view).collect(),
        clock_ahead_ms: tunnel.clock_ahead_ms,
        blocks: tunnel.blocks,
    }
}

fn probe_view(way: &PathReport) -> ProbeView {
    ProbeView {
        exit: exit_kind(way.exit),
        state: match way.state {
            PathState::Unknown => ProbeState::Unknown,
            PathState::Passes => ProbeState::Passes,
            PathState::Unanswered => ProbeState::Unanswered,
            PathState::Blocked => ProbeState::Blocked,
            PathState::Returning => ProbeState::Returning,
        },
        lost_in_row: way.lost_in_row,
        last_ms: way.last_ms,
    }
}

pub(crate) fn latency_view(latency: &Latency) -> LatencyView {
    LatencyView { counts: latency.counts, sum_us: latency.sum_us }
}

pub(crate) fn kernel_latency_view(latency: &KernelLatency) -> KernelLatencyView {
    KernelLatencyView { routes: latency_view(&latency.routes), objects: latency_view(&latency.objects) }
}

pub(crate) fn work_view(work: &Work) -> WorkView {
    WorkView {
        routes: work.routes,
        objects: work.objects,
        refused: work.refused,
        fallbacks_ipip: work.fallbacks_ipip,
        fallbacks_bgp: work.fallbacks_bgp,
        probes: work.probes,
        probes_lost: work.probes_lost,
    }
}

pub(crate) fn firewall_view(firewall: FirewallReport) -> FirewallView {
    FirewallView {
        wanted: firewall.wanted,
        installed: firewall.installed,
        guards_ipip: firewall.guards_ipip,
        guards_vxlan: firewall.guards_vxlan,
        nodes: firewall.nodes,
        masqueraded: firewall.masqueraded,
        drift: firewall.drift,
        dropped_ipip: firewall.dropped_ipip,
        dropped_vxlan: firewall.dropped_vxlan,
        problem: firewall.problem,
    }
}

pub(crate) fn kernel_changes(changes: DryRun) -> KernelChanges {
    let all = |changes: Vec<dry_run::ObjectChange>| changes.into_iter().map(object_change).collect();
    KernelChanges {
        objects: all(changes.objects),
        routes_added: changes.routes_added,
        routes_replaced: changes.routes_replaced,
        routes_removed: changes.routes_removed,
        routes: all(changes.routes),
    }
}

fn object_change(change: dry_run::ObjectChange) -> ObjectChange {
    let kind = match change.change {
        dry_run::PlannedAction::Add => ChangeKind::Add,
        dry_run::PlannedAction::Replace => ChangeKind::Replace,
        dry_run::PlannedAction::Remove => ChangeKind::Remove,
    };
    ObjectChange { change: kind, object: change.object }
}
