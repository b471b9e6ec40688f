//! Token requests, against a route that only signs.

use std::rc::Rc;

use anyhow::Result;

use super::{Bench, CONNECTIONS};
use crate::broker::{Broker, basic};
use crate::contestant::Algorithm;
use crate::fill::Contents;
use crate::load::{Measured, Shot, drive};
use crate::process::{Contestant, oidc_provider};
use crate::report::Bound;
use crate::stats::Series;

/// Each request makes a session, and an agent may have 10,000 of them.
const AGENTS: usize = 200;

/// Connections that oidc-provider is measured with: it keeps one processor busy with any number.
const PROVIDER_CONNECTIONS: usize = 64;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    println!("token requests");
    for algorithm in Algorithm::ALL {
        let name = algorithm.as_str();
        let folder = bench.measure.folder.join(format!("tokens-{name}"));
        let contents = Contents { agents: AGENTS, sessions: 0, records: 0 };
        let broker = Broker::init(&bench.measure.hallpass, &folder, algorithm, bench.api(), contents)?;
        let hallpass = broker.serve()?;
        let signer = Contestant::own(&["signer", name])?.named("route that signs");
        let (id, secret) = ("bench", "a-secret-of-the-usual-length-for-a-client");
        let provider = oidc_provider(&bench.measure.folder.join("oidc-provider"), name, (id, secret));
        let shot = broker.token_shot()?;
        let provider_shot = Shot { authorizations: Rc::new(vec![basic(id, secret)?]), ..shot.clone() };
        let test = format!("token request, {name}");
        for connections in CONNECTIONS {
            let mut contestants = vec![(&hallpass, &shot), (&signer, &shot)];
            if let Ok(provider) = &provider
                && connections == PROVIDER_CONNECTIONS
            {
                contestants.push((provider, &provider_shot));
            }
            let mut all: Vec<Vec<Measured>> = vec![Vec::new(); contestants.len()];
            for _ in 0..bench.rounds.min(3) {
                for ((contestant, shot), results) in contestants.iter().zip(&mut all) {
                    results.push(drive(contestant, shot, bench.course(connections))?);
                }
            }
            for ((contestant, _), results) in contestants.iter().zip(&all) {
                bench.report.figure(&test, &contestant.name, connections, results);
            }
            let rates = |n: usize| all[n].iter().map(|one| one.per_cpu_second).collect::<Series>();
            let what = format!("{test}, {connections} connections, of the rate of a route that signs");
            bench.report.judge(what, &rates(0).over(&rates(1)), "", 2, Bound::AtLeast(0.70));
            if contestants.len() > 2 {
                let times = rates(0).over(&rates(2)).median();
                bench.report.other(format!("{test}, times the rate of oidc-provider"), format!("{times:.1} ×"));
            }
        }
        if let Err(why) = provider {
            bench.report.note(format!("{test}: oidc-provider was not measured: {why}."));
        }
    }
    Ok(())
}
