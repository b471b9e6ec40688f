//! Deny is the default, and what is ambiguous is refused: what was checked is byte for byte what is sent.
//!
//! Targets are written to the listener as raw bytes, and read as raw bytes where the upstream gets them. Each piece of
//! the grammar says by itself what must become of it, so that nothing here leans on how Hallpass reads a path.

mod ambiguous;
mod grammar;

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use self::grammar::Wanted;
use crate::exchange::{RawUpstream, raw, status_of};
use crate::support::TestBroker;

const SECRET: &str = "sk-live-of-promise-8";

/// Before every path at the upstream.
const BASE: &str = "/base/v2";

/// A broker before an upstream that keeps every byte.
struct Scene {
    broker: TestBroker,
    upstream: RawUpstream,
    token: String,
    /// How many audit records were looked at.
    read: AtomicUsize,
}

/// What became of one request.
#[derive(Debug)]
struct Outcome {
    status: u16,
    /// Of the problem; empty where the request was no HTTP at all, so that no handler saw it.
    code: String,
    /// `operation target` of each intent: what policy saw.
    intents: Vec<(String, String)>,
    /// `method target` of each request that the upstream got.
    sent: Vec<(String, String)>,
}

impl Scene {
    async fn new(operations: &str, scopes: &str) -> Self {
        Self::with(operations, scopes, "{ kind: header, name: X-Api-Key, credential: crm-key }").await
    }

    async fn with(operations: &str, scopes: &str, inject: &str) -> Self {
        let broker = TestBroker::start().await;
        let upstream = RawUpstream::answering("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        let base_url = format!("{}{BASE}", upstream.url());
        broker.apply(&document(&base_url, inject, operations, scopes)).await;
        broker.put_credential("crm-key", SECRET).await;
        let agent = broker.register("helpdesk", &["support"]).await;
        let token = broker.token(&agent).await;
        let scene = Self { broker, upstream, token, read: AtomicUsize::new(0) };
        scene.new_records().await;
        scene
    }

    /// The audit records since this was asked last.
    async fn new_records(&self) -> Vec<Value> {
        let after = self.read.load(Ordering::Relaxed);
        let rows = self.broker.running.state.manager.store.audit_page("node-1", after as i64, 1000).await.unwrap();
        self.read.store(after + rows.len(), Ordering::Relaxed);
        rows.iter().map(|row| serde_json::from_str(&row.body).unwrap()).collect()
    }

    /// `method`, a space, these bytes, and headers that nobody objects to.
    async fn ask(&self, method: &str, target: &[u8]) -> Outcome {
        let headers = format!("Host: b\r\nAuthorization: Bearer {}\r\n", self.token);
        self.send(method, target, &headers).await
    }

    async fn send(&self, method: &str, target: &[u8], headers: &str) -> Outcome {
        let mut request = format!("{method} ").into_bytes();
        request.extend_from_slice(target);
        request.extend_from_slice(format!(" HTTP/1.1\r\n{headers}Connection: close\r\n\r\n").as_bytes());
        self.send_raw(request).await
    }

    async fn send_raw(&self, request: Vec<u8>) -> Outcome {
        let before = self.upstream.heads().len();
        let answer = raw(self.broker.running.public, request).await;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let problem: Value = serde_json::from_str(body).unwrap_or(Value::Null);
        // The intent is durable before the upstream sees anything, so with the answer both are complete.
        let records = self.new_records().await;
        let intents = records.iter().filter(|record| record["kind"] == "call.intent");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Outcome {
            status: status_of(&answer),
            code: text(&problem["code"]),
            intents: intents.map(|record| (text(&record["operation"]), text(&record["target"]))).collect(),
            sent: self.upstream.heads()[before..].iter().map(|head| request_line(head)).collect(),
        }
    }
}

fn document(base_url: &str, inject: &str, operations: &str, scopes: &str) -> String {
    format!(
        "upstreams:\n  - name: crm\n    base_url: {base_url}\n    allow_private: true\n    inject: {inject}\n    \
         headers: [X-Note, X-Hop-Not]\n    operations:\n{operations}roles: [ {{ name: support, scopes: [{scopes}] }} ]\n"
    )
}

/// Method and target of exactly one request, of which the body is at most two bytes: whatever else came would have been
/// smuggled.
fn request_line(head: &str) -> (String, String) {
    let (head, body) = head.split_once("\r\n\r\n").unwrap();
    assert!(body.len() <= 2, "{head:?} {body:?}");
    let line = head.split("\r\n").next().unwrap();
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { panic!("{line:?}") };
    (method.to_owned(), target.to_owned())
}

impl Outcome {
    /// The promise itself: refused and unseen, or sent exactly as it was checked and recorded.
    fn keeps_the_promise(&self) -> Result<(), TestCaseError> {
        let checked: Vec<String> = self.intents.iter().map(|(_, target)| format!("{BASE}{target}")).collect();
        let sent: Vec<String> = self.sent.iter().map(|(_, target)| target.clone()).collect();
        prop_assert_eq!(&checked, &sent, "checked and sent: {:?}", self);
        let refused = (400..500).contains(&self.status);
        prop_assert!(refused && sent.is_empty() || self.status == 204 && sent.len() == 1, "{:?}", self);
        Ok(())
    }
}

/// Runs a property against a scene. Fixed seed: a failure in CI is the same failure at home.
fn check<S: Strategy>(
    cases: u32,
    strategy: S,
    test: impl Fn(&tokio::runtime::Runtime, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    if let Err(failure) = runner.run(&strategy, |case| test(&runtime, case)) {
        panic!("{failure}");
    }
}

/// For a test that needs the scene in every case.
fn with_scene<S: Strategy>(
    cases: u32,
    scene: impl Future<Output = Scene>,
    strategy: S,
    test: impl AsyncFn(&Scene, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let scene = runtime.block_on(scene);
    check(cases, strategy, |_, case| runtime.block_on(test(&scene, case)));
}

#[test]
fn a_hostile_target_is_refused_for_its_reason_or_sent_byte_for_byte_as_it_was_checked() {
    let scene = Scene::new(grammar::OPERATIONS, grammar::SCOPES);
    with_scene(1200, scene, grammar::target(), async |scene, target| {
        let mut bytes = b"/exchange/crm".to_vec();
        bytes.extend_from_slice(&target.raw);
        let outcome = scene.ask("GET", &bytes).await;
        outcome.keeps_the_promise()?;
        match grammar::wanted(&target) {
            Wanted::Sent { operation, canonical } => {
                prop_assert_eq!(outcome.status, 204, "{:?}", outcome);
                prop_assert_eq!(&outcome.intents, &[(operation.to_owned(), canonical)]);
            }
            Wanted::Refused(reasons) => {
                prop_assert!(reasons.contains(&outcome.code.as_str()), "{:?}, not {:?}", outcome, reasons);
                let status = match outcome.code.as_str() {
                    "operation_not_allowed" | "insufficient_scope" => 403,
                    _ => 400,
                };
                prop_assert_eq!(outcome.status, status, "{:?}", outcome);
            }
        }
        Ok(())
    });
}

/// Bytes that no grammar would make, line ends among them: whatever they are read as, what is sent is what was checked.
#[test]
fn random_bytes_in_a_target_are_refused_or_sent_as_they_were_checked() {
    let byte = prop_oneof![
        3 => any::<u8>(),
        4 => prop::sample::select(b"/.%2eEfF5cC0aAd\\;?#&=:@ \r\n\t\x00~-_a".to_vec()),
    ];
    let scene = Scene::new(grammar::OPERATIONS, grammar::SCOPES);
    with_scene(600, scene, prop::collection::vec(byte, 0..24), async |scene, bytes| {
        let mut target = b"/exchange/crm/open/".to_vec();
        target.extend_from_slice(&bytes);
        scene.ask("GET", &target).await.keeps_the_promise()
    });
}

/// Random operations; random methods and paths. What no operation names is refused, on record, and never sent.
#[test]
fn what_no_operation_names_is_denied_whatever_the_operations_are() {
    let segment = prop::sample::select(vec!["a", "b", "c", "A", "{p}"]);
    let path = prop::collection::vec(segment, 1..4);
    let operation = (prop::sample::select(vec!["GET", "POST", "PUT"]), path, any::<bool>());
    let asked = prop::sample::select(vec!["a", "b", "c", "A", "x", "", "a%20b"]);
    let asked = prop::collection::vec(asked, 1..5);
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get", "PURGE"]);
    let case = (prop::collection::vec(operation, 1..6), prop::collection::vec((method, asked), 20));
    let scene = Scene::new("      - { id: x, methods: [GET], path: /x, scope: any }\n", "\"crm:any\"");
    with_scene(40, scene, case, async |scene, (operations, asked)| {
        let mut lines = String::new();
        let mut model: Vec<(&str, Vec<&str>)> = Vec::new();
        for (n, (method, path, rest)) in operations.iter().enumerate() {
            // Names of placeholders must differ within one path, and be alike where two paths share them.
            let mut shown: Vec<String> =
                path.iter().enumerate().map(|(at, one)| one.replace("{p}", &format!("{{p{at}}}"))).collect();
            let mut pattern = path.clone();
            if *rest {
                shown.push("{*rest}".to_owned());
                pattern.push("**");
            }
            if model.iter().any(|(there, other)| there == method && clash(other, &pattern)) {
                continue;
            }
            lines +=
                &format!("      - {{ id: o{n}, methods: [{method}], path: \"/{}\", scope: any }}\n", shown.join("/"));
            model.push((*method, pattern));
        }
        let base_url = format!("{}{BASE}", scene.upstream.url());
        let inject = "{ kind: header, name: X-Api-Key, credential: crm-key }";
        scene.broker.apply(&document(&base_url, inject, &lines, "\"crm:any\"")).await;
        for (method, path) in asked {
            let target = format!("/exchange/crm/{}", path.join("/"));
            let outcome = scene.ask(method, target.as_bytes()).await;
            outcome.keeps_the_promise()?;
            let empty_inside = path.iter().rev().skip(1).any(|one| one.is_empty());
            let named = model.iter().any(|(of, pattern)| {
                // GET gives HEAD.
                (*of == method || (method == "HEAD" && *of == "GET")) && names(pattern, &path)
            });
            let wanted = if empty_inside {
                (400, "target_empty_segment")
            } else if named {
                (204, "")
            } else if method == "HEAD" {
                // An answer to HEAD has no body, so no code.
                (403, "")
            } else {
                (403, "operation_not_allowed")
            };
            let code = if method == "HEAD" { "" } else { wanted.1 };
            prop_assert_eq!((outcome.status, outcome.code.as_str()), (wanted.0, code), "{} {:?}", method, path);
        }
        Ok(())
    });
}

/// Two patterns that `apply` refuses beside each other: the same, or a placeholder where the other takes all the rest.
fn clash(one: &[&str], other: &[&str]) -> bool {
    let differ = one.iter().zip(other).find(|(one, other)| one != other);
    one == other || matches!(differ, Some((&"{p}", &"**") | (&"**", &"{p}")))
}

/// Whether a pattern names a path: `{p}` is one segment that is not empty, `**` is all behind the slash, also nothing.
fn names(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        (["**"], rest) => !rest.is_empty(),
        ([], []) => true,
        ([first, pattern @ ..], [segment, path @ ..]) => {
            let fits = if *first == "{p}" { !segment.is_empty() } else { first == segment };
            fits && names(pattern, path)
        }
        _ => false,
    }
}
