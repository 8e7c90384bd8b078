//! `routectl validate`: validation of resource files without a daemon.

use clap::Args;

use super::files::Files;
use super::{Failure, output};
use resource::{Document, Kind, Mistake, Warning, assemble, parse_file};

/// The arguments of `validate`. The files are validated together.
#[derive(Debug, Args)]
pub(super) struct Validate {
    #[command(flatten)]
    files: Files,
}

impl Validate {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut documents: Vec<Document> = Vec::new();
        let mut mistakes: Vec<Mistake> = Vec::new();
        let mut warnings: Vec<Warning> = Vec::new();
        let mut clusters = 0;
        for file in self.files.texts()? {
            let parsed = parse_file(&file.name, &file.text);
            documents.extend(parsed.documents);
            mistakes.extend(parsed.mistakes);
            warnings.extend(parsed.warnings);
            warnings.extend(parsed.clusters.iter().flat_map(|cluster| cluster.ignored.iter().cloned()));
            clusters += parsed.clusters.len();
        }
        let assembled = assemble(&documents);
        mistakes.extend(assembled.mistakes);
        if !mistakes.is_empty() {
            return Err(Failure::Mistakes(mistakes));
        }
        for warning in warnings.iter().chain(&assembled.warnings) {
            eprintln!("{}", output::clean(&warning.to_string()));
        }
        let counts = Kind::ALL.into_iter().filter_map(|kind| {
            let count = documents.iter().filter(|document| document.key().kind == kind).count();
            (count > 0).then(|| format!("{count} {}", kind.name()))
        });
        let clusters = (clusters > 0).then(|| format!("{clusters} ClusterConfiguration"));
        let counts: Vec<String> = counts.chain(clusters).collect();
        let counts = if counts.is_empty() { "no resources".into() } else { counts.join(", ") };
        output::print(&format!("valid: {counts}\n"))
    }
}
