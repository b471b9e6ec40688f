//! What is measured, one file for each promise of speed.

mod calls;
mod machine;
mod scale;
mod tokens;
mod transfer;
mod verifier;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::Measure;
use crate::load::Course;
use crate::process::Contestant;
use crate::report::Report;

/// One of the things that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Row {
    /// Brokered calls of 1 KiB, the latency they add, memory
    Calls,
    /// 64 MiB down and up
    Transfer,
    /// Token requests
    Tokens,
    /// The library that gateways embed
    Verifier,
    /// A large database against a small one, `audit verify`, memory
    Scale,
}

/// Connections that everything is measured with.
const CONNECTIONS: [usize; 3] = [1, 64, 512];

/// What all rows need.
struct Bench<'a> {
    measure: &'a Measure,
    api: Contestant,
    report: Report,
    /// Rounds of contestants, one after the other.
    rounds: usize,
    window: Duration,
}

impl Bench<'_> {
    fn course(&self, connections: usize) -> Course {
        Course { connections, warm_up: Duration::from_millis(300), window: self.window }
    }

    fn api(&self) -> SocketAddr {
        self.api.address
    }
}

/// Measures what is asked for, prints it, and writes the page.
pub(crate) fn measure(measure: &Measure) -> Result<()> {
    let machine = machine::describe()?;
    let (rounds, millis) = if measure.quick { (2, 1000) } else { (5, 1500) };
    let mut bench = Bench {
        measure,
        api: Contestant::own(&["upstream"])?,
        report: Report::default(),
        rounds,
        window: Duration::from_millis(millis),
    };
    let wanted = |row: Row| measure.only.is_empty() || measure.only.contains(&row);
    type Part = fn(&mut Bench<'_>) -> Result<()>;
    let parts: [(Row, Part); 5] = [
        (Row::Calls, calls::run),
        (Row::Transfer, transfer::run),
        (Row::Tokens, tokens::run),
        (Row::Verifier, verifier::run),
        (Row::Scale, scale::run),
    ];
    for (row, run) in parts {
        if wanted(row) {
            run(&mut bench)?;
        }
    }
    bench.report.print(&measure.command_line, &measure.commit, &machine);
    if let Some(page) = &measure.page {
        bench.report.write(page, &measure.command_line, &measure.commit, &machine)?;
        println!("written: {}", page.display());
    }
    std::fs::remove_dir_all(&measure.folder)?;
    Ok(())
}
