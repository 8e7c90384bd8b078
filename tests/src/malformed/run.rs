//! All cases, one after the other, against one speaker.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::wire::as_path::AsWidth;
use bgp::wire::attribute::{code, flag, push};
use bgp::wire::encode::{self, UpdateFormat};
use bgp::wire::frame::{self, MAX_EXTENDED_LEN};
use bgp::wire::open::Open;
use ipnet::IpNet;
use serde_json::Value;

use super::case::{Case, Phase, Role};
use super::judge::{Outcome, is_right};
use super::observer::{BEFORE, RouteState};
use super::scene::Scene;
use super::speaker::Speaker;
use testbed::{Process, Testbed};

/// Time from the start of a speaker until all sessions are Established.
const START: Duration = Duration::from_secs(30);
/// Time in which a peer must be Established again after a reset.
const BACK: Duration = Duration::from_secs(1);
/// Time in which a route must arrive at both observers.
const PASS: Duration = Duration::from_secs(5);
/// Time in which the session must end, in cases that accept an end.
const END: Duration = Duration::from_millis(500);
/// Time by which a withdrawal may follow a later route.
const LATER: Duration = Duration::from_millis(300);

/// The result of one case.
#[derive(Clone, Debug)]
pub struct CaseResult {
    /// The case.
    pub case: Case,
    /// `None`: not for this speaker, see [`Case::needs_extended_messages`].
    pub outcome: Option<Outcome>,
    /// Whether the outcome is accepted.
    pub right: bool,
    /// Whether another session ended too.
    pub disturbed: bool,
    /// Whether the speaker ended.
    pub died: bool,
}

/// The results of all cases.
#[derive(Clone, Debug)]
pub struct SpeakerResults {
    /// Case by case.
    pub cases: Vec<CaseResult>,
    /// Sessions that were reset.
    pub resets: usize,
    /// After how many of those the peer was back within [`BACK`].
    pub back: usize,
    /// The longest of those ways back.
    pub slowest: Duration,
    /// Messages to observers that can't be read.
    pub unreadable: Vec<String>,
    /// The output of `routectl show peers` after all cases, for routed alone.
    pub shown: Option<Value>,
    /// The duration, without starts of the speaker.
    pub took: Duration,
}

/// Runs the cases against a speaker that is started on node `a` of a bed of its own.
///
/// # Panics
/// Namespaces can't be made, or the speaker is missing or doesn't start.
pub fn run(speaker: Speaker, cases: &[Case]) -> SpeakerResults {
    let bed = Testbed::with_two_nodes();
    bed.ip("a", "address add 10.99.0.1/24 dev eth0");
    bed.ip("a", "-6 address add 2001:db8:99::1/64 dev eth0 nodad");
    for role in Role::ALL {
        bed.ip("b", &format!("address add {}/24 dev eth0", role.address()));
    }
    // The next hops of the cases.
    bed.ip("a", "route add default via 10.99.0.2");
    bed.inside("b", || Runner::new(speaker, &bed).run(cases))
}

struct Runner<'a> {
    speaker: Speaker,
    bed: &'a Testbed,
    process: Process,
    scene: Scene,
    markers: u16,
    findings: SpeakerResults,
}

impl<'a> Runner<'a> {
    fn new(speaker: Speaker, bed: &'a Testbed) -> Runner<'a> {
        let mut runner = Runner {
            speaker,
            bed,
            process: speaker.start(bed),
            scene: Scene::new(),
            markers: 0,
            findings: SpeakerResults {
                cases: Vec::new(),
                resets: 0,
                back: 0,
                slowest: Duration::ZERO,
                unreadable: Vec::new(),
                shown: None,
                took: Duration::ZERO,
            },
        };
        runner.assemble(None);
        runner
    }

    fn run(mut self, cases: &[Case]) -> SpeakerResults {
        for phase in [Phase::OpenSent, Phase::OpenConfirm, Phase::Established] {
            for case in cases.iter().filter(|case| case.phase == phase) {
                let finding = self.case(case);
                self.findings.cases.push(finding);
            }
        }
        self.findings.unreadable.append(&mut self.scene.unreadable);
        self.findings.shown = self.speaker.show_peers(self.bed);
        self.process.terminate();
        self.findings
    }

    /// Everybody's session, but for one's.
    fn assemble(&mut self, without: Option<Role>) {
        let deadline = Instant::now() + START;
        for role in Role::ALL.into_iter().filter(|role| Some(*role) != without) {
            assert!(
                self.scene.establish(role, deadline),
                "{}: no session with {role:?} within {START:?}: {}",
                self.speaker,
                self.last_words()
            );
        }
    }

    /// Returns the end of the speaker's log.
    fn last_words(&self) -> String {
        const LAST: usize = 1000;
        let said = self.process.output();
        let from = said.char_indices().rev().nth(LAST).map_or(0, |(at, _)| at);
        said[from..].to_owned()
    }

    fn restart(&mut self, without: Option<Role>) {
        self.scene.clear();
        if self.process.is_running() {
            self.process.terminate();
        }
        self.process = self.speaker.start(self.bed);
        self.assemble(without);
    }

    fn case(&mut self, case: &Case) -> CaseResult {
        let started = Instant::now();
        let outcome = self.outcome(case);
        self.findings.took += started.elapsed();
        let died = !self.process.is_running();
        let others = Role::ALL.into_iter().filter(|role| *role != case.role);
        let disturbed = !died && !others.clone().all(|role| self.scene.is_up(role));
        let right = outcome.as_ref().is_some_and(|outcome| is_right(case, outcome)) && !disturbed && !died;
        if died || disturbed {
            self.restart(None);
        } else if matches!(outcome, Some(Outcome::Reset(..) | Outcome::Close)) {
            self.come_back(case.role);
        } else if !matches!(outcome, Some(Outcome::Up(_))) {
            self.scene.hang_up(case.role);
        }
        CaseResult { case: case.clone(), outcome, right, disturbed, died }
    }

    /// The way back of a peer whose session was reset.
    fn come_back(&mut self, role: Role) {
        self.findings.resets += 1;
        let started = Instant::now();
        self.scene.hang_up(role);
        if !self.scene.establish(role, started + BACK) {
            return self.restart(None);
        }
        self.findings.back += 1;
        self.findings.slowest = self.findings.slowest.max(started.elapsed());
        self.findings.took += started.elapsed();
    }

    /// Sends the case and looks what becomes of it.
    fn outcome(&mut self, case: &Case) -> Option<Outcome> {
        let mut width = if case.role == Role::Ebgp2 { AsWidth::Two } else { AsWidth::Four };
        if case.phase == Phase::OpenSent
            && let Some(open) = open_in(&case.octets)
            && open.capabilities.four_octet_as.is_none()
        {
            width = AsWidth::Two;
        }
        let there = self.bring(case.role, case.phase)
            && (case.phase != Phase::Established || self.announce_before(case, width));
        assert!(there, "{}: {} can't be prepared: {}", self.speaker, case.id, self.last_words());
        let long = self.scene.open_of(case.role).is_some_and(|open| open.capabilities.extended_message);
        if case.needs_extended_messages && !long {
            return None;
        }
        self.scene.send(case.role, &case.octets, case.chunk);
        if case.phase != Phase::Established {
            let answered = |scene: &Scene| {
                let confirmed = case.phase == Phase::OpenSent && scene.keepalives(case.role) > 0;
                (confirmed || !scene.is_up(case.role)).then_some(())
            };
            self.scene.wait(Instant::now() + PASS, answered);
            let mut keepalive = Vec::new();
            encode::keepalive(&mut keepalive);
            if self.scene.is_up(case.role) {
                self.scene.send(case.role, &keepalive, None);
            }
        }
        if case.wanted.iter().any(super::judge::AcceptedOutcome::ends) {
            self.scene.wait(Instant::now() + END, |scene| (!scene.is_up(case.role)).then_some(()));
        }
        // The outcome has arrived when a later route has, and everything sent with that one when
        // one after it has.
        for _ in 0..2 {
            if self.scene.is_up(case.role) && !self.pass_marker(case.role, width) {
                return Some(self.scene.ended(case.role).cloned().unwrap_or(Outcome::Silent));
            }
        }
        // Speakers that withdraw later get a little longer.
        let right = |scene: &Scene| is_right(case, &held(scene, case)).then_some(());
        self.scene.wait(Instant::now() + LATER, right);
        Some(held(&self.scene, case))
    }

    /// Brings a tester's connection to a phase. A speaker that does not accept it again soon is
    /// restarted; the time after a reset is checked where there was one.
    fn bring(&mut self, role: Role, phase: Phase) -> bool {
        let reach = |scene: &mut Scene, patience: Duration| {
            let deadline = Instant::now() + patience;
            match phase {
                Phase::OpenSent => scene.call(role, deadline),
                Phase::OpenConfirm => scene.confirm(role, deadline),
                Phase::Established => scene.establish(role, deadline),
            }
        };
        if phase != Phase::Established {
            self.scene.hang_up(role);
        }
        if reach(&mut self.scene, BACK) {
            return true;
        }
        self.restart(Some(role).filter(|_| phase != Phase::Established));
        reach(&mut self.scene, START)
    }

    /// The route that is there before: an error that is treated as a withdrawal must take it away.
    fn announce_before(&mut self, case: &Case, width: AsWidth) -> bool {
        let Some(prefix) = case.prefix else { return true };
        self.announce(case.role, width, prefix, true);
        let passed = |scene: &Scene| {
            scene.tables.values().all(|table| table.holds(&prefix) == RouteState::Before).then_some(())
        };
        self.scene.wait(Instant::now() + PASS, passed).is_some()
    }

    /// Sends a route of no case, and waits until both observers have it.
    fn pass_marker(&mut self, role: Role, width: AsWidth) -> bool {
        self.markers += 1;
        let [high, low] = self.markers.to_be_bytes();
        let prefix = IpNet::new(IpAddr::from([100, 64, high, low]), 32).expect("a prefix");
        self.announce(role, width, prefix, false);
        let passed = |scene: &Scene| {
            let there = scene.tables.values().all(|table| table.holds(&prefix) != RouteState::Gone);
            (there || !scene.is_up(role)).then_some(there)
        };
        self.scene.wait(Instant::now() + PASS, passed) == Some(true)
    }

    fn announce(&mut self, role: Role, as_width: AsWidth, prefix: IpNet, before: bool) {
        let mut attributes = Vec::new();
        push(&mut attributes, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(2));
        push(&mut attributes, flag::WELL_KNOWN, code::AS_PATH, |out| {
            if !role.is_internal() {
                out.extend([2, 1]);
                out.extend(role.asn().to_be_bytes());
            }
        });
        if role.is_internal() {
            push(&mut attributes, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend([0, 0, 0, 100]));
        }
        if before {
            let flags = flag::OPTIONAL | flag::TRANSITIVE;
            push(&mut attributes, flags, code::COMMUNITIES, |out| out.extend(BEFORE));
        }
        let next_hop = match prefix {
            IpNet::V4(_) => IpAddr::V4(role.address()),
            IpNet::V6(_) => "2001:db8:99::2".parse().expect("an address"),
        };
        let form = UpdateFormat { as_width, ..UpdateFormat::default() };
        let mut octets = Vec::new();
        encode::announce(&mut octets, form, &attributes, next_hop, [prefix]).expect("a short message");
        self.scene.send(role, &octets, None);
    }
}

/// Returns whether the tester's session continues, and the state of the case's prefix at the
/// observers.
fn held(scene: &Scene, case: &Case) -> Outcome {
    if !scene.is_up(case.role) {
        return scene.ended(case.role).cloned().unwrap_or(Outcome::Close);
    }
    let of_prefix = |prefix| scene.tables.values().map(move |table| table.holds(prefix));
    Outcome::Up(case.prefix.iter().flat_map(of_prefix).collect())
}

/// The OPEN that a case consists of, if it is one that can be read.
fn open_in(octets: &[u8]) -> Option<Open> {
    let message = frame::next(octets, MAX_EXTENDED_LEN).ok().flatten()?;
    Open::parse(message.body).ok()
}
