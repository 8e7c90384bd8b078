//! BGPConfiguration, and what a BGPPeer says in its stead.

use std::time::Duration;

use bgp::wire::capability::Role;

use super::tests::{mistakes, snapshot, v3};
use super::*;

#[test]
fn the_configuration_has_its_defaults_and_rules() {
    let configuration = snapshot("").configuration;
    assert_eq!(
        (configuration.as_number, configuration.listen_port, configuration.node_to_node_mesh),
        (64512, 179, true)
    );
    assert_eq!(configuration.routed, RoutedSettings::default());
    let set = snapshot(&v3(
        "BGPConfiguration",
        "default",
        "{asNumber: 65000, nodeToNodeMeshEnabled: false, logSeverityScreen: Info, routed: {encapsulation: vxlan, \
         fallback: none, fallbackAfter: 500ms, holdTime: 9s, bgp: disabled, routeMetric: 1, nexthopCompat: keep, \
         acceptTunnelsFrom: any, probeKeyFile: /etc/key, probePort: 5000, recoverAfter: 1m, multipath: 1}}",
    ));
    let routed = set.configuration.routed;
    assert_eq!((routed.encapsulation, routed.fallback), (EncapsulationKind::Vxlan, FallbackSetting::None));
    let cni = |spec: &str| snapshot(&v3("BGPConfiguration", "default", spec)).configuration.routed.cni;
    let default = cni("{routed: {cni: {}}}").expect("asked for");
    assert_eq!(default.file().to_str(), Some("/etc/cni/net.d/10-routed.conflist"));
    assert_eq!(default.plugin, CniPlugin::Ptp);
    let bridge = cni("{routed: {cni: {directory: /net.d, name: pods, plugin: bridge}}}").expect("asked for");
    assert_eq!(bridge.file().to_str(), Some("/net.d/10-pods.conflist"));
    assert_eq!(bridge.plugin, CniPlugin::Bridge("routed.pods".into()));
    assert_eq!(routed.accept_tunnels_from, tunnel::TunnelsFrom::Any);
    assert_eq!((routed.multipath, configuration.routed.multipath), (1, 16));
    assert!(routed.bgp_disabled && routed.nexthop_compat_keep && routed.route_metric == 1);
    for (spec, line) in [
        (
            "{routed: {holdTime: 2s}}",
            "f.yaml:4: spec.routed.holdTime: must be 0 or whole seconds from 3s to 65535s (got \"2s\")",
        ),
        (
            "{routed: {routeMetric: 4294967295}}",
            "f.yaml:4: spec.routed.routeMetric: must be a whole number from 1 to 4294967294 (got 4294967295)",
        ),
        (
            "{routed: {multipath: 17}}",
            "f.yaml:4: spec.routed.multipath: must be a whole number from 1 to 16 (got 17)",
        ),
        ("{routed: {cni: true}}", "f.yaml:4: spec.routed.cni: must be a mapping (got true)"),
        (
            "{routed: {cni: {directory: net.d}}}",
            "f.yaml:4: spec.routed.cni.directory: must be an absolute path (got \"net.d\")",
        ),
        (
            "{routed: {cni: {name: ../x}}}",
            "f.yaml:4: spec.routed.cni.name: must begin with a letter or digit and have only these, '_', '.' and '-', 128 at \
             most (got \"../x\")",
        ),
        (
            "{routed: {cni: {plugin: bridge, bridge: a/b}}}",
            "f.yaml:4: spec.routed.cni.bridge: must be an interface's name: 1 to 15 characters without '/', ':' and '%' (got \
             \"a/b\")",
        ),
        (
            "{routed: {cni: {bridge: br0}}}",
            "f.yaml:4: spec.routed.cni.bridge: has a meaning with plugin: bridge alone (got \"br0\")",
        ),
        (
            "{routed: {cni: {plugin: macvlan}}}",
            "f.yaml:4: spec.routed.cni.plugin: must be one of ptp, bridge (got \"macvlan\")",
        ),
        (
            "{routed: {acceptTunnelsFrom: all}}",
            "f.yaml:4: spec.routed.acceptTunnelsFrom: must be one of nodes, any (got \"all\")",
        ),
        ("{listenPort: 0}", "f.yaml:4: spec.listenPort: must be a whole number from 1 to 65535 (got 0)"),
    ] {
        assert_eq!(mistakes(&v3("BGPConfiguration", "default", spec)), [line]);
    }
    let named = mistakes(&v3("BGPConfiguration", "node.a", "{}"));
    assert_eq!(
        named,
        [
            "f.yaml:3: metadata.name: must be default (got \"node.a\"): for one node write asNumber on its Node and \
             `log` in its routed.yaml"
        ]
    );
}

#[test]
fn restart_and_add_path_settings_are_read_and_checked() {
    let default = snapshot("").configuration;
    assert_eq!(default.restart_time, Duration::from_secs(120));
    assert!(default.routed.graceful_restart && default.routed.long_lived_stale_time.is_zero());
    let set = snapshot(&v3(
        "BGPConfiguration",
        "default",
        "{nodeMeshMaxRestartTime: 30s, routed: {gracefulRestart: disabled, longLivedStaleTime: 1h, sendHoldTime: 60s, \
         addPath: both}}",
    ))
    .configuration;
    assert_eq!(set.restart_time, Duration::from_secs(30));
    let routed = &set.routed;
    assert_eq!((routed.graceful_restart, routed.add_path), (false, AddPathMode::Both));
    assert_eq!(routed.long_lived_stale_time, Duration::from_secs(3600));
    assert_eq!(routed.send_hold_time, Duration::from_secs(60));
    for (spec, line) in [
        (
            "{nodeMeshMaxRestartTime: 2h}",
            "f.yaml:4: spec.nodeMeshMaxRestartTime: must be whole seconds from 1s to 4095s (got \"2h\")",
        ),
        (
            "{nodeToNodeMeshEnabled: false, nodeMeshMaxRestartTime: 30s}",
            "f.yaml:4: spec.nodeMeshMaxRestartTime: has no meaning without the mesh: leave it out, or set \
             nodeToNodeMeshEnabled: true",
        ),
        (
            "{routed: {sendHoldTime: 0s}}",
            "f.yaml:4: spec.routed.sendHoldTime: must be whole seconds from 1s to 65535s (got \"0s\")",
        ),
    ] {
        assert_eq!(mistakes(&v3("BGPConfiguration", "default", spec)), [line]);
    }
    let peer = snapshot(&v3(
        "BGPPeer",
        "p",
        "{peerIP: 10.0.0.9, asNumber: 65001, maxRestartTime: 60s, routed: {addPath: send, role: customer}}",
    ));
    let peer = &peer.peers[0];
    assert_eq!(peer.max_restart_time, Duration::from_secs(60));
    assert_eq!((peer.policy.add_path, peer.policy.role), (Some(AddPathMode::Send), Some(Role::Customer)));
    let [mistake] =
        &mistakes(&v3("BGPPeer", "p", "{peerIP: 10.0.0.9, asNumber: 65001, routed: {role: friend}}"))[..]
    else {
        panic!("one mistake");
    };
    assert!(mistake.starts_with("f.yaml:4: spec.routed.role: must be one of "), "{mistake}");
}
