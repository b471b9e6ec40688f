//! `inject:` as a list: several secrets, each in a place of its own, or no call.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{RawUpstream, SECRET, crm, document, drain, outcome, problem};
use crate::support::{TestBroker, Upstream};

const APP: &str = "app-live-4567-canary";
const THIRD: &str = "third-live-8901-canary";

const LIST: &str = "[{ kind: header, name: X-Crm-Key, prefix: 'Key ', credential: crm-key }, \
     { kind: header, name: X-App, credential: app-key }, { kind: query, name: key, credential: third-key }]";

/// A fresh broker before an echo, with all three secrets.
async fn three() -> (TestBroker, Upstream, String) {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), LIST, "").await;
    broker.put_credential("app-key", APP).await;
    broker.put_credential("third-key", THIRD).await;
    (broker, upstream, token)
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_each_secret_goes_to_its_place_and_none_comes_back() {
    let (broker, upstream, token) = three().await;
    let url = broker.url("/exchange/crm/a");
    let placed = broker.url(&format!("/exchange/crm/a?key={token}"));
    // Wherever one of the keys would have gone; what an SDK sends in the other places is left out.
    let requests = [
        broker.http.get(&url).bearer_auth(&token),
        broker.http.get(&url).header("x-crm-key", format!("Key {token}")).header("x-app", "placeholder"),
        broker.http.get(&url).header("x-app", &token).header("x-crm-key", "Key placeholder"),
        broker.http.get(&placed),
        broker.http.get(&placed).header("x-app", &token).bearer_auth(&token),
    ];
    for (n, request) in requests.into_iter().enumerate() {
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(status, 200, "{n}: {text}");
        let seen = upstream.seen()[n].clone();
        assert_eq!(seen.uri.to_string(), format!("/a?key={THIRD}"), "{n}");
        let sent = |name: &str| seen.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(sent("x-crm-key"), [format!("Key {SECRET}").as_str()], "{n}");
        assert_eq!(sent("x-app"), [APP], "{n}");
        assert!(!seen.headers.contains_key("authorization"), "{n}");
        let records = serde_json::to_string(&broker.records().await).unwrap();
        for secret in [SECRET, APP, THIRD, &token] {
            assert!(!text.contains(secret) && !records.contains(secret), "{n}: {text}");
        }
        assert!(text.matches("[redacted by hallpass]").count() >= 3, "{n}: {text}");
    }
    let intent = broker.wait_for_record(|one| one["kind"] == "call.intent").await;
    assert_eq!(intent["credential"], json!(["crm-key@1", "app-key@1", "third-key@1"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_them_or_no_call() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), LIST, "").await;
    broker.put_credential("app-key", APP).await;
    let call = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(problem(call().await, 503).await, "credential_missing");
    broker.put_credential("third-key", THIRD).await;
    assert_eq!(call().await.status(), 200);
    // A pin to a version that is not there, of one that is not the first.
    broker.apply(&document(&upstream.url(), &LIST.replace("app-key", "app-key@2"), "")).await;
    assert_eq!(problem(call().await, 503).await, "credential_expired");
    broker.apply(&document(&upstream.url(), LIST, "")).await;
    broker.admin_ok("POST", "/admin/v1/credentials/third-key/revoke", Value::Null).await;
    assert_eq!(problem(call().await, 403).await, "credential_revoked");
    assert_eq!(upstream.seen().len(), 1);
    // The agent's own parameter beside ours, where it cannot be told from the rest.
    let twice = format!("/exchange/crm/a?key={token}&key=mine");
    let answer = broker.http.get(broker.url(&twice)).send().await.unwrap();
    assert_eq!(problem(answer, 400).await, "target_repeated_parameter");
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_the_revocation_of_any_of_them_ends_the_call() {
    for name in ["crm-key", "app-key", "third-key"] {
        let upstream = RawUpstream::start(|mut stream, _| Box::pin(async move { drain(&mut stream).await })).await;
        let broker = TestBroker::start().await;
        let token = crm(&broker, &upstream.url(), LIST, "").await;
        broker.put_credential("app-key", APP).await;
        broker.put_credential("third-key", THIRD).await;
        let call = tokio::spawn(broker.call(Method::GET, "/crm/a", &token).send());
        while upstream.heads().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        broker.admin_ok("POST", &format!("/admin/v1/credentials/{name}/revoke"), Value::Null).await;
        let answer = tokio::time::timeout(Duration::from_secs(10), call).await.expect("still waiting");
        assert_eq!(problem(answer.unwrap().unwrap(), 403).await, "credential_revoked", "{name}");
        assert_eq!(outcome(&broker, 0).await["reason"], "credential_withdrawn_midway", "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_write_the_same_place_are_a_mistake() {
    let broker = TestBroker::start().await;
    for (inject, says) in [
        ("[{ kind: bearer, credential: a }, { kind: basic, credential: b }]", "the header 'authorization' is written"),
        (
            "[{ kind: query, name: key, credential: a }, { kind: query, name: Key, credential: b }]",
            "the query parameter 'Key' is written",
        ),
    ] {
        let document = document("http://127.0.0.1:1", inject, "");
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", json!({ "document": document })).await;
        assert_eq!((status, &answer["mistakes"][0]["at"]), (400, &"upstreams[0].inject[1]".into()), "{answer}");
        let problem = answer["mistakes"][0]["problem"].as_str().unwrap();
        assert!(problem.starts_with(says), "{problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_shown_as_it_was_written_and_holds_its_credentials() {
    let (broker, upstream, _) = three().await;
    let again = broker.apply(&document(&upstream.url(), LIST, "")).await;
    assert_eq!(again["changes"], json!([]));
    let written = json!([
        { "kind": "header", "name": "X-Crm-Key", "prefix": "Key ", "credential": "crm-key" },
        { "kind": "header", "name": "X-App", "credential": "app-key" },
        { "kind": "query", "name": "key", "credential": "third-key" },
    ]);
    let broker = broker.restart().await;
    assert_eq!(broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await["inject"], written);
    let list = broker.admin_ok("GET", "/admin/v1/upstreams", Value::Null).await;
    assert_eq!(list["upstreams"][0]["credential"], "crm-key, app-key, third-key");
    assert_eq!(list["upstreams"][0]["credential_stored"], true);
    let credentials = broker.admin_ok("GET", "/admin/v1/credentials", Value::Null).await;
    for credential in credentials["credentials"].as_array().unwrap() {
        assert_eq!(credential["used_by"], json!(["crm"]), "{credential}");
    }
    let (status, answer) = broker.admin("DELETE", "/admin/v1/credentials/third-key", Value::Null).await;
    assert_eq!((status, &answer["code"]), (409, &"credential_in_use".into()));
}
