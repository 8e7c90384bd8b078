//! The figures of several speakers side by side, as a page of Markdown.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::run::SpeakerResults;
use super::speaker::Speaker;

/// Writes `docs/malformed.md`.
pub fn page(all: &[(Speaker, SpeakerResults)]) -> String {
    let mut out = String::from(
        "# Malformed messages\n\n\
         What becomes of malformed and borderline messages, sent over TCP to a live speaker that is a route\n\
         reflector for six peers: two observers, one in another AS, see what it passes on, and a bystander's\n\
         session must not notice. A case is right if its outcome is one that the RFCs ask for or permit. Written by\n\n\
         ```\ncargo run --package tests --bin malformed -- --out docs/malformed.md\n```\n\n",
    );
    let total = all.first().map_or(0, |(_, findings)| findings.cases.len());
    let mut row = |cells: Vec<String>| {
        let _ = writeln!(out, "| {} |", cells.join(" | "));
    };
    let each = |cell: &dyn Fn(&Speaker, &SpeakerResults) -> String| {
        all.iter().map(|(speaker, findings)| cell(speaker, findings)).collect::<Vec<_>>()
    };
    let line =
        |name: &str, cells: Vec<String>| std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>();
    row(line("", each(&|speaker, _| format!("{speaker} {}", speaker.version()))));
    row(vec!["---".to_owned(); all.len() + 1]);
    row(line(
        &format!("right, of {total}"),
        each(&|_, findings| findings.cases.iter().filter(|case| case.right).count().to_string()),
    ));
    row(line(
        "wrong",
        each(&|_, findings| {
            findings.cases.iter().filter(|case| !case.right && case.outcome.is_some()).count().to_string()
        }),
    ));
    row(line(
        "not for it (extended messages)",
        each(&|_, findings| findings.cases.iter().filter(|case| case.outcome.is_none()).count().to_string()),
    ));
    row(line(
        "other sessions reset",
        each(&|_, findings| findings.cases.iter().filter(|case| case.disturbed).count().to_string()),
    ));
    row(line(
        "crashes",
        each(&|_, findings| findings.cases.iter().filter(|case| case.died).count().to_string()),
    ));
    row(line(
        "back within 1 s of a reset",
        each(&|_, findings| format!("{} of {}", findings.back, findings.resets)),
    ));
    row(line(
        "slowest of those",
        each(&|_, findings| {
            if findings.back == 0 {
                "-".to_owned()
            } else {
                format!("{:.0} ms", findings.slowest.as_secs_f64() * 1e3)
            }
        }),
    ));
    row(line("all cases took", each(&|_, findings| format!("{:.1} s", findings.took.as_secs_f64()))));

    let mut groups: BTreeMap<&str, Vec<[usize; 2]>> = BTreeMap::new();
    for (place, (_, findings)) in all.iter().enumerate() {
        for case in &findings.cases {
            let group = groups.entry(&case.case.group).or_insert_with(|| vec![[0; 2]; all.len()]);
            group[place][0] += usize::from(case.right);
            group[place][1] += 1;
        }
    }
    out.push_str("\nRight, by group:\n\n");
    let _ = writeln!(
        out,
        "| group | {} |\n|---|{}",
        all.iter().map(|(speaker, _)| speaker.to_string()).collect::<Vec<_>>().join(" | "),
        "---|".repeat(all.len())
    );
    for (group, counts) in groups {
        let cells: Vec<_> = counts.iter().map(|[right, of]| format!("{right}/{of}")).collect();
        let _ = writeln!(out, "| {group} | {} |", cells.join(" | "));
    }
    for (speaker, findings) in all {
        let wrong: Vec<_> =
            findings.cases.iter().filter(|case| !case.right && case.outcome.is_some()).collect();
        if wrong.is_empty() {
            continue;
        }
        let _ = writeln!(out, "\n## Wrong: {speaker}\n\n| case | rule | what came of it |\n|---|---|---|");
        for finding in wrong {
            let outcome = finding.outcome.as_ref().map_or_else(String::new, ToString::to_string);
            let died = if finding.died { ", the speaker ended" } else { "" };
            let disturbed = if finding.disturbed { ", other sessions ended" } else { "" };
            let _ = writeln!(
                out,
                "| {} {} | {} | {outcome}{died}{disturbed} |",
                finding.case.id, finding.case.name, finding.case.spec
            );
        }
    }
    out
}
