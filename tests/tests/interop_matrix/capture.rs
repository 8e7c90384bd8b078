//! Every byte of a lab's sessions, and what tshark says of those that we sent.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tests::bed::{Bed, Process, eventually};

/// tcpdump on the link of routed's node.
pub(super) struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    pub(super) fn start(bed: &Bed) -> Capture {
        let file = bed.path("wire.pcap");
        let path = file.to_str().expect("UTF-8").to_owned();
        let words = [
            "-i",
            "eth0",
            "-s",
            "0",
            "-B",
            "16384",
            "-U",
            "--immediate-mode",
            "-Z",
            "root",
            "-w",
            &path,
            "tcp",
            "port",
            "179",
        ];
        let process = bed.start("a", "tcpdump", &words);
        eventually("tcpdump to listen", Duration::from_secs(20), || {
            process.said().contains("listening on").then_some(())
        });
        Capture { process, file }
    }

    /// Ends it; gives what there is to ask tshark about.
    pub(super) fn stop(mut self) -> Wire {
        self.process.terminate();
        let said = self.process.said();
        assert!(said.contains("0 packets dropped by kernel"), "every byte is captured: {said}");
        Wire { file: self.file }
    }
}

/// What was captured.
pub(super) struct Wire {
    file: PathBuf,
}

impl Wire {
    /// One line for each packet that a display filter lets through: these fields.
    pub(super) fn packets(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-n", "-Y", filter, "-T", "fields"]);
        fields.iter().for_each(|field| _ = tshark.args(["-e", field]));
        let output = tshark.output().expect("tshark to run (it is in the Makefile's PEERS)");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    /// What tshark finds wrong in what we sent: expert information from warnings up, and what it can't read.
    pub(super) fn complaints(&self) -> Vec<String> {
        let sent = self.packets("ip.src == 10.0.0.1 && bgp.type", &["frame.number"]);
        assert!(!sent.is_empty(), "we sent BGP");
        // PI_WARN is 0x600000, PI_ERROR 0x800000.
        let filter = "ip.src == 10.0.0.1 && ((bgp && _ws.expert.severity >= 0x600000) || _ws.malformed)";
        let mut complaints = self.packets(filter, &["frame.number", "_ws.expert.message"]);
        complaints.retain(|line| !is_of_extended_message(line));
        complaints
    }
}

/// tshark 4.0 does not know that a session may have agreed on messages beyond 4,096 octets (RFC 8654).
fn is_of_extended_message(complaint: &str) -> bool {
    let lengths = complaint.split('\t').nth(1).unwrap_or_default().split(',');
    lengths.map(|message| message.strip_prefix("Length is invalid ")).all(|length| {
        length
            .and_then(|length| length.parse::<u32>().ok())
            .is_some_and(|length| (4097..=65535).contains(&length))
    })
}
