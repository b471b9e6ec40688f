//! What the figures were measured on.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::stats::Series;

/// Name and value of what matters.
pub(super) fn describe() -> Result<Vec<(String, String)>> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let version = |program: &str, flag: &str| {
        let path = crate::process::find_program(program);
        let output = path.and_then(|path| Command::new(path).arg(flag).output().ok());
        output.map_or("not installed".to_owned(), |output| {
            // nginx says it on standard error.
            let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
        })
    };
    let facts = [
        ("cores", std::thread::available_parallelism()?.to_string()),
        ("processor", model.map_or("unknown".to_owned(), |(_, name)| name.to_owned())),
        ("memory", format!("{:.0} GiB", kib.map_or(0.0, |kib: f64| kib / 1024.0 / 1024.0))),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease").trim())),
        ("compiler", version("rustc", "--version")),
        ("nginx", version("nginx", "-v")),
        ("node", version("node", "--version")),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).to_vec())
}

/// What one audit record costs at least: making one appended page durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fsync {
    /// Of the clock, microseconds, median.
    pub(super) took_us: f64,
    /// Of the processor, microseconds.
    pub(super) cpu_us: f64,
}

/// Measures it in `folder`.
pub(super) fn fsync(folder: &Path) -> Result<Fsync> {
    const TIMES: usize = 100;
    let path = folder.join("fsync");
    let mut file = File::options().create(true).append(true).open(&path)?;
    let page = [7_u8; 4096];
    let mut took = Series::default();
    let before = own_cpu_us()?;
    for _ in 0..TIMES {
        let start = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        took.push(start.elapsed().as_secs_f64() * 1e6);
    }
    let cpu_us = (own_cpu_us()? - before) / TIMES as f64;
    std::fs::remove_file(path)?;
    Ok(Fsync { took_us: took.median(), cpu_us })
}

/// Processor time of this thread, microseconds; the kernel counts it in nanoseconds.
fn own_cpu_us() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanos / 1e3)
}
