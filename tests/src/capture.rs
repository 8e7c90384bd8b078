//! Captures the sessions of a lab, and has tshark read what routed sent.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use testbed::{Process, Testbed, eventually};

/// tcpdump on the link of routed's node.
pub struct Capture {
    process: Process,
    file: PathBuf,
}

impl Capture {
    /// Starts it.
    ///
    /// # Panics
    /// tcpdump can't be started.
    pub fn start(bed: &Testbed) -> Capture {
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
            process.output().contains("listening on").then_some(())
        });
        Capture { process, file }
    }

    /// Ends it; gives what there is to ask tshark about.
    ///
    /// # Panics
    /// A packet was missed.
    pub fn stop(mut self) -> Wire {
        self.process.terminate();
        let said = self.process.output();
        assert!(said.contains("0 packets dropped by kernel"), "every byte is captured: {said}");
        Wire { file: self.file }
    }
}

/// Watches a whole test, and asks tshark at its end; drop it before the bed.
pub struct TsharkWitness(Option<Capture>);

impl TsharkWitness {
    /// Starts watching.
    ///
    /// # Panics
    /// tcpdump can't be started; when dropped, tshark finds something wrong in what we sent.
    pub fn of(bed: &Testbed) -> TsharkWitness {
        TsharkWitness(Some(Capture::start(bed)))
    }
}

impl Drop for TsharkWitness {
    fn drop(&mut self) {
        // A test that panics reports one failure alone.
        if let Some(capture) = self.0.take().filter(|_| !std::thread::panicking()) {
            let wire = capture.stop();
            // Without a session there is nothing to read.
            if wire.has_sent() {
                wire.assert_clean();
            }
        }
    }
}

/// A capture.
pub struct Wire {
    file: PathBuf,
}

impl Wire {
    /// One line for each packet that a display filter lets through: these fields.
    ///
    /// # Panics
    /// tshark can't be run.
    pub fn packets(&self, filter: &str, fields: &[&str]) -> Vec<String> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(&self.file).args(["-n", "-Y", filter, "-T", "fields"]);
        fields.iter().for_each(|field| _ = tshark.args(["-e", field]));
        let output = tshark.output().expect("tshark to run (it is in the Makefile's PEERS)");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn has_sent(&self) -> bool {
        !self.packets("ip.src == 10.0.0.1 && bgp.type", &["frame.number"]).is_empty()
    }

    /// # Panics
    /// tshark finds something wrong in what we sent.
    pub fn assert_clean(&self) {
        let complaints = self.complaints();
        assert!(complaints.is_empty(), "tshark on what we sent: {complaints:?}");
    }

    /// Returns tshark's complaints about what 10.0.0.1 sent: expert information from warnings up,
    /// and messages that it can't read.
    ///
    /// # Panics
    /// tshark can't be run, or nothing was sent.
    pub fn complaints(&self) -> Vec<String> {
        assert!(self.has_sent(), "we sent BGP");
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
