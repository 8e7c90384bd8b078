//! `routectl doctor`: problems of this node, with evidence and remedy.

use clap::Args;

use super::Failure;
use super::output;
use super::show::ShowFormat;
use api::client::Client;
use api::view::{Diagnosis, Severity};

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The output format.
    #[arg(short, long, default_value = "table")]
    output: ShowFormat,
}

impl Doctor {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let diagnosis: Diagnosis = client.get("/v1/doctor").await?;
        match self.output {
            ShowFormat::Json => output::json(&diagnosis)?,
            ShowFormat::Yaml => output::yaml(&diagnosis)?,
            ShowFormat::Table | ShowFormat::Wide => output::print(&text(&diagnosis))?,
        }
        let is_ill = diagnosis.findings.iter().any(|finding| finding.level == Severity::Error);
        if is_ill { Err(Failure::Reported) } else { Ok(()) }
    }
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for finding in &diagnosis.findings {
        let level = output::json_name(finding.level);
        let heading = format!("{level}: {}", output::json_name(finding.code).replace('_', " "));
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
