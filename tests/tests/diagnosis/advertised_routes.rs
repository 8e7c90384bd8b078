//! The routes that a node shows as advertised are those that its peer shows as received.

use serde_json::Value;
use tests::cluster::{Cluster, Settings};

use crate::fixture::{routectl, up};

fn ask(cluster: &Cluster, index: usize, words: &[&str]) -> Value {
    let all: Vec<&str> = ["show"].iter().chain(words).chain(&["-o", "json"]).copied().collect();
    let output = routectl(cluster, index, &all);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Prefixes and next hops.
fn routes(cluster: &Cluster, index: usize, words: &[&str]) -> Vec<(String, String)> {
    let mut all = vec!["routes"];
    all.extend(words);
    let list = ask(cluster, index, &all);
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    list.as_array()
        .expect("a list")
        .iter()
        .map(|route| (text(&route["prefix"]), text(&route["next_hop"])))
        .collect()
}

#[test]
fn routes_that_a_reflector_shows_as_advertised_are_those_that_the_client_received() {
    let settings = Settings { mesh: false, ..Settings::default().modes("Never", "Always") };
    let cluster = up(&settings, 3, "vxlan");
    let peers = ask(&cluster, 0, &["peers"]);
    let client = peers.as_array().expect("a list").iter().find(|peer| peer["address"] == "192.168.0.2");
    let client = client.expect("the client")["name"].as_str().expect("a name").to_owned();

    let told = routes(&cluster, 0, &["--peer", &client, "--advertised"]);
    let expected = [("10.1.1.0/26", "192.168.0.1"), ("10.1.3.0/26", "192.168.0.3")];
    assert_eq!(told, expected.map(|(prefix, next_hop)| (prefix.to_owned(), next_hop.to_owned())));
    assert_eq!(routes(&cluster, 1, &["--peer", "192.168.0.1", "--received"]), told);
    assert_eq!(
        routes(&cluster, 0, &["--peer", &client]),
        [("10.1.2.0/26".to_owned(), "192.168.0.2".to_owned())]
    );
    assert_eq!(routes(&cluster, 0, &["--prefix", "10.1.2.0/23"]).len(), 2);
    assert_eq!(routes(&cluster, 0, &["--prefix", "10.9.0.0/16"]), []);

    let detail = ask(&cluster, 0, &["peers", &client]);
    let says = |open: &str, words: &str| {
        let lines = detail[open]["capabilities"].as_array().expect("a list");
        lines.iter().any(|line| line.as_str().is_some_and(|line| line.contains(words)))
    };
    for open in ["ours", "theirs"] {
        assert!(says(open, "RFC 4760") && says(open, "graceful restart (RFC 4724)"), "{detail:#}");
    }
    assert_eq!(
        (&detail["theirs"]["router_id"], &detail["theirs"]["hold_time_s"]),
        (&"192.168.0.2".into(), &3.into())
    );
    assert_eq!(detail["keepalive_s"], 1);
    for way in ["sent", "received_messages"] {
        let traffic = &detail[way];
        assert!(traffic["open"].as_u64() >= Some(1) && traffic["update"].as_u64() >= Some(1), "{traffic}");
        assert!(
            traffic["keepalive"].as_u64() >= Some(1) && traffic["last_keepalive"].is_string(),
            "{traffic}"
        );
        assert!(traffic["octets"].as_u64() > Some(29), "{traffic}");
    }

    let nobody = routectl(&cluster, 0, &["show", "routes", "--peer", "nobody"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no peer \"nobody\""), "{nobody:?}");
}
