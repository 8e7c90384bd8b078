//! TCP-MD5 and GTSM with the packaged BIRD 2 and FRR: whichever side connects, the session needs
//! the same password and the right TTL, and a changed password resets that session alone.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::{Process, Testbed, eventually, product};
use tests::capture::TsharkWitness;

/// From a change to its effect: both sides call every second or so.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time for which a session must not come up.
const NEVER: Duration = Duration::from_secs(3);

/// Our block, as the other side has to see it.
const OURS: &str = "10.1.1.0/26";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// The speaker only listens.
    Us,
    /// We connect to a port that nothing listens on.
    Them,
}

/// The protection on the speaker's side of the session with 10.0.0.2.
#[derive(Clone, Copy)]
struct Theirs {
    password: Option<&'static str>,
    ttl_security: bool,
    caller: Caller,
}

/// AS 65001 at 10.0.0.2.
fn bird(bed: &Testbed, theirs: Theirs) -> Process {
    let password = theirs.password.map_or_else(String::new, |text| format!("password \"{text}\";"));
    let ttl = if theirs.ttl_security { "on" } else { "off" };
    let passive = if theirs.caller == Caller::Us { "yes" } else { "no" };
    start_bird(bed, "guarded", 2, &format!("ttl security {ttl}; {password} passive {passive};"))
}

/// Starts BIRD of the same AS at 10.0.0.3, whose session must never be disturbed.
fn plain_bird(bed: &Testbed) -> Process {
    start_bird(bed, "plain", 3, "")
}

fn start_bird(bed: &Testbed, name: &str, host: u8, options: &str) -> Process {
    let config = format!(
        "router id 10.0.0.{host};\nprotocol device {{}}\n\
         protocol bgp {name} {{ local 10.0.0.{host} as 65001; neighbor 10.0.0.1 as 64512; strict bind yes; {options} \
         connect delay time 1; connect retry time 1; error wait time 1, 1; ipv4 {{ import all; export none; }}; }}\n"
    );
    let path = bed.write(&format!("{name}.conf"), &config);
    let [control, pid] =
        ["ctl", "pid"].map(|end| bed.path(&format!("{name}.{end}")).to_str().expect("UTF-8").to_owned());
    bed.start("b", "/usr/sbin/bird", &["-f", "-c", path.to_str().expect("UTF-8"), "-s", &control, "-P", &pid])
}

fn birdc(bed: &Testbed, words: &[&str]) -> String {
    let control = bed.path("guarded.ctl");
    let output = Command::new("birdc").arg("-s").arg(control).args(words).output().expect("birdc to run");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn frr(bed: &Testbed, theirs: Theirs) -> Process {
    let mut config =
        "log stdout errors\nrouter bgp 65001\n bgp router-id 10.0.0.2\n no bgp ebgp-requires-policy\n \
                      neighbor 10.0.0.1 remote-as 64512\n neighbor 10.0.0.1 timers connect 1\n \
                      neighbor 10.0.0.1 update-source 10.0.0.2\n"
            .to_owned();
    if let Some(password) = theirs.password {
        config += &format!(" neighbor 10.0.0.1 password {password}\n");
    }
    if theirs.ttl_security {
        config += " neighbor 10.0.0.1 ttl-security hops 1\n";
    }
    if theirs.caller == Caller::Us {
        config += " neighbor 10.0.0.1 passive\n";
    }
    let path = bed.write("bgpd.conf", &config);
    let [directory, pid] = ["", "bgpd.pid"].map(|name| bed.path(name).to_str().expect("UTF-8").to_owned());
    let config = path.to_str().expect("UTF-8");
    let arguments =
        ["--no_zebra", "--skip_runas", "--config_file", config, "--pid_file", &pid, "--vty_socket"];
    bed.start("b", "/usr/lib/frr/bgpd", &[&arguments[..], &[&directory, "--vty_port", "0"]].concat())
}

/// Returns whether FRR has our block.
fn frr_has_ours(bed: &Testbed) -> bool {
    let show = format!("show bgp ipv4 unicast {OURS} json");
    let output = Command::new("vtysh")
        .args(["--vty_socket", bed.path("").to_str().expect("UTF-8"), "-d", "bgpd", "-c", &show])
        .output()
        .expect("vtysh to run");
    String::from_utf8_lossy(&output.stdout).contains("10.0.0.1")
}

struct Scene {
    // Dropped before the bed.
    _witness: TsharkWitness,
    _routed: Process,
    bed: Testbed,
}

impl Scene {
    /// routed with a password file that holds `password` (`None`: there is no file).
    fn new(password: Option<&str>, ttl_security: bool, caller: Caller) -> Scene {
        let bed = Testbed::with_two_nodes();
        let witness = TsharkWitness::of(&bed);
        bed.ip("b", "address add 10.0.0.3/24 dev eth0");
        if let Some(password) = password {
            bed.write("password", password);
        }
        let file = bed.path("password");
        let ttl = if ttl_security { ", ttlSecurity: 1" } else { "" };
        let port = if caller == Caller::Them { ":1790" } else { "" };
        const V3: &str = "apiVersion: projectcalico.org/v3";
        bed.write(
            "resources/all.yaml",
            &format!(
                "{V3}\nkind: Node\nmetadata: {{ name: node-a }}\n\
                 spec: {{ bgp: {{ ipv4Address: 10.0.0.1/24 }}, podCIDRs: [{OURS}] }}\n\
                 ---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: guarded }}\n\
                 spec: {{ peerIP: \"10.0.0.2{port}\", asNumber: 65001{ttl}, routed: {{ passwordFile: {} }} }}\n\
                 ---\n{V3}\nkind: BGPPeer\nmetadata: {{ name: plain }}\n\
                 spec: {{ peerIP: 10.0.0.3, asNumber: 65001 }}\n",
                file.display()
            ),
        );
        let path = |name: &str| bed.path(name).display().to_string();
        let config = format!(
            "node: node-a\nsocket: {}\nstateDir: {}\nstatus: off\ndataplane: none\ndatastore: {{ file: {} }}\n",
            path("routed.sock"),
            path("state"),
            path("resources")
        );
        let config = bed.write("routed.yaml", &config);
        let program = product("routed");
        let arguments = ["--config", config.to_str().expect("UTF-8")];
        let routed = bed.start("a", program.to_str().expect("UTF-8"), &arguments);
        Scene { _witness: witness, _routed: routed, bed }
    }

    fn show(&self, what: &str) -> Option<Value> {
        let output = Command::new(product("routectl"))
            .args(["show", what, "-o", "json"])
            .env("ROUTED_SOCKET", self.bed.path("routed.sock"))
            .output()
            .expect("routectl to run");
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    fn peer(&self, name: &str) -> Option<Value> {
        self.show("peers")?.as_array()?.iter().find(|peer| peer["name"] == name).cloned()
    }

    fn established(&self, name: &str) -> Value {
        eventually(&format!("{name} to be Established"), PATIENCE, || {
            self.peer(name).filter(|peer| peer["state"] == "Established")
        })
    }

    fn stays_down(&self, name: &str) -> Value {
        eventually("routed to answer", PATIENCE, || self.peer(name));
        let until = Instant::now() + NEVER;
        loop {
            let peer = self.peer(name).expect("the peer");
            assert_ne!(peer["state"], "Established", "{peer}");
            if Instant::now() > until {
                return peer;
            }
            // why: nothing is to happen, and that has no event.
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn bird_needs_the_same_password_and_the_right_ttl_in_both_directions() {
    for caller in [Caller::Us, Caller::Them] {
        let scene = Scene::new(Some("secret\n"), true, caller);
        let _bird = bird(&scene.bed, Theirs { password: Some("secret"), ttl_security: true, caller });
        scene.established("guarded");
        eventually("our block at BIRD", PATIENCE, || {
            birdc(&scene.bed, &["show", "route", "protocol", "guarded"]).contains(OURS).then_some(())
        });
    }
}

#[test]
fn frr_needs_the_same_password_and_the_right_ttl_in_both_directions() {
    for caller in [Caller::Us, Caller::Them] {
        let scene = Scene::new(Some("secret\n"), true, caller);
        let _frr = frr(&scene.bed, Theirs { password: Some("secret"), ttl_security: true, caller });
        scene.established("guarded");
        eventually("our block at FRR", PATIENCE, || frr_has_ours(&scene.bed).then_some(()));
    }
}

#[test]
fn a_speaker_without_the_password_or_from_too_far_gets_no_session() {
    for (password, ttl_security) in [(None, true), (Some("Secret"), true), (Some("secret"), false)] {
        for caller in [Caller::Us, Caller::Them] {
            let scene = Scene::new(Some("secret"), true, caller);
            let theirs = Theirs { password, ttl_security, caller };
            let _plain = plain_bird(&scene.bed);
            let _bird = bird(&scene.bed, theirs);
            scene.established("plain");
            scene.stays_down("guarded");
            // With the password, but from too far, the connection comes up and nothing over it, but for what
            // was there before it was accepted.
            let what = format!("to see why not with {password:?}, {ttl_security}, {caller:?}");
            eventually(&what, PATIENCE, || {
                let silent = |peer: &Value| {
                    peer["last_error"].is_string()
                        || matches!(peer["state"].as_str(), Some("OpenSent" | "OpenConfirm"))
                };
                scene.peer("guarded").filter(silent)
            });
        }
    }
}

#[test]
fn a_changed_password_resets_that_session_alone() {
    let theirs = |password| Theirs { password: Some(password), ttl_security: false, caller: Caller::Us };
    let scene = Scene::new(Some("one"), false, Caller::Us);
    let _plain = plain_bird(&scene.bed);
    let _bird = bird(&scene.bed, theirs("one"));
    scene.established("guarded");
    let plain = scene.established("plain");
    scene.bed.write("password", "two");
    eventually("the session with the old password to end", PATIENCE, || {
        scene.peer("guarded").filter(|peer| peer["state"] != "Established")
    });
    let config = std::fs::read_to_string(scene.bed.path("guarded.conf")).expect("BIRD's configuration");
    scene.bed.write("guarded.conf", &config.replace("\"one\"", "\"two\""));
    let said = birdc(&scene.bed, &["configure"]);
    assert!(said.contains("Reconfigured") || said.contains("Reconfiguration in progress"), "{said}");
    scene.established("guarded");
    assert_eq!(scene.established("plain")["since"], plain["since"], "the other session is as it was");
}

#[test]
fn a_missing_password_keeps_that_session_alone_from_opening_and_is_reported() {
    let scene = Scene::new(None, false, Caller::Us);
    let theirs = Theirs { password: None, ttl_security: false, caller: Caller::Them };
    let _plain = plain_bird(&scene.bed);
    let _bird = bird(&scene.bed, theirs);
    let plain = scene.established("plain");
    let peer = scene.stays_down("guarded");
    let file = scene.bed.path("password").display().to_string();
    let error = peer["last_error"].as_str().unwrap_or_default().to_owned();
    assert!(error.contains(&file) && error.contains("No such file"), "{peer}");
    let status = scene.show("status").expect("the status");
    let reasons = status["not_ready"].to_string();
    assert!(reasons.contains("no session with guarded (10.0.0.2)") && reasons.contains(&file), "{status}");
    // Without a command, once the file exists.
    scene.bed.write("password", "one");
    let config = std::fs::read_to_string(scene.bed.path("guarded.conf")).expect("BIRD's configuration");
    scene.bed.write(
        "guarded.conf",
        &config.replacen("ttl security off;", "ttl security off; password \"one\";", 1),
    );
    birdc(&scene.bed, &["configure"]);
    scene.established("guarded");
    assert_eq!(scene.established("plain")["since"], plain["since"], "the other session is as it was");
    let status = scene.show("status").expect("the status");
    assert!(!status["not_ready"].to_string().contains("no session with"), "{status}");
}
