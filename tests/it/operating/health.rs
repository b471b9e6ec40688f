//! `/healthz` and `/readyz` while a part is lost, and while the broker stops.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hallpass::app::Surroundings;
use hallpass::world::{Clock, Millis, SystemClock, SystemEntropy, World};
use serde_json::Value;

use crate::support::real::until;
use crate::support::{Engine, TestBroker};

/// A clock that panics when it is asked from a frame whose name or file holds this text.
struct Trap {
    clock: SystemClock,
    is_set: AtomicBool,
    frame: &'static str,
}

impl Clock for Trap {
    fn now(&self) -> Millis {
        if self.is_set.load(Ordering::SeqCst) {
            let frames = std::backtrace::Backtrace::force_capture().to_string();
            assert!(!frames.contains(self.frame), "the trap");
        }
        self.clock.now()
    }
}

/// A broker, one of whose tasks panics once the trap is set and `spring` was done.
async fn a_panic(frame: &'static str, part: &str, spring: impl AsyncFn(&TestBroker)) {
    let trap = Arc::new(Trap { clock: SystemClock::new(), is_set: AtomicBool::new(false), frame });
    let world = World { clock: trap.clone(), entropy: Arc::new(SystemEntropy) };
    let surroundings = Surroundings { world: Some(world), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    assert_eq!(broker.http.get(broker.ops_url("/healthz")).send().await.unwrap().status(), 200);
    trap.is_set.store(true, Ordering::SeqCst);
    spring(&broker).await;
    let lost = tokio::time::timeout(Duration::from_secs(10), broker.running.stopped()).await.unwrap();
    assert_eq!(lost.part, part);
    assert!(lost.why.contains("the trap"), "{}", lost.why);
    for path in ["/healthz", "/readyz"] {
        let answer = broker.http.get(broker.ops_url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 503, "{path}");
        assert_eq!(answer.json::<Value>().await.unwrap()["part"], part, "{path}");
    }
    until("no more connections are taken", 5, async || broker.http.get(broker.url("/x")).send().await.is_err()).await;
    tokio::time::timeout(Duration::from_secs(20), broker.running.stop()).await.expect("it comes to its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_writer_that_panics_ends_the_broker_and_healthz_says_so_before() {
    let write = async |broker: &TestBroker| {
        let (status, answer) = broker.admin("POST", "/admin/v1/agents", serde_json::json!({ "name": "x" })).await;
        assert_eq!((status, &answer["code"]), (503, &"audit_unavailable".into()), "{answer}");
    };
    a_panic("src/audit/ledger.rs", "audit writer", write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keeper_that_panics_ends_the_broker() {
    a_panic("app::keep", "keeper", async |_| {}).await;
}
