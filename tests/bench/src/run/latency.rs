//! The time until a new block reaches all clients while a full table is loaded and withdrawn again,
//! the delay of keepalives meanwhile, and the response time of `show peers`.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    net::Ipv4Addr,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    rc::Rc,
    sync::mpsc::{self, RecvTimeoutError, SyncSender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    full_table::{ATTRIBUTE_SETS, PREFIXES},
    phase::Phases,
};
use crate::{
    contender::Speaker,
    daemon::{Reflector, control_socket},
    load::{Fleet, Goal, PROBER, Role, full_table, pieces, probe},
    record::{Measurement, Outcome},
    scenario::{Scenario, Trial},
    statistics::percentile,
};

/// The hold time of all sessions, in seconds: keepalives are due every second.
const HOLD_TIME: u16 = 3;
const KEEPALIVE: Duration = Duration::from_secs(1);
/// Between two new blocks.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// Blocks there are for probes: more than are announced within the longest limit.
const PROBES: u32 = 8192;
const PROBE_BASE: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 0);
/// Time for the last probes after the load.
const GRACE: Duration = Duration::from_secs(10);
/// Between two requests to the control socket.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// The receivers' socket buffers in bytes. With the kernel's default of up to 6 MB each, a new block waits behind
/// tens of megabytes that a quick daemon has long since sent, which would measure the load tool.
const RECEIVE_BUFFER: usize = 256 * 1024;
/// The sender of the table, the prober, the client between them, and nine more.
const CLIENTS: usize = 12;
const SENDER: usize = 0;

/// The number of pieces of a table; one every [`PROBE_EVERY`], which is 5 s: about what the
/// quickest peer takes for S3.
const PACED: usize = 250;

/// They.
pub(super) fn scenarios() -> [Scenario; 2] {
    [
        Scenario {
            name: "latency",
            about: "a new block every 20 ms while 1M prefixes are announced, withdrawn and announced again",
            speakers: super::EVERYBODY,
            run: |trial| run(trial, "latency", 1),
        },
        Scenario {
            name: "latency-paced",
            about: "the same, the table sent evenly over 5 s",
            // The others need a minute for what is 15 s here.
            speakers: &[Speaker::Routed, Speaker::Bird, Speaker::Frr, Speaker::Floor],
            run: |trial| run(trial, "latency paced", PACED),
        },
    ]
}

fn run(trial: &Trial<'_>, row: &str, count: usize) -> Result<Vec<Measurement>> {
    let table = full_table(PREFIXES, ATTRIBUTE_SETS);
    let universe = table.universe.with_probes(PROBE_BASE, PROBES);
    let probes: Vec<Rc<[u8]>> =
        (universe.main()..universe.total()).map(|number| probe(&universe, number)).collect();
    let first_probe = universe.main();
    let daemon = Reflector { clients: CLIENTS }.start(trial.contender, trial.bed)?;
    let mut fleet = Fleet::new(universe, HOLD_TIME)?;
    for client in 0..CLIENTS {
        fleet.add(Role { receives: client != SENDER && client != PROBER, first_words: None });
    }
    fleet.set_receive_buffer(RECEIVE_BUFFER);
    let mut phases = Phases::new(trial, daemon, fleet);
    phases.establish()?;
    let asker = (trial.contender.speaker == Speaker::Routed).then(|| Asker::start(control_socket(trial.bed)));

    let cpu = phases.daemon.cpu();
    phases.fleet.mark_silence();
    let began = Instant::now();
    let mut prober = Prober { probes, first_probe, sent: Vec::new(), arrived: BTreeMap::new() };
    let mut complete = true;
    for (goal, script) in
        [(Goal::All, &table.announce), (Goal::Nothing, &table.withdraw), (Goal::All, &table.announce)]
    {
        phases.fleet.set_goal(goal);
        let mut pieces = pieces(script, count).into();
        complete = complete && prober.run(&mut phases.fleet, &mut pieces, began + trial.limit)?;
    }
    let wall = began.elapsed();
    let spent = phases.daemon.cpu().since(&cpu);
    let silence = phases.fleet.longest_silence();
    prober.wait_for_the_last(&mut phases.fleet)?;
    let memory = phases.daemon.memory();

    let mut more = prober.figures()?;
    let late = silence.saturating_sub(KEEPALIVE);
    more.insert("keepalive_late_ms".into(), late.as_secs_f64() * 1e3);
    if let Some(asker) = asker {
        let answers = asker.stop()?;
        more.insert(
            "show_peers_max_ms".into(),
            percentile(&answers, 100.0).context("no answer was waited for")?,
        );
    }
    Ok(vec![Measurement {
        row: row.to_owned(),
        outcome: if complete { Outcome::Done } else { Outcome::CutOff },
        wall_s: wall.as_secs_f64(),
        cpu_s: spent.as_secs_f64(),
        rss: memory.rss,
        peak_rss: memory.peak,
        more,
    }])
}

struct Prober {
    probes: Vec<Rc<[u8]>>,
    first_probe: u32,
    /// When each was sent.
    sent: Vec<Instant>,
    /// For each probe, how many clients have it and when the last one got it.
    arrived: BTreeMap<u32, (usize, Instant)>,
}

impl Prober {
    /// Announces probes, and with each a piece of the table, until the goal is reached.
    fn run(&mut self, fleet: &mut Fleet, pieces: &mut VecDeque<Rc<[u8]>>, deadline: Instant) -> Result<bool> {
        loop {
            let due = self.sent.last().map_or_else(Instant::now, |last| *last + PROBE_EVERY);
            let complete = fleet.run_until(due.min(deadline), |fleet| fleet.is_complete())?;
            self.note(fleet);
            if complete || Instant::now() >= deadline {
                return Ok(complete);
            }
            if Instant::now() >= due {
                if let Some(piece) = pieces.pop_front() {
                    fleet.send(SENDER, piece)?;
                }
                let probe = self.probes.get(self.sent.len()).context("there are no more probes")?;
                self.sent.push(Instant::now());
                fleet.send(PROBER, probe.clone())?;
            }
        }
    }

    fn note(&mut self, fleet: &mut Fleet) {
        for (number, when) in fleet.take_arrivals() {
            let (count, last) = self.arrived.entry(number - self.first_probe).or_insert((0, when));
            *count += 1;
            *last = when.max(*last);
        }
    }

    /// Everybody but the prober gets every probe.
    fn is_everywhere(&self) -> bool {
        self.arrived.len() == self.sent.len() && self.arrived.values().all(|(count, _)| *count == CLIENTS - 1)
    }

    fn wait_for_the_last(&mut self, fleet: &mut Fleet) -> Result<()> {
        let deadline = Instant::now() + GRACE;
        while !self.is_everywhere() {
            fleet.run_until((Instant::now() + PROBE_EVERY).min(deadline), |_| false)?;
            self.note(fleet);
            if Instant::now() >= deadline {
                bail!("of {} new blocks some didn't reach everybody within {GRACE:?}", self.sent.len());
            }
        }
        Ok(())
    }

    /// From a probe's sending until the last client had it.
    fn figures(&self) -> Result<BTreeMap<String, f64>> {
        let latency = |(number, (_, last)): (&u32, &(usize, Instant))| {
            let sent = self.sent.get(*number as usize)?;
            Some(last.saturating_duration_since(*sent).as_secs_f64() * 1e3)
        };
        let all: Vec<f64> = self.arrived.iter().filter_map(latency).collect();
        let mut figures = BTreeMap::from([("probes".to_owned(), all.len() as f64)]);
        for (name, percent) in [("p50_ms", 50.0), ("p99_ms", 99.0), ("max_ms", 100.0)] {
            figures.insert(name.into(), percentile(&all, percent).context("no new block was announced")?);
        }
        Ok(figures)
    }
}

/// Asks for the peers again and again, as `routectl show peers` does, and takes the time.
struct Asker {
    stop: SyncSender<()>,
    thread: JoinHandle<Result<Vec<f64>>>,
}

impl Asker {
    fn start(socket: PathBuf) -> Self {
        // One message, to stop.
        let (stop, stopped) = mpsc::sync_channel(1);
        let thread = thread::spawn(move || {
            let mut answers = Vec::new();
            loop {
                answers.push(ask(&socket)?.as_secs_f64() * 1e3);
                if stopped.recv_timeout(ASK_EVERY) != Err(RecvTimeoutError::Timeout) {
                    return Ok(answers);
                }
            }
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<Vec<f64>> {
        // A thread that failed has stopped receiving; it reports the reason.
        let _ = self.stop.send(());
        self.thread.join().map_err(|_| anyhow!("the thread that asks for peers panicked"))?
    }
}

fn ask(socket: &Path) -> Result<Duration> {
    /// After so long the answer counts as none.
    const PATIENCE: Duration = Duration::from_secs(30);
    let began = Instant::now();
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("{} doesn't answer", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /v1/peers HTTP/1.1\r\nhost: routed\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("show peers")?;
    let took = began.elapsed();
    if !answer.starts_with(b"HTTP/1.1 200") {
        bail!("show peers: {}", String::from_utf8_lossy(answer.get(..80).unwrap_or(&answer)));
    }
    Ok(took)
}
