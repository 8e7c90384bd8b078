//! Generated files: completions, manual pages and pages of the documentation.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command, CommandFactory, ValueEnum};

use super::Cli;

/// The arguments of `completions`.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn write(&self) -> ExitCode {
        clap_complete::generate(self.shell, &mut Cli::command(), "routectl", &mut io::stdout());
        ExitCode::SUCCESS
    }
}

/// The arguments of `reference`.
#[derive(Debug, Args)]
pub(super) struct Reference {
    /// The page.
    page: Page,
}

/// The generated pages of the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Page {
    /// docs/resources.md.
    Resources,
    /// docs/calico-commands.md.
    CalicoCommands,
}

impl Reference {
    pub(super) fn write(&self) -> ExitCode {
        let page = match self.page {
            Page::Resources => resource::reference::page(),
            Page::CalicoCommands => super::calicoctl::page(),
        };
        match super::output::print(&page) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        }
    }
}

/// The arguments of `man`.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// An existing directory.
    directory: PathBuf,
}

impl Man {
    pub(super) fn write(&self) -> ExitCode {
        let all = pages(&Cli::command(), "routectl", &self.directory)
            .and_then(|()| page(&api::arguments::command(), "routed", "8", &self.directory));
        match all {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("routectl: man: {}: {error}", self.directory.display());
                ExitCode::from(1)
            }
        }
    }
}

/// Renders the pages of a command and of its subcommands.
fn pages(command: &Command, name: &str, directory: &Path) -> io::Result<()> {
    page(command, name, "1", directory)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
    {
        let name = format!("{name}-{}", below.get_name());
        pages(below, &name, directory)?;
    }
    Ok(())
}

fn page(command: &Command, name: &str, section: &str, directory: &Path) -> io::Result<()> {
    // clap needs names with the lifetime of the program.
    let named = command
        .clone()
        .name(name.to_owned())
        .bin_name(name.replace('-', " "))
        .version(env!("CARGO_PKG_VERSION"));
    let mut octets = Vec::new();
    clap_mangen::Man::new(named).section(section).manual("routed").render(&mut octets)?;
    std::fs::write(directory.join(format!("{name}.{section}")), octets)
}
