//! `routectl plan`: the changes that resources would make on this node.

use clap::Args;
use hyper::Method;

use super::files::Files;
use super::show::ShowFormat;
use super::{Failure, output};
use api::Files as Request;
use api::client::Client;
use api::view::{ChangeKind, KernelChanges, ObjectChange, PlanView, SessionFate};

/// The arguments of `plan`.
#[derive(Debug, Args)]
pub(super) struct Plan {
    #[command(flatten)]
    files: Files,
    /// Plan the deletion of the resources.
    #[arg(long)]
    delete: bool,
    /// The output format. `wide` includes what stays unchanged.
    #[arg(short, long, default_value = "table")]
    output: ShowFormat,
}

impl Plan {
    pub(super) async fn run(&self, client: &Client) -> Result<(), Failure> {
        let request = Request { files: self.files.texts()? };
        let path = if self.delete { "/v1/plan?mode=delete" } else { "/v1/plan" };
        let view: PlanView = client.request(Method::POST, path, Some(&request)).await?;
        for warning in &view.warnings {
            eprintln!("{}", output::clean(&warning.to_string()));
        }
        match self.output {
            ShowFormat::Json => output::json(&view),
            ShowFormat::Yaml => output::yaml(&view),
            ShowFormat::Table | ShowFormat::Wide => {
                output::print(&text(&view, self.output == ShowFormat::Wide))
            }
        }
    }
}

/// Returns the sign of a change, as in a diff.
fn sign(change: ChangeKind) -> &'static str {
    match change {
        ChangeKind::Add => "+",
        ChangeKind::Replace => "~",
        ChangeKind::Remove => "-",
    }
}

fn line(change: &ObjectChange) -> String {
    format!("  {} {}\n", sign(change.change), output::clean(&change.object))
}

fn text(view: &PlanView, wide: bool) -> String {
    let mut text = format!("On {}; nothing is changed.\n", output::clean(&view.node));
    text.push_str("\nResources\n");
    for resource in &view.resources {
        let key = format!("{} {}", resource.key.kind.name(), resource.key.name);
        let sign = resource.change.map_or("=", sign);
        text.push_str(&format!("  {sign} {}\n", output::clean(&key)));
    }
    if let Some(problem) = &view.problem {
        text.push_str(&format!("\n{}\n", output::judged(problem, false)));
    }
    text.push_str("\nSessions\n");
    let kept = view.sessions.iter().filter(|session| session.fate == SessionFate::Kept).count();
    for session in view.sessions.iter().filter(|session| wide || session.fate != SessionFate::Kept) {
        let sign = match session.fate {
            SessionFate::Opened => "+",
            SessionFate::Closed => "-",
            SessionFate::Reopened | SessionFate::Filtered => "~",
            SessionFate::Kept => "=",
        };
        let reason = if session.reason.is_empty() { String::new() } else { format!(": {}", session.reason) };
        let what =
            format!("{} ({}) {}{reason}", session.name, session.address, output::json_name(session.fate));
        text.push_str(&format!("  {sign} {}\n", output::clean(&what)));
    }
    text.push_str(&format!("  = {kept} kept as they are\n"));
    text.push_str("\nRoutes told to peers\n");
    for told in &view.advertisements {
        let counts =
            format!("{} announced, {} changed, {} withdrawn", told.announced, told.changed, told.withdrawn);
        text.push_str(&format!("  {}: {counts}\n", output::clean(&told.peer)));
        told.some.iter().for_each(|change| text.push_str(&format!("  {}", line(change))));
        let more = (told.announced + told.changed + told.withdrawn).saturating_sub(told.some.len());
        if more > 0 {
            text.push_str(&format!("      and {more} more\n"));
        }
    }
    if view.advertisements.is_empty() {
        text.push_str("  = no peer is told anything new\n");
    }
    if let Some(changes) = &view.kernel {
        text.push_str("\nKernel\n");
        text.push_str(&kernel(changes));
    }
    text
}

fn kernel(changes: &KernelChanges) -> String {
    if changes.is_empty() {
        return "  = nothing\n".to_owned();
    }
    let mut text: String = changes.objects.iter().map(line).collect();
    text.extend(changes.routes.iter().map(|route| {
        line(&ObjectChange { change: route.change, object: format!("route {}", route.object) })
    }));
    let all = changes.routes_added + changes.routes_replaced + changes.routes_removed;
    if all > changes.routes.len() {
        text.push_str(&format!("    and {} routes more\n", all - changes.routes.len()));
    }
    text.push_str(&format!(
        "  {} routes added, {} replaced, {} removed; {} other objects\n",
        changes.routes_added,
        changes.routes_replaced,
        changes.routes_removed,
        changes.objects.len()
    ));
    text
}
