//! Where a brokered call's time goes: `perf` on the broker under load, its samples summed up by step.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;

use crate::Measure;
use crate::broker::Broker;
use crate::contestant::Algorithm;
use crate::fill::Contents;
use crate::load::{Course, Shot, drive};
use crate::process::Contestant;

/// Connections under which the broker is looked at.
const CONNECTIONS: [usize; 2] = [1, 64];

/// How many symbols are listed.
const TOP: usize = 60;

/// The steps, each with what the names of its functions hold. A sample belongs to the first function on its stack,
/// from the innermost outwards, that is one of these.
#[rustfmt::skip]
const STEPS: &[(&str, &[&str])] = &[
    ("audit log: SQLite and sqlx", &["sqlite3", "pager_", "sqlx", "hallpass::store"]),
    ("audit log: records, hash chain, queue", &["hallpass::audit", "hallpass::model::audit"]),
    ("token: hash, memory, revocation",
        &["hallpass_verify", "jsonwebtoken", "Broker>::authenticate", "Broker::authenticate",
          "hallpass::broker::agent_token", "hallpass::model::authorization"]),
    ("permit: target and policy", &["hallpass::policy", "hallpass::model::target", "hallpass::model::template"]),
    ("secret: opening and injecting", &["hallpass::vault", "hallpass::broker::inject"]),
    ("answer: search and digest", &["hallpass::broker::scrub", "hallpass::broker::body", "aho_corasick"]),
    (UPSTREAM, &["hallpass::broker::dial", "hyper_util::client", "hyper::client", "dispatch::Client", "role::Client"]),
    ("outcome: facts of the call", &["hallpass::broker::outcome"]),
    ("the call's own line of steps", &["hallpass::broker"]),
    ("routing, request id, errors", &["hallpass::http", "axum", "tower", "matchit"]),
    (SERVER, &["hallpass::listen", "hyper::server", "dispatch::Server", "role::Server", "hyper::proto", "hyper::common", "httparse"]),
];

/// The step of connections to the upstream.
const UPSTREAM: &str = "upstream: HTTP client";

/// The step of agents' connections; hyper's code for both ends is the same, so its stacks tell which end it is.
const SERVER: &str = "agent: HTTP server";

/// What a stack holds that belongs to no step but to the runtime itself.
const RUNTIME: &str = "tokio: scheduler and I/O driver";

/// What the kernel does for a step, told by the innermost of these.
#[rustfmt::skip]
const KERNEL: [(&str, &[&str]); 4] = [
    ("sockets", &["tcp_", "sock_", "__sys_sendto", "__sys_recvfrom", "inet_"]),
    ("disk", &["ext4", "xfs", "btrfs", "vfs_fsync", "do_fsync", "blk_", "jbd2", "fdatasync", "pwrite", "vfs_write"]),
    ("waking and waiting", &["futex", "ep_poll", "epoll", "eventfd", "schedule"]),
    ("other kernel", &[""]),
];

/// Drives the broker under `perf` and prints what it was doing.
pub(crate) fn profile(measure: &Measure) -> Result<()> {
    ensure!(crate::process::find_program("perf").is_some(), "perf is not installed; Debian's package is linux-perf");
    let api = Contestant::own(&["upstream"])?;
    let folder = measure.folder.join("calls");
    let contents = Contents { agents: 16, sessions: 0, records: 0 };
    let broker = Broker::init(&measure.hallpass, &folder, Algorithm::Es256, api.address, contents)?;
    let hallpass = broker.serve()?;
    let tokens = broker.tokens(&hallpass, 16)?;
    let shot = Shot {
        method: Method::GET,
        path: "/exchange/crm/v1/contacts/7".into(),
        authorizations: Rc::clone(&tokens),
        body: None,
    };
    let seconds = if measure.quick { 4 } else { 10 };
    for connections in CONNECTIONS {
        let data = folder.join("perf.data");
        let mut recorder = Command::new("perf")
            .args(["record", "-q", "-e", "cpu-clock", "-F", "499", "--call-graph", "dwarf,16384", "-o"])
            .arg(&data)
            .args(["-p", &hallpass.pid().to_string(), "--", "sleep", &seconds.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let window = Duration::from_secs(seconds);
        let measured = drive(&hallpass, &shot, Course { connections, warm_up: Duration::from_millis(300), window })?;
        ensure!(recorder.wait()?.success(), "perf failed");
        let output = Command::new("perf")
            .args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"])
            .arg(&data)
            .stderr(Stdio::null())
            .output()?;
        let samples = Samples::read(&String::from_utf8_lossy(&output.stdout)).context("perf script says nothing")?;
        let us_per_call = 1e6 / measured.per_cpu_second;
        println!(
            "Connections: {connections}. {us_per_call:.1} µs of processor time a call while perf looked on, {} samples.\n",
            samples.total
        );
        samples.print(us_per_call);
    }
    std::fs::remove_dir_all(&measure.folder)?;
    Ok(())
}

#[derive(Default)]
struct Samples {
    total: usize,
    /// By step: in the program itself, and in the kernel for each of its reasons.
    steps: HashMap<&'static str, [usize; 1 + KERNEL.len()]>,
    symbols: HashMap<String, usize>,
}

impl Samples {
    /// Reads stacks, innermost function first, with an empty line between two of them.
    fn read(text: &str) -> Option<Self> {
        let mut samples = Self::default();
        for stack in text.split("\n\n") {
            let frames: Vec<(&str, bool)> = stack.lines().filter_map(frame).collect();
            let Some((innermost, _)) = frames.first() else { continue };
            samples.total += 1;
            *samples.symbols.entry((*innermost).to_owned()).or_default() += 1;
            let counts = samples.steps.entry(step_of(&frames)).or_default();
            counts[place_of(&frames)] += 1;
        }
        (samples.total > 0).then_some(samples)
    }

    fn print(&self, us_per_call: f64) {
        let share = |count: usize| 100.0 * count as f64 / self.total as f64;
        let us = |count: usize| us_per_call * count as f64 / self.total as f64;
        let reasons = KERNEL.map(|(name, _)| name).join(" | ");
        println!("| step | share | µs a call | own code | {reasons} |\n|---|--:|--:|--:|--:|--:|--:|--:|");
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.iter().sum::<usize>()));
        for (step, counts) in steps {
            let all = counts.iter().sum();
            let parts = counts.map(|count| format!("{:.1}", us(count))).join(" | ");
            println!("| {step} | {:.1} % | {:.1} | {parts} |", share(all), us(all));
        }
        let mut symbols: Vec<_> = self.symbols.iter().collect();
        symbols.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        println!("\nThe {TOP} functions with the most time of their own:\n");
        for (name, count) in symbols.into_iter().take(TOP) {
            println!("{:5.2} %  {name}", share(*count));
        }
        println!();
    }
}

/// A frame's function, and whether it is the kernel's: `7f00 name (object)`.
fn frame(line: &str) -> Option<(&str, bool)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (name, object) = rest.rsplit_once(" (")?;
    Some((name, object.starts_with("[kernel") || object.starts_with("[guest")))
}

fn step_of(frames: &[(&str, bool)]) -> &'static str {
    let own = || frames.iter().filter(|(_, in_kernel)| !in_kernel).map(|(name, _)| *name);
    let holds = |signs: &[&str], name: &str| signs.iter().any(|sign| name.contains(sign));
    let step = own().find_map(|name| STEPS.iter().find(|(_, signs)| holds(signs, name)).map(|(step, _)| *step));
    match step {
        Some(SERVER) if own().any(|name| name.contains("client") || name.contains("dispatch::Client")) => UPSTREAM,
        Some(step) => step,
        None if own().any(|name| name.contains("tokio") || name.contains("mio::")) => RUNTIME,
        None => "everything else",
    }
}

/// The column of a sample: 0 the program itself, then the kernel's reasons.
fn place_of(frames: &[(&str, bool)]) -> usize {
    let kernel: Vec<&str> = frames.iter().take_while(|(_, in_kernel)| *in_kernel).map(|(name, _)| *name).collect();
    if kernel.is_empty() {
        return 0;
    }
    let reason =
        KERNEL.iter().position(|(_, signs)| kernel.iter().any(|name| signs.iter().any(|sign| name.contains(sign))));
    1 + reason.unwrap_or(KERNEL.len() - 1)
}
