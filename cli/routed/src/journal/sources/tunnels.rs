//! Records the activity of the tunnels.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use api::view::EventKind;
use tunnel::activity::{ExitChange, PathChange, TunnelActivity};
use tunnel::probe::PathState;
use tunnel::report::ExitKind;

use crate::journal::JournalHandle;

/// Records activity until the tunnels end.
pub(super) async fn record_tunnels(
    journal: JournalHandle,
    mut activity: broadcast::Receiver<TunnelActivity>,
) {
    loop {
        match activity.recv().await {
            Ok(activity) => record(&journal, activity),
            Err(RecvError::Lagged(count)) => {
                let text = format!("{count} reports of the tunnels came too fast to be noted");
                journal.record(EventKind::Daemon, "missed", None, text);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn record(journal: &JournalHandle, activity: TunnelActivity) {
    for change in &activity.exits {
        let (what, text) = exit(change);
        journal.record(EventKind::Tunnel, what, Some(&change.node), text);
    }
    if activity.more_exits > 0 {
        journal.record(
            EventKind::Tunnel,
            "more",
            None,
            format!("and {} more nodes are reached another way", activity.more_exits),
        );
    }
    for change in &activity.path_changes {
        let (what, text) = path_state(change);
        journal.record(EventKind::Tunnel, what, Some(&change.node), text);
    }
    if activity.more_path_changes > 0 {
        journal.record(
            EventKind::Tunnel,
            "more",
            None,
            format!("and of {} more ways probes say something else", activity.more_path_changes),
        );
    }
    if activity.drift > 0 {
        let text = match (&activity.drifted, activity.drift) {
            (Some(one), 1) => format!("others changed {one}; mended"),
            (Some(one), count) => format!("others changed {one} and {} more; mended", count - 1),
            (None, count) => {
                format!("others changed {count} of our entries; mended (ip monitor shows what changes)")
            }
        };
        journal.record(EventKind::Drift, "mended", activity.drifted.as_deref(), text);
    }
    if let Some((object, error)) = &activity.refusal {
        let more =
            if activity.refused > 1 { format!(", and {} more", activity.refused - 1) } else { String::new() };
        journal.record(EventKind::Kernel, "refused", Some(object), format!("{error}{more}; tried again"));
    }
    if let Some(error) = &activity.blind {
        journal.record(
            EventKind::Kernel,
            "blind",
            None,
            format!("its state can't be read: {error}; tried again"),
        );
    }
}

fn named(exit: Option<ExitKind>) -> &'static str {
    match exit {
        Some(ExitKind::Direct) => "direct",
        Some(ExitKind::Ipip) => "ipip",
        Some(ExitKind::Vxlan) => "vxlan",
        Some(ExitKind::Blackhole) => "blackhole",
        None => "nothing",
    }
}

fn exit(change: &ExitChange) -> (&'static str, String) {
    let what = match (change.from, change.to) {
        (_, None) => "unreached",
        (None, Some(_)) => "reached",
        (Some(_), Some(_)) => "switched",
    };
    let reason = change.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    (what, format!("{} to {}{reason}", named(change.from), named(change.to)))
}

fn path_state(change: &PathChange) -> (&'static str, String) {
    let PathChange { address, path, state, .. } = change;
    match state {
        PathState::Blocked => ("blocked", format!("{path} to {address} does not pass, another way does")),
        PathState::Unanswered => {
            ("unanswered", format!("{path} to {address}: nothing is answered, by any way"))
        }
        PathState::Returning => {
            ("returning", format!("{path} to {address} passes again, not yet for long enough"))
        }
        PathState::Passes => ("passes", format!("{path} to {address} passes")),
        PathState::Unknown => ("unknown", format!("{path} to {address}: not known any more")),
    }
}

#[cfg(test)]
mod tests {
    use tunnel::ExitReason;

    use super::*;

    #[test]
    fn a_changed_exit_is_recorded_with_its_reason() {
        let change = |from, to, reason| ExitChange { node: "b".into(), from, to, reason };
        let (what, text) =
            exit(&change(Some(ExitKind::Ipip), Some(ExitKind::Vxlan), Some(ExitReason::NoBgpPath)));
        assert_eq!((what, text), ("switched", format!("ipip to vxlan: {}", ExitReason::NoBgpPath)));
        assert_eq!(exit(&change(Some(ExitKind::Ipip), None, None)), ("unreached", "ipip to nothing".into()));
        assert_eq!(
            exit(&change(None, Some(ExitKind::Direct), None)),
            ("reached", "nothing to direct".into())
        );
    }
}
