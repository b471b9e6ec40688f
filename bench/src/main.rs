//! The benchmark of Hallpass. `bench/run` builds and starts it; `docs/performance.md` is what it writes.

mod broker;
mod contestant;
mod fill;
mod load;
mod process;
mod profile;
mod report;
mod rows;
mod stats;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The benchmark of Hallpass
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure
    Measure(Measure),
    /// Say where a brokered call's time goes
    Profile(Measure),
    /// Be one of those that are measured
    Contestant {
        #[command(subcommand)]
        role: contestant::Role,
    },
}

/// What to measure, and how.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Measure {
    /// The program to measure
    #[arg(long)]
    hallpass: PathBuf,
    /// Where databases and logs of this run go, on a real disk; emptied first
    #[arg(long)]
    folder: PathBuf,
    /// A minute instead of many: fewer rounds, a smaller database
    #[arg(long)]
    quick: bool,
    /// These rows only
    #[arg(long, value_delimiter = ',')]
    only: Vec<rows::Row>,
    /// The page to write the result into
    #[arg(long)]
    page: Option<PathBuf>,
    /// The commit that is measured, for the page
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// The command that started this, for the page
    #[arg(long, default_value = "bench/run")]
    command_line: String,
}

impl Measure {
    /// With an empty folder, and with paths that hold in whatever folder a contestant is started.
    fn in_new_folder(mut self) -> Result<Self> {
        if self.folder.exists() {
            std::fs::remove_dir_all(&self.folder)?;
        }
        std::fs::create_dir_all(&self.folder)?;
        self.folder = self.folder.canonicalize()?;
        self.hallpass = self.hallpass.canonicalize()?;
        Ok(self)
    }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Measure(measure) => rows::measure(&measure.in_new_folder()?),
        Command::Profile(measure) => profile::profile(&measure.in_new_folder()?),
        Command::Contestant { role } => role.play(),
    }
}
