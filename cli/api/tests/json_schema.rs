//! The public JSON: documents that name every field, read and written again without a difference. A
//! field that is renamed, removed or added, or a value that is written otherwise, fails here.

use std::fmt::Debug;

use api::view::{
    BfdState, ChangeKind, Diagnosis, Event, EventKind, ExitKind, ExplainView, FindingCode, NodeView,
    PeerDetail, PeerType, PeerView, PlanView, ProbeState, RouteSource, RouteView, SessionFate, SessionState,
    Severity, StatusView, TunnelView, Verdict,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads a document as `T`, writes it again, and compares.
fn round_trip<T: Serialize + DeserializeOwned>(name: &str, text: &str) {
    let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_no_null(name, &document);
    let view: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = serde_json::to_value(&view).expect("a view to serialize");
    assert_eq!(written, document, "{name}: the JSON of the view differs from tests/json/{name}.json");
}

/// A null hides the fields below it.
fn assert_no_null(path: &str, value: &Value) {
    match value {
        Value::Null => panic!("{path} is null"),
        Value::Array(items) => {
            assert!(!items.is_empty(), "{path} is empty");
            items.iter().for_each(|item| assert_no_null(path, item));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| assert_no_null(&format!("{path}.{key}"), value));
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

macro_rules! documents {
    ($($test:ident: $view:ty = $name:literal;)*) => {$(
        #[test]
        fn $test() {
            round_trip::<$view>($name, include_str!(concat!("json/", $name, ".json")));
        }
    )*};
}

documents! {
    peers_have_these_fields: PeerView = "peer";
    one_peer_has_these_fields: PeerDetail = "peer_detail";
    routes_have_these_fields: RouteView = "route";
    nodes_have_these_fields: NodeView = "node";
    tunnels_have_these_fields: TunnelView = "tunnel";
    the_status_has_these_fields: StatusView = "status";
    explain_has_these_fields: ExplainView = "explain";
    doctor_has_these_fields: Diagnosis = "diagnosis";
    plan_has_these_fields: PlanView = "plan";
    events_have_these_fields: Event = "event";
}

/// Compares the names of values with the pinned list, in both directions.
fn names<T: Serialize + DeserializeOwned + Debug + PartialEq>(values: &[T], pinned: &str) {
    let written: Vec<String> = values
        .iter()
        .map(|value| match serde_json::to_value(value).expect("a name") {
            Value::String(name) => name,
            other => panic!("{other} is no name"),
        })
        .collect();
    assert_eq!(written.join(" "), pinned);
    for (value, name) in values.iter().zip(written) {
        let read: T = serde_json::from_value(Value::String(name)).expect("a name that is read again");
        assert_eq!(&read, value);
    }
}

#[test]
fn enumerations_have_these_names() {
    use SessionState::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};
    names(
        &[Idle, Active, Connect, OpenSent, OpenConfirm, Established],
        "Idle Active Connect OpenSent OpenConfirm Established",
    );
    names(&[BfdState::AdminDown, BfdState::Down, BfdState::Init, BfdState::Up], "admin_down down init up");
    names(&[PeerType::Mesh, PeerType::Global, PeerType::Node], "mesh global node");
    use RouteSource::{Client, Ebgp, Ibgp, Local, Static};
    names(&[Local, Static, Ibgp, Ebgp, Client], "local static ibgp ebgp client");
    use ExitKind::{Blackhole, Direct, Ipip, Vxlan};
    names(&[Direct, Ipip, Vxlan, Blackhole], "direct ipip vxlan blackhole");
    use ProbeState::{Blocked, Passes, Returning, Unanswered, Unknown};
    names(&[Unknown, Passes, Unanswered, Blocked, Returning], "unknown passes unanswered blocked returning");
    names(&[ChangeKind::Add, ChangeKind::Replace, ChangeKind::Remove], "add replace remove");
    use SessionFate::{Closed, Filtered, Kept, Opened, Reopened};
    names(&[Opened, Closed, Reopened, Filtered, Kept], "opened closed reopened filtered kept");
    names(&[Severity::Error, Severity::Warning], "error warning");
    names(&EventKind::ALL, "session route tunnel drift kernel store configuration block daemon");
    names(
        &FindingCode::ALL,
        "not_ready resources duplicate_tunnel_address node_subnet subnet_asymmetry store session not_listening \
         tunnel clock module kernel sysctl rp_filter firewall foreign_route foreign_rule mtu warning",
    );
    names(
        &Verdict::ALL,
        "reached local_pod outside_cluster ask_there no_such_source no_owner owner_unknown no_session \
         not_announced rejected no_exit discarded not_installed no_such_pod shadowed not_forwarded no_route \
         no_vtep_entry no_neighbour unanswered mtu_too_large",
    );
}
