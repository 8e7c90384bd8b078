//! Probes: direct probes, keys, and a known network.

use std::time::Duration;

use testbed::{eventually, product, with_ipip};
use tests::cluster::{Cluster, Settings};

const UP: Duration = Duration::from_secs(30);

fn warnings(cluster: &Cluster, index: usize) -> Option<String> {
    let status = cluster.show(index, "status")?;
    Some(status["warnings"].to_string())
}

#[test]
fn direct_probes_detect_a_fabric_that_drops_plain_pod_packets() {
    with_ipip("probes::direct_probes_detect_a_fabric_that_drops_plain_pod_packets", || {
        let mut cluster = Cluster::new(2, 1);
        let settings = Settings::default().modes("CrossSubnet", "Never");
        cluster.drop_packets("pods", &["ip saddr 10.1.0.0/16"]);
        cluster.configure(&settings.clone().with("directProbe", "true"));
        cluster.start_all();
        cluster.wait_for_all("ipip", UP);
        cluster.reach_all();
        let tunnel = cluster.tunnel(0, 1).expect("an answer");
        assert!(tunnel["reason"].as_str().is_some_and(|r| r.contains("no unwrapped packet")), "{tunnel}");
        eventually("probes that are dropped", UP, || (cluster.dropped("pods")[0] > 0).then_some(()));
        // Without the probe the subnet is believed, and pods are cut off.
        cluster.configure(&settings);
        cluster.wait_for_all("direct", UP);
        assert!(!cluster.reaches(0, 1));
        cluster.configure(&settings.with("directProbe", "true"));
        cluster.wait_for_all("ipip", UP);
        cluster.reach_all();
        cluster.pass("pods");
        cluster.wait_for_all("direct", Duration::from_secs(10));
        cluster.reach_all();
        // Dropped again while in use.
        cluster.drop_packets("pods", &["ip saddr 10.1.0.0/16"]);
        cluster.wait_for_all("ipip", Duration::from_secs(6));
        cluster.reach_all();
    });
}

#[test]
fn probes_with_the_right_key_count_and_with_another_are_reported() {
    with_ipip("probes::probes_with_the_right_key_count_and_with_another_are_reported", || {
        let mut cluster = Cluster::new(2, 1);
        // The path is the cluster's, the file is a node's: here one file is both nodes', so one is given its own by a mount.
        let key = cluster.bed.write("key", "correct horse battery staple\n");
        let path = key.to_str().expect("UTF-8").to_owned();
        cluster.configure(&Settings::default().with("probeKeyFile", &path));
        cluster.start_all();
        cluster.wait_for_all("ipip", UP);
        eventually("an answer", UP, || cluster.tunnel(0, 1)?["last_probe_ms"].as_f64().map(|_| ()));
        cluster.drop_packets("ipip", &["ip protocol 4"]);
        cluster.wait_for_all("vxlan", Duration::from_secs(6));
        cluster.pass("ipip");
        cluster.wait_for_all("ipip", Duration::from_secs(10));

        // Node 2 with another key.
        drop(cluster.take(1));
        let other = cluster.bed.write("other", "incorrect horse\n");
        let command = format!(
            "mount --bind {} {path} && exec {} --config {}",
            other.display(),
            product("routed").display(),
            cluster.bed.path("node-2.yaml").display()
        );
        let _node = cluster.bed.start("n2", "unshare", &["-m", "sh", "-c", &command]);
        eventually("the problem", UP, || {
            warnings(&cluster, 0)?.contains("give every node the same probeKeyFile").then_some(())
        });
        // No path is answered, so no node is moved.
        cluster.wait_for(0, 1, "ipip", UP);
        cluster.reach_all();
        // A removed key file is reported, and probes are off.
        std::fs::remove_file(&key).expect("to remove it");
        eventually("the other problem", UP, || {
            let status = cluster.show(0, "status")?;
            status["not_ready"].to_string().contains("probe key file").then_some(())
        });
        cluster.wait_for(0, 1, "ipip", UP);
    });
}

#[test]
fn in_azure_vxlan_is_used_from_the_start_and_reported() {
    with_ipip("probes::in_azure_vxlan_is_used_from_the_start_and_reported", || {
        let mut cluster = Cluster::new(2, 1);
        cluster.configure(&Settings::default());
        cluster.drop_packets("azure", &["ip protocol 4"]);
        // Writes the nodes' configurations.
        cluster.start_all();
        for index in 0..2 {
            drop(cluster.take(index));
        }
        let daemons: Vec<_> = (1..=2)
            .map(|number| {
                let tag = "/sys/class/dmi/id";
                let command = format!(
                    "mount -t tmpfs none /sys/class && mkdir -p {tag} && \
                     echo 7783-7084-3265-9085-8269-3286-77 > {tag}/chassis_asset_tag && exec {} --config {}",
                    product("routed").display(),
                    cluster.bed.path(&format!("node-{number}.yaml")).display()
                );
                cluster.bed.start(&format!("n{number}"), "unshare", &["-m", "sh", "-c", &command])
            })
            .collect();
        eventually("the warning", UP, || warnings(&cluster, 0)?.contains("this is Azure").then_some(()));
        cluster.wait_for_all("vxlan", UP);
        cluster.reach_all();
        assert!(!daemons[0].output().contains("to=\"ipip\""), "{}", daemons[0].output());
        let tunnel = cluster.tunnel(0, 1).expect("an answer");
        assert!(
            tunnel["reason"]
                .as_str()
                .is_some_and(|r| r.contains("known to drop IP-in-IP") || r.contains("does not pass")),
            "{tunnel}"
        );
        eventually("probes that are dropped", UP, || (cluster.dropped("azure")[0] > 0).then_some(()));
        // A network that learns to pass it is believed once it was seen to.
        cluster.pass("azure");
        cluster.wait_for_all("ipip", Duration::from_secs(12));
        cluster.reach_all();
    });
}
