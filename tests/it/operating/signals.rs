//! SIGHUP reloads and never kills; SIGTERM and SIGINT drain; a second SIGINT cuts.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::real::{Real, until};
use crate::support::{Engine, Upstream};

fn log(real: &Real) -> Vec<Value> {
    real.binary.serve_log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn says(log: &[Value], words: &str) -> bool {
    log.iter().any(|line| line["message"].as_str().unwrap_or_default().contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn hangup_reloads_and_says_what() {
    let mut real = Real::init(Engine::Sqlite).unwrap();
    let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let dir = real.binary.dir.path().to_owned();
    std::fs::write(dir.join("tls.crt"), own.cert.pem()).unwrap();
    std::fs::write(dir.join("tls.key"), own.signing_key.serialize_pem()).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dir.join("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = |level: &str, more: &str| {
        let text = format!(
            "[tls]\ncert_file = \"tls.crt\"\nkey_file = \"tls.key\"\n[log]\nformat = \"json\"\nlevel = \"{level}\"\n{more}"
        );
        std::fs::write(dir.join("hallpass.toml"), text).unwrap();
    };
    config("info", "");
    real.binary.serve(None);
    real.signal("-HUP");
    until("it is told", 10, async || says(&log(&real), "nothing else has changed")).await;
    assert!(says(&log(&real), "certificates were read again"), "although the files are as they were");

    config("debug", "[tokens]\nlifetime_seconds = 60\n");
    real.signal("-HUP");
    until("it is told", 10, async || says(&log(&real), "only a restart")).await;
    let lines = log(&real);
    assert!(says(&lines, "log.level is changed"));
    let waiting = lines.iter().find(|line| line["settings"].is_string()).unwrap();
    assert_eq!(waiting["settings"], "[tokens]", "{waiting}");
    assert_eq!(real.ready().await, 200);
    until("the level is in force", 10, async || log(&real).iter().any(|line| line["level"] == "DEBUG")).await;

    config("loud", "");
    std::fs::write(dir.join("tls.crt"), "no certificate").unwrap();
    real.signal("-HUP");
    until("it is told", 10, async || says(&log(&real), "the configuration cannot be used")).await;
    assert!(says(&log(&real), "changed certificates cannot be used"));
    assert_eq!(real.ready().await, 200, "it serves on");
    // Several at once, and in the middle of the end.
    for _ in 0..5 {
        real.signal("-HUP");
    }
    assert!(real.binary.terminate().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_says_503_while_calls_in_flight_finish_and_a_second_signal_cuts_them() {
    let (_open, wait) = tokio::sync::watch::channel(false);
    let upstream = Upstream::waiting(wait).await;
    for is_cut in [false, true] {
        let mut real = Real::init(Engine::Sqlite).unwrap();
        let agent = real.with_crm(&upstream.url(), "sk-live-0123456789abcdef");
        let token = real.token(&agent).await;
        let url = format!("{}/exchange/crm/any/in-flight", real.binary.public);
        let (before, request) = (upstream.seen().len(), real.http.get(url).bearer_auth(&token));
        let call = tokio::spawn(async move { request.send().await?.text().await });
        until("a call is in flight", 10, async || upstream.seen().len() > before).await;
        real.signal("-TERM");
        until("it is not ready", 5, async || real.ready().await == 503).await;
        let health = real.http.get(format!("{}/healthz", real.binary.ops)).send().await.unwrap();
        assert_eq!(health.status(), 200, "nothing is wrong with it");
        assert!(real.http.get(format!("{}/x", real.binary.public)).send().await.is_err(), "nobody new gets in");
        if is_cut {
            let begun = Instant::now();
            real.signal("-INT");
            assert!(real.binary.wait().success());
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
            assert!(call.await.unwrap().is_err());
        } else {
            call.abort();
            assert!(real.binary.wait().success());
        }
        assert_eq!(real.verify(&[]).0, 0);
    }
}
