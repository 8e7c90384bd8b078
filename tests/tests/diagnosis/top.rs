//! `routectl top` on a terminal, which is afterwards as it was, and on a pipe.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use testbed::{eventually, product};
use tests::cluster::{Cluster, Settings};
use tests::etcd::routectl;

const UP: Duration = Duration::from_secs(30);

/// The output on a terminal.
struct TerminalOutput {
    parts: Receiver<Vec<u8>>,
    /// The output that was not waited for yet.
    all: String,
    whole: String,
}

impl TerminalOutput {
    fn of(mut terminal: File) -> TerminalOutput {
        let (sender, parts) = channel();
        std::thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok(count @ 1..) = terminal.read(&mut room) {
                if sender.send(room[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        TerminalOutput { parts, all: String::new(), whole: String::new() }
    }

    /// Waits until something is shown after what was waited for before.
    fn until(&mut self, what: &str) {
        let deadline = Instant::now() + UP;
        loop {
            if let Some(at) = self.all.find(what) {
                self.all.drain(..at + what.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(part) = self.parts.recv_timeout(left) else {
                panic!("{what:?} is not shown: {:?}", self.all)
            };
            let part = String::from_utf8_lossy(&part);
            self.all.push_str(&part);
            self.whole.push_str(&part);
        }
    }
}

#[test]
fn top_redraws_until_q_or_control_c_and_restores_the_terminal() {
    let mut cluster = Cluster::new(2, 1);
    cluster.configure(&Settings::default().modes("Never", "Always"));
    cluster.start_all();
    cluster.wait_for_all("vxlan", UP);

    // On a pipe: one frame, with rates, and nothing for a terminal.
    let done = routectl(&cluster, 0, &["top", "--interval", "300ms"]);
    let plain = String::from_utf8(done.stdout).expect("UTF-8");
    assert!(
        done.status.success() && plain.contains("node-2   vxlan") && plain.contains("a second: "),
        "{plain}"
    );
    assert!(!plain.contains('\u{1b}') && plain.matches("PEER ").count() == 1, "{plain}");

    for (end, colour) in [(b'q', true), (3, false)] {
        let size = Winsize { ws_row: 12, ws_col: 90, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).expect("a terminal");
        let before = tcgetattr(&pty.slave).expect("its settings");
        let inside = || Stdio::from(pty.slave.try_clone().expect("a terminal"));
        let mut command = Command::new(product("routectl"));
        command.arg("--socket").arg(cluster.socket(0)).args(["top", "--interval", "200ms"]);
        command.env("NO_COLOR", if colour { "" } else { "1" });
        let mut child: Child =
            command.stdin(inside()).stdout(inside()).stderr(inside()).spawn().expect("routectl to run");
        let mut keys = File::from(pty.master.try_clone().expect("a terminal"));
        let mut shown = TerminalOutput::of(File::from(pty.master.try_clone().expect("a terminal")));
        shown.until("\u{1b}[?1049h");
        shown.until("node-1   routed");
        shown.until("Established");
        assert_eq!(shown.whole.contains("\u{1b}[1mnode-1   routed"), colour, "{:?}", shown.whole);
        let raw = tcgetattr(pty.slave.as_fd()).expect("its settings");
        assert!(!raw.local_flags.intersects(LocalFlags::ICANON | LocalFlags::ECHO), "keys come one by one");
        // The frame is drawn again when the size changes.
        shown.until("node-1   routed");
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        kill(pid, Signal::SIGWINCH).expect("to signal");
        shown.until("node-1   routed");
        keys.write_all(&[b'x', end]).expect("keys");
        let ended = eventually("routectl to end", UP, || child.try_wait().expect("its state"));
        assert!(ended.success(), "{ended}");
        shown.until("\u{1b}[?1049l");
        let after = tcgetattr(pty.slave.as_fd()).expect("its settings");
        assert_eq!((after.local_flags, after.input_flags), (before.local_flags, before.input_flags));
    }
}
