//! The same work on a large database and on a small one.

use anyhow::{Context as _, Result, ensure};

use super::Bench;
use super::calls::contact;
use crate::broker::Broker;
use crate::contestant::Algorithm;
use crate::fill::Contents;
use crate::load::{Measured, collect, drive};
use crate::process::ended_children_cpu_seconds;
use crate::report::{Bound, grouped};
use crate::stats::Series;

/// Connections of this row.
const CONNECTIONS: usize = 64;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    let (thousands, records, active) =
        if bench.measure.quick { (100, 100_000, 2_000) } else { (100, 5_000_000, 10_000) };
    println!("a large database ({} audit records; filling takes a while) and a small one", grouped(records as f64, 0));
    let large = Contents { agents: thousands * 1000, sessions: thousands * 1000, records };
    let small = Contents { agents: 100, sessions: 100, records: 100 };
    let folder = &bench.measure.folder;
    let init = |name: &str, contents: Contents| {
        Broker::init(&bench.measure.hallpass, &folder.join(name), Algorithm::Es256, bench.api(), contents)
    };
    let start = std::time::Instant::now();
    let (large_broker, small_broker) = (init("large", large)?, init("small", small)?);
    bench.report.other("filling the large database", format!("{:.0} s", start.elapsed().as_secs_f64()));

    let brokers = [&large_broker, &small_broker];
    let served = [large_broker.serve()?.named("hallpass, large"), small_broker.serve()?.named("hallpass, small")];
    std::thread::sleep(std::time::Duration::from_secs(1));
    let resident = [served[0].resident_mib()?].into_iter().collect();
    let mut all: [Vec<Measured>; 2] = [Vec::new(), Vec::new()];
    for round in 0..bench.rounds {
        for n in [round % 2, 1 - round % 2] {
            let tokens = brokers[n].tokens(&served[n], if n == 0 { active } else { small.agents })?;
            let call = contact("/exchange/crm", &tokens);
            // Each token once: its signature is verified then, and not again while it lives. Ten thousand of them in a
            // window of a second would measure signatures.
            collect(served[n].address, &call)?;
            all[n].push(drive(&served[n], &call, bench.course(CONNECTIONS))?);
        }
    }
    for (contestant, results) in served.iter().zip(&all) {
        bench.report.figure("brokered call, 1 KiB", &contestant.name, CONNECTIONS, results);
    }
    let rates = |n: usize| all[n].iter().map(|one| one.per_cpu_second).collect::<Series>();
    let what = format!(
        "rate with {} agents, {} live sessions and {} audit records, of the rate with 100 of each",
        grouped(large.agents as f64, 0),
        grouped(large.sessions as f64, 0),
        grouped(records as f64, 0)
    );
    bench.report.judge(what, &rates(0).over(&rates(1)), "", 2, Bound::AtLeast(0.95));
    let what = format!("resident memory, {} live sessions (and as many agents)", grouped(large.sessions as f64, 0));
    bench.report.judge(what, &resident, " MiB", 0, Bound::AtMost(200.0));
    drop(served);

    let before = ended_children_cpu_seconds()?;
    let report = large_broker.verify_audit()?;
    let cpu = ended_children_cpu_seconds()? - before;
    let verified = report["records"].as_f64().context("no count in the answer")?;
    ensure!(verified >= records as f64 && report["ok"] == true, "the audit log is not whole: {report}");
    bench.report.other(
        "`hallpass audit verify`",
        format!(
            "{} records, {} a second of the clock",
            grouped(verified, 0),
            grouped(report["records_per_second"].as_f64().unwrap_or(0.0), 0)
        ),
    );
    let rate = [verified / cpu].into_iter().collect();
    bench.report.judge("`hallpass audit verify`, records per CPU second", &rate, "", 0, Bound::AtLeast(300_000.0));
    Ok(())
}
