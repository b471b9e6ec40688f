//! `hallpass-verify`, against the bare verification of a signature.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use hallpass_verify::{Gateway, GatewaySettings, REVOCATIONS_TYP};
use serde_json::json;

use super::Bench;
use crate::contestant::{AUDIENCE, Algorithm, ISSUER, Mint, TokenText};
use crate::report::{Bound, grouped};
use crate::stats::Series;

/// How often a remembered token is shown again in each round.
const AGAIN: usize = 20;

pub(super) fn run(bench: &mut Bench<'_>) -> Result<()> {
    println!("hallpass-verify");
    let count = if bench.measure.quick { 1_000 } else { 3_000 };
    for algorithm in Algorithm::ALL {
        let name = algorithm.as_str();
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
        let mut mint = Mint::new(algorithm, REVOCATIONS_TYP)?;
        let list = json!({ "iss": ISSUER, "iat": now, "version": 1, "max_age": 30, "revoked": [
            { "sid": "se_gone" }, { "jti": "tk_gone" }, { "client_id": "ag_gone", "before": now } ] });
        let list = mint.sign(&list)?.text;
        mint.set_typ(algorithm, "at+jwt");
        let tokens = (0..count).map(|_| mint.sign(&mint.claims()?)).collect::<Result<Vec<TokenText>>>()?;
        let public = mint.public();

        let [mut bare, mut new, mut seen] = [Series::default(), Series::default(), Series::default()];
        for _ in 0..bench.rounds.max(3) {
            let mut settings = GatewaySettings::new(ISSUER, AUDIENCE);
            settings.remembered = count * 4;
            let gateway = Gateway::new(settings);
            gateway.set_jwks(&mint.jwks())?;
            gateway.set_revocations(&list, now)?;
            bare.push(per_second(count, || {
                for token in &tokens {
                    let (message, signature) = (&token.text.as_bytes()[..token.signed], &token.signature);
                    public.verify(message, signature).map_err(|_| anyhow!("a good signature was refused"))?;
                }
                Ok(())
            })?);
            new.push(per_second(count, || all_good(&gateway, &tokens, now))?);
            seen.push(per_second(count * AGAIN, || (0..AGAIN).try_for_each(|_| all_good(&gateway, &tokens, now)))?);
            let refused = gateway.verify(&format!("{}A", tokens[0].text), now);
            ensure!(refused.is_err(), "the gateway lets a broken token in");
        }
        for (what, series) in
            [("bare signature verification", &bare), ("new token", &new), ("token seen before", &seen)]
        {
            bench.report.other(format!("{what}, {name}"), format!("{} a second", grouped(series.median(), 0)));
        }
        let what =
            |kind: &str| format!("`hallpass-verify`, {name}, {kind}, of the rate of a bare signature verification");
        bench.report.judge(what("token seen before"), &seen.over(&bare), " ×", 1, Bound::AtLeast(20.0));
        bench.report.judge(what("new token"), &new.over(&bare), " ×", 2, Bound::AtLeast(0.90));
    }
    Ok(())
}

fn per_second(count: usize, work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn all_good(gateway: &Gateway, tokens: &[TokenText], now: i64) -> Result<()> {
    for token in tokens {
        gateway.verify(&token.text, now)?;
    }
    Ok(())
}
