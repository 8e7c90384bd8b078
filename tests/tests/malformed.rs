//! Malformed and borderline messages, over TCP, to the real `routed`.

use std::time::Duration;

use tests::malformed::speaker::Speaker;
use tests::malformed::{CaseResult, case, own_cases, run};

#[test]
fn every_malformed_message_has_the_outcome_that_the_rfcs_ask_for() {
    check(&case::read());
}

#[test]
fn own_cases_of_the_same_kinds_have_the_right_outcome() {
    check(&own_cases::cases());
}

fn check(cases: &[case::Case]) {
    let findings = run(Speaker::Routed, cases);
    let wrong: Vec<String> = findings.cases.iter().filter(|finding| !finding.right).map(line).collect();
    let right = findings.cases.len() - wrong.len();
    println!("{right} right, {} wrong, in {:?}", wrong.len(), findings.took);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(findings.unreadable, Vec::<String>::new(), "what is passed on is well-formed");
    assert_eq!(findings.back, findings.resets, "every peer is back within a second of its reset");
    assert!(findings.resets > 20, "the cases reset sessions: {}", findings.resets);
    let shown = findings.shown.as_ref().expect("routed's view");
    let ebgp = shown.as_array().and_then(|peers| peers.iter().find(|peer| peer["name"] == "ebgp"));
    let ebgp = ebgp.unwrap_or_else(|| panic!("{shown}"));
    for count in ["update_errors", "treated_as_withdraw", "discarded"] {
        assert!(ebgp[count].as_u64() >= Some(4), "{count}: {ebgp}");
    }
    assert!(ebgp["last_update_error"]["hex"].as_str().is_some_and(|hex| !hex.is_empty()), "{ebgp}");
    assert!(findings.took < Duration::from_secs(60), "{:?}", findings.took);
}

fn line(finding: &CaseResult) -> String {
    let outcome = finding.outcome.as_ref().map_or_else(|| "not run".to_owned(), ToString::to_string);
    let case = &finding.case;
    let more = match (finding.died, finding.disturbed) {
        (true, _) => "; routed ended",
        (_, true) => "; another session ended",
        _ => "",
    };
    format!("{} {}: {outcome}{more}, not {:?} ({})", case.id, case.name, case.wanted[0], case.spec)
}
