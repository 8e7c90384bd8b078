//! `routectl convert`: conversion of any form of resources to v3 documents, without a daemon.

use clap::{Args, ValueEnum};

use super::files::Files;
use super::{Failure, get, output};
use resource::to_yaml;
use resource::{Mistake, parse_file};

/// The arguments of `convert`.
#[derive(Debug, Args)]
pub(super) struct Convert {
    #[command(flatten)]
    files: Files,
    /// The output format.
    #[arg(short, long, default_value = "yaml")]
    output: ConvertFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ConvertFormat {
    /// YAML documents.
    Yaml,
    /// A JSON array.
    Json,
}

impl Convert {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let Some(files) = self.files.read()? else { return output::print(output::NO_RESOURCES) };
        let mut manifests = Vec::new();
        for file in files {
            let parsed = parse_file(&file.name, &file.text);
            if let Some(cluster) = parsed.clusters.first() {
                let rule = "ClusterConfiguration is no resource: give it to `routectl apply`".to_owned();
                let (file, line) = (cluster.origin.file.clone(), cluster.origin.line);
                return Err(Failure::Mistakes(vec![Mistake { file, line, field: "kind".into(), rule }]));
            }
            for warning in &parsed.warnings {
                eprintln!("{}", output::clean(&warning.to_string()));
            }
            manifests.extend(parsed.documents.into_iter().map(|document| get::exported(document.manifest)));
        }
        match self.output {
            ConvertFormat::Yaml => {
                let documents: Vec<String> = manifests.iter().map(to_yaml).collect();
                output::print(&documents.join("---\n"))
            }
            ConvertFormat::Json => output::json(&manifests),
        }
    }
}
