//! No chain of exchanges, continuations and narrowings ever gains scope, audience or time: over the real router.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::Value;

use crate::delegation::{Scene, claims, token};
use crate::support::broker::TestAgent;

const SCOPES: [&str; 4] = ["crm:contacts.read", "crm:contacts.write", "wiki:pages.read", "orders:orders.read"];
const AUDIENCES: [&str; 4] = ["/exchange", "/exchange/crm", "/exchange/wiki", "https://orders.example.com"];

/// One step: from a token that there is, by one of the agents.
#[derive(Debug, Clone)]
struct Step {
    from: prop::sample::Index,
    agent: usize,
    /// Continue the session instead of exchanging the token.
    continues: bool,
    /// Which scopes to ask for; none: whatever there is.
    scopes: Option<u8>,
    audience: Option<usize>,
    seconds: Option<i64>,
}

fn step() -> impl Strategy<Value = Step> {
    let parts = (
        any::<prop::sample::Index>(),
        0..3_usize,
        prop::bool::weighted(0.3),
        prop::option::weighted(0.5, 1..16_u8),
        prop::option::weighted(0.4, 0..4_usize),
        prop::option::weighted(0.3, 1..4000_i64),
    );
    parts.prop_map(|(from, agent, continues, scopes, audience, seconds)| Step {
        from,
        agent,
        continues,
        scopes,
        audience,
        seconds,
    })
}

/// A token, and all that it came from: none of them may be outdone.
#[derive(Debug, Clone)]
struct Made {
    answer: Value,
    agent: usize,
    ancestors: Vec<Value>,
    /// The first token of its session, where that was exchanged: the session gains nothing beyond it but time, up to
    /// its end. None: the agent's own session, which it continues as it likes.
    first: Option<Value>,
}

fn scopes(says: &Value) -> BTreeSet<String> {
    says["scope"].as_str().unwrap().split(' ').map(str::to_owned).collect()
}

fn audiences(says: &Value) -> Vec<String> {
    match &says["aud"] {
        Value::String(one) => vec![one.clone()],
        many => many.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect(),
    }
}

fn is_within(child: &Value, parent: &Value, issuer: &str) {
    assert!(scopes(child).is_subset(&scopes(parent)), "scope: {child} from {parent}");
    let (exchange, allowed) = (format!("{issuer}/exchange"), audiences(parent));
    for aud in audiences(child) {
        let below = aud.starts_with(&format!("{exchange}/")) && allowed.contains(&exchange);
        assert!(allowed.contains(&aud) || below, "audience: {child} from {parent}");
    }
    assert_eq!(child["sub"], parent["sub"], "the subject stays");
}

async fn take(scene: &Scene, agents: &[&TestAgent; 3], made: &[Made], step: &Step) -> Option<Made> {
    let from = step.from.get(made);
    let asked = step.scopes.map(|bits| {
        let named = SCOPES.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0);
        named.map(|(_, scope)| *scope).collect::<Vec<_>>().join(" ")
    });
    let issuer = &scene.broker.running.issuer;
    let audience = step.audience.map(|n| match AUDIENCES[n] {
        path if path.starts_with('/') => format!("{issuer}{path}"),
        whole => whole.to_owned(),
    });
    let mut form: Vec<(&str, &str)> = Vec::new();
    form.extend(asked.as_deref().map(|scope| ("scope", scope)));
    form.extend(audience.as_deref().map(|audience| ("resource", audience)));
    let seconds = step.seconds.map(|seconds| seconds.to_string());
    let by = if step.continues { from.agent } else { step.agent };
    let (status, answer) = if step.continues {
        form.push(("session_id", from.answer["session_id"].as_str().unwrap()));
        scene.broker.token_request(agents[by], &form).await
    } else {
        form.extend(seconds.as_deref().map(|seconds| ("session_expires_in", seconds)));
        scene.exchange(agents[by], token(&from.answer), &form).await
    };
    if status != 200 {
        assert!(matches!(status, 400 | 401), "{status}: {answer}");
        return None;
    }
    let says = claims(&answer);
    let mut ancestors = from.ancestors.clone();
    let mut first = from.first.clone();
    if step.continues {
        assert_eq!(says["sid"], claims(&from.answer)["sid"]);
        assert_eq!(says["act"], claims(&from.answer)["act"]);
        if let Some(first) = &first {
            is_within(&says, first, issuer);
        }
    } else {
        ancestors.push(claims(&from.answer));
        first = Some(says.clone());
    }
    for ancestor in &ancestors {
        is_within(&says, ancestor, issuer);
        assert!(says["exp"].as_i64() <= ancestor["exp"].as_i64(), "time: {says} from {ancestor}");
    }
    Some(Made { answer, agent: by, ancestors, first })
}

#[test]
fn no_chain_of_exchanges_and_continuations_ever_gains_anything() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scene = runtime.block_on(Scene::new());
    let agents = [&scene.planner, &scene.worker, &scene.helper];
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let counted = std::cell::Cell::new((0_usize, 0_usize));
    let first = prop::option::of(1..16_u8);
    let cases = (first, prop::bool::ANY, prop::collection::vec(step(), 1..14));
    runner
        .run(&cases, |(first, to_orders, steps)| {
            runtime.block_on(async {
                let scope = first.map(|bits| {
                    let named =
                        SCOPES.iter().enumerate().filter(|(n, _)| bits & (1 << n) != 0 && (*n == 3) == to_orders);
                    named.map(|(_, scope)| *scope).collect::<Vec<_>>().join(" ")
                });
                let mut form: Vec<(&str, &str)> = Vec::new();
                form.extend(scope.as_deref().filter(|scope| !scope.is_empty()).map(|scope| ("scope", scope)));
                form.extend(to_orders.then_some(("resource", AUDIENCES[3])));
                let (status, answer) = scene.broker.token_request(agents[0], &form).await;
                assert_eq!(status, 200, "{answer}");
                let mut made = vec![Made { answer, agent: 0, ancestors: Vec::new(), first: None }];
                for step in &steps {
                    let new = take(&scene, &agents, &made, step).await;
                    let (granted, refused) = counted.get();
                    counted.set(if new.is_some() { (granted + 1, refused) } else { (granted, refused + 1) });
                    made.extend(new);
                }
            });
            Ok(())
        })
        .unwrap();
    let (granted, refused) = counted.get();
    assert!(granted > 30 && refused > 30, "both were seen: {granted} granted, {refused} refused");
}
