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
const CONNECTIONS: usize = 64;

/// How many symbols are listed.
const TOP: usize = 60;

/// The steps, each with what the names of its functions begin with or hold. A sample belongs to the first function on
/// its stack, from the innermost outwards, that is one of these.
#[rustfmt::skip]
const STEPS: &[(&str, &[&str])] = &[
    ("the audit log: SQLite and its fsync", &["sqlite3", "pager_", "sqlx", "hallpass::store"]),
    ("the audit log: records, hash chain, waiting", &["hallpass::audit", "hallpass::model::audit", "serde_json"]),
    ("the token: hash, memory, revocation", &["hallpass_verify", "jsonwebtoken", "hallpass::broker::Broker>::authenticate"]),
    ("permit: target and policy", &["hallpass::policy", "hallpass::model::target", "hallpass::model::template"]),
    ("the secret: opening and injecting", &["hallpass::vault", "hallpass::broker::inject"]),
    ("the answer: search and digest", &["hallpass::broker::scrub", "hallpass::broker::body", "aho_corasick"]),
    ("the upstream: connection and HTTP client",
        &["hallpass::broker::dial", "hyper_util::client", "hyper::client", "h1::dispatch::Client", "h1::role::Client"]),
    ("the outcome", &["hallpass::broker::outcome"]),
    ("the call's own thread through it all", &["hallpass::broker"]),
    ("routing and the broker's doors", &["hallpass::http", "axum", "tower", "matchit"]),
    ("HTTP server", &["hyper::server", "hyper::proto", "hyper::common", "httparse", "hyper_util::server"]),
    ("tokio: waking, queues, epoll", &["tokio", "mio::"]),
];

/// Drives the broker under `perf` and prints what it was doing.
pub fn profile(measure: &Measure) -> Result<()> {
    ensure!(crate::process::find_program("perf").is_some(), "perf is not installed; Debian's package is linux-perf");
    if measure.folder.exists() {
        std::fs::remove_dir_all(&measure.folder)?;
    }
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
    let data = folder.join("perf.data");
    let mut recorder = Command::new("perf")
        .args(["record", "-q", "-e", "cpu-clock", "-F", "499", "--call-graph", "dwarf,16384", "-o"])
        .arg(&data)
        .args(["-p", &hallpass.pid().to_string(), "--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let course =
        Course { connections: CONNECTIONS, warm_up: Duration::from_millis(300), window: Duration::from_secs(seconds) };
    let measured = drive(&hallpass, &shot, course)?;
    ensure!(recorder.wait()?.success(), "perf failed");
    let output = Command::new("perf")
        .args(["script", "--no-inline", "-F", "ip,sym,dso", "-i"])
        .arg(&data)
        .stderr(Stdio::null())
        .output()?;
    let samples = Samples::read(&String::from_utf8_lossy(&output.stdout)).context("perf script says nothing")?;
    println!(
        "{} samples at {CONNECTIONS} connections, {:.0} requests per CPU second while perf looked on: \
         {:.1} µs of processor time a call\n",
        samples.total,
        measured.per_cpu_second,
        1e6 / measured.per_cpu_second
    );
    samples.print(1e6 / measured.per_cpu_second);
    std::fs::remove_dir_all(&measure.folder)?;
    Ok(())
}

#[derive(Default)]
struct Samples {
    total: usize,
    /// By step: in the program, and in the kernel for it.
    steps: HashMap<&'static str, (usize, usize)>,
    symbols: HashMap<String, usize>,
}

impl Samples {
    /// Reads stacks, innermost function first, with an empty line between two of them.
    fn read(text: &str) -> Option<Self> {
        let mut samples = Self::default();
        for stack in text.split("\n\n") {
            let frames: Vec<(&str, bool)> = stack.lines().filter_map(frame).collect();
            let Some((innermost, in_kernel)) = frames.first() else { continue };
            samples.total += 1;
            *samples.symbols.entry((*innermost).to_owned()).or_default() += 1;
            let step = frames.iter().find_map(|(name, _)| step_of(name)).unwrap_or("everything else");
            let counts = samples.steps.entry(step).or_default();
            if *in_kernel {
                counts.1 += 1;
            } else {
                counts.0 += 1;
            }
        }
        (samples.total > 0).then_some(samples)
    }

    fn print(&self, us_per_call: f64) {
        let share = |count: usize| 100.0 * count as f64 / self.total as f64;
        println!("| step | µs a call | share | of which in the kernel |\n|---|--:|--:|--:|");
        let mut steps: Vec<_> = self.steps.iter().collect();
        steps.sort_by_key(|(_, (own, kernel))| std::cmp::Reverse(own + kernel));
        for (step, (own, kernel)) in steps {
            let all = share(own + kernel);
            println!("| {step} | {:.1} | {all:.1} % | {:.1} % |", us_per_call * all / 100.0, share(*kernel));
        }
        let mut symbols: Vec<_> = self.symbols.iter().collect();
        symbols.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        println!("\nThe {TOP} functions with the most time of their own:\n");
        for (name, count) in symbols.into_iter().take(TOP) {
            println!("{:5.2} %  {name}", share(*count));
        }
    }
}

/// A frame's function, and whether it is the kernel's: `7f00 name (object)`.
fn frame(line: &str) -> Option<(&str, bool)> {
    let (_, rest) = line.trim().split_once(' ')?;
    let (name, object) = rest.rsplit_once(" (")?;
    Some((name, object.starts_with("[kernel") || object.starts_with("[guest")))
}

fn step_of(name: &str) -> Option<&'static str> {
    STEPS.iter().find(|(_, signs)| signs.iter().any(|sign| name.contains(sign))).map(|(step, _)| *step)
}
