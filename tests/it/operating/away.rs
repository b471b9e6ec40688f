//! PostgreSQL that stands still: connections are open, and nothing answers.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Upstream;
use crate::support::postgres::Cluster;
use crate::support::real::{Real, until};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_to_be_away_is_said_within_a_second_and_recovers_by_itself() {
    let Some(cluster) = Cluster::own() else { return };
    let upstream = Upstream::echo().await;
    let mut real = Real::init_at(Some(&cluster.create_database(0)));
    real.binary.set("HALLPASS_LOG__FORMAT", "json");
    let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
    let token = real.token(&agent).await;
    let refused = async || {
        let begun = Instant::now();
        let (status, answer) = real.token_request(&agent, &[]).await.unwrap();
        assert_eq!((status, &answer["error"]), (503, &"temporarily_unavailable".into()), "{answer}");
        assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 503);
        assert_eq!(real.ready().await, 503);
        begun.elapsed()
    };
    for _ in 0..2 {
        cluster.signal("-STOP");
        let took = refused().await;
        assert!(took < Duration::from_secs(6), "the first one is bounded: {took:?}");
        // Whatever the writer is doing at the moment.
        for _ in 0..20 {
            let took = refused().await;
            assert!(took < Duration::from_secs(1), "{took:?}");
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let health = real.http.get(format!("{}/healthz", real.binary.ops)).send().await.unwrap();
        assert_eq!(health.status(), 200, "a restart would mend nothing");
        cluster.signal("-CONT");
        // Nobody asks meanwhile: what it says of itself is what it found out by itself.
        let last = async || {
            let log = real.binary.serve_log();
            let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let mut ours = lines.filter(|line| line["target"].as_str().unwrap().starts_with("hallpass::audit::writer"));
            ours.next_back().unwrap()["message"].as_str().unwrap().contains("can be written again")
        };
        until("it recovers by itself and says so", 20, last).await;
        assert_eq!(real.call_status("/crm/v1/contacts", &token).await, 200);
        assert_eq!(real.ready().await, 200);
    }
    let errors = real.binary.serve_log().matches("cannot be written; refusing").count();
    assert_eq!(errors, 2, "each time it is said once");
    assert!(real.binary.terminate().success());
    assert_eq!(real.verify(&[]).0, 0);
    cluster.stop("immediate");
}
