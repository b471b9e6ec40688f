//! The main job: a brokered call with a 1 KiB answer, against a bare proxy and nginx.

use std::rc::Rc;

use anyhow::Result;
use hyper::Method;
use hyper::header::HeaderValue;

use super::{Bench, CONNECTIONS, machine};
use crate::broker::{API_KEY, API_KEY_HEADER, Broker};
use crate::contestant::Algorithm;
use crate::fill::Contents;
use crate::load::{Measured, Shot, drive};
use crate::process::{Contestant, nginx};
use crate::report::{Bound, grouped};
use crate::stats::Series;

/// Enough that no agent comes near to the number of calls that one may have under way.
const AGENTS: usize = 16;

/// What the audit log may add to a call besides making its record durable, microseconds.
const ALLOWED_US: f64 = 150.0;

/// A brokered call of a contact, or the same call of a proxy that knows no `/exchange`.
pub(super) fn contact(path: &str, tokens: &Rc<Vec<HeaderValue>>) -> Shot {
    Shot { method: Method::GET, path: format!("{path}/v1/contacts/7"), authorizations: tokens.clone(), body: None }
}

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    println!("brokered calls");
    let folder = bench.measure.folder.join("calls");
    let contents = Contents { agents: AGENTS, sessions: 0, records: 0 };
    let broker = Broker::init(&bench.measure.hallpass, &folder, Algorithm::Es256, bench.api(), contents)?;
    let hallpass = broker.serve()?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let idle = hallpass.resident_mib()?;
    let proxy = Contestant::own(&["proxy", &bench.api().to_string()])?.named("bare proxy");
    let workers = std::thread::available_parallelism()?.get();
    let nginx = nginx(&folder, bench.api(), (API_KEY_HEADER, API_KEY), workers)?;
    if nginx.is_none() {
        println!("  nginx is not installed; going on without it");
    }
    let contestants: Vec<&Contestant> = [Some(&hallpass), Some(&proxy), nginx.as_ref()].into_iter().flatten().collect();

    let [mut fsync, mut fsync_cpu, mut peak] = [Series::default(), Series::default(), Series::default()];
    for connections in CONNECTIONS {
        let mut all: Vec<Vec<Measured>> = vec![Vec::new(); contestants.len()];
        for _ in 0..bench.rounds {
            // Fresh ones in each round, as agents have them.
            let tokens = broker.tokens(&hallpass, AGENTS)?;
            let page = machine::fsync(&folder)?;
            fsync.push(page.took_us);
            fsync_cpu.push(page.cpu_us);
            for (contestant, results) in contestants.iter().zip(&mut all) {
                let path = if contestant.name == "hallpass" { "/exchange/crm" } else { "" };
                results.push(drive(contestant, &contact(path, &tokens), bench.course(connections))?);
            }
        }
        let rates = |n: usize| all[n].iter().map(|one| one.per_cpu_second).collect::<Series>();
        for (contestant, results) in contestants.iter().zip(&all) {
            bench.report.figure("brokered call, 1 KiB", &contestant.name, connections, results);
        }
        let what = |other: &str| format!("brokered call, {connections} connections, of the rate of {other}");
        bench.report.judge(what("the bare proxy"), &rates(0).over(&rates(1)), "", 2, Bound::AtLeast(0.75));
        if contestants.len() > 2 {
            bench.report.judge(what("nginx"), &rates(0).over(&rates(2)), "", 2, Bound::AtLeast(0.50));
        } else {
            bench.report.missing(what("nginx"), "nginx is not installed");
        }
        if connections == 1 {
            let medians = |n: usize| all[n].iter().map(|one| one.median_us);
            let added: Series = medians(0).zip(medians(1)).map(|(ours, bare)| ours - bare).collect();
            let limit = fsync.median() + ALLOWED_US;
            bench.report.judge("latency added at 1 connection", &added, " µs", 0, Bound::AtMost(limit));
        }
        if connections == 512 {
            peak = all[0].iter().map(|one| one.resident_mib).collect();
        }
    }
    let page = "one audit record at least: a page appended and made durable (fdatasync)";
    bench.report.other(page, format!("{} µs", grouped(fsync.median(), 0)));
    bench.report.other("the same, processor time", format!("{} µs", grouped(fsync_cpu.median(), 0)));
    bench.report.judge("resident memory, idle", &[idle].into_iter().collect(), " MiB", 0, Bound::AtMost(40.0));
    let peak = [peak.max()].into_iter().collect();
    bench.report.judge("resident memory, 512 connections under load", &peak, " MiB", 0, Bound::AtMost(120.0));
    Ok(())
}
