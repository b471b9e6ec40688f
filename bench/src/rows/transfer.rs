//! Large bodies in both directions.

use std::rc::Rc;

use anyhow::{Result, ensure};
use bytes::Bytes;
use hyper::Method;
use hyper::header::HeaderValue;

use super::Bench;
use crate::broker::Broker;
use crate::contestant::{ANSWER_BYTES, Algorithm, TRANSFER_BYTES};
use crate::fill::Contents;
use crate::load::{Shot, once};
use crate::process::Contestant;
use crate::report::{Bound, grouped};
use crate::stats::Series;

/// How often in each round.
const TIMES: usize = 3;

/// By how much resident memory may grow while bodies of four times that pass.
const GROWTH_MIB: f64 = 16.0;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    println!("64 MiB, down and up");
    let folder = bench.measure.folder.join("transfer");
    let contents = Contents { agents: 1, sessions: 0, records: 0 };
    let broker = Broker::init(&bench.measure.hallpass, &folder, Algorithm::Es256, bench.api(), contents)?;
    let hallpass = broker.serve()?;
    let proxy = Contestant::own(&["proxy", &bench.api().to_string()])?.named("bare proxy");
    let before = hallpass.resident_mib()?;
    for is_download in [true, false] {
        let mut rates = [Series::default(), Series::default()];
        let mut used = [Series::default(), Series::default()];
        for _ in 0..bench.rounds {
            let tokens = broker.tokens(&hallpass, 1)?;
            for (n, (contestant, path)) in [(&hallpass, "/exchange/crm"), (&proxy, "")].into_iter().enumerate() {
                let shot = if is_download { download(path, &tokens) } else { upload(path, &tokens) };
                let wanted = if is_download { TRANSFER_BYTES } else { ANSWER_BYTES };
                let cpu = contestant.cpu_seconds()?;
                for _ in 0..TIMES {
                    let (took, bytes) = once(contestant.address, &shot)?;
                    ensure!(bytes == wanted as u64, "{bytes} bytes came");
                    rates[n].push(mib(1) / took.as_secs_f64());
                }
                used[n].push(mib(TIMES) / (contestant.cpu_seconds()? - cpu));
            }
        }
        let direction = if is_download { "download" } else { "upload" };
        for (n, name) in ["hallpass", "bare proxy"].into_iter().enumerate() {
            let (rate, cpu) = (grouped(rates[n].median(), 0), grouped(used[n].median(), 0));
            bench
                .report
                .other(format!("64 MiB {direction}, {name}"), format!("{rate} MiB/s, {cpu} MiB per CPU second"));
        }
        let what = format!("64 MiB {direction}, of the bare proxy's throughput");
        bench.report.judge(what, &rates[0].over(&rates[1]), "", 2, Bound::AtLeast(0.70));
    }
    let growth = [hallpass.peak_mib()? - before].into_iter().collect();
    bench.report.judge("memory grown by it", &growth, " MiB", 0, Bound::AtMost(GROWTH_MIB));
    Ok(())
}

fn mib(times: usize) -> f64 {
    (times * TRANSFER_BYTES) as f64 / f64::from(1 << 20)
}

fn download(path: &str, tokens: &Rc<Vec<HeaderValue>>) -> Shot {
    Shot { method: Method::GET, path: format!("{path}/v1/source"), authorizations: tokens.clone(), body: None }
}

fn upload(path: &str, tokens: &Rc<Vec<HeaderValue>>) -> Shot {
    let body = Bytes::from(vec![b'x'; TRANSFER_BYTES]);
    Shot {
        method: Method::POST,
        path: format!("{path}/v1/sink"),
        authorizations: tokens.clone(),
        body: Some(("application/octet-stream", body)),
    }
}
