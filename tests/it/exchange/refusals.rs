//! What a refusal looks like to those who cannot be changed, and whose answer it is.

use http::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::{RawUpstream, SECRET};
use crate::support::{TestBroker, Upstream};

const SOURCE: &str = "x-hallpass-source";

fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9457_s3_2_a_problem_has_the_members_that_sdks_read_beside_the_standards() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (agent, token) = broker.with_crm(&upstream.url(), SECRET).await;
    let send = async |request: RequestBuilder| {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
    };
    let call = |method, path: &str| broker.call(method, path, &token);
    for (request, status, code, kind) in [
        (broker.http.get(broker.url("/exchange/crm/v1/contacts")), 401, "token_missing", "authentication_error"),
        (broker.call(Method::GET, "/crm/v1/contacts", "x"), 401, "token_malformed", "authentication_error"),
        (call(Method::POST, "/crm/v1/contacts"), 403, "insufficient_scope", "permission_error"),
        (call(Method::GET, "/crm/v1/nothing"), 403, "operation_not_allowed", "permission_error"),
        (call(Method::GET, "/nowhere/x"), 404, "upstream_unknown", "not_found_error"),
        (call(Method::GET, "/crm/a%2e%2e;/b"), 400, "target_path_parameter", "invalid_request_error"),
        (broker.http.get(broker.url("/nothing")), 404, "no_such_route", "not_found_error"),
        (broker.http.put(broker.url("/revocations")), 405, "method_not_allowed", "invalid_request_error"),
    ] {
        let (found, body) = send(request).await;
        assert_eq!((found, &body["code"]), (status, &json!(code)), "{body}");
        let sentence = body["detail"].as_str().unwrap();
        assert!(sentence.len() > 20, "{body}");
        assert_eq!(body["message"], sentence, "{body}");
        assert_eq!(body["error"], json!({ "type": kind, "code": code, "message": sentence }));
        assert_eq!((&body["type"], &body["status"]), (&json!("about:blank"), &json!(status)));
        assert!(body["title"].is_string() && body["request_id"].as_str().unwrap().starts_with("rq_"), "{body}");
    }
    // The OAuth endpoints keep to RFC 6749 §5.2, where `error` is a word.
    let (status, body) = broker.token_request(&agent, &[("scope", "crm:nothing")]).await;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_scope")));
    assert!(body.get("message").is_none() && body.get("title").is_none(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc9110_s12_5_1_a_problem_is_called_json_for_those_who_do_not_take_problems() {
    let (broker, upstream) = (TestBroker::start().await, Upstream::echo().await);
    let (agent, token) = broker.with_crm(&upstream.url(), SECRET).await;
    for (accept, name) in [
        (None, "application/problem+json"),
        (Some("*/*"), "application/problem+json"),
        (Some("application/*"), "application/problem+json"),
        (Some("application/problem+json, application/json"), "application/problem+json"),
        (Some("application/json"), "application/json"),
        (Some("application/vnd.github+json"), "application/json"),
        (Some("text/event-stream"), "application/json"),
        (Some("application/problem+json;q=0, */*"), "application/json"),
        (Some("application/json, */*;q=0.1"), "application/json"),
    ] {
        for request in [
            broker.call(Method::GET, "/crm/v1/nothing", &token),
            broker.http.get(broker.url("/exchange/crm/a")),
            broker.http.get(broker.url("/nothing")),
            broker.http.put(broker.url("/revocations")),
        ] {
            let request = accept.into_iter().fold(request, |request, accept| request.header(ACCEPT, accept));
            let answer = request.send().await.unwrap();
            assert_eq!(header(&answer, CONTENT_TYPE.as_str()), name, "{accept:?}: {answer:?}");
            assert!(answer.json::<Value>().await.unwrap()["error"]["message"].is_string());
        }
        // The upstream's answers are called what it calls them.
        let request = broker.call(Method::GET, "/crm/v1/contacts", &token);
        let answer = accept.into_iter().fold(request, |request, accept| request.header(ACCEPT, accept)).send().await;
        assert_eq!(header(&answer.unwrap(), "content-type"), "application/json");
    }
    let request = broker.http.post(broker.url("/oauth2/token")).basic_auth(&agent.client_id, Some("wrong"));
    let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
    assert_eq!(header(&answer, "content-type"), "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_says_whether_it_is_the_brokers_or_the_upstreams_and_no_upstream_can_lie() {
    let answer = "HTTP/1.1 401 Unauthorized\r\nX-Hallpass-Source: broker\r\nx-hallpass-source: broker, broker\r\n\
                  Content-Type: application/problem+json\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}";
    let upstream = RawUpstream::answering(answer).await;
    let broker = TestBroker::start().await;
    let token = super::crm(&broker, &upstream.url(), super::HEADER, "").await;
    let request = broker.call(Method::GET, "/crm/a", &token).header(ACCEPT, "application/json");
    let answer = request.send().await.unwrap();
    let sources: Vec<_> = answer.headers().get_all(SOURCE).iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!((answer.status().as_u16(), sources), (401, vec!["upstream"]));
    assert_eq!(header(&answer, "content-type"), "application/problem+json", "an upstream's own problem keeps its name");

    let post = |path: &str| broker.http.post(broker.url(path));
    for (request, status) in [
        (broker.http.get(broker.url("/exchange/crm/a")), 401),
        (broker.call(Method::GET, "/crm/a", "x"), 401),
        (broker.call(Method::PATCH, "/crm/a", &token), 403),
        (broker.call(Method::GET, "/crm/../a", &token), 404),
        (broker.http.get(broker.url("/nothing")), 404),
        (post("/oauth2/token"), 400),
        (post("/oauth2/introspect"), 400),
        (broker.http.put(broker.url("/revocations")), 405),
        (broker.http.get(broker.url("/.well-known/jwks.json")), 200),
        (broker.http.get(broker.url("/exchange/crm/a")).header("host", "a@b"), 400),
    ] {
        let answer = request.send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, SOURCE)), (status, "broker"), "{answer:?}");
    }
    // An upstream that does not answer: what is said of it is ours.
    drop(upstream);
    let answer = broker.call(Method::GET, "/crm/a", &token).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, SOURCE)), (502, "broker"));
}
