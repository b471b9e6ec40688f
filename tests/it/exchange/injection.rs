//! The upstream gets the secret and never the agent's token; the agent gets neither.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hallpass::app::Surroundings;
use reqwest::Method;
use serde_json::{Value, json};

use super::{HEADER, SECRET, crm, document, outcome, problem};
use crate::support::{Engine, Seen, TestBroker, TestClock, Upstream};

/// A fresh broker before an echo.
async fn with(inject: &str) -> (TestBroker, Upstream, String) {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), inject, "").await;
    (broker, upstream, token)
}

/// Nothing that went to the upstream, and nothing in the audit log, holds the token; nothing in the answer the secret.
async fn clean(broker: &TestBroker, upstream: &Upstream, token: &str, answer: &str) {
    let holds_token = |seen: &Seen| format!("{seen:?}").contains(token);
    assert!(!upstream.seen().iter().any(holds_token), "the token travelled on: {:?}", upstream.seen());
    let records = serde_json::to_string(&broker.records().await).unwrap();
    for forbidden in [token, SECRET] {
        assert!(!records.contains(forbidden), "{records}");
        assert!(!answer.contains(forbidden), "{answer}");
    }
    let encoded = STANDARD.encode(format!("user:{SECRET}"));
    assert!(!answer.contains(&encoded), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bearer() {
    let (broker, upstream, token) = with("{ kind: bearer, credential: crm-key }").await;
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
    assert_eq!(upstream.seen()[0].headers["authorization"], format!("Bearer {SECRET}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn header_takes_the_token_in_either_place() {
    let (broker, upstream, token) =
        with("{ kind: header, name: X-Crm-Key, prefix: 'Key ', credential: crm-key }").await;
    let url = broker.url("/exchange/crm/a");
    let requests = [
        broker.http.get(&url).bearer_auth(&token),
        broker.http.get(&url).header("X-Crm-Key", format!("Key {token}")),
        broker.http.get(&url).header("x-crm-key", &token),
        // A scheme is case-insensitive (RFC 9110 §11.1).
        broker.http.get(&url).header("authorization", format!("bEARER  {token}")),
    ];
    for (n, request) in requests.into_iter().enumerate() {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{n}");
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        let seen = upstream.seen()[n].clone();
        assert_eq!(seen.headers["x-crm-key"], format!("Key {SECRET}"));
        assert_eq!(seen.headers.get_all("x-crm-key").iter().count(), 1);
        assert!(!seen.headers.contains_key("authorization"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn header_may_be_authorization_itself() {
    let (broker, upstream, token) =
        with("{ kind: header, name: Authorization, prefix: 'Token ', credential: crm-key }").await;
    let url = broker.url("/exchange/crm/a");
    for scheme in ["Token", "Bearer"] {
        let request = broker.http.get(&url).header("authorization", format!("{scheme} {token}"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{scheme}");
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
    }
    assert_eq!(upstream.seen()[1].headers["authorization"], format!("Token {SECRET}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_takes_the_token_as_password() {
    let (broker, upstream, token) = with("{ kind: basic, username: user, credential: crm-key }").await;
    let url = broker.url("/exchange/crm/a");
    for request in [
        broker.http.get(&url).basic_auth("anybody", Some(&token)),
        broker.http.get(&url).basic_auth("", Some(&token)),
        broker.http.get(&url).bearer_auth(&token),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
    }
    let expected = format!("Basic {}", STANDARD.encode(format!("user:{SECRET}")));
    assert!(upstream.seen().iter().all(|seen| seen.headers["authorization"] == expected));
    // As user name, too: so do clients of APIs that know no passwords.
    for password in [None, Some(""), Some("x-oauth-basic"), Some(token.as_str())] {
        assert_eq!(broker.http.get(&url).basic_auth(&token, password).send().await.unwrap().status(), 200);
    }
    problem(broker.http.get(&url).basic_auth("agent", Some("")).send().await.unwrap(), 401).await;
    assert_eq!(upstream.seen().len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_takes_the_token_as_parameter() {
    let (broker, upstream, token) = with("{ kind: query, name: key, credential: crm-key }").await;
    for (n, (query, bearer)) in [
        (format!("?a=1&key={token}&b=%2F"), false),
        (format!("?key={token}"), false),
        (format!("?KEY={token}&a"), false),
        ("?a=1&b=%2F".to_owned(), true),
        (String::new(), true),
    ]
    .into_iter()
    .enumerate()
    {
        let request = broker.http.get(broker.url(&format!("/exchange/crm/a{query}")));
        let answer = if bearer { request.bearer_auth(&token) } else { request }.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{query}");
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        let got = upstream.seen()[n].uri.query().unwrap().to_owned();
        let ours = url::form_urlencoded::parse(got.as_bytes()).filter(|(name, _)| name == "key");
        assert_eq!(ours.map(|(_, value)| value.into_owned()).collect::<Vec<_>>(), [SECRET], "{got}");
    }
    let uris: Vec<String> = upstream.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert!(uris[0].starts_with("/a?a=1&b=%2F&key=sk-live%2F0123%2B"), "{uris:?}");
    assert!(uris[1].starts_with("/a?key="), "{uris:?}");
    // What is recorded is the agent's own target: neither token nor secret.
    assert_eq!(outcome(&broker, 0).await["target"], "/a?a=1&b=%2F");
    assert_eq!(outcome(&broker, 1).await["target"], "/a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_of_the_agents_own_beside_the_injected_one_is_refused() {
    let (broker, upstream, token) = with("{ kind: query, name: key, credential: crm-key }").await;
    // One that can be told from the rest is a placeholder, and left out.
    for (query, rest) in [("?key=mine", ""), ("?KEY=mine", ""), ("?a=1&%6bey=mine", "a=1&"), ("?key", "")] {
        let answer = broker.call(Method::GET, &format!("/crm/a{query}"), &token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{query}");
        let seen = upstream.seen().pop().unwrap().uri.to_string();
        assert!(seen.starts_with(&format!("/a?{rest}key=sk-live")) && !seen.contains("mine"), "{query}: {seen}");
    }
    let before = upstream.seen().len();
    for query in ["?a;key=mine", "?a=1;key=mine&b", "?key=mine&key=mine"] {
        let answer = broker.call(Method::GET, &format!("/crm/a{query}"), &token).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert_eq!(status, 400, "{query}: {text}");
    }
    let twice = format!("/exchange/crm/a?key={token}&key=mine");
    let answer = broker.http.get(broker.url(&twice)).send().await.unwrap();
    assert_eq!(problem(answer, 400).await, "target_repeated_parameter");
    assert_eq!(upstream.seen().len(), before);
}

/// SDKs send a key in two headers, an empty header, a placeholder: each by design.
#[tokio::test(flavor = "multi_thread")]
async fn one_token_of_ours_counts_and_what_stands_beside_it_is_left_out() {
    let injections =
        [HEADER, "{ kind: bearer, credential: crm-key }", "{ kind: basic, username: u, credential: crm-key }"];
    for inject in injections {
        let (broker, upstream, token) = with(inject).await;
        let url = broker.url("/exchange/crm/a");
        let get = || broker.http.get(&url);
        let basic = |user: &str, password: &str| format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        let requests = [
            get().bearer_auth(&token).header("x-api-key", &token),
            get().bearer_auth(&token).header("api-key", &token).header("x-goog-api-key", &token),
            get().bearer_auth(&token).header("x-api-key", ""),
            get().bearer_auth(&token).header("x-api-key", "placeholder"),
            get().bearer_auth(&token).header("private-token", &token),
            get().header("authorization", basic("agent", &token)).header("x-api-key", "placeholder"),
            get().header("authorization", basic(&token, &token)),
        ];
        // Where the header is a place of this upstream, it may be the other way round.
        let turned = [
            get().header("authorization", "").header("x-api-key", &token),
            get().header("authorization", "Bearer").header("x-api-key", &token),
            get().header("authorization", "Bearer placeholder").header("x-api-key", &token),
            get().header("authorization", "Basic eDp5").header("x-api-key", &token),
        ];
        let requests = requests.into_iter().chain(turned.into_iter().filter(|_| inject == HEADER));
        for (n, request) in requests.enumerate() {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{inject} {n}");
            let seen = upstream.seen().pop().unwrap();
            assert!(!format!("{seen:?}").contains("placeholder"), "{inject} {n}: {seen:?}");
            assert_eq!(seen.headers.get_all("x-api-key").iter().count(), usize::from(inject == HEADER), "{inject} {n}");
            clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        }
        // Placeholders alone are no token.
        for request in [get().header("x-api-key", "placeholder"), get().header("authorization", "Basic eDp5")] {
            problem(request.send().await.unwrap(), 401).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_ours_that_differ_are_refused_and_a_bad_one_is_not_passed_over() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let upstream = Upstream::echo().await;
    broker.apply(&document(&upstream.url(), HEADER, "")).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let expired = broker.token(&agent).await;
    clock.add_seconds(3600);
    let (one, other) = (broker.token(&agent).await, broker.token(&agent).await);
    let url = broker.url("/exchange/crm/a");
    let both = async |bearer: &str, key: &str, status: u16| {
        let answer = broker.http.get(&url).bearer_auth(bearer).header("x-api-key", key).send().await.unwrap();
        let text = answer.text().await.unwrap();
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["status"], status, "{text}");
        (body["code"].as_str().unwrap().to_owned(), body["detail"].as_str().unwrap().to_owned())
    };
    let (code, text) = both(&one, &other, 400).await;
    assert!(code == "token_twice" && text.contains("Authorization") && text.contains("x-api-key"), "{text}");
    // No falling through, whichever of the two it is; and the one that is bad is named.
    for (bearer, key, place) in [(&expired, &one, "Authorization"), (&one, &expired, "x-api-key")] {
        let (code, text) = both(bearer, key, 401).await;
        assert!(code == "token_expired" && text.contains(place), "{text}");
    }
    // Of ours by what it says of itself, with a signature that is none.
    let forged = format!("{}AAAA", &one[..one.len() - 4]);
    for (bearer, key, place) in [(&forged, &one, "Authorization"), (&one, &forged, "x-api-key")] {
        let (code, text) = both(bearer, key, 401).await;
        assert!(code == "token_bad_signature" && text.contains(place), "{text}");
    }
    let (code, text) = both("placeholder", &expired, 401).await;
    assert!(code == "token_expired" && text.contains("x-api-key"), "{text}");
    // The same header twice is two places.
    for (first, second, code) in [(&one, &other, "token_twice"), (&one, &expired, "token_expired")] {
        for name in ["x-api-key", "authorization"] {
            let value =
                |token: &str| if name == "authorization" { format!("Bearer {token}") } else { token.to_owned() };
            for (first, second) in [(first, second), (second, first)] {
                let request = broker.http.get(&url).header(name, value(first)).header(name, value(second));
                let body: Value = request.send().await.unwrap().json().await.unwrap();
                assert_eq!(body["code"], code, "{body}");
                assert!(body["detail"].as_str().unwrap().to_lowercase().contains(name), "{body}");
            }
        }
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheme_that_the_upstream_names_carries_the_token_and_no_other_does() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let inject = "{ kind: bearer, credential: crm-key }";
    let token = crm(&broker, &upstream.url(), inject, "authorization_schemes: [token]").await;
    let url = broker.url("/exchange/crm/a");
    for (scheme, status) in [("token", 200), ("Token", 200), ("Bearer", 200), ("GenieKey", 401), ("tokens", 401)] {
        let answer = broker.http.get(&url).header("authorization", format!("{scheme} {token}")).send().await.unwrap();
        assert_eq!(answer.status(), status, "{scheme}");
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
    }
    assert!(upstream.seen().iter().all(|seen| seen.headers["authorization"] == format!("Bearer {SECRET}")));
    for (schemes, word) in [
        ("[\"to ken\"]", "no scheme"),
        ("[\"\"]", "no scheme"),
        ("[Bearer]", "always taken"),
        ("[BASIC]", "always taken"),
        ("[Digest]", "no key"),
        ("[token, Token]", "twice"),
    ] {
        let document = document(&upstream.url(), inject, &format!("authorization_schemes: {schemes}"));
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", json!({ "document": document })).await;
        let mistakes = answer["mistakes"].to_string();
        assert!(status == 400 && mistakes.contains(word), "{schemes}: {answer}");
        assert!(mistakes.contains("authorization_schemes["), "{mistakes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_planted_where_it_would_travel_is_refused_and_elsewhere_it_stays_here() {
    for inject in [HEADER, "{ kind: bearer, credential: crm-key }", "{ kind: query, name: key, credential: crm-key }"] {
        let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
        let token = crm(&broker, &upstream.url(), inject, "headers: [X-Note, Dd-Application-Key]").await;
        let plain = || broker.call(Method::GET, "/crm/a", &token);
        for (n, request) in [
            plain().header("x-note", &token),
            plain().header("x-note", format!("prefix {token} suffix")),
            plain().header("dd-application-key", &token),
            // In `standard`.
            plain().header("x-request-id", &token),
            broker.call(Method::GET, &format!("/crm/a?access_token={token}"), &token),
            broker.call(Method::GET, &format!("/crm/a/{token}"), &token),
        ]
        .into_iter()
        .enumerate()
        {
            let code = problem(request.send().await.unwrap(), 400).await;
            assert_eq!(code, "token_misplaced", "{inject} {n}");
        }
        assert!(upstream.seen().is_empty());
        for (n, request) in [
            plain().header("cookie", format!("session={token}")),
            plain().header("referer", format!("https://a/?t={token}")),
            plain().header("proxy-authorization", format!("Bearer {token}")),
            plain().header("x-functions-key", &token),
            plain().header("job-token", &token),
            plain().header("x-unlisted", format!("Bearer {token}")),
            plain().header("x-access-token", format!("Bearer {token}")),
            plain().header("x-auth-token", &token).header("x-auth-token", &token),
        ]
        .into_iter()
        .enumerate()
        {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 200, "{inject} {n}");
            clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        }
        clean(&broker, &upstream, &token, "").await;
    }
}

/// Datadog's SDKs send two keys, others put a scheme word into any header.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_upstreams_own_header_is_taken_however_an_sdk_writes_it() {
    let (broker, upstream, token) = with("{ kind: header, name: Dd-Api-Key, credential: crm-key }").await;
    let get = || broker.http.get(broker.url("/exchange/crm/a"));
    for (n, request) in [
        get().header("dd-api-key", &token).header("dd-application-key", &token),
        get().header("dd-api-key", format!("Bearer {token}")),
        get().header("dd-api-key", &token).header("dd-api-key", &token),
        get().header("dd-api-key", "").header("dd-api-key", &token),
        get().header("dd-api-key", &token).header("dd-api-key", "placeholder"),
        get().header("authorization", "").header("authorization", format!("Bearer {token}")),
    ]
    .into_iter()
    .enumerate()
    {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{n}");
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        let headers = &upstream.seen()[n].headers;
        assert_eq!(headers.get_all("dd-api-key").iter().collect::<Vec<_>>(), [SECRET], "{n}");
        assert!(!headers.contains_key("dd-application-key") && !headers.contains_key("authorization"), "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agents_own_credentials_are_stripped() {
    let (broker, upstream, token) = with("{ kind: query, name: key, credential: crm-key }").await;
    let request = broker
        .call(Method::GET, "/crm/a", &token)
        .header("x-api-key", "mine")
        .header("cookie", "a=b")
        .header("proxy-authorization", "Basic eA==")
        .header("x-amz-security-token", "mine");
    assert_eq!(request.send().await.unwrap().status(), 200);
    let headers = &upstream.seen()[0].headers;
    for name in ["authorization", "x-api-key", "cookie", "proxy-authorization", "x-amz-security-token"] {
        assert!(!headers.contains_key(name), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_revoked_credentials() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    broker.apply(&document(&upstream.url(), HEADER, "")).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    let get = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(problem(get().await, 503).await, "credential_missing");
    broker.wait_for_record(|one| one["kind"] == "call.refused" && one["reason"] == "credential_missing").await;

    broker.put_credential("crm-key", SECRET).await;
    assert_eq!(get().await.status(), 200);
    broker.admin_ok("POST", "/admin/v1/credentials/crm-key/revoke", Value::Null).await;
    assert_eq!(problem(get().await, 403).await, "credential_revoked");
    broker.admin_ok("DELETE", "/admin/v1/credentials/crm-key?force=true", Value::Null).await;
    assert_eq!(problem(get().await, 503).await, "credential_missing");
    broker.put_credential("crm-key", SECRET).await;
    assert_eq!(get().await.status(), 200);
    assert_eq!(upstream.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_with_grace_pins_and_expiry() {
    let clock = TestClock::new();
    let surroundings = Surroundings { world: Some(clock.world()), ..Surroundings::default() };
    let broker = TestBroker::start_with(Engine::Sqlite, surroundings, &[]).await.unwrap();
    let upstream = Upstream::echo().await;
    let token = crm(&broker, &upstream.url(), "{ kind: bearer, credential: crm-key@1 }", "").await;
    let second = "second-secret-9876543210";
    let body = json!({ "value_base64": STANDARD.encode(second), "rotate": true, "grace_seconds": 100 });
    broker.admin_ok("POST", "/admin/v1/credentials/crm-key", body).await;

    // Version 1 is pinned and within its grace; an echo of either version is redacted.
    let post = |body: String| broker.call(Method::POST, "/crm/a", &token).body(body).send();
    let answer = post(format!("one {SECRET} two {second}")).await.unwrap();
    assert_eq!(answer.status(), 200);
    let text = answer.text().await.unwrap();
    assert!(!text.contains(second) && !text.contains("0123+"), "{text}");
    assert_eq!(upstream.seen()[0].headers["authorization"], format!("Bearer {SECRET}"));
    assert_eq!(outcome(&broker, 0).await["redactions"], 3);
    let intent = broker.wait_for_record(|one| one["kind"] == "call.intent").await;
    assert_eq!(intent["credential"], "crm-key@1");

    // Without a pin the newest is taken.
    broker.apply(&document(&upstream.url(), "{ kind: bearer, credential: crm-key }", "")).await;
    let text = post(format!("one {SECRET} two {second}")).await.unwrap().text().await.unwrap();
    assert!(!text.contains(second) && !text.contains("0123+"), "{text}");
    assert_eq!(upstream.seen()[1].headers["authorization"], format!("Bearer {second}"));

    // The pin outlives its version: refused, not silently another one.
    broker.apply(&document(&upstream.url(), "{ kind: bearer, credential: crm-key@1 }", "")).await;
    clock.add_seconds(101);
    assert_eq!(problem(post(String::new()).await.unwrap(), 503).await, "credential_expired");
    broker.apply(&document(&upstream.url(), "{ kind: bearer, credential: crm-key@3 }", "")).await;
    assert_eq!(problem(post(String::new()).await.unwrap(), 503).await, "credential_expired");
    broker.apply(&document(&upstream.url(), "{ kind: bearer, credential: crm-key@2 }", "")).await;
    assert_eq!(post(String::new()).await.unwrap().status(), 200);
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_without_a_secret_takes_the_token_in_authorization_alone() {
    for inject in ["none", "{ kind: none }"] {
        let (broker, upstream, token) = with(inject).await;
        let answer = broker.call(Method::GET, "/crm/a?key=1", &token).header("cookie", "a=b").send().await.unwrap();
        assert_eq!(answer.status(), 200);
        clean(&broker, &upstream, &token, &answer.text().await.unwrap()).await;
        let seen = upstream.seen()[0].clone();
        assert_eq!(seen.uri.to_string(), "/a?key=1");
        assert!(!seen.headers.contains_key("authorization") && !seen.headers.contains_key("cookie"));
        let intent = broker.wait_for_record(|one| one["kind"] == "call.intent").await;
        assert!(intent.get("credential").is_none_or(Value::is_null), "{intent}");
        assert_eq!(outcome(&broker, 0).await["reason"], "completed");
        // In no other place.
        let elsewhere = broker.http.get(broker.url("/exchange/crm/a")).header("x-api-key", &token);
        assert_eq!(problem(elsewhere.send().await.unwrap(), 401).await, "token_missing");
        assert_eq!(upstream.seen().len(), 1);
        // Shown as the one word, and a credential that nobody uses is nobody's.
        let shown = broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await;
        assert_eq!(shown["inject"], "none");
        let list = broker.admin_ok("GET", "/admin/v1/upstreams", Value::Null).await;
        assert!(list["upstreams"][0]["credential"].is_null() && list["upstreams"][0]["credential_stored"].is_null());
        let credentials = broker.admin_ok("GET", "/admin/v1/credentials", Value::Null).await;
        assert_eq!(credentials["credentials"][0]["used_by"], json!([]));
        // Applied again it changes nothing, and it is there after a restart.
        let again = broker.apply(&document(&upstream.url(), inject, "")).await;
        assert_eq!(again["changes"], json!([]));
        let broker = broker.restart().await;
        assert_eq!(broker.admin_ok("GET", "/admin/v1/upstreams/crm", Value::Null).await["inject"], "none");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_way_to_inject_is_told_the_ways_that_there_are() {
    let broker = TestBroker::start().await;
    for inject in ["nothing", "~", "3", "[]", "{ kind: none, credential: crm-key }", "{ kind: other }", "{}"] {
        let document = document("http://127.0.0.1:1", inject, "");
        let (status, answer) = broker.admin("POST", "/admin/v1/apply", json!({ "document": document })).await;
        assert_eq!((status, &answer["mistakes"][0]["at"]), (400, &"document".into()), "{inject}: {answer}");
        let problem = answer["mistakes"][0]["problem"].as_str().unwrap();
        let says = if inject == "[]" { "write 'none'" } else { "'none', { kind:" };
        assert!(inject.starts_with('{') || problem.contains(says), "{inject}: {problem}");
    }
}
