//! The machine and the versions of results.

use std::{env, fs, process::Command};

use crate::{
    contender::{Contender, Speaker},
    record::Setting,
};

/// Returns the setting of this machine.
#[must_use]
pub fn setting(contenders: &[Contender]) -> Setting {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let models: Vec<&str> = cpus.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let model = models.first().map_or("unknown", |model| model.trim_start_matches([' ', '\t', ':']));
    let memory = read("/proc/meminfo");
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    Setting {
        kernel: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        cpu: format!("{} x {model}", models.len()),
        memory: memory.unwrap_or(0u64) * 1024,
        command: env::args().collect::<Vec<_>>().join(" "),
        versions: contenders.iter().map(|c| (c.name.clone(), version(c))).collect(),
        commit: commit(),
        began: jiff::Timestamp::now()
            .round(jiff::Unit::Second)
            .map_or_else(|_| String::new(), |t| t.to_string()),
        load_before: read("/proc/loadavg")
            .split(' ')
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or_default(),
    }
}

fn commit() -> String {
    let output = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    // Without git or a repository the results stand without it.
    let output = output.ok().filter(|output| output.status.success());
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Returns the first line of a program's version.
fn version(contender: &Contender) -> String {
    let argument = if contender.speaker == Speaker::Openbgpd { "-V" } else { "--version" };
    match Command::new(&contender.program).arg(argument).output() {
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned()
        }
        Err(error) => format!("{}: {error}", contender.program.display()),
    }
}
