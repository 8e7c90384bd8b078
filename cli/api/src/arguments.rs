//! `routed`'s command line.

use std::path::PathBuf;

use clap::{CommandFactory, Parser};

/// The routing daemon of a node: exchanges pod block routes with its BGP peers and sets the
/// tunnel exit point of each in the kernel.
#[derive(Parser)]
#[command(name = "routed", version, after_help = EXAMPLES)]
pub struct Arguments {
    /// The configuration of this node's daemon.
    #[arg(long, value_name = "FILE", default_value = "/etc/routed/routed.yaml")]
    pub config: PathBuf,
    /// Read the configuration and the resources, say what is wrong with them, and exit.
    #[arg(long)]
    pub check: bool,
}

const EXAMPLES: &str = "\
Examples:
  routed --config /etc/routed/routed.yaml
  routed --config /etc/routed/routed.yaml --check

The least configuration is one line:
  datastore: { file: /etc/routed/resources }

Exit status: 0 after SIGTERM or SIGINT, 2 for a bad configuration, 1 otherwise.
SIGHUP and changes of files reload; sessions that did not change are left alone.";

/// The command, of which the manual page is made.
pub fn command() -> clap::Command {
    Arguments::command()
}
