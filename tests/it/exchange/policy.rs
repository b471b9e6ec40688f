//! Deny is the default (P8), and what changes counts at once.

use reqwest::Method;
use serde_json::Value;

use super::{HEADER, SECRET, crm, document, problem, raw, status_of};
use crate::support::{TestBroker, Upstream};

#[tokio::test(flavor = "multi_thread")]
async fn what_no_operation_names_is_denied() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    for (method, path) in [
        (Method::GET, "/crm/v1/other"),
        (Method::GET, "/crm/v1/contacts/1/2"),
        (Method::GET, "/crm/v1/contacts/"),
        (Method::GET, "/crm/V1/contacts"),
        (Method::GET, "/crm"),
        (Method::DELETE, "/crm/v1/contacts/1"),
        (Method::PATCH, "/crm/any/x"),
        (Method::OPTIONS, "/crm/any/x"),
        (Method::from_bytes(b"get").unwrap(), "/crm/v1/contacts"),
        (Method::from_bytes(b"PROPFIND").unwrap(), "/crm/any/x"),
    ] {
        let answer = broker.call(method.clone(), path, &token).send().await.unwrap();
        assert_eq!(problem(answer, 403).await, "operation_not_allowed", "{method} {path}");
    }
    // GET gives HEAD; nothing else does.
    assert_eq!(broker.call(Method::HEAD, "/crm/v1/other", &token).send().await.unwrap().status(), 403);
    let refused = broker.records().await.into_iter().filter(|one| one["reason"] == "operation_not_allowed").count();
    assert_eq!(refused, 11);
    assert!(upstream.seen().is_empty());
    assert!(broker.records().await.iter().all(|one| one["kind"] != "call.intent"));
}

/// To callers with a good token, and of what their scopes reach.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_path_is_said_and_what_to_write() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    for (method, path, status, said) in [
        ("DELETE", "/exchange/crm/v1/contacts", 403, "this path takes GET, HEAD, and not DELETE"),
        (
            "GET",
            "/exchange/crm/v1/contacts/",
            403,
            "ends with a slash, and the operation's does not; write /exchange/crm/v1/contacts",
        ),
        (
            "GET",
            "/exchange/crm/exchange/crm/v1/contacts",
            403,
            "'/exchange/crm' is too much in the path; write /exchange/crm/v1/contacts",
        ),
        ("GET", "/exchange/crm/contacts/7", 403, "'/v1' is missing in the path; write /exchange/crm/v1/contacts/7"),
        ("GET", "/exchange/crm/v1/contcats", 403, "the nearest is GET /exchange/crm/v1/contacts"),
        (
            "GET",
            "/exchange/crm/V1/contacts",
            403,
            "the case of letters counts in a path; write /exchange/crm/v1/contacts",
        ),
        ("GET", "/v1/contacts", 404, "'/exchange/UPSTREAM' is missing in front; write /exchange/crm/v1/contacts"),
        ("GET", "/crm/v1/contacts", 404, "'/exchange' is missing in front; write /exchange/crm/v1/contacts"),
        ("GET", "/exchange/v1/contacts", 404, "write /exchange/crm/v1/contacts"),
        ("GET", "/exchange/CRM/v1/contacts", 404, "the nearest is 'crm'"),
        ("GET", "/exchange", 404, "say which upstream, as in /exchange/UPSTREAM/PATH; yours: crm"),
        ("GET", "/Exchange/crm/v1/contacts", 404, "write /exchange in lower case"),
        ("GET", "//exchange/crm/v1/contacts", 404, "two slashes in a row"),
        ("GET", "/nothing/at/all", 404, "brokered calls go to /exchange/UPSTREAM/PATH"),
    ] {
        let (known, stranger) = (Some(token.as_str()), Some("eyJhbGciOiJub25lIn0.e30."));
        for (token, is_told) in [(known, true), (stranger, false), (None, false)] {
            let authorization = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
            let head = format!("{method} {path} HTTP/1.1\r\nHost: b\r\n{authorization}Connection: close\r\n\r\n");
            let answer = raw(broker.running.public, head).await;
            let wanted = if is_told || !path.starts_with("/exchange/") { status } else { 401 };
            assert_eq!(status_of(&answer), wanted, "{path}: {answer}");
            assert_eq!(answer.contains(said), is_told, "{path}: {said}\n{answer}");
            assert!(is_told || (!answer.contains("contacts") && !answer.contains("allow:")), "{path}: {answer}");
        }
    }
    // RFC 9110 §10.2.1
    let answer = broker.call(Method::DELETE, "/crm/any/x", &token).send().await.unwrap();
    assert_eq!(answer.headers()["allow"], "GET, HEAD, POST, PUT");
    // POST /v1/contacts is there, and of a scope that this caller has not.
    let answer = broker.call(Method::PUT, "/crm/v1/contacts", &token).send().await.unwrap();
    assert_eq!(answer.headers()["allow"], "GET, HEAD");
    assert!(!answer.text().await.unwrap().contains("POST"));
    // A revoked agent is a stranger.
    broker.admin_ok("POST", "/admin/v1/agents/helpdesk/suspend", Value::Null).await;
    let answer = broker.http.get(broker.url("/v1/contacts")).bearer_auth(&token).send().await.unwrap();
    let text = answer.text().await.unwrap();
    assert!(text.contains("see the README"), "{text}");
    // At our own routes a wrong method says which there are (RFC 9110 §15.5.6).
    let answer = broker.http.get(broker.url("/oauth2/token")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert!(upstream.seen().is_empty());
}

/// An upstream that takes every path beside one that does not: the advice leads to the one that was meant.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_every_path_does_not_take_every_mistake() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let inject = "{ kind: bearer, credential: key }";
    let one = |name: &str, operations: &str| {
        let url = upstream.url();
        format!(
            "  - {{ name: {name}, base_url: '{url}', allow_private: true, inject: {inject}, operations: [{operations}] }}"
        )
    };
    let all = one("crm", "{ id: all, methods: [GET], path: '/{*rest}', scope: any }");
    let few = one(
        "api",
        "{ id: list, methods: [GET], path: /v1/contacts, scope: any }, { id: get, methods: [GET], path: '/v1/contacts/{id}', \
         scope: any }",
    );
    broker
        .apply(&format!("upstreams:\n{all}\n{few}\nroles: [ {{ name: support, scopes: ['crm:any', 'api:any'] }} ]"))
        .await;
    broker.put_credential("key", SECRET).await;
    let token = broker.token(&broker.register("helpdesk", &["support"]).await).await;
    let said = async |path: &str| {
        let answer = broker.http.get(broker.url(path)).bearer_auth(&token).send().await.unwrap();
        let body: Value = answer.json().await.unwrap();
        body["detail"].as_str().unwrap_or_default().to_owned()
    };
    for (path, wanted) in [
        ("/exchange/apii/v1/contacts", "the nearest is 'api'"),
        ("/exchange/apii", "the nearest is 'api'"),
        ("/exchange/apii/", "the nearest is 'api'"),
        ("/exchange/API/v1/contacts", "the nearest is 'api'"),
        ("/exchange/v1/contacts", "write /exchange/api/v1/contacts"),
        ("/exchange/zzz/zzz", "see the paths that the admin gave you"),
        ("/exchange/api", "the nearest is GET /exchange/api/v1/contacts"),
        ("/exchange/api/", "the nearest is GET /exchange/api/v1/contacts"),
        ("/exchange/api/v1/contacs", "the nearest is GET /exchange/api/v1/contacts"),
        ("/v1/contacts", "write /exchange/api/v1/contacts"),
        ("/apii/v1/contacts", "the nearest upstream is 'api'"),
        ("/zzzz", "brokered calls go to /exchange/UPSTREAM/PATH"),
        ("/", "yours: api, crm"),
        ("/exchange/", "yours: api, crm"),
    ] {
        let text = said(path).await;
        assert!(text.contains(wanted), "{path}: {text}");
    }
    // The one that takes every path alone: then it was meant.
    broker.apply("roles: [ { name: support, scopes: ['crm:any'] } ]").await;
    for (path, wanted) in [
        ("/exchange/crn/v1/contacts", "the nearest is 'crm'"),
        ("/exchange/CRM/v1/contacts", "the nearest is 'crm'"),
        ("/exchange/v1/contacts", "write /exchange/crm/v1/contacts"),
        ("/v1/contacts", "write /exchange/crm/v1/contacts"),
        ("/", "yours: crm"),
    ] {
        let text = said(path).await;
        assert!(text.contains(wanted), "{path}: {text}");
    }
    assert!(upstream.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_root_of_an_upstream_is_a_path_like_any_other() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    for path in ["/crm", "/crm/", "/crm/?a=1", "/crm?a=1"] {
        let answer = broker.call(Method::GET, path, &token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text().await.unwrap());
    }
    let uris: Vec<_> = upstream.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(uris, ["/", "/", "/?a=1", "/?a=1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_is_named() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (agent, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let answer = broker.call(Method::POST, "/crm/v1/contacts", &token).send().await.unwrap();
    let challenge = answer.headers()["www-authenticate"].to_str().unwrap().to_owned();
    let wanted =
        r#"Bearer realm="hallpass", error="insufficient_scope", scope="crm:contacts.write", resource_metadata=""#;
    assert!(challenge.starts_with(wanted), "{challenge}");
    assert_eq!(problem(answer, 403).await, "insufficient_scope");

    // A token that was asked narrower than its roles gets no more than it was asked for.
    let (_, narrow) = broker.token_request(&agent, &[("scope", "crm:any")]).await;
    let narrow = narrow["access_token"].as_str().unwrap();
    let answer = broker.call(Method::GET, "/crm/v1/contacts", narrow).send().await.unwrap();
    assert_eq!(problem(answer, 403).await, "insufficient_scope");
    assert!(upstream.seen().is_empty());
    assert_eq!(broker.call(Method::GET, "/crm/any/x", narrow).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_was_narrowed_counts_at_once() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (_, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let get = || async { broker.call(Method::GET, "/crm/v1/contacts", &token).send().await.unwrap() };
    assert_eq!(get().await.status(), 200);
    broker.apply(r#"roles: [ { name: support, scopes: ["crm:any"] } ]"#).await;
    assert_eq!(problem(get().await, 403).await, "insufficient_scope");
    assert_eq!(broker.call(Method::GET, "/crm/any/x", &token).send().await.unwrap().status(), 200);
    // Widened again, also for the token that was there: it holds the scope still.
    broker.apply(r#"roles: [ { name: support, scopes: ["crm:any", "crm:contacts.read"] } ]"#).await;
    assert_eq!(get().await.status(), 200);
    // Wider than the token: the token stays as narrow as it was made.
    broker.apply(r#"roles: [ { name: support, scopes: ["crm:any", "crm:contacts.write"] } ]"#).await;
    let answer = broker.call(Method::POST, "/crm/v1/contacts", &token).send().await.unwrap();
    assert_eq!(problem(answer, 403).await, "insufficient_scope");
    // The agent loses the role.
    broker.apply("agents: [ { name: helpdesk, roles: [] } ]").await;
    let answer = broker.call(Method::GET, "/crm/any/x", &token).send().await.unwrap();
    assert_eq!(problem(answer, 403).await, "insufficient_scope");
    assert_eq!(upstream.seen().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_that_was_removed_or_moved_to_another_scope_counts_at_once() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let get = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(get().await.status(), 200);
    let document = document(&upstream.url(), HEADER, "");
    broker.apply(&document.replace("scope: any", "scope: other").replace("crm:any", "crm:other")).await;
    assert_eq!(problem(get().await, 403).await, "insufficient_scope");
    broker.apply(&document.replace("/{*rest}", "/b/{*rest}")).await;
    assert_eq!(problem(get().await, 403).await, "operation_not_allowed");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_one_upstream_is_no_token_for_another() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let one = document(&upstream.url(), HEADER, "");
    let other =
        one.replace("name: crm", "name: erp").replace("name: support", "name: desk").replace("crm:any", "erp:any");
    broker.apply(&one).await;
    broker.apply(&other).await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("both", &["support", "desk"]).await;
    let both = broker.token(&agent).await;
    let resource = format!("{}/exchange/crm", broker.running.issuer);
    let (status, answer) = broker.token_request(&agent, &[("resource", &resource)]).await;
    assert_eq!(status, 200, "{answer}");
    let narrow = answer["access_token"].as_str().unwrap();
    for (token, path, status) in [
        (both.as_str(), "/crm/a", 200),
        (&both, "/erp/a", 200),
        (narrow, "/crm/a", 200),
        (narrow, "/erp/a", 401),
        // A stranger there does not learn which upstreams there are.
        ("nonsense", "/crm/a", 401),
        ("nonsense", "/nowhere/a", 401),
    ] {
        let answer = broker.call(Method::GET, path, token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status == 401 {
            let mut challenges = answer.headers().get_all("www-authenticate").iter();
            assert!(challenges.any(|one| one.to_str().unwrap().contains("error=\"invalid_token\"")));
        }
    }
    assert_eq!(upstream.seen().len(), 3);
    broker.wait_for_record(|one| one["kind"] == "call.refused" && one["upstream"] == "erp").await;

    let answer = broker.http.get(broker.url("/exchange/crm/a")).send().await.unwrap();
    assert_eq!(problem(answer, 401).await, "token_missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_was_removed_is_gone_at_once() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let token = crm(&broker, &upstream.url(), HEADER, "").await;
    let get = || async { broker.call(Method::GET, "/crm/a", &token).send().await.unwrap() };
    assert_eq!(get().await.status(), 200);
    broker.admin_ok("DELETE", "/admin/v1/upstreams/crm", Value::Null).await;
    assert_eq!(problem(get().await, 404).await, "upstream_unknown");
    let answer = broker.call(Method::GET, "/cr%6d/a", &token).send().await.unwrap();
    assert_eq!(problem(answer, 404).await, "upstream_unknown");
    assert_eq!(upstream.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoded_literal_that_is_another_operation_when_decoded_is_refused() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    broker
        .apply(&format!(
            r#"
upstreams:
  - name: crm
    base_url: {}
    allow_private: true
    inject: {HEADER}
    operations:
      - {{ id: get, methods: [POST], path: "/{{thing}}", scope: read }}
      - {{ id: delete, methods: [POST], path: "/things:delete", scope: delete }}
      - {{ id: deep, methods: [POST], path: "/files/{{*rest}}", scope: read }}
roles: [ {{ name: support, scopes: ["crm:read"] }} ]
"#,
            upstream.url()
        ))
        .await;
    broker.put_credential("crm-key", SECRET).await;
    let agent = broker.register("helpdesk", &["support"]).await;
    let token = broker.token(&agent).await;
    for (path, status, code) in [
        ("/crm/things:delete", 403, "insufficient_scope"),
        ("/crm/things%3Adelete", 403, "operation_not_allowed"),
        ("/crm/things%3adelete", 403, "operation_not_allowed"),
        ("/crm/%74hings:delete", 403, "insufficient_scope"),
        ("/crm/things%3Aget", 200, ""),
        ("/crm/files/a%3Ab", 200, ""),
        ("/crm/files/a%20b", 200, ""),
    ] {
        let answer = broker.call(Method::POST, path, &token).send().await.unwrap();
        assert_eq!(answer.status(), status, "{path}");
        if status != 200 {
            assert_eq!(problem(answer, status).await, code, "{path}");
        }
    }
    let uris: Vec<_> = upstream.seen().iter().map(|seen| seen.uri.to_string()).collect();
    assert_eq!(uris, ["/things%3Aget", "/files/a%3Ab", "/files/a%20b"]);
}
