//! Choice of a valid subset of conflicting resources: in a shared store one bad resource must not
//! stop all others.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use resource::{Document, Mistake, Snapshot, Warning, assemble};

/// The largest number of refused resources that are tried again without the ones they conflicted
/// with. Each attempt checks all resources.
const TRIES: usize = 64;

/// A candidate: a resource with its versions.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// The stored version.
    pub(crate) document: Arc<Document>,
    /// The version that ran before, if it differs.
    pub(crate) before: Option<Arc<Document>>,
}

/// The subset that runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct ValidSubset {
    pub(crate) snapshot: Snapshot,
    pub(crate) warnings: Vec<Warning>,
    /// The version of each candidate that runs.
    pub(crate) runs: Vec<Option<Arc<Document>>>,
    /// The mistakes of the refused ones.
    pub(crate) refused: Vec<Mistake>,
}

/// Chooses a valid subset of candidates, which are sorted by age. If two conflict, the newer one is
/// refused, and its previous version keeps running if it is still valid.
pub(crate) fn valid_subset(candidates: &[Candidate]) -> ValidSubset {
    let mut runs: Vec<Option<Arc<Document>>> =
        candidates.iter().map(|candidate| Some(Arc::clone(&candidate.document))).collect();
    let mut refused: HashMap<usize, Vec<Mistake>> = HashMap::new();
    let mut assembled = assemble(runs.iter().flatten().map(AsRef::as_ref));
    if assembled.mistakes.is_empty() {
        return ValidSubset {
            snapshot: assembled.snapshot,
            warnings: assembled.warnings,
            runs,
            refused: Vec::new(),
        };
    }
    let places: HashMap<&str, usize> = candidates
        .iter()
        .enumerate()
        .map(|(at, candidate)| (candidate.document.resource.origin().file.as_str(), at))
        .collect();
    // Each iteration removes at least one candidate; mostly there is one iteration.
    while !assembled.mistakes.is_empty() {
        let mut any = false;
        for mistake in assembled.mistakes {
            if let Some(at) = places.get(mistake.file.as_str()).copied() {
                runs[at] = None;
                any = true;
                refused.entry(at).or_default().push(mistake);
            }
        }
        if !any {
            // Every mistake between resources names one of them. If one does not, no
            // candidate may run.
            return ValidSubset { runs: vec![None; candidates.len()], ..ValidSubset::default() };
        }
        assembled = assemble(runs.iter().flatten().map(AsRef::as_ref));
    }
    let mut out: Vec<usize> = refused.keys().copied().collect();
    out.sort_unstable();
    for at in out.into_iter().take(TRIES) {
        let candidate = &candidates[at];
        for (document, now) in [(Some(&candidate.document), true), (candidate.before.as_ref(), false)] {
            let Some(document) = document else { continue };
            runs[at] = Some(Arc::clone(document));
            let tried = assemble(runs.iter().flatten().map(AsRef::as_ref));
            if tried.mistakes.is_empty() {
                assembled = tried;
                if now {
                    refused.remove(&at);
                }
                break;
            }
            runs[at] = None;
        }
    }
    let mut mistakes: Vec<(usize, Vec<Mistake>)> = refused.into_iter().collect();
    mistakes.sort_by_key(|(at, _)| *at);
    let mut told = HashSet::new();
    let mut refused: Vec<Mistake> = Vec::new();
    for (at, mistakes) in mistakes {
        let before = runs[at].is_some();
        for mut mistake in mistakes {
            if before {
                mistake.rule.push_str("; the version before runs on");
            }
            if told.insert(mistake.to_string()) {
                refused.push(mistake);
            }
        }
    }
    ValidSubset { snapshot: assembled.snapshot, warnings: assembled.warnings, runs, refused }
}

#[cfg(test)]
mod tests {
    use super::*;
    use resource::parse_file;

    fn node(name: &str, address: &str) -> Arc<Document> {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\nspec: {{bgp: {{ipv4Address: {address}}}}}\n"
        );
        let mut parsed = parse_file(name, &text);
        assert_eq!(parsed.mistakes, []);
        Arc::new(parsed.documents.remove(0))
    }

    fn candidates(nodes: &[(&str, &str)]) -> Vec<Candidate> {
        let candidate =
            |(name, address): &(&str, &str)| Candidate { document: node(name, address), before: None };
        nodes.iter().map(candidate).collect()
    }

    fn running(subset: &ValidSubset) -> Vec<&str> {
        subset.snapshot.nodes.iter().map(|node| node.name.as_str()).collect()
    }

    #[test]
    fn the_newer_of_two_conflicting_resources_is_refused_by_name() {
        let subset =
            valid_subset(&candidates(&[("z", "10.0.0.1/24"), ("a", "10.0.0.1/24"), ("b", "10.0.0.2/24")]));
        assert_eq!(running(&subset), ["b", "z"]);
        assert_eq!(subset.refused.len(), 1);
        assert_eq!(
            (subset.refused[0].file.as_str(), subset.refused[0].field.as_str()),
            ("a", "spec.bgp.ipv4Address")
        );
    }

    #[test]
    fn a_conflict_with_a_refused_resource_does_not_count() {
        let tunnel = |name: &str, address: &str, tunnel: &str| {
            let text = format!(
                "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: {name}}}\n\
                 spec: {{bgp: {{ipv4Address: {address}, ipv4IPIPTunnelAddr: {tunnel}}}}}\n"
            );
            Candidate { document: Arc::new(parse_file(name, &text).documents.remove(0)), before: None }
        };
        // b has a's address, and c has b's tunnel address: without b, nothing is wrong with c.
        let all = [
            tunnel("a", "10.0.0.1/24", "10.9.0.1"),
            tunnel("b", "10.0.0.1/24", "10.9.0.2"),
            tunnel("c", "10.0.0.3/24", "10.9.0.2"),
        ];
        let subset = valid_subset(&all);
        assert_eq!(running(&subset), ["a", "c"]);
        assert_eq!(subset.refused.len(), 1, "{:?}", subset.refused);
    }

    #[test]
    fn the_previous_version_runs_on_after_a_bad_change() {
        let mut all = candidates(&[("a", "10.0.0.1/24"), ("b", "10.0.0.1/24")]);
        all[1].before = Some(node("b", "10.0.0.2/24"));
        let subset = valid_subset(&all);
        assert_eq!(running(&subset), ["a", "b"]);
        assert_eq!(subset.snapshot.nodes[1].ipv4, Some("10.0.0.2/24".parse().unwrap()));
        assert!(subset.refused[0].rule.ends_with("the version before runs on"), "{:?}", subset.refused);
    }
}
