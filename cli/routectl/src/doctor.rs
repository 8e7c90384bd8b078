//! `routectl doctor`: what is wrong with this node, by what that was seen, and what mends it.

use clap::Args;

use super::Failure;
use super::output;
use super::show::{self, Output};
use api::client::Client;
use api::view::{Diagnosis, Severity};

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// How to show it.
    #[arg(short, long, default_value = "table")]
    output: Output,
}

impl Doctor {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let diagnosis: Diagnosis = client.get("/v1/doctor").await?;
        match self.output {
            Output::Json => output::json(&diagnosis)?,
            Output::Yaml => output::yaml(&diagnosis)?,
            Output::Table | Output::Wide => output::print(&text(&diagnosis))?,
        }
        let is_ill = diagnosis.findings.iter().any(|finding| finding.level == Severity::Error);
        if is_ill { Err(Failure::Shown) } else { Ok(()) }
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let level = show::named(finding.level);
        let heading = format!("{level}: {}", show::named(finding.code).replace('_', " "));
        text.push_str(&format!("{}: {}\n", output::judged(&heading, false), output::clean(&finding.text)));
        text.push_str(&format!("  seen  {}\n", output::clean(&finding.evidence)));
        text.push_str(&format!("  mend  {}\n\n", output::clean(&finding.remedy)));
    }
    for not_seen in &diagnosis.not_seen {
        text.push_str(&format!("not looked at: {}\n", output::clean(not_seen)));
    }
    let count = |level| diagnosis.findings.iter().filter(|finding| finding.level == level).count();
    let summary = match (count(Severity::Error), count(Severity::Warning)) {
        (0, 0) => "nothing is wrong".to_owned(),
        (errors, warnings) => format!("{}, {}", counted(errors, "error"), counted(warnings, "warning")),
    };
    let well = diagnosis.findings.is_empty();
    let summary = output::judged(&summary, well);
    text.push_str(&format!("{}: {} checks, {summary}\n", output::clean(&diagnosis.node), diagnosis.checks));
    text
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
