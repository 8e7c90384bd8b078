//! Metrics, alerts, the dashboard and the status page.

use std::fs;

use crate::daemon::Daemon;

/// Runs promtool with something on its standard input.
fn promtool(arguments: &[&str], input: &str) -> (bool, String) {
    use std::io::Write as _;
    let mut child = std::process::Command::new("promtool")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("promtool: install the package prometheus (`make test` does)");
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    (output.status.success(), said)
}

#[test]
fn metrics_alerts_and_the_dashboard_agree_and_promtool_likes_them() {
    let daemon = Daemon::start();
    let metrics = daemon.curl(&["-s", "http://routed/metrics"]).stdout;
    let (good, said) = promtool(&["check", "metrics"], &metrics);
    assert!(good && said.is_empty(), "{said}\n{metrics}");
    let (good, said) = promtool(&["check", "metrics"], "# TYPE routed_a counter\nrouted_a 1\n");
    assert!(!good, "promtool finds what is wrong: {said}");

    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let rules = deploy.join("prometheus/routed.rules.yaml");
    let (good, said) = promtool(&["check", "rules", rules.to_str().unwrap()], "");
    assert!(good, "{said}");
    let dashboard = fs::read_to_string(deploy.join("grafana/routed.json")).unwrap();
    let _: serde_json::Value = serde_json::from_str(&dashboard).unwrap();
    let named = |text: &str| -> std::collections::BTreeSet<String> {
        text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("routed_"))
            .map(ToOwned::to_owned)
            .collect()
    };
    let known = named(&metrics);
    for (file, text) in [("rules", fs::read_to_string(&rules).unwrap()), ("dashboard", dashboard)] {
        let unknown: Vec<String> = named(&text).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "the {file} name what there is not: {unknown:?}");
    }
}

#[test]
fn prefixes_are_told_by_family_and_times_are_histograms() {
    let daemon = Daemon::start();
    let metrics = daemon.curl(&["-s", "http://routed/metrics"]).stdout;
    for line in [
        "routed_peer_prefixes{peer=\"node-b\",address=\"10.0.0.2\",family=\"ipv6\",kind=\"received\"} 1",
        "routed_peer_updates_total{peer=\"node-b\",address=\"10.0.0.2\",direction=\"in\"} 7",
        "routed_loop_lateness_seconds_bucket{le=\"0.001\"} 1",
        "routed_loop_lateness_seconds_bucket{le=\"0.25\"} 2",
        "routed_loop_lateness_seconds_bucket{le=\"+Inf\"} 3",
        "routed_loop_lateness_seconds_sum 0.304",
        "routed_loop_stalls_total 1",
        "routed_kernel_route_batch_duration_seconds_count 3",
        "routed_kernel_object_batch_duration_seconds_bucket{le=\"+Inf\"} 0",
    ] {
        assert!(metrics.lines().any(|one| one == line), "{line} in {metrics}");
    }
}

#[test]
fn the_status_page_says_what_is_wrong_and_runs_nothing() {
    let daemon = Daemon::start();
    let answer = daemon.curl(&["-s", "-i", "http://routed/"]).stdout;
    let (head, page) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("content-security-policy: default-src 'none'; style-src 'unsafe-inline'"),
        "{head}"
    );
    for words in [
        "<h1>node-a: <span class=bad>not ready</span></h1>",
        "<li>tor is not Established</li>",
        "<td>node-b</td>",
    ] {
        assert!(page.contains(words), "{words} in {page}");
    }
    // What a peer said is text, without what steers a terminal or a browser.
    assert!(page.contains("<td>peer said: \u{fffd}[31mno</td>"), "{page}");
    assert!(
        !page.contains("<script") && page.find("fd00::9").unwrap() < page.find("10.0.0.2").unwrap(),
        "{page}"
    );
}
